"""What strategies have in common whose encoder learns by ordinary classification."""

from __future__ import annotations

from torch import Tensor, nn

from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Episode
from quickstudy.strategies.strategy import EmbeddingStrategy


class PretrainedStrategy(EmbeddingStrategy):
    """An encoder that learned to tell all training classes apart, and a learner on its features.

    Training draws ordinary batches of all training classes and never sees a task; a subclass says
    how tasks are then solved (:meth:`adapt_features`, :meth:`predict_features`).

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features`` where
            ``classes`` is given.
        classes: the number of training classes; none for an encoder that has learned already.
    """

    episodic = False

    def __init__(self, encoder: nn.Module, classes: int | None = None) -> None:
        super().__init__(encoder)
        self.classes = classes
        self.classifier = None if classes is None else self.make_classifier(classes)

    def make_classifier(self, classes: int) -> nn.Module:
        """What tells the training classes apart: from features ``[B, D]`` to ``[B, classes]``."""
        return nn.Linear(feature_size(self.encoder), classes)

    def forward(self, episode: Episode, features: Tensor | None = None) -> Tensor:
        """Logits ``[T, Q, ways]`` of the query; those of the training classes without support."""
        if episode.support.targets.shape[1]:
            return super().forward(episode, features)
        if self.classifier is None or self.classes != episode.ways:
            raise ValueError(
                f"This {type(self).__name__} tells {self.classes or 'no'} training classes apart, "
                f"and the batch is of {episode.ways}: give the number of training classes "
                f"(`classes={episode.ways}`) to train it."
            )
        return self.training_logits(self.encode(episode.query.inputs, {}))

    def training_logits(self, features: Tensor) -> Tensor:
        """Logits ``[T, Q, classes]`` of the training classes, from features ``[T, Q, D]``."""
        assert self.classifier is not None
        logits: Tensor = self.classifier(features)
        return logits
