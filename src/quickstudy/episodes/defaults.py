"""The numbers of ways, shots and queries of tasks where nothing else is asked for."""

DEFAULT_WAYS, DEFAULT_SHOTS, DEFAULT_QUERIES = 5, 1, 15
