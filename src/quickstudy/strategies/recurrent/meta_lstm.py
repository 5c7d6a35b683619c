"""The LSTM meta-learner (Ravi, Larochelle, 2017)."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import torch
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.strategies.bases.coordinatewise import (
    CoordinatewiseStrategy,
    Memory,
    SharedLSTM,
    preprocessed,
)
from quickstudy.strategies.bases.gradient_strategy import InnerLoop
from quickstudy.strategies.functional import in_full_precision


class MetaLSTM(CoordinatewiseStrategy):
    """θ is the cell state of an LSTM whose candidate values are the support's loss gradients.

        h_t = LSTM([∇_t, L_t], h_{t−1}),   ∇_t = ∇ L(support; θ_{t−1}),   L_t = L(support; θ_{t−1})
        i_t = σ(w_i · [h_t, θ_{t−1}, i_{t−1}] + b_i)
        f_t = σ(w_f · [h_t, θ_{t−1}, f_{t−1}] + b_f)
        θ_t = f_t ⊙ θ_{t−1} − i_t ⊙ ∇_t

    The input gate i is a learned step size and the forget gate f a learned weight decay, computed
    anew for each coordinate and step. All coordinates share w and the LSTM, which reads gradients
    and losses preprocessed (:func:`preprocessed`). φ also holds the start θ_0.

    Ravi, Larochelle, "Optimization as a Model for Few-Shot Learning", ICLR 2017, sections 3.1 to
    3.5 and, for the two layers, 5.1. As there, gradients and losses are constants to φ (the
    gradient independence assumption), gates begin as gradient descent with a small rate and hardly
    any decay, and each step reads the whole support.

    Differs from the paper: i_0 = 0 and f_0 = 1, which the paper leaves open, and except for small
    random w the gates begin the same in every training. Batch normalisation: queries are normalised
    by the statistics of the support at the last θ, which stand for the paper's running averages of
    the support, or by their own batch (``transductive=True``).

    Args:
        inner_steps: steps T in meta-training.
        inner_learning_rate: i at the start of meta-training, between 0 and 1.
        remembering: f at the start of meta-training, between 0 and 1.
        hidden: units of the LSTM.
        **inner_loop: the other arguments are those of :class:`GradientStrategy`.
    """

    paper = "Ravi, Larochelle, 2017"

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        inner_steps: int = 5,
        inner_learning_rate: float = 0.1,
        remembering: float = 0.995,
        hidden: int = 20,
        **inner_loop: Unpack[InnerLoop],
    ) -> None:
        super().__init__(
            encoder, ways, inner_steps, inner_learning_rate, first_order=True, **inner_loop
        )
        if not (0 < inner_learning_rate < 1 and 0 < remembering < 1):
            raise InputError(
                f"inner_learning_rate is {inner_learning_rate} and remembering {remembering}; both "
                "are what a gate begins with, and must lie between 0 and 1."
            )
        self.remembering = remembering
        self.hidden = hidden
        self.lstm = SharedLSTM(4, hidden)
        self.input_gate = Gate(hidden, inner_learning_rate)
        self.forget_gate = Gate(hidden, remembering)

    def remember(self, theta: Tensor) -> Cells:
        return Cells(self.lstm.init(theta), torch.zeros_like(theta), torch.ones_like(theta))

    @in_full_precision  # what is forgotten at a step is less than bfloat16 tells from nothing
    def move(
        self, theta: Tensor, gradient: Tensor, loss: Tensor, memory: Cells
    ) -> tuple[Tensor, Cells]:
        losses = preprocessed(loss[None]).expand(2, len(theta))
        h, lstm = self.lstm.step(torch.cat([preprocessed(gradient), losses]), memory.lstm)
        i = self.input_gate(h, theta, memory.i)
        f = self.forget_gate(h, theta, memory.f)
        return f * theta - i * gradient, Cells(lstm, i, f)


class Cells(NamedTuple):
    """What is carried from step to step: the LSTM's memory, and the gates ``[n]``."""

    lstm: Memory
    i: Tensor
    f: Tensor


class Gate(nn.Module):
    """σ(w · [h, θ, g] + b), g being the gate a step before.

    Args:
        hidden: the length of h.
        opening: what it says at the start of meta-training.
    """

    def __init__(self, hidden: int, opening: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(hidden + 2).uniform_(-0.01, 0.01))
        self.bias = nn.Parameter(torch.logit(torch.tensor(opening)))

    def forward(self, h: Tensor, theta: Tensor, before: Tensor) -> Tensor:
        """``[n]`` of h ``[hidden, n]``, θ ``[n]`` and g ``[n]``."""
        of_theta, of_before = self.weight[-2:]
        return torch.sigmoid(
            self.weight[:-2] @ h + of_theta * theta + of_before * before + self.bias
        )
