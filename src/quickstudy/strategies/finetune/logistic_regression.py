"""Logistic regression on good features (Tian, Wang, Krishnan, Tenenbaum, Isola, 2020)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.episodes import Examples
from quickstudy.strategies.bases.pretrained import PretrainedStrategy
from quickstudy.strategies.functional import in_full_precision
from quickstudy.strategies.solvers import (
    check_positive,
    linear,
    positive_factor,
    target_matrix,
    widest,
    with_constant,
)
from quickstudy.strategies.strategy import LinearHead, Theta

ONE_SHOT_PENALTY = 0.2

ITERATIONS = 50
"""Most problems take 5 to 10."""

CONVERGED = 1e-9
"""Of the conditions of the optimum, which are differences of probabilities."""

NEARLY_CONVERGED = 1e-3
"""Tasks that are short of this are solved by L-BFGS: rounding has led Newton's method astray."""

HALVINGS = 10

NEWTON_UP_TO = 1e8
"""K N³, to which a Newton step is proportional; larger problems are solved by L-BFGS."""

DESCENT_ITERATIONS = 1000
DESCENT_CONVERGED = 1e-6
"""Of the gradient: a sum over examples of features times differences of probabilities."""


class LogisticRegression(PretrainedStrategy):
    """Multinomial logistic regression on the features of a network that knows the training classes.

        min over W of  Σ_n −log softmax(Wᵀ f(x_n))_{y_n} + λ/2 ‖W‖²,   ŷ = Wᵀ f(x)

    The linear probe of Tian, Wang, Krishnan, Tenenbaum, Isola, "Rethinking Few-Shot Image
    Classification: A Good Embedding Is All You Need?", ECCV 2020, section 3 (without distillation):
    features are scaled to length 1, and the problem is solved to convergence. A constant 1 is
    appended to the features; its row of W is a bias, penalised like the others. Features that keep
    their lengths are first centred on the support's mean, so that their origin does not matter.

    Args:
        penalty: λ; the paper's 1. None for 0.2 / √(N / K), which falls with the number of examples
            per class; on sentences (1 to 10 examples per class) it did better than any fixed λ.
        normalize: scale features to length 1, as in the paper.
        balanced: give every class the same weight, however many examples it has: each of its n
            examples counts N / (K n) times, which is once if all classes have equally many.
    """

    paper = "Tian, Wang, Krishnan, Tenenbaum, Isola, 2020"

    def __init__(
        self,
        encoder: nn.Module,
        classes: int | None = None,
        penalty: float | None = 1.0,
        normalize: bool = True,
        balanced: bool = False,
    ) -> None:
        super().__init__(encoder, classes)
        if penalty is not None:
            check_positive("LogisticRegression", penalty=penalty)
        self.penalty = penalty
        self.normalize = normalize
        self.balanced = balanced

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        with torch.no_grad():
            features = self.compared(support.inputs)
            centre = self.centre(features)
            penalty = self.penalty_for(support.targets.shape[1], ways)
            members = self.weighted(target_matrix(support, ways))
            weight = regression_weights(with_constant(features - centre), members, penalty)
            weight, bias = weight[..., :-1], weight[..., -1]
        return {"weight": weight, "bias": bias - (weight * centre).sum(-1)}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        return linear(self.compared(features), theta["weight"], theta["bias"])

    def penalty_for(self, examples: int, ways: int) -> float:
        """λ for a task of N examples of K classes."""
        if self.penalty is not None:
            return self.penalty
        return ONE_SHOT_PENALTY * math.sqrt(ways / examples)

    def weighted(self, members: Tensor) -> Tensor:
        """One-hot classes ``[..., N, K]``, each row times what its example counts."""
        if not self.balanced:
            return members
        examples, ways = members.shape[-2:]
        return members * (examples / ways / members.sum(-2, keepdim=True).clamp(min=1))

    def centre(self, features: Tensor) -> Tensor | float:
        """What is taken off the support's features ``[..., N, D]`` before they are learned from."""
        return 0.0 if self.normalize else features.mean(-2, keepdim=True)

    def compared(self, vectors: Tensor) -> Tensor:
        """Vectors of length 1 if ``normalize``, else as they are."""
        return F.normalize(vectors, dim=-1) if self.normalize else vectors

    def evidence(self, theta: Theta, support: Examples, query: Tensor, answer: int) -> Tensor:
        """The exact share of each support example in the logit of a class.

        With the dual solution A = Y − P the logit of class k is Σ_n A_nk x_n · x / λ (Rasmussen and
        Williams, "Gaussian Processes for Machine Learning", 2006, section 3.5).
        """
        features, ways = support.inputs[0], theta["bias"].shape[1]
        members = self.weighted(F.one_hot(support.targets[0], ways).to(features))
        shares = self.predict_features(theta, support.inputs)[0].softmax(-1)[:, answer]
        residual = members[:, answer] - members.sum(1) * shares
        centre = self.centre(self.compared(features))
        rows, row = (with_constant(self.compared(each) - centre) for each in (features, query))
        return residual * (rows @ row[0]) / self.penalty_for(len(features), ways)

    def linear_head(self, theta: Theta) -> LinearHead:
        return LinearHead(theta["weight"], theta["bias"], normalize=self.normalize)

    @property
    def default_temperature(self) -> float:
        """1, or less where the penalty follows from the task.

        Such a penalty makes logits too small; 0.3 is what they took with one example of each class
        on the training and validation sets of BANKING77 and CLINC150.
        """
        return 0.3 if self.penalty is None else 1.0


