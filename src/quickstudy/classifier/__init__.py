"""From a handful of examples to a classifier: fit, predict, save, load.

The estimator is imported when it is first used: a saved classifier predicts without scikit-learn.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quickstudy.classifier.classifier import FewShotClassifier
    from quickstudy.classifier.encoders import load_encoder
    from quickstudy.classifier.explanation import Explanation
    from quickstudy.classifier.file import load_model
    from quickstudy.classifier.model import Model

_FILES = {
    "Explanation": "explanation",
    "FewShotClassifier": "classifier",
    "Model": "model",
    "load_encoder": "encoders",
    "load_model": "file",
}

__all__ = ["Explanation", "FewShotClassifier", "Model", "load_encoder", "load_model"]


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module 'quickstudy.classifier' has no attribute {name!r}")
    return getattr(importlib.import_module(f"quickstudy.classifier.{_FILES[name]}"), name)
