"""The numbers of ways, shots and queries of tasks where nothing else is asked for."""

USUAL_WAYS, USUAL_SHOTS, USUAL_QUERIES = 5, 1, 15
