"""What a classifier uses where nothing is said."""

from __future__ import annotations

from torch import nn

from quickstudy.inputs.modalities import MODALITIES
from quickstudy.strategies import LogisticRegression, Strategy


def how_to_get(modality: str) -> str:
    """Instructions for when the default encoder for this modality cannot be downloaded."""
    of = MODALITIES[modality]
    name = of.model
    return (
        f"It is the default encoder for inputs of modality {modality!r}; no other was named. To "
        "choose one, set encoder= (on the command line --encoder) to a run trained here, a local "
        "folder laid out like a model of the hub, another model's id, or your own class.\nTo use "
        "the default encoder, download it on a machine with a network connection, copy its folder "
        f"here and name that folder:\n\n    hf download {name} --local-dir "
        f"{name.rpartition('/')[2]}\n\n{of.packaged_model}"
    )


def default_strategy(features: nn.Module, encoded: bool) -> Strategy:
    """The strategy.

    Args:
        features: what stands for its encoder: the vectors come from elsewhere.
        encoded: whether an encoder made them; else they are somebody's own columns of numbers,
            whose lengths mean something.
    """
    return LogisticRegression(features, penalty=None, normalize=encoded, balanced=True)
