from . import datasets as datasets
from . import encoders as encoders
from . import episodes as episodes
from . import evaluation as evaluation
from . import index as index
from . import inputs as inputs
from . import strategies as strategies
from . import training as training
from .classifier.classifier import FewShotClassifier
from .classifier.encoders import load_encoder
from .datasets.dataset import ClassDataset
from .datasets.loading import load_dataset
from .episodes.episode import Episode
from .episodes.sampler import EpisodeSampler
from .errors import UserError
from .evaluation.evaluator import evaluate
from .runs.run import load
from .strategies.strategy import EmbeddingStrategy, Strategy
from .training.trainer import Trainer, fit

__version__: str

__all__ = [
    "ClassDataset",
    "EmbeddingStrategy",
    "Episode",
    "EpisodeSampler",
    "FewShotClassifier",
    "Strategy",
    "Trainer",
    "UserError",
    "__version__",
    "evaluate",
    "fit",
    "load",
    "load_dataset",
    "load_encoder",
]
