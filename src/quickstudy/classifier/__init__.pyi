from .classifier import FewShotClassifier
from .encoders import load_encoder
from .explanation import Explanation
from .file import load_model
from .model import Model

__all__ = [
    "Explanation",
    "FewShotClassifier",
    "Model",
    "load_encoder",
    "load_model",
]
