"""Attention by the statistics of words (Bao, Wu, Chang, Barzilay, 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from quickstudy.encoders.text import without_trailing_padding
from quickstudy.episodes import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.inputs.text import PADDING
from quickstudy.strategies.closed_form.r2d2 import R2D2
from quickstudy.strategies.functional import in_full_precision
from quickstudy.strategies.solvers import check_positive, ridge, target_matrix
from quickstudy.strategies.strategy import Theta

LEAST_ENTROPY = 1e-3
"""Of a word that could belong to one class alone, so that its importance stays a number."""


class DistributionalSignatures(R2D2):
    """Words are weighted by how rare they are and how well they separate the classes of a task.

        s(w) = ε / (ε + P(w)),   t(w) = 1 / H(P(y | w)),   P(y | w) = softmax(Vᵀ e(w))
        h = biLSTM([s; t]),   α_i = softmax_i(vᵀ h_i),   f(x) = Σ_i α_i e(w_i),   ridge regression

    P(w) is how often a word stands in the texts of meta-training; V is a ridge regression from
    1/L Σ_i s(w_i) e(w_i) of the support to its classes. What is learned about attention is thus
    learned from statistics, which carry over to other words better than words do. Bao, Wu, Chang,
    Barzilay, "Few-shot Text Classification with Distributional Signatures", ICLR 2020, sections 3
    and 4, with the ridge regressor of :class:`R2D2`.

    What differs: words are the subwords of the data's inputs. Their embeddings e are the encoder's,
    learned with the rest, where the paper takes ready ones (fastText) and leaves them as they are;
    those of a "bag" look at a word alone, as the paper's, those of other bodies at its neighbours
    too. P(w) is counted while training goes on: the texts of all tasks up to the one at hand, where
    the paper counts all texts of the training classes that are not in the task. A constant 1 stands
    after f(x), as in :class:`R2D2`. As in the paper's code no gradient flows through s and t.

    Args:
        encoder: a ``TextEncoder``, or another that states its ``vocabulary`` and has
            ``vectors_of_subwords`` (from ``[B, L]`` to ``[B, L, width]``, zeros for padding).
        smoothing: ε.
        importance_penalty: λ of the regression that gives V.
        states: of the LSTM, in each direction.
        penalty: λ of the ridge regressor at the start of meta-training.
        scale: what its outputs are multiplied by at the start of meta-training.
    """

    paper = "Bao, Wu, Chang, Barzilay, 2020"
    regression = False
    modality = "text"

    counts: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        smoothing: float = 1e-3,
        importance_penalty: float = 1.0,
        states: int = 25,
        penalty: float = 0.1,
        scale: float = 5.0,
    ) -> None:
        super().__init__(encoder, penalty, scale)
        vocabulary = getattr(encoder, "vocabulary", None)
        if not isinstance(vocabulary, int) or not hasattr(encoder, "vectors_of_subwords"):
            raise InputError(
                f"DistributionalSignatures weighs the words of texts, and {type(encoder).__name__} "
                "gives no vectors of words: use TextEncoder."
            )
        check_positive(
            "DistributionalSignatures",
            smoothing=smoothing,
            importance_penalty=importance_penalty,
            states=states,
        )
        self.smoothing = smoothing
        self.importance_penalty = importance_penalty
        self.states = states
        self.lstm = nn.LSTM(2, states, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(2 * states, 1, bias=False)  # a constant cancels in the softmax
        # A float, as training averages such buffers over the tasks of a meta-batch.
        self.register_buffer("counts", torch.zeros(vocabulary))

    @torch.no_grad()
    def count(self, texts: Tensor) -> None:
        """Adds to P(w) the subwords of texts ``[T, N, L]``: their mean number over the T tasks.

        Meta-training does so for the texts of its tasks, support and query. Texts that other
        classes may be recognised by belong here as well, those to be tested on do not.
        """
        words = texts.flatten()
        present = (words != PADDING).to(self.counts.dtype)
        self.counts.index_add_(0, words, present / max(1, len(texts)))

    def forward(self, episode: Episode, features: Tensor | None = None) -> Tensor:
        logits = super().forward(episode, features)
        if self.training:  # afterwards, so that a task's own words are as new as in use
            self.count(episode.support.inputs)
            self.count(episode.query.inputs)
        return logits

    @torch.no_grad()
    def condition(self, support: Examples, ways: int) -> Theta:
        """V, ``[T, width, ways]``."""
        words, vectors = self._embedded(support.inputs)
        length = (words != PADDING).sum(-1, keepdim=True).clamp(min=1)
        weights = self.general_importance(words) / length
        texts = (weights[:, None] @ vectors).view(*support.inputs.shape[:2], -1)
        texts = texts.to(self.counts.dtype)
        targets = target_matrix(Examples(texts, support.targets), ways)
        return {"importance": ridge(texts, targets, self.importance_penalty)}

    def encode(self, inputs: Tensor, theta: Theta) -> Tensor:
        words, vectors = self._embedded(inputs)
        each = len(words) // len(inputs) if len(inputs) else 0
        classifier = theta["importance"].repeat_interleave(each, 0)
        weights = self.weigh(words, vectors, classifier).to(vectors.dtype)
        return (weights[:, None] @ vectors).view(*inputs.shape[:2], -1)

    def weigh(self, words: Tensor, vectors: Tensor, classifier: Tensor) -> Tensor:
        """α of each word, ``[B, L]``: a text's are positive and sum to 1, with 0 for padding.

        Args:
            words: ``[B, L]``.
            vectors: of the words, ``[B, L, width]``.
            classifier: V for each text, ``[B, width, ways]``.
        """
        with torch.no_grad():
            signature = torch.stack(
                [self.general_importance(words), class_importance(vectors, classifier)], dim=-1
            )
        present = words != PADDING
        lengths = (present * torch.arange(1, words.shape[1] + 1, device=words.device)).amax(1)
        packed = pack_padded_sequence(
            signature, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=words.shape[1]
        )
        scores = self.attention(states)[..., 0].to(self.counts.dtype)
        lowest = torch.finfo(scores.dtype).min
        shares: Tensor = scores.masked_fill(~present, lowest).softmax(-1) * present
        return shares

    def general_importance(self, words: Tensor) -> Tensor:
        """The s of each word, ``[B, L]``; 0 for padding, 1 for all words before training."""
        share = self.counts[words] / self.counts.sum().clamp(min=1)
        return self.smoothing / (self.smoothing + share) * (words != PADDING)

    def _embedded(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The words ``[T N, L]`` of texts ``[T, N, length]``, and vectors ``[T N, L, width]``."""
        words = without_trailing_padding(inputs.flatten(0, 1))
        vectors: Tensor = self.encoder.vectors_of_subwords(words)  # type: ignore[operator]
        return words, vectors


@in_full_precision
def class_importance(vectors: Tensor, classifier: Tensor) -> Tensor:
    """The t of each word, ``[B, L]``: one over the entropy of its classes, in nats.

    Args:
        vectors: of words, ``[B, L, width]``.
        classifier: V, ``[B, width, ways]``.
    """
    shares = (vectors @ classifier).log_softmax(-1)
    entropy = -(shares.exp() * shares).sum(-1)
    return 1 / entropy.clamp(min=LEAST_ENTROPY)
