"""``quickstudy datasets``: what there is to learn from."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import ArgumentParser
from rich.console import Console

from quickstudy.datasets import available_datasets


def run(words: Sequence[str]) -> int:
    """Lists the data sets; returns the exit code."""
    parser = ArgumentParser(
        prog="quickstudy datasets",
        description="List the data sets that are known by name. Besides them, --data takes a "
        "folder of images (a sub-folder a class), a folder laid out like a repository of the "
        "Hugging Face hub, and a repository's name.",
    )
    parser.parse_args(list(words))
    console = Console()
    for entry in available_datasets():
        console.print(entry.describe() if hasattr(entry, "describe") else entry)
    return 0
