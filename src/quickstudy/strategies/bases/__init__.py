"""What the strategies of a family share."""
