"""A small folder of images, and the command line run in this process."""

import numpy as np
import pytest
from PIL import Image

from quickstudy.cli.main import main

TINY = [
    "--encoder", "MLP", "--encoder.hidden", "[16]", "--ways", "3", "--shots", "1", "--queries", "2",
    "--tasks", "2", "--steps", "12", "--validate_every", "6", "--validation_episodes", "10",
    "--validation_queries", "3", "--log_every", "3", "--checkpoint_every", "3", "--split",
    "0.5,0.25,0.25",
]  # fmt: skip
"""Options of a training run that takes a second."""


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """16 classes of 6 noisy 12x12 PNGs, a sub-folder each."""
    root = tmp_path_factory.mktemp("data") / "pictures"
    generator = np.random.default_rng(0)
    for number in range(16):
        folder = root / f"thing{number:02}"
        folder.mkdir(parents=True)
        picture = generator.integers(0, 256, (12, 12, 3))
        for example in range(6):
            noisy = (picture + generator.integers(-60, 60, picture.shape)).clip(0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{example}.png")
    return root


@pytest.fixture
def quickstudy(capsys):
    """Runs a command; returns its exit code and what it printed."""

    def call(*words):
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return call
