"""How well strategies learn classes that they never saw."""
