"""Which examples spoke for an answer, and which against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from quickstudy.classifier.learner import Learner
from quickstudy.episodes import Examples
from quickstudy.strategies.functional import similarity

EXACT = "what each example adds to the logit of the class; together they are the logit"
UNREAD = (
    "nothing: the encoder cannot read the input, so its probability is the class's share of the "
    "examples"
)
SIMILAR = (
    "how similar each example is to the input among all of them (they sum to 1 without their "
    "signs); examples of other classes count against the class"
)


@dataclass(frozen=True)
class Evidence:
    """One example's part in an answer.

    Args:
        index: of the example, in the order in which they were given.
        label: label of its class.
        name: its text or path, if known; else empty.
        weight: above 0 if it spoke for the class, below 0 if against.
    """

    index: int
    label: Any
    name: str
    weight: float


@dataclass(frozen=True)
class Explanation:
    """Why an input was given its class.

    Args:
        label: label of the class.
        probability: probability of the class.
        examples: all examples, the strongest for the class first, the strongest against it last.
        meaning: what the weights are, in words.
    """

    label: Any
    probability: float
    examples: list[Evidence]
    meaning: str

    @property
    def supporting(self) -> list[Evidence]:
        """The examples that spoke for the class, the strongest first."""
        return [each for each in self.examples if each.weight > 0]

    @property
    def opposing(self) -> list[Evidence]:
        """The examples that spoke against it, the strongest first."""
        return [each for each in reversed(self.examples) if each.weight < 0]

    def __str__(self) -> str:
        lines = [f"{self.label} ({self.probability:.0%})"]
        for word, some in (("for", self.supporting), ("against", self.opposing)):
            for each in some[:3]:
                called = each.name or f"example {each.index}"
                lines.append(f"  {word} {each.weight:+.3f} {each.label}: {called}")
        return "\n".join(lines)


def weights_for(
    learner: Learner, support: Tensor, targets: Tensor, query: Tensor, answer: int
) -> tuple[Tensor, str]:
    """How far each support example spoke for class ``answer``, and what the numbers mean.

    The exact share in the logit, divided by the temperature, where the strategy knows it
    (:meth:`Strategy.evidence`). Otherwise the similarity of features: a softmax of minus the
    squared distances over their mean, positive for the examples of the class and negative for
    those of others.

    Args:
        learner: a strategy that has adapted to ``support``.
        support: what the strategy reads of the support, ``[N, *shape]``.
        targets: ``[N]`` int64.
        query: what it reads of one input, ``[1, *shape]``.
        answer: the number of the class.

    Returns:
        ``[N]``, positive for and negative against; and a sentence.
    """
    strategy = learner.strategy
    if learner.on_vectors:
        one_task = Examples(support[None], targets[None])
        shares = strategy.evidence(learner.theta, one_task, query, answer)
        if shares is not None:
            return shares / learner.temperature, EXACT
    examples, one = learner.features(support), learner.features(query)
    distances = -similarity(one[None], examples[None], "euclidean")[0, 0].clamp(max=0)
    weights = (-distances / distances.mean().clamp(min=1e-12)).softmax(0)
    return weights.where(targets == answer, -weights), SIMILAR
