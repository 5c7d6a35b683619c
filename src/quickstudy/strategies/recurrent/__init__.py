"""Strategies that read the support, or descend on its loss, with a network that has a state."""
