"""Fast implementations of encoder blocks on processors."""
