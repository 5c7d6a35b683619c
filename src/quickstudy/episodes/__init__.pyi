from .batches import BatchSampler
from .episode import Episode, Examples, TaskSource
from .mixture import Mixture
from .sampler import EpisodeIndices, EpisodeSampler
from .sinusoids import Sinusoids
from .source import CheckedSource, as_source, is_source

__all__ = [
    "BatchSampler",
    "CheckedSource",
    "Episode",
    "EpisodeIndices",
    "EpisodeSampler",
    "Examples",
    "Mixture",
    "Sinusoids",
    "TaskSource",
    "as_source",
    "is_source",
]
