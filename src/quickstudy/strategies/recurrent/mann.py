"""A memory-augmented neural network (Santoro, Bartunov, Botvinick, Wierstra, Lillicrap, 2016)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Examples
from quickstudy.errors import InputError
from quickstudy.strategies.bases.set_networks import reading_order
from quickstudy.strategies.functional import in_full_precision
from quickstudy.strategies.solvers import check_positive
from quickstudy.strategies.strategy import EmbeddingStrategy, Theta

EMPTY = 1e-4
"""Added to squared lengths in a cosine, so that rows which hold next to nothing are like none."""


class MANN(EmbeddingStrategy):
    """An LSTM writes examples into the least used rows of a memory and looks queries up in it.

        h_t, c_t = LSTM(f(x_t; φ), y_t, r_{t−1}, h_{t−1}, c_{t−1}),   k_t = tanh(W h_t + b)
        w^w_t = σ(α) w^r_{t−1} + (1 − σ(α)) w^lu_{t−1}           where to write
        M_t(i) = (1 − w^lu_{t−1}(i)) M_{t−1}(i) + w^w_t(i) k_t   the least used row is wiped first
        w^r_t(i) ∝ exp(β cos(k_t, M_t(i))),   r_t = Σ_i w^r_t(i) M_t(i)
        w^u_t = γ w^u_{t−1} + w^r_t + w^w_t                      how much a row was used lately
        w^lu_t(i) = 1 for the row of the smallest w^u_t(i), else 0
        p(y | x) = softmax(V [h, r] + v)

    Everything begins at zero. With n heads each has its own k, r, α and one of the n least used
    rows, and usage counts them all.

    Santoro, Bartunov, Botvinick, Wierstra, Lillicrap, "Meta-Learning with Memory-Augmented Neural
    Networks", ICML 2016, equations 2 to 8 and the appendix on the controller. The paper's network
    receives y_{t−1} with x_t and predicts at each step; here support examples come with their own
    labels. A query is one more step from the state after the support, without a label, which reads
    and does not write, so that no query sees another. The paper reads examples in random order;
    here the order is computed from the features, class by class, so that the order of the support
    does not matter. The paper has no factor β.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features``.
        ways: classes in a task: the length of one-hot labels, and the linear outputs.
        hidden: units of the LSTM.
        slots: rows of the memory.
        slot_size: numbers in a row, and in a key k.
        reads: heads n.
        decay: γ.
        sharpness: β. The paper's 1 keeps reading nearly even; 10 separates rows clearly.
    """

    paper = "Santoro, Bartunov, Botvinick, Wierstra, Lillicrap, 2016"

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        hidden: int = 200,
        slots: int = 128,
        slot_size: int = 40,
        reads: int = 4,
        decay: float = 0.99,
        sharpness: float = 1.0,
    ) -> None:
        super().__init__(encoder)
        check_positive(
            "MANN", ways=ways, hidden=hidden, slot_size=slot_size, reads=reads, sharpness=sharpness
        )
        if slots < reads or not 0 <= decay <= 1:
            raise InputError(
                f"MANN's memory has {slots} slots for {reads} reads, and its decay is {decay}; "
                "there must be a slot for each read, and the decay lies between 0 and 1."
            )
        self.ways = ways
        self.hidden = hidden
        self.slots = slots
        self.slot_size = slot_size
        self.reads = reads
        self.decay = decay
        self.sharpness = sharpness
        # The LSTM's input, [f(x), y, h, r], in three parts: the first two are known for all steps.
        self.gates_of_features = nn.Linear(feature_size(encoder), 4 * hidden)
        self.gates_of_labels = nn.Embedding(ways, 4 * hidden)
        self.gates_of_state = nn.Linear(hidden + reads * slot_size, 4 * hidden, bias=False)
        self.keys = nn.Linear(hidden, reads * slot_size)
        self.write_gate = nn.Parameter(torch.zeros(reads))
        self.output = nn.Linear(hidden + reads * slot_size, ways)
        nn.init.uniform_(self.gates_of_labels.weight, -(hidden**-0.5), hidden**-0.5)

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        self.check_ways(ways)
        return self.remember(support.inputs, support.targets, ways)

    @in_full_precision
    def remember(self, features: Tensor, targets: Tensor, ways: int) -> Theta:
        """The state after reading features ``[T, N, D]`` with their labels ``[T, N]``.

        ``hidden`` and ``cell`` are ``[T, hidden]``, ``memory`` is ``[T, slots, slot_size]``,
        ``read`` (r of all heads) ``[T, reads * slot_size]``.
        """
        order = reading_order(features, targets, ways)
        inputs = self.gates_of_features(features) + self.gates_of_labels(targets)
        inputs = inputs.gather(1, order[..., None].expand_as(inputs))
        tasks = len(features)
        hidden = cell = features.new_zeros(tasks, self.hidden)
        read = features.new_zeros(tasks, self.reads * self.slot_size)
        memory = Memory(
            features.new_zeros(tasks, self.slots, self.slot_size),
            features.new_zeros(tasks, self.reads, self.slots),
            features.new_zeros(tasks, self.slots),
        )
        gate = self.write_gate.sigmoid()[:, None]
        for step in inputs.unbind(1):
            hidden, cell = self.controlled(step, hidden, cell, read)
            keys = self.keys(hidden).tanh().unflatten(-1, (self.reads, -1))
            memory = memory.accessed(keys, gate, self.decay, self.sharpness)
            read = (memory.read_weights @ memory.rows).flatten(1)
        return {"hidden": hidden, "cell": cell, "memory": memory.rows, "read": read}

    def controlled(
        self, inputs: Tensor, hidden: Tensor, cell: Tensor, read: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The LSTM's next state h, c from the gates' part for x and y, and h, c, r before."""
        gates = inputs + self.gates_of_state(torch.cat([hidden, read], dim=-1))
        forget, enter, leave, update = gates.chunk(4, dim=-1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * update.tanh()
        return leave.sigmoid() * cell.tanh(), cell

    @in_full_precision
    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        before = (theta[name][:, None] for name in ("hidden", "cell", "read"))
        hidden, _ = self.controlled(self.gates_of_features(features), *before)  # [T, Q, hidden]
        keys = self.keys(hidden).tanh().view(len(features), -1, self.slot_size)
        memory = theta["memory"]
        read = attention(keys, memory, self.sharpness) @ memory  # [T, Q * reads, slot_size]
        logits: Tensor = self.output(torch.cat([hidden, read.view(*features.shape[:2], -1)], -1))
        return logits


class Memory(NamedTuple):
    """The memories of T tasks.

    Args:
        rows: M, ``[T, slots, slot_size]``.
        read_weights: w^r, ``[T, reads, slots]``.
        usage: w^u, ``[T, slots]``, from which no gradient flows.
    """

    rows: Tensor
    read_weights: Tensor
    usage: Tensor

    def accessed(self, keys: Tensor, gate: Tensor, decay: float, sharpness: float) -> Memory:
        """After writing and then reading with keys ``[T, reads, slot_size]``.

        Args:
            keys: of each head.
            gate: σ(α), ``[reads, 1]``.
            decay: γ.
            sharpness: β.
        """
        unused = least_used(self.usage, keys.shape[1]).to(keys.dtype)
        write_weights = gate * self.read_weights + (1 - gate) * unused
        rows = (1 - unused.sum(1))[..., None] * self.rows + write_weights.mT @ keys
        read_weights = attention(keys, rows, sharpness)
        used = (read_weights + write_weights).detach().sum(1)
        return Memory(rows, read_weights, decay * self.usage + used)


def attention(keys: Tensor, memory: Tensor, sharpness: float) -> Tensor:
    """The share of each row of M ``[T, slots, S]`` for keys ``[T, n, S]``: ``[T, n, slots]``."""
    lengths = keys.square().sum(-1)[..., None] * memory.square().sum(-1)[:, None]
    cosines = keys @ memory.mT * torch.rsqrt(lengths + EMPTY)
    return (sharpness * cosines).softmax(-1)


def least_used(usage: Tensor, count: int) -> Tensor:
    """One-hot rows ``[T, count, slots]``: those of the smallest usage ``[T, slots]``, least first.

    Of slots that were used the same the first comes first.
    """
    slots = usage.argsort(dim=-1, stable=True)[:, :count]
    return F.one_hot(slots, usage.shape[-1])
