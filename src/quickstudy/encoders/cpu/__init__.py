"""What makes encoders fast on processors."""
