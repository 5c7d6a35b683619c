"""State besides the parameters, saved and restored so that every task starts from the same."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MOST_NUMBERS = 2**20
"""In a tensor that is kept as a plain attribute; larger ones are constants or caches."""

_OF_TORCH = frozenset(vars(nn.Module()))
_NOTHING: Any = object()
_OTHER: Any = object()


class StrategyState:
    """Buffers, extra state, and plain attributes of modules from outside this package.

    Only attributes that hold numbers, strings or tensors count, such as a number of calls or a
    running mean that is not a buffer.
    """

    def __init__(self, strategy: nn.Module) -> None:
        self.buffers = [buffer.clone() for buffer in strategy.buffers()]
        self.extra = [module.get_extra_state() for module in _with_extra_state(strategy)]
        self.attributes = [_attributes(module) for _, module in _foreign(strategy)]

    @property
    def averages(self) -> list[Tensor]:
        return [buffer for buffer in self.buffers if buffer.is_floating_point()]

    def restore(self, strategy: nn.Module, *, attributes: bool = True) -> None:
        """Puts the state back into ``strategy``, or into a copy of it.

        Args:
            strategy: whose state it was, or a copy.
            attributes: plain attributes too.
        """
        for buffer, value in zip(strategy.buffers(), self.buffers, strict=True):
            buffer.copy_(value)
        for module, state in zip(_with_extra_state(strategy), self.extra, strict=True):
            module.set_extra_state(state)
        if not (attributes and self.attributes):
            return
        for (_, module), values in zip(_foreign(strategy), self.attributes, strict=True):
            _put_back(module, values)

    def changed(self, strategy: nn.Module) -> list[str]:
        """The names of plain attributes that are not what they were."""
        return [
            f"{path}.{name}" if path else name
            for (path, module), before in zip(_foreign(strategy), self.attributes, strict=True)
            for name, value in _attributes(module).items()
            if not _same(before.get(name, _NOTHING), value)
        ]


def _with_extra_state(strategy: nn.Module) -> list[nn.Module]:
    """The modules that keep state which is neither parameter nor buffer."""
    plain = nn.Module.get_extra_state
    return [each for each in strategy.modules() if type(each).get_extra_state is not plain]


def _foreign(strategy: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules, by name, whose classes are neither this package's nor torch's."""
    return (each for each in strategy.named_modules() if _is_foreign(type(each[1]).__module__))


@functools.cache
def _is_foreign(module_name: str) -> bool:
    return module_name.partition(".")[0] not in ("quickstudy", "torch")


def _attributes(module: nn.Module) -> dict[str, Any]:
    """The plain attributes of a module by name; :data:`_OTHER` for those that do not count."""
    return {
        name: _kept(value) if _counts(value) else _OTHER
        for name, value in vars(module).items()
        if name not in _OF_TORCH
    }


def _kept(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _counts(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.requires_grad and value.numel() <= MOST_NUMBERS
    return value is None or isinstance(value, bool | int | float | complex | str)


def _put_back(module: nn.Module, values: dict[str, Any]) -> None:
    own = vars(module)
    for name in own.keys() - _OF_TORCH - values.keys():
        if _counts(own[name]):
            del own[name]
    for name, value in values.items():
        if value is not _OTHER and not _same(own.get(name, _NOTHING), value):
            own[name] = _kept(value)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return (
            isinstance(one, Tensor)
            and isinstance(other, Tensor)
            and (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
            and torch.equal(one, other)
        )
    return one is other or (type(one) is type(other) and bool(one == other or one != one))


@contextmanager
def untouched(*modules: nn.Module) -> Iterator[None]:
    """Computations while this is open leave no trace in modules or random numbers."""
    every = [each for module in modules for each in module.modules()]
    saved = [
        (each, dict(each.__dict__), dict(each._buffers))
        for each in every
        if not isinstance(each, torch.jit.ScriptModule)
    ]
    values = [(buffer, buffer.detach().clone()) for each in modules for buffer in each.buffers()]
    devices = sorted({p.device.index or 0 for m in modules for p in m.parameters() if p.is_cuda})
    try:
        with random_numbers_kept(devices):
            yield
    finally:
        for module, attributes, buffers in saved:
            module.__dict__.clear()
            module.__dict__.update(attributes)
            module._buffers.clear()
            module._buffers.update(buffers)
        with torch.no_grad():
            for buffer, value in values:
                buffer.copy_(value)


@contextmanager
def random_numbers_kept(devices: Iterable[int]) -> Iterator[None]:
    """Afterwards all generators, Python's and NumPy's too, continue as if nothing had been drawn.

    Args:
        devices: numbers of the CUDA devices whose generators are kept beside the CPU's.
    """
    drawn = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])  # noqa: NPY002


def random_state(device: torch.device, *, others: bool = True) -> Tensor:
    """The state of torch's generators as one tensor; with ``others`` of Python's and NumPy's too.

    Networks of others may draw from those.
    """
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    if others:
        _, numbers, place, *_ = np.random.get_state()  # noqa: NPY002
        own = np.array([*random.getstate()[1], place, *numbers], dtype=np.int64)
        states.append(torch.from_numpy(own).view(torch.uint8))
    return torch.cat(states)
