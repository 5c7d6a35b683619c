"""Damaged files for everything that reads files."""
