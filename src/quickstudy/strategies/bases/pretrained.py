"""What strategies have in common whose encoder learns by ordinary classification."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Episode
from quickstudy.errors import InputError
from quickstudy.strategies.strategy import EmbeddingStrategy


class PretrainedStrategy(EmbeddingStrategy):
    """An encoder that learned to tell all training classes apart, and a learner on its features.

    Training draws ordinary batches of all training classes and never sees a task; a subclass says
    how tasks are then solved (:meth:`adapt_features`, :meth:`predict_features`).

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features`` where
            ``classes`` is given.
        classes: number of training classes; None for an encoder that is already trained.
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
            raise InputError(
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


class CentredStrategy(PretrainedStrategy):
    """A :class:`PretrainedStrategy` that knows the mean feature of its training classes.

    The buffer ``running_mean`` is a running mean over the training batches: of augmented examples,
    as batch normalisation left them, and of the last hundred or so batches, as the encoder changes.
    It is zero before training; for a pretrained encoder, write the mean feature into it, or start
    from a run that has one (``start_from``).

    Attributes:
        added_buffers: buffers that files of older versions do not hold; loaded from such a file,
            they keep their initial values.
    """

    added_buffers: ClassVar[tuple[str, ...]] = ()
    running_mean: Tensor
    batches: Tensor

    def __init__(self, encoder: nn.Module, classes: int | None = None) -> None:
        super().__init__(encoder, classes)
        size = getattr(encoder, "out_features", None)
        # A single zero if the length of features is not known before they are seen.
        self.register_buffer("running_mean", torch.zeros(size if isinstance(size, int) else ()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def training_logits(self, features: Tensor) -> Tensor:
        if self.training:
            self._average(features.detach())
        return super().training_logits(features)

    @torch.no_grad()
    def _average(self, features: Tensor) -> None:
        """Updates the running mean with a batch's mean.

        What it becomes is linear in the batch, so that averaging over batches that each began with
        the same buffers, as the trainer does within a step, is one update by all of them.
        """
        self.batches.add_(1)
        # The plain mean of the first hundred, so that where it starts from does not matter.
        share = (1 / self.batches.to(self.running_mean.dtype)).clamp(min=0.01)
        self.running_mean.lerp_(features.to(self.running_mean.dtype).flatten(0, -2).mean(0), share)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        for name in self.added_buffers:
            state_dict.setdefault(prefix + name, getattr(self, name))
        super()._load_from_state_dict(state_dict, prefix, *arguments)
