"""Plain baselines: nothing about adaptation is learned."""
