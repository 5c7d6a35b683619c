"""Strategies that compare a query with the support."""
