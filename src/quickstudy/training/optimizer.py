"""The optimiser of φ: making it, its state in files, and the schedule of its learning rate."""

from __future__ import annotations

import importlib
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.messages import reason

Schedule = Literal["constant", "cosine", "linear"]

BY_NAME: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
}
"""Optimisers that have short names, with the options that these names stand for."""

_HELD_ELSEWHERE = {"params", "param_names", "lr", "initial_lr"}
"""Entries of a group of parameters that are not part of the optimiser's state."""


def optimizer_name(given: Any) -> str:
    """A short name or the import path of an optimiser, as files store it.

    Args:
        given: "adam", "adamw", "sgd", an import path, or a subclass of ``torch.optim.Optimizer``.

    Raises:
        ValueError: when it is neither.
    """
    if isinstance(given, str):
        if given not in BY_NAME and "." not in given:
            raise InputError(
                f"The optimizer {given!r} is unknown; choose {', '.join(BY_NAME)}, or a class such "
                "as torch.optim.RMSprop."
            )
        return given
    if not isinstance(given, type) or not issubclass(given, torch.optim.Optimizer):
        raise InputError(
            f"The optimizer is {given!r}; give {', '.join(BY_NAME)}, or a subclass of "
            "torch.optim.Optimizer (the class, not an instance: the trainer makes it)."
        )
    name: str = given.__name__
    if getattr(torch.optim, name, None) is given:
        return f"torch.optim.{name}"
    return f"{given.__module__}.{given.__qualname__}"


def checked_options(options: Any) -> dict[str, Any]:
    """The optimiser's options as JSON holds them; refused (ValueError) if it cannot."""
    try:
        return dict(json.loads(json.dumps(dict(options))))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"optimizer_options is {options!r}; give a dictionary of numbers, strings, truth "
            f"values and lists, such as dict(momentum=0.9): a run directory records them."
        ) from error


def optimizer_class(name: str) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """The class that a name of :func:`optimizer_name` stands for, and the options it implies.

    Raises:
        ValueError: when there is no such class.
    """
    if name in BY_NAME:
        return BY_NAME[name]
    module, _, rest = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), rest)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"The optimizer {name!r} cannot be imported: {reason(error)} Name a class by its "
            "import path, such as torch.optim.RMSprop."
        ) from error
    optimizer_name(found)
    return found, {}


def make_optimizer(
    name: str,
    parameters: list[nn.Parameter],
    learning_rate: float,
    weight_decay: float,
    options: Mapping[str, Any],
) -> torch.optim.Optimizer:
    """The optimiser of these parameters.

    Args:
        name: as :func:`optimizer_name` gives it.
        parameters: what is learned.
        learning_rate: the rate before any schedule.
        weight_decay: the penalty on large weights, as this optimiser defines it.
        options: further keyword arguments of its class.

    Raises:
        ValueError: when there is nothing to learn, or the class cannot be used with these options.
    """
    if not parameters:
        raise InputError("The strategy has no parameters to learn, so it cannot be trained.")
    kind, implied = optimizer_class(name)
    given = {"lr": learning_rate, "weight_decay": weight_decay, **implied, **options}
    accepted = inspect.signature(kind).parameters
    if "weight_decay" not in accepted and not weight_decay:
        del given["weight_decay"]
    _check_used_as_it_can_be(kind)
    try:
        return kind(parameters, **given)
    except (TypeError, ValueError, RuntimeError) as error:
        shown = ", ".join(f"{key}={value!r}" for key, value in given.items())
        raise InputError(
            f"The optimizer {kind.__name__} cannot be made with {shown}: {reason(error)}"
        ) from error


