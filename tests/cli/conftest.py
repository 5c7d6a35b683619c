"""What tests of the command line share."""

TINY = [
    "--encoder", "MLP", "--encoder.hidden", "[16]", "--ways", "3", "--shots", "1", "--queries", "2",
    "--tasks", "2", "--steps", "12", "--validate_every", "6", "--validation_episodes", "10",
    "--validation_queries", "3", "--log_every", "3", "--checkpoint_every", "3", "--split",
    "0.5,0.25,0.25",
]  # fmt: skip
"""Options of a training run that takes a second."""
