"""Learning to learn by gradient descent by gradient descent (Andrychowicz and others, 2016)."""

from __future__ import annotations

from typing import Unpack

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


class CoordinatewiseLSTM(nn.Module):
    """An optimiser: an LSTM that reads the gradient of a coordinate and says how to move it.

        [g_t, h_{t+1}] = m(∇_t, h_t; φ),   θ_{t+1} = θ_t + g_t

    All coordinates share φ and each has an h of its own, so that one optimiser serves any number of
    them. Gradients are preprocessed (:func:`preprocessed`), and what the last layer's linear output
    says is multiplied by ``scale``.

    Andrychowicz, Denil, Gomez, Hoffman, Pfau, Schaul, Shillingford, de Freitas, "Learning to learn
    by gradient descent by gradient descent", NeurIPS 2016, section 2.1 and appendix A.
    :mod:`quickstudy.strategies.recurrent.optimization` trains it.

    Args:
        hidden: units of each layer.
        layers: number of layers of the LSTM.
        scale: multiplies the outputs, which begin at a size of about 0.1.
    """

    def __init__(self, hidden: int = 20, layers: int = 2, scale: float = 0.1) -> None:
        super().__init__()
        if not scale > 0:
            raise InputError(f"scale is {scale}; an optimiser that moves needs more than 0.")
        self.scale = scale
        self.lstm = SharedLSTM(2, hidden, layers)
        self.output = nn.Linear(hidden, 1)
        nn.init.zeros_(self.output.bias)  # else all coordinates would drift one way

    def init(self, theta: Tensor) -> Memory:
        """h_0 for coordinates of any shape."""
        return self.lstm.init(theta)

    def step(self, gradient: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """g_t and h_{t+1}; the gradient and g_t have the shape of θ."""
        h, memory = self.lstm.step(preprocessed(gradient.flatten()), memory)
        moves = self.scale * (self.output.weight @ h + self.output.bias)
        return moves.reshape(gradient.shape), memory


class LearnedOptimizer(CoordinatewiseStrategy):
    """The inner loop's optimiser is a recurrent network that is learned.

        [g_t, h_{t+1}] = m(∇ L(support; θ_t), h_t; φ),   θ_{t+1} = θ_t + g_t

    m is a :class:`CoordinatewiseLSTM`, whose paper is Andrychowicz, Denil, Gomez, Hoffman, Pfau,
    Schaul, Shillingford, de Freitas, "Learning to learn by gradient descent by gradient descent",
    NeurIPS 2016, section 2. As there, gradients are constants to φ.

    Differs from the paper, where m minimises the sum over the steps of the loss whose gradients it
    reads: for few-shot tasks the loss is the query's after the last step, the start θ_0 is learned
    with m as in MAML, and the few steps need no truncation. Batch normalisation: queries are
    normalised by the statistics of the support, or by their own batch (``transductive=True``).

    Args:
        inner_steps: steps in meta-training.
        hidden: units of each layer of m.
        layers: number of layers of m.
        scale: multiplies the outputs of m.
        **inner_loop: the other arguments are those of :class:`GradientStrategy`.
    """

    paper = "Andrychowicz and others, 2016"

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        inner_steps: int = 5,
        hidden: int = 20,
        layers: int = 2,
        scale: float = 0.1,
        **inner_loop: Unpack[InnerLoop],
    ) -> None:
        super().__init__(encoder, ways, inner_steps, first_order=True, **inner_loop)
        self.hidden = hidden
        self.layers = layers
        self.scale = scale
        self.optimizer = CoordinatewiseLSTM(hidden, layers, scale)

    def remember(self, theta: Tensor) -> Memory:
        return self.optimizer.init(theta)

    @in_full_precision
    def move(
        self, theta: Tensor, gradient: Tensor, loss: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        move, memory = self.optimizer.step(gradient, memory)
        return theta + move, memory
