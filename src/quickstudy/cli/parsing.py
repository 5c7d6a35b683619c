"""Parsers of commands; quick to import."""

from __future__ import annotations

import json
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from quickstudy.trust import check_config

LARGEST_CONFIG_BYTES = 16 * 2**20
"""Of a configuration file; a learned tokenizer in it takes a megabyte."""


def new_parser(command: str, description: str) -> ArgumentParser:
    """A parser that takes options by their full names only."""
    return ArgumentParser(
        prog=f"quickstudy {command}",
        description=description,
        allow_abbrev=False,
        exit_on_error=False,
    )


def add_trust(parser: ArgumentParser) -> None:
    """Adds --trust; ``quickstudy/trust.py`` finds it among the words of the command."""
    parser.add_argument(
        "--trust",
        type=str | list[str] | None,
        help="import paths of classes outside quickstudy that a file may use; what --strategy and "
        "--encoder name is trusted anyway",
    )


def parse(
    parser: ArgumentParser, words: Sequence[str], config: Mapping[str, Any] | None = None
) -> Namespace:
    """Parses a command's words; what is wrong with them becomes a ValueError.

    Args:
        parser: of the command.
        words: typed after its name.
        config: options that hold where the words say nothing else.

    Raises:
        ValueError: naming the option, or the configuration file that cannot be read.
    """
    configs = [b for a, b in pairwise(words) if a == "--config"]
    configs += [word.partition("=")[2] for word in words if word.startswith("--config=")]
    for path in configs:
        _check_yaml(Path(path))
    if config is not None:
        check_config("The run's config", config)
    try:
        before = [] if config is None else ["--config", json.dumps(config)]
        return parser.parse_args([*before, *words])
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
    if path.stat().st_size > LARGEST_CONFIG_BYTES:
        raise ValueError(f"The configuration file {path} is larger than 16 MiB.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    # Beside its own errors, the library lets through those of numbers and dates without a value.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"The configuration file {path} is not readable YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"The configuration file {path} should hold lines like `steps: 1000`; it holds "
            f"{'nothing' if content is None else f'a {type(content).__name__}'}."
        )
    check_config(f"The configuration file {path}", content)
