"""Encoders that others trained, through the libraries transformers and sentence-transformers."""