@in_full_precision
def regression_weights(features: Tensor, members: Tensor, penalty: float) -> Tensor:
    """The Wᵀ ``[T, K, D]`` of features ``[T, N, D]`` and one-hot classes ``[T, N, K]``.

    A row of classes that is w times one-hot makes its example count w times.
    """
    examples, ways = members.shape[-2:]
    if ways * examples**3 > NEWTON_UP_TO:
        return weights_by_descent(features, members, penalty)
    gram = features @ features.mT / penalty
    try:
        dual, missed = multinomial_newton(gram, members.mT)
    except ValueError:  # its systems are singular to rounding, as features are so long
        return weights_by_descent(features, members, penalty)
    weights = dual @ features / penalty
    if (astray := ~(missed < NEARLY_CONVERGED)).any():
        weights[astray] = weights_by_descent(features[astray], members[astray], penalty)
    return weights


def weights_by_descent(features: Tensor, members: Tensor, penalty: float) -> Tensor:
    """The same by L-BFGS, for problems in which N x N systems for each class are too large."""
    x, y = widest(features), widest(members)
    counts = y.sum(-1, keepdim=True)
    weight = x.new_zeros(len(x), y.shape[-1], x.shape[-1])
    solver = torch.optim.LBFGS(
        [weight],
        max_iter=DESCENT_ITERATIONS,
        tolerance_grad=DESCENT_CONVERGED,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def objective() -> float:
        log_probabilities = (x @ weight.mT).log_softmax(-1)
        residual = counts * log_probabilities.exp() - y
        weight.grad = residual.mT @ x + penalty * weight
        losses = -(y * log_probabilities).sum() + penalty / 2 * weight.square().sum()
        return float(losses)

    solver.step(objective)  # type: ignore[no-untyped-call]
    return weight.to(features)


def multinomial_newton(gram: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """The A = Y − P of the optimum, where P are its probabilities: W = Xᵀ A / λ.

    Newton's method, by the residual B = Y − P − A and with R the sum over classes:

        A ← A + B − C + E Rᵀ (R E Rᵀ)⁻¹ R C,   C = E G B
        E_k = √P_k (I + √P_k G √P_k)⁻¹ √P_k

    These are the steps of Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006,
    section 3.5, for classes that share a kernel G: systems of N x N, where W has D K numbers. A
    step that makes the objective worse is halved. Of an example that counts w times both Y and P
    are w times themselves.

    Args:
        gram: G = X Xᵀ / λ, ``[T, N, N]``.
        members: Y, one-hot classes ``[T, K, N]``, each column times w.

    Returns:
        A ``[T, K, N]``, in the dtype of ``gram``; and by how much the conditions of the optimum
        were missed before the last step, ``[T]``.
    """
    given, gram = gram.dtype, widest(gram)
    members = members.to(gram)
    counts = members.sum(1, keepdim=True)
    dual = torch.zeros_like(members)
    lengths = 0.5 ** torch.arange(HALVINGS, device=gram.device).to(gram)
    for _ in range(ITERATIONS):
        probabilities = counts * (dual @ gram).softmax(1)
        residual = members - probabilities - dual
        missed = residual.abs().amax((1, 2))
        if float(missed.max()) < CONVERGED:
            break
        step = _newton_step(gram, probabilities, residual)
        tried = dual + lengths.view(-1, 1, 1, 1) * step
        now, then = _objective(gram, members, dual), _objective(gram, members, tried)
        # The first that is no worse; near the optimum they differ by rounding alone.
        good = then <= now + 1e-12 * (1 + now.abs())
        dual = tried[good.int().argmax(0), torch.arange(len(dual), device=gram.device)]
    return dual.to(given), missed


def _newton_step(gram: Tensor, probabilities: Tensor, residual: Tensor) -> Tensor:
    """The change of A ``[T, K, N]``."""
    root = probabilities.sqrt()[..., None]  # [T, K, N, 1]
    system = root * gram[:, None] * root.mT
    system.diagonal(dim1=-2, dim2=-1).add_(1)
    inner = root * torch.cholesky_inverse(positive_factor(system)) * root.mT  # E
    own = (inner @ (residual @ gram)[..., None])[..., 0]  # C
    shared = torch.cholesky_solve(own.sum(1)[..., None], positive_factor(inner.sum(1)))
    return residual - own + (inner @ shared[:, None])[..., 0]


def _objective(gram: Tensor, members: Tensor, dual: Tensor) -> Tensor:
    """What is made small, for A ``[..., T, K, N]``: ``[..., T]``."""
    logits = dual @ gram
    losses = -(members * logits.log_softmax(-2)).sum((-2, -1))
    return losses + (dual * logits).sum((-2, -1)) / 2
