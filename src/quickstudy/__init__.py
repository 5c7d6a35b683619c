"""quickstudy: few-shot learning by meta-learning.

The names below are imported when they are first used, so that ``import quickstudy`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_ROOMS = {
    "AudioCNN": "encoders",
    "AudioGRU": "encoders",
    "Conv4": "encoders",
    "MLP": "encoders",
    "PretrainedAudioEncoder": "encoders",
    "PretrainedImageEncoder": "encoders",
    "PretrainedTextEncoder": "encoders",
    "ResNet12": "encoders",
    "TextEncoder": "encoders",
    "ClassDataset": "datasets",
    "load_dataset": "datasets",
    "Episode": "episodes",
    "EpisodeSampler": "episodes",
    "Examples": "episodes",
    "AudioInputs": "inputs",
    "ImageInputs": "inputs",
    "TextInputs": "inputs",
    "Baseline": "strategies",
    "BaselinePlusPlus": "strategies",
    "FEAT": "strategies",
    "FRN": "strategies",
    "FineTuning": "strategies",
    "Hypernetwork": "strategies",
    "ANIL": "strategies",
    "AttentiveNeuralProcess": "strategies",
    "BDCSPN": "strategies",
    "BOIL": "strategies",
    "CNAPS": "strategies",
    "DistributionalSignatures": "strategies",
    "ConditionalNeuralProcess": "strategies",
    "FOMAML": "strategies",
    "LEO": "strategies",
    "LRD2": "strategies",
    "CAVIA": "strategies",
    "IMAML": "strategies",
    "InContextLearner": "strategies",
    "LaplacianShot": "strategies",
    "LearnedOptimizer": "strategies",
    "LogisticRegression": "strategies",
    "MetaCurvature": "strategies",
    "MetaLSTM": "strategies",
    "MetaOptNet": "strategies",
    "ProtoMAML": "strategies",
    "TNet": "strategies",
    "MAML": "strategies",
    "MANN": "strategies",
    "MAMLPlusPlus": "strategies",
    "MatchingNetwork": "strategies",
    "MetaBaseline": "strategies",
    "MetaSGD": "strategies",
    "NearestNeighbor": "strategies",
    "PTMAP": "strategies",
    "Portfolio": "strategies",
    "PrototypeIndex": "strategies",
    "PrototypicalNetwork": "strategies",
    "R2D2": "strategies",
    "RelationNetwork": "strategies",
    "Reptile": "strategies",
    "SimpleCNAPS": "strategies",
    "SNAIL": "strategies",
    "SimpleShot": "strategies",
    "Strategy": "strategies",
    "TIM": "strategies",
    "TransductiveFineTuning": "strategies",
    "VERSA": "strategies",
    "WholeHypernetwork": "strategies",
    "Trainer": "training",
    "fit": "training",
    "load": "training",
    "Report": "evaluation",
    "evaluate": "evaluation",
    "FewShotClassifier": "classifier",
}

__all__ = sorted([*_ROOMS, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'quickstudy' has no attribute {name!r}")
    return getattr(importlib.import_module(f"quickstudy.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
