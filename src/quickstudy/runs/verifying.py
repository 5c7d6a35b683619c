"""Checks that a module is saved completely: rebuilds it and compares.

A description holds a class and its arguments. Later changes to the object, or state kept in other
ways, are not in it and would be silently lost. So the module is rebuilt as loading does it, with
the same weights, and must then have the same parts and give the same outputs.
"""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from quickstudy.compute.encoding import encoded
from quickstudy.episodes import Episode
from quickstudy.errors import InputError
from quickstudy.saving.description import Description, build, describe, described_modules
from quickstudy.saving.rebuilding import frozen_names, put_in
from quickstudy.strategies import Strategy
from quickstudy.strategies.state import StrategyState, random_numbers_kept
from quickstudy.strategies.strategy import loss_and_logits

Answers = Callable[[nn.Module], Sequence[Tensor]]
"""A module's outputs for some inputs, in each mode that matters."""

_SEED = 7_919
"""An unusual seed, so that random numbers do not agree by chance."""

_UNMADE = "cannot be created (files store tuples as lists, and keys as strings)"

_TOLERANCE, _NOISES = 1e-5, 10
"""Of answers: relative to the largest, and in differences between two passes of one module."""


def verified(module: nn.Module, answers: Answers) -> Description:
    """The description of ``module``, checked to rebuild it unchanged.

    The module's state, its modes and the random numbers of the program stay as they were.

    Args:
        module: with its weights.
        answers: called with the module and with the rebuilt one.

    Raises:
        ValueError: when it cannot be described, or the rebuilt module differs.
    """
    description: Description = json.loads(json.dumps(describe(module)))
    expected = _answered(module, answers)
    state = module.state_dict()
    _check_storable(module, state)
    _check_attributes(module, answers, expected)
    with _seeded():
        again = _made_again(module, description, state)
    if difference := _difference(module, again):
        raise _refusal(_blamed(module, difference[0]), difference[1])
    try:
        found = _answered(again, answers)
    except Exception as error:  # a third-party module can raise anything
        raise _refusal(_blamed(module), "does not work") from error
    if difference := _other_classes(module, again):  # lazy modules have their final classes by now
        raise _refusal(_blamed(module, difference[0]), difference[1])
    if not _alike(expected, found, lambda: _answered(module, answers)):
        raise _refusal(_blamed(module), "gives other outputs for the same inputs")
    _warn_of_scripts(module)
    return description


def _made_again(module: nn.Module, description: Description, state: dict[str, Tensor]) -> nn.Module:
    """The module that loading would build from description and weights, on the same device."""
    try:
        again = build(description)
    except MemoryError:
        raise
    except Exception as error:  # a third-party constructor can raise anything
        raise _refusal(_maker(error, module), _UNMADE) from error
    if type(again) is not type(module):
        raise _refusal(_blamed(module), f"is a {type(again).__name__}")
    shapes = {
        name: None if is_lazy(each) else each.shape for name, each in again.state_dict().items()
    }
    for name in sorted({*shapes, *state}):
        if name not in shapes:
            raise _refusal(_blamed(module, name), f"has no {name!r}")
        if name not in state:
            raise _refusal(_blamed(module, name), f"has a {name!r} too")
        if shapes[name] not in (None, state[name].shape):
            was, is_ = list(state[name].shape), list(again.state_dict()[name].shape)
            differ = f"has {name!r} of shape {is_} instead of {was}"
            raise _refusal(_blamed(module, name), differ)
    first = next(iter(state.values()), None)
    again.to("cpu" if first is None else first.device)
    put_in(again, {name: each.detach() for name, each in state.items()}, frozen_names(module))
    return again


def _difference(module: nn.Module, again: nn.Module) -> tuple[str, str] | None:
    """Where and how the parts of two modules of equal state differ; None if they do not."""
    own, other = (dict(each.named_parameters()) for each in (module, again))
    for name in sorted(own.keys() ^ other.keys()):  # each that is shared is named once
        return name, f"does not share {name!r} among the same parts"
    kept = module.state_dict().keys()
    unsaved, others = (
        {name: each for name, each in some.named_buffers() if name not in kept}
        for some in (module, again)
    )
    for name, buffer in unsaved.items():
        there = others.get(name)
        # Buffers of another shape are caches that grew; the outputs show whether they matter.
        if there is not None and there.shape == buffer.shape and not _same(buffer, there):
            return name, (
                f"has other values in {name!r}, a buffer that is not saved (persistent=False)"
            )
    return None


