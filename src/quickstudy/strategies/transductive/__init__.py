"""Strategies that look at all queries of a task before they answer any."""