def _check_used_as_it_can_be(kind: type[torch.optim.Optimizer]) -> None:
    """Refuses (ValueError) optimisers that compute the loss themselves, several times per step."""
    closure = inspect.signature(kind.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise InputError(
            f"{kind.__name__} evaluates the loss several times in each step, but a training step "
            "here computes its gradient once. Choose an optimizer whose step needs no closure, "
            "such as torch.optim.AdamW."
        )


def state_after_a_step(
    name: str,
    parameters: Sequence[Tensor],
    learning_rate: float,
    weight_decay: float,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The state that such an optimiser will have, found by one step with copied parameters.

    Args:
        name: as for :func:`make_optimizer`, like all other arguments.
        parameters: stay as they are.
        learning_rate: learning rate of the step.
        weight_decay: weight decay of the step.
        options: options of the optimiser.

    Returns:
        Tensors and numbers named as by :func:`optimizer_tensors`, parameters by their numbers.

    Raises:
        ValueError: when the optimiser cannot make a step, or a file could not hold its state.
    """
    copies = [nn.Parameter(each.detach().clone()) for each in parameters]
    for copy in copies:
        copy.grad = torch.ones_like(copy)
    trial = make_optimizer(name, copies, learning_rate, weight_decay, options)
    kind = type(trial)
    try:
        trial.step()
    except Exception as error:  # it may be somebody's own
        raise InputError(
            f"The optimizer {kind.__name__} failed in a trial step: {reason(error)}"
        ) from error
    found = _entries(trial, None)
    for name, value in found.items():
        storable = isinstance(value, bool | int | float) or (
            isinstance(value, Tensor) and value.layout == torch.strided and not value.is_complex()
        )
        if not storable:
            raise InputError(
                f"The state of {kind.__name__} cannot be saved: its {name.rpartition('.')[2]!r} is "
                f"a {type(value).__name__}, and checkpoints hold tensors and numbers. Choose "
                "another optimizer, or train without a run directory."
            )
    return found


def _entries(optimizer: torch.optim.Optimizer, names: Sequence[str] | None) -> dict[str, Any]:
    """The values of an optimiser's state, without those that are None."""
    state = optimizer.state_dict()
    found = {
        f"{number if names is None else names[number]}.{name}": value
        for number, entries in state["state"].items()
        for name, value in entries.items()
        if value is not None
    }
    group = state["param_groups"][0]
    unlike = {
        f".{name}": value
        for name, value in group.items()
        if name not in _HELD_ELSEWHERE
        and isinstance(value, Tensor | int | float)
        and name in optimizer.defaults
        and not _same(value, optimizer.defaults[name])
    }
    return found | unlike


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, Tensor) and isinstance(other, Tensor):
        return torch.equal(value, other)
    return type(value) is type(other) and bool(value == other)


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """The optimiser's state by parameter and name, ``"encoder.weight.exp_avg"``.

    Args:
        optimizer: of one group of parameters; what changes in the group itself is under
            ``".name"``.
        names: names of its parameters, in their order; by default their numbers.
    """
    return {name: torch.as_tensor(value) for name, value in _entries(optimizer, names).items()}


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    saved: Mapping[str, Tensor],
    names: Sequence[str] | None = None,
    expected: Mapping[str, Any] | None = None,
) -> None:
    """Puts a saved state into ``optimizer``.

    Args:
        optimizer: of one group of parameters.
        saved: as :func:`optimizer_tensors` gave it; by the parameters' numbers in files of older
            versions.
        names: names of the parameters, in their order; needed if the state is saved by name.
        expected: of :func:`state_after_a_step`; by default values of the parameters' own shapes.

    Raises:
        ValueError: when it does not fit.
    """
    group = optimizer.param_groups[0]
    parameters = group["params"]
    numbers = {name: number for number, name in enumerate(names or ())}
    state: dict[int, dict[str, Any]] = {}
    for key, value in saved.items():
        which, _, part = key.rpartition(".")
        if not which:
            group[part] = _as_before(value, group.get(part))
            continue
        number = int(which) if which.isdecimal() else numbers.get(which, -1)
        fits = 0 <= number < len(parameters)
        template: Any = None
        if fits and expected is not None:
            template = expected.get(f"{number}.{part}")
            fits = template is not None and value.shape == torch.as_tensor(template).shape
        elif fits:
            fits = not value.ndim or value.shape == parameters[number].shape
        if not fits:
            raise InputError(
                "The optimiser state in the checkpoint does not fit the parameters that are "
                f"trained here: {key!r} belongs to none of them. Freeze the layers that were "
                "frozen, and no others."
            )
        state.setdefault(number, {})[part] = _as_before(value, template)
    if state and expected is None and len(state) != len(parameters):
        raise InputError(
            f"The checkpoint holds the optimiser state of {len(state)} parameters, but "
            f"{len(parameters)} are trained here. Freeze the layers that were frozen, and no "
            "others."
        )
    whole = optimizer.state_dict()
    optimizer.load_state_dict({**whole, "state": state or whole["state"]})
    for number, entries in state.items():  # torch gives all of them the parameter's type
        own = optimizer.state[parameters[number]]
        for part, value in entries.items():
            if isinstance(value, Tensor) and own[part].dtype != value.dtype:
                own[part] = value.to(own[part].device)


def _as_before(value: Tensor, example: Any) -> Any:
    """A saved value as the optimiser keeps it: a number where the example is one."""
    return type(example)(value.item()) if isinstance(example, bool | int | float) else value


def learning_rate_factor(schedule: Schedule, done: float, step: int, warmup_steps: int) -> float:
    """The factor by which the learning rate is multiplied in a step.

    Args:
        schedule: "constant", "cosine" (half a cosine, from 1 to 0) or "linear" (from 1 to 0).
        done: the fraction of the run that is done, 0 to 1.
        step: the number of steps done, for the warm-up.
        warmup_steps: number of steps in which the rate first grows linearly.
    """
    warm = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    if schedule == "linear":
        return warm * max(0.0, 1 - done)
    return warm