def _other_classes(module: nn.Module, again: nn.Module) -> tuple[str, str] | None:
    """Where the parts of two modules differ in class or, for torch's layers, in settings."""
    own, other = (dict(each.named_modules(remove_duplicate=False)) for each in (module, again))
    for name, part in own.items():
        there = other.get(name)
        if there is None:
            return name, f"has no {name!r}"
        # By name: torch makes a class of its own for each module with parametrisations.
        was, is_ = (f"{type(each).__module__}.{type(each).__qualname__}" for each in (part, there))
        if was != is_:
            kinds = type(there).__name__, type(part).__name__
            return name, f"has a {kinds[0]} as {name!r} instead of a {kinds[1]}"
        # The repr of torch's layers shows their settings, such as a dropout rate.
        if was.startswith("torch.") and part.extra_repr() != there.extra_repr():
            settings = there.extra_repr(), part.extra_repr()
            return name, f"has a {type(part).__name__}({settings[0]}) instead of ({settings[1]})"
    for name in other:
        if name not in own:
            return name, f"has a {name!r} too"
    return None


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b.to(a.device)))


def _check_attributes(module: nn.Module, answers: Answers, expected: Sequence[Tensor]) -> None:
    """Refuses what learns something in plain attributes, which no file holds (ValueError)."""
    before = StrategyState(module)
    if not before.attributes:
        return
    try:
        _answered(module, answers, attributes=False)
        changed = before.changed(module)
        if not changed:
            return
        after = StrategyState(module)
        found = _answered(module, answers, attributes=False)
        counted = after.changed(module)
    finally:
        _restore(module, before)
    called = f"{_blamed(module, changed[0])} changes its attribute {changed[0].split('.')[-1]!r}"
    if not _alike(expected, found, lambda: _answered(module, answers)):
        raise InputError(
            f"{called} while it computes, and its answers depend on it, but files hold parameters "
            "and buffers only, so that it would be lost. Keep it in a buffer: "
            "self.register_buffer(name, tensor) in the constructor."
        )
    if counted:
        warnings.warn(
            f"{called} each time it computes. Files hold parameters and buffers only, so it begins "
            "anew where the run is loaded or resumed. If answers or training depend on it, keep it "
            "in a buffer (self.register_buffer).",
            stacklevel=4,
        )


def _restore(module: nn.Module, state: StrategyState, *, attributes: bool = True) -> None:
    if len(list(module.buffers())) == len(state.buffers):  # none was added by a first pass
        with torch.no_grad():
            state.restore(module, attributes=attributes)


def _answered(module: nn.Module, answers: Answers, *, attributes: bool = True) -> list[Tensor]:
    """The outputs of a module, and the buffers they leave; the module is not changed.

    But for its plain attributes, unless these are to be restored too.
    """
    modes = [(part, part.training) for part in module.modules()]
    state = StrategyState(module)
    try:
        with _seeded(), _without_zeros(module):
            found = [each.detach().clone() for each in answers(module)]
        return found + [each.clone() for each in StrategyState(module).averages]
    finally:
        for part, training in modes:
            part.training = training
        _restore(module, state, attributes=attributes)


@contextmanager
def _without_zeros(module: nn.Module) -> Iterator[None]:
    """Temporarily replaces parameters that are all 0, which would hide what they multiply."""
    zeros = [
        each
        for each in module.parameters()
        if not is_lazy(each) and each.is_floating_point() and not each.any()
    ]
    before = [each.detach().clone() for each in zeros]
    with torch.no_grad():
        for each in zeros:
            ramp = torch.arange(1, each.numel() + 1, device=each.device, dtype=torch.float32)
            each.copy_(0.1 * torch.sin(ramp).view(each.shape))
    try:
        yield
    finally:
        with torch.no_grad():
            for each, value in zip(zeros, before, strict=True):
                each.copy_(value)


