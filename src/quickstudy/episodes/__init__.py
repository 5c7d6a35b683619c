"""What a task is, and where tasks come from."""

from quickstudy.episodes.batches import BatchSampler
from quickstudy.episodes.episode import Episode, Examples, TaskSource
from quickstudy.episodes.mixture import Mixture
from quickstudy.episodes.sampler import EpisodeIndices, EpisodeSampler
from quickstudy.episodes.sinusoids import Sinusoids
from quickstudy.episodes.source import CheckedSource, as_source, is_source

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
