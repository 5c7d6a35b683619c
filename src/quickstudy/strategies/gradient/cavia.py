"""Fast context adaptation (Zintgraf, Shiarlis, Kurin, Hofmann, Whiteson, 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack, get_args

import torch
from torch import Tensor, nn

from quickstudy.compute.encoding import encoded
from quickstudy.encoders.encoder import Modulation, feature_size
from quickstudy.errors import InputError
from quickstudy.strategies.bases.gradient_strategy import GradientStrategy, SecondOrderLoop
from quickstudy.strategies.strategy import Theta

Conditioning = Literal["film", "concatenation"]


class CAVIA(GradientStrategy):
    """A few context parameters c adapt; the network that reads them is the same for every task.

        c_0 = 0,   c_{s+1} = c_s − α ∇_c L(support; c_s, φ),   ŷ = f(x; c_S, φ)

    The context changes layers h of the encoder, each by a learned linear map of c:

        film:            h → (1 + γ) h + β,   (γ, β) = A c + a
        concatenation:   W [x; c] + b = W_x x + b + W_c c, that is   h → h + W_c c

    Zintgraf, Shiarlis, Kurin, Hofmann, Whiteson, "Fast Context Adaptation via Meta-Learning", ICML
    2019, section 3. The head is the network's last layer, the same for every task, as in the
    paper. For classification the paper modulates by "film", for regression it concatenates c to the
    input (``conditioning="concatenation"``, ``layers=[0]``, with ``MLP``).

    The authors' program for classification differs: it modulates only after the third of four
    blocks (``layers=[2]``; here every block by default). Its scale is γ, not 1 + γ, so that maps
    begin near zero, and its map from c to (γ, β) can have a hidden layer of ReLUs. The modulation
    has the same place within a block: after the normalisation and before the ReLU. The program
    normalises queries by their own batch, as ``transductive=True`` does.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features``. Its
            layers are conditioned if it states ``modulated_channels`` and takes a modulation
            (``Conv4``, ``ResNet12``, ``MLP``), otherwise its vectors are.
        context: number of context parameters.
        conditioning: "film" or "concatenation".
        layers: the layers to condition, counted from 0; all by default.
        **inner_loop: the other arguments are those of :class:`GradientStrategy`.
    """

    paper = "Zintgraf, Shiarlis, Kurin, Hofmann, Whiteson, 2019"

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        context: int = 100,
        conditioning: Conditioning = "film",
        layers: Sequence[int] | None = None,
        inner_steps: int = 2,
        inner_learning_rate: float = 1.0,
        **inner_loop: Unpack[SecondOrderLoop],
    ) -> None:
        super().__init__(encoder, ways, inner_steps, inner_learning_rate, **inner_loop)
        channels = getattr(encoder, "modulated_channels", (feature_size(encoder),))
        known = range(len(channels))
        if context < 1 or conditioning not in get_args(Conditioning):
            raise InputError(
                f"The context is of {context} numbers and its conditioning {conditioning!r}; the "
                "first must be at least 1, the second film or concatenation."
            )
        if layers is not None and not (layers and set(layers) <= set(known)):
            raise InputError(
                f"The layers {list(layers)} cannot be conditioned; name one or more of "
                f"{list(known)}, or leave them out for all."
            )
        # The head does not adapt: classes as alike as MAML's head begins would give c no gradient.
        self.head.reset_parameters()
        self.context = context
        self.conditioning = conditioning
        self.layers = None if layers is None else list(layers)
        film = conditioning == "film"
        self.conditions = nn.ModuleDict(
            {
                str(layer): nn.Linear(context, (1 + film) * channels[layer], bias=film)
                for layer in (known if layers is None else sorted(set(layers)))
            }
        )
        # The map starts at random, for if it were zero as c is, neither would have a gradient.
        for name, parameter in self.conditions.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def start(self) -> Theta:
        return {"context": self.head.weight.new_zeros(self.context)}

    def network(self) -> nn.Module:
        return ContextNetwork(self.encoder, self.head, self.conditions, self.start()["context"])


class ContextNetwork(nn.Module):
    """f(x; c, φ), whose buffer ``context`` is c.

    Args:
        encoder: maps inputs to vectors.
        head: maps vectors to outputs.
        conditions: for layers, by their number, the linear map from c to a shift, or to a scale and
            a shift.
        context: c.
    """

    context: Tensor

    def __init__(
        self, encoder: nn.Module, head: nn.Module, conditions: nn.ModuleDict, context: Tensor
    ) -> None:
        super().__init__()
        self.encoder, self.head, self.conditions = encoder, head, conditions
        self.register_buffer("context", context, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[N, ways]`` of inputs ``[N, *shape]``."""
        channels = getattr(self.encoder, "modulated_channels", None)
        if channels is None:
            ((scale, shift),) = self.modulation([feature_size(self.encoder)])
            features = encoded(self.encoder, x) * (1 + scale) + shift
        else:
            features = encoded(self.encoder, x, self.modulation(channels))
        outputs: Tensor = self.head(features)
        return outputs

    def modulation(self, channels: Sequence[int]) -> Modulation:
        """For each layer its scale and its shift ``[1, channels]``; zeros where nothing changes."""
        found = []
        for number, wide in enumerate(channels):
            zeros = self.context.new_zeros(1, wide)
            if str(number) not in self.conditions:
                found.append((zeros, zeros))
                continue
            condition = self.conditions[str(number)](self.context)[None]
            both = condition if condition.shape[1] > wide else torch.cat([zeros, condition], dim=1)
            scale, shift = both.chunk(2, dim=1)
            found.append((scale, shift))
        return found
