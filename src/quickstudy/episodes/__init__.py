"""What a task is, and where tasks come from."""

from quickstudy.episodes.episode import Episode, Examples
from quickstudy.episodes.sampler import EpisodeIndices, EpisodeSampler

__all__ = ["Episode", "EpisodeIndices", "EpisodeSampler", "Examples"]
