"""Transductive information maximisation (Boudiaf, Masud Ziko and others, 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.strategies.bases.transductive_strategy import (
    TransductiveStrategy,
    check_steps,
)
from quickstudy.strategies.solvers import check_positive


class TIM(TransductiveStrategy):
    """Class weights that maximise the mutual information of queries and labels and fit the support.

        p_ik ∝ exp(−τ/2 ‖w_k − z_i‖²),   z = f(x) / ‖f(x)‖,   p̂_k = mean of p_ik over the queries

        min over w of  λ · cross-entropy(support) + Σ_k p̂_k log p̂_k − α · mean of Σ_k p_ik log p_ik

    The second and third terms are minus the mutual information of queries and labels: labels are to
    be evenly used, and each query is to be sure of its own. The solver is the paper's
    alternating-direction method (TIM-ADM): labels q of the queries and weights w take turns, both
    in closed form,

        q_ik ∝ p_ik^(1 + α) / (Σ_i p_ik^(1 + α))^½
        w_k ← Σ_i c_i (y_ik z_i + p_ik (w_k − z_i)) / Σ_i c_i y_ik

    from the means of the support on; the sums in the second line are over the support, with
    c = λ / (1 + α), and over the queries, with y = q and c = |S| / |Q|. Since w stays a sum of
    features, w_k = Σ_i a_ik z_i, the steps are taken on a: the same w for less work.

    Boudiaf, Masud Ziko, Rony, Dolz, Piantanida, Ben Ayed, "Transductive Information Maximization
    For Few-Shot Learning", NeurIPS 2020, sections 2.1 to 2.3, equation 3 and proposition 1.

    Args:
        steps: how often q and w take turns; the paper's 150.
        temperature: τ; the paper's 15.
        support_weight: λ; the paper's 0.1.
        certainty_weight: α; the paper's 0.1.
    """

    paper = "Boudiaf, Masud Ziko, Rony, Dolz, Piantanida, Ben Ayed, 2020"

    def __init__(
        self,
        encoder: nn.Module,
        classes: int | None = None,
        steps: int = 150,
        temperature: float = 15.0,
        support_weight: float = 0.1,
        certainty_weight: float = 0.1,
    ) -> None:
        super().__init__(encoder, classes)
        check_steps("TIM", steps)
        check_positive("TIM", temperature=temperature, support_weight=support_weight)
        if not certainty_weight >= 0:
            raise InputError(
                f"TIM's certainty_weight is {certainty_weight}; it must not be negative."
            )
        self.steps = steps
        self.temperature = temperature
        self.support_weight = support_weight
        self.certainty_weight = certainty_weight

    def infer(self, support: Tensor, members: Tensor, queries: Tensor) -> Tensor:
        labelled, asked = support.shape[1], queries.shape[1]
        z = F.normalize(torch.cat([support, queries], dim=1), dim=-1)
        gram = z @ z.mT
        of_support = self.support_weight / (1 + self.certainty_weight)
        c = torch.cat(
            [z.new_full((labelled, 1), of_support), z.new_full((asked, 1), labelled / asked)]
        )
        shares = F.pad(members / members.sum(1, keepdim=True).clamp(min=1), (0, 0, 0, asked))
        logits = self.logits(gram, shares)
        for _ in range(self.steps):
            y = torch.cat([members, self.labels(logits[:, labelled:])], dim=1)
            p = logits.softmax(-1)
            pulled = c * (y - p) + shares * (c * p).sum(1, keepdim=True)
            shares = pulled / (c * y).sum(1, keepdim=True)
            logits = self.logits(gram, shares)
        return logits[:, labelled:]

    def logits(self, gram: Tensor, shares: Tensor) -> Tensor:
        """τ (w_k · z_i − ‖w_k‖² / 2), from the z's products ``[T, n, n]`` and a ``[T, n, ways]``.

        That is −τ/2 ‖w_k − z_i‖² but for what all classes of an example share.
        """
        products = gram @ shares
        return self.temperature * (products - (shares * products).sum(1, keepdim=True) / 2)

    def labels(self, logits: Tensor) -> Tensor:
        """The q ``[T, Q, ways]`` of the queries' logits."""
        powers = (1 + self.certainty_weight) * logits.log_softmax(-1)
        return (powers - powers.logsumexp(1, keepdim=True) / 2).softmax(-1)
