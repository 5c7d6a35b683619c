"""What damage, kills and hours do to it."""
