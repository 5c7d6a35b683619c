"""Parsers of commands; quick to import."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import yaml
from jsonargparse import ArgumentParser, Namespace


def new_parser(command: str, description: str) -> ArgumentParser:
    """A parser that takes options by their full names only."""
    return ArgumentParser(
        prog=f"quickstudy {command}",
        description=description,
        allow_abbrev=False,
        exit_on_error=False,
    )


def parse(parser: ArgumentParser, words: Sequence[str]) -> Namespace:
    """Parses a command's words; what is wrong with them becomes a ValueError.

    Raises:
        ValueError: naming the option, or the configuration file that cannot be read.
    """
    configs = [b for a, b in pairwise(words) if a == "--config"]
    configs += [word.partition("=")[2] for word in words if word.startswith("--config=")]
    for config in configs:
        _check_yaml(Path(config))
    try:
        return parser.parse_args(list(words))
    except ArgumentError as error:
        if any(word.startswith("--encoder.") for word in words) and "--encoder" not in words:
            raise ValueError(
                "Options of an encoder were given without the encoder: name it too, as in "
                "--encoder Conv4 --encoder.channels 32."
            ) from error
        where = f" (options typed and from {', '.join(configs)})" if configs else ""
        raise ValueError(f"{error}{where}\nAll options: {parser.prog} --help") from error


def _check_yaml(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration file {path}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"The configuration file {path} is not readable YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"The configuration file {path} should hold lines like `steps: 1000`; it holds "
            f"{'nothing' if content is None else f'a {type(content).__name__}'}."
        )
