"""Decoded examples and their features, cached on disk."""