def _alike(
    expected: Sequence[Tensor], found: Sequence[Tensor], repeated: Callable[[], Sequence[Tensor]]
) -> bool:
    """Whether outputs agree up to rounding and to the noise between two passes of one module."""
    if [each.shape for each in expected] != [each.shape for each in found]:
        return False
    if all(map(_same, expected, found)):
        return True
    for one, other, again in zip(expected, found, repeated(), strict=True):
        a, b, c = (each.double() for each in (one, other, again))
        noise = _NOISES * _largest(a - c) + _TOLERANCE * _largest(a)
        if not torch.equal(a.isfinite(), b.isfinite()) or _largest(a - b) > noise:
            return False
    return True


def _largest(numbers: Tensor) -> float:
    return float(numbers[numbers.isfinite()].abs().max()) if numbers.isfinite().any() else 0.0


@contextmanager
def _seeded() -> Iterator[None]:
    """Seeds all random numbers; afterwards the generators continue as if nothing had happened."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with random_numbers_kept(range(torch.cuda.device_count()) if in_use else ()):
        torch.manual_seed(_SEED)
        random.seed(_SEED)
        np.random.seed(_SEED)  # noqa: NPY002 # somebody's module may draw from it
        yield


def _check_storable(module: nn.Module, state: dict[str, Any]) -> None:
    """Refuses state that cannot be stored in a file."""
    import safetensors.torch

    for name, value in state.items():
        fits = isinstance(value, Tensor) and value.layout == torch.strided
        try:
            if fits:
                safetensors.torch.save({"x": torch.empty(0, dtype=value.dtype)})
        except (KeyError, ValueError, TypeError):
            fits = False
        if not fits:
            what = f"{value.layout} {value.dtype}" if isinstance(value, Tensor) else type(value)
            raise InputError(
                f"The state of {_blamed(module, name)} cannot be written to a file: {name!r} is a "
                f"{getattr(what, '__name__', what)}. All state must be plain tensors, including "
                "that of get_extra_state."
            )


def _refusal(name: str, difference: str) -> InputError:
    return InputError(
        f"{name} cannot be saved as it is: rebuilt from its class and arguments, with the same "
        f"weights, it {difference}. Write it as a class whose constructor creates all of it, and "
        "keep each argument, as it was given, in an attribute of the same name (*sizes and "
        "**options as self.sizes and self.options)."
    )


def _blamed(module: nn.Module, path: str = "") -> str:
    """The class to name in a message: that of the innermost described module around ``path``.

    If the place is unknown, a third-party class is preferred to one of this package or torch.
    """
    described = described_modules(module)
    if not path:
        libraries = ("quickstudy", "torch")
        own = [each for each in described if type(each).__module__.split(".")[0] not in libraries]
        return " or ".join(dict.fromkeys(type(each).__name__ for each in own or described))
    within = {id(each) for each in described}
    around = [
        (len(name), part)
        for name, part in module.named_modules()
        if id(part) in within and (not name or f"{path}.".startswith(f"{name}."))
    ]
    return type(max(around, key=lambda each: each[0])[1]).__name__


def _maker(error: Exception, module: nn.Module) -> str:
    """The class whose constructor failed, as far as the error shows."""
    known = {type(each).__name__ for each in described_modules(module)}
    first = str(error).partition(" ")[0]
    return first if first in known else _blamed(module)


def _warn_of_scripts(module: nn.Module) -> None:
    here = [each for each in described_modules(module) if type(each).__module__ == "__main__"]
    if here:
        name = type(here[0]).__name__
        warnings.warn(
            f"{name} is defined in the script that is running, so only this script can load what "
            f"is saved with it. To load it elsewhere, move {name} to its own module.",
            stacklevel=3,
        )


def answers_to(task: Episode, autocast: Callable[[], AbstractContextManager[Any]]) -> Answers:
    """A strategy's outputs for a task, in training and in use.

    Args:
        task: an episode, or a batch where the strategy is not episodic.
        autocast: enters the precision of training.
    """

    def answers(strategy: nn.Module) -> list[Tensor]:
        assert isinstance(strategy, Strategy)
        with autocast():
            seen = [*loss_and_logits(strategy, strategy.train().loss(task))]
            strategy.eval()
            with torch.no_grad():
                if strategy.episodic:
                    seen.append(strategy(task))
                else:
                    seen += loss_and_logits(strategy, strategy.loss(task))
                encoder = getattr(strategy, "encoder", None)  # it may be used by itself
                if isinstance(encoder, nn.Module):
                    seen.append(encoded(encoder, task.query.inputs[0]))
        return [each for each in seen if isinstance(each, Tensor)]

    return answers
