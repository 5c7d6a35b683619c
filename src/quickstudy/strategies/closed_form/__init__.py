"""Strategies whose θ solves a convex problem on the support's features."""
