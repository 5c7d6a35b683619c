"""quickstudy: few-shot learning by meta-learning.

The public names are listed, with their types, in ``__init__.pyi``. Each is imported when it is
first used, so that ``import quickstudy`` is quick.
"""

import importlib
import warnings
from typing import Any

import lazy_loader

__version__ = "0.1.0"

_public, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

_FORMER_ROOMS = ("strategies", "encoders", "inputs", "episodes", "index", "evaluation")
"""Rooms whose public names were once available here."""


def __getattr__(name: str) -> Any:
    try:
        return _public(name)
    except AttributeError:
        if name.startswith("_"):
            raise
    for room in _FORMER_ROOMS:
        module = importlib.import_module(f"quickstudy.{room}")
        if name in module.__all__:
            warnings.warn(
                f"quickstudy.{name} is now quickstudy.{room}.{name}; the old name works until "
                "version 1.0.",
                DeprecationWarning,
                stacklevel=2,
            )
            return getattr(module, name)
    raise AttributeError(f"module 'quickstudy' has no attribute {name!r}")
