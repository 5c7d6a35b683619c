"""How a network treats a batch in use, found out by trying; reports and short cuts rely on it.

A third-party network can normalise by hand, with its own layer or not at all, whatever the names
of its layers. Vectors that depend on the rest of the batch cannot be computed once and used in many
tasks, and a prediction from them depends on the other queries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.overrides import TorchFunctionMode

from quickstudy.compute.encoding import encoded
from quickstudy.encoders.encoder import is_own
from quickstudy.encoders.task_normalization import task_batch_norms
from quickstudy.episodes import Episode
from quickstudy.errors import InputError
from quickstudy.strategies import EmbeddingStrategy, Strategy
from quickstudy.strategies.foreign import KNOWN, is_hooked
from quickstudy.strategies.state import untouched
from quickstudy.strategies.strategy import ENCODING

BY_AVERAGES = "batch, running averages of training"
BY_BATCH = "batch, statistics of the batch at hand"
INSTANCE_AVERAGES = "instance, running averages of training"
INSTANCE = "instance, each input by itself"

_ALIKE = 1e-3
"""Tolerance, relative to the largest number, for vectors from batches of different sizes."""

_SEEN, _FEWER = 4, 2
"""Numbers of inputs in the two batches that are compared."""

_BY_ITSELF = {
    F.layer_norm: "layer, each input by itself",
    F.rms_norm: "layer, each input by itself",
    F.group_norm: "group, each input by itself",
}


@dataclass
class Observed:
    """Observations of a strategy in use.

    Args:
        by_batch: whether an answer depends on what else is in the batch.
        normalisations: whose statistics the normalisation functions used, in the order of calls.
    """

    by_batch: bool = False
    normalisations: list[str] = field(default_factory=list)


def same_features(strategy: Strategy) -> TypeGuard[EmbeddingStrategy]:
    """Whether an example has the same features in every task, as the strategy's class declares.

    Methods that were replaced on the object itself are not what its class speaks of.
    """
    replaced = not ENCODING.isdisjoint(vars(strategy))
    return isinstance(strategy, EmbeddingStrategy) and strategy.fixed_encoder and not replaced


def needs_a_look(module: nn.Module) -> bool:
    """Whether a module holds anything but layers that are known to see each input by itself."""
    return is_hooked(module) or not all(map(_sees_each_by_itself, module.modules()))


def _sees_each_by_itself(layer: nn.Module) -> bool:
    kind = type(layer)
    if is_own(layer) or kind in KNOWN:
        return True
    if kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        return layer.running_mean is not None and layer.running_var is not None
    return kind in (nn.LayerNorm, nn.GroupNorm, nn.Embedding)


def observed(strategy: Strategy, task: Callable[[], Episode]) -> Observed | None:
    """Observes a strategy in use without changing it; None if its layers alone suffice.

    Args:
        strategy: in evaluation mode.
        task: returns one or more tasks on the strategy's device; the first is used.
    """
    fixed = same_features(strategy)
    if not needs_a_look(strategy.get_submodule("encoder") if fixed else strategy):
        return None
    given, found, theta = task()[:1], Observed(), {}
    if not fixed:
        with torch.no_grad(), untouched(strategy):
            theta = strategy.adapt(given.support, given.ways)
    if isinstance(strategy, EmbeddingStrategy):
        encode = strategy.encode
        both = torch.cat([given.support.inputs, given.query.inputs], dim=1)
        places = torch.linspace(0, both.shape[1] - 1, _SEEN).round().long()
        some = both[:, places.to(both.device)]
        found.by_batch = _differs(
            found, strategy, lambda count: encode(some[:, :count], theta)[0], _SEEN, _FEWER
        )
    if fixed:
        return found
    queries = given.query.inputs
    count = queries.shape[1]
    differs = _differs(
        found,
        strategy,
        lambda count: strategy.predict(theta, queries[:, :count])[0],
        count,
        max(1, count // 2),
    )
    found.by_batch |= differs and not strategy.transductive
    return found


def normalization_policy(strategy: nn.Module, seen: Observed | None = None) -> str:
    """Whose statistics the strategy's normalisation layers use in evaluation, in words.

    Args:
        strategy: with its layers.
        seen: what was observed of it in use; by default the classes of its layers decide.
    """
    found: list[str] = []
    of_task = task_batch_norms(strategy)
    if of_task:
        of_queries = getattr(strategy, "transductive", False)
        averages = getattr(strategy, "step_statistics", False)
        whose = "queries" if of_queries else "support"
        found.append(
            "batch, running averages of each step"
            if averages
            else f"batch, statistics of the {whose}"
        )
    for name, layer in strategy.named_modules():
        if name in of_task or (seen and not _is_within_own(strategy, name)):
            continue
        if said := _policy(layer):
            found.append(said)
    if seen is not None:
        # Layers that belong to a task call the same functions.
        found += [each for each in seen.normalisations if not (of_task and each == BY_BATCH)]
        found += [BY_BATCH] if seen.by_batch else []
    return "; ".join(dict.fromkeys(found)) or "none"


def _is_within_own(strategy: nn.Module, name: str) -> bool:
    """Whether a layer is in a network of this package, which may compute it without calling it."""
    while name := name.rpartition(".")[0]:
        parent = strategy.get_submodule(name)
        if not type(parent).__module__.startswith("torch."):
            return is_own(parent)
    return False


def _policy(layer: nn.Module) -> str | None:
    if isinstance(layer, _BatchNorm):
        averaged = layer.running_mean is not None and layer.running_var is not None
        return BY_AVERAGES if averaged else BY_BATCH
    if isinstance(layer, _InstanceNorm):
        return INSTANCE if layer.running_mean is None else INSTANCE_AVERAGES
    if isinstance(layer, nn.GroupNorm):
        return _BY_ITSELF[F.group_norm]
    return None


def check_sees_each_by_itself(encoder: nn.Module, inputs: Tensor) -> None:
    """Refuses (ValueError) an encoder whose vectors depend on what else is in the batch.

    Args:
        encoder: in evaluation mode; stays as it is.
        inputs: some that it reads, ``[B, *shape]``.
    """
    if len(inputs) < _FEWER + 1 or not needs_a_look(encoder):
        return
    if _differs(
        Observed(), encoder, lambda count: encoded(encoder, inputs[:count]), len(inputs), _FEWER
    ):
        raise InputError(
            f"The encoder {type(encoder).__name__} gives an input another vector when other inputs "
            "are in its batch, so answers would depend on what else is asked. Let it normalise by "
            "running averages in evaluation mode, as nn.BatchNorm2d does, or each input by itself, "
            "as nn.GroupNorm does."
        )


def _differs(
    found: Observed, strategy: nn.Module, answers: Callable[[int], Tensor], many: int, few: int
) -> bool:
    """Whether the first inputs get other answers if more follow; adds normalisations to ``found``.

    Both passes begin with the same state and random numbers.
    """
    results = []
    for count in (many, few):
        with untouched(strategy), torch.no_grad(), _Watch(found):
            torch.manual_seed(0)
            results.append(answers(count)[:few])
    full, fewer = results
    largest = float(fewer.abs().max()) if fewer.numel() else 0.0
    return full.shape != fewer.shape or bool(((full - fewer).abs() > _ALIKE * largest).any())


class _Watch(TorchFunctionMode):
    """Notes which normalisation is called."""

    def __init__(self, found: Observed) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func is F.batch_norm:
            values = dict(zip(_BATCH_NORM, args, strict=False)) | named
            by_batch = values.get("training") or values.get("running_mean") is None
            self.found.normalisations.append(BY_BATCH if by_batch else BY_AVERAGES)
        elif func is F.instance_norm:
            values = dict(zip(_INSTANCE_NORM, args, strict=False)) | named
            averaged = not values.get("use_input_stats", True)
            self.found.normalisations.append(INSTANCE_AVERAGES if averaged else INSTANCE)
        elif func in _BY_ITSELF:
            self.found.normalisations.append(_BY_ITSELF[func])
        return func(*args, **named)


_BATCH_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training")
_INSTANCE_NORM = (*_BATCH_NORM[:-1], "use_input_stats")
