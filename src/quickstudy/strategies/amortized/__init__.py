"""Strategies whose network emits θ in one pass."""
