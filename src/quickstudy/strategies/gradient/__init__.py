"""Strategies whose adaptation is gradient descent."""
