"""Rebuilds a module from its description and weights.

A description from elsewhere can request any amount of memory. How much classes of this package
would take is found out beforehand on torch's meta device, which uses none. A third-party class runs
only if it is trusted, and is instantiated once.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy

from quickstudy.errors import InputError
from quickstudy.saving.description import build, described_class
from quickstudy.saving.trust import is_own

_MORE_THAN_SAVED, _ALWAYS_ALLOWED = 10, 1000
"""Number of parameters that a module can have: per saved parameter, and in any case."""

_MOST_NUMBERS = 10_000_000
"""The same for a module of this package inside a third-party one, beside ten times those saved."""


def rebuilt(
    description: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    frozen: Sequence[str] | None = None,
) -> nn.Module:
    """The described module, with its weights.

    Args:
        description: description of the module.
        weights: its state dict, which determines the types and layout of its tensors.
        frozen: the names of the parameters that are not trained; None if unknown, so that the
            constructor decides.

    Raises:
        ValueError: as :func:`build_to_fit`.
    """
    module = build_to_fit(description, weights)
    put_in(module, weights, frozen)
    return module


def put_in(
    module: nn.Module, weights: Mapping[str, Tensor], frozen: Sequence[str] | None = None
) -> None:
    """Puts weights into a module, whose tensors take their types and layout.

    Raises:
        ValueError: when they do not fit.
    """
    _cast(module, weights)
    for name, tensor in _tensors(module):
        saved = weights.get(name)
        if saved is None or is_lazy(tensor) or saved.shape != tensor.shape:
            continue
        if (saved.dtype, saved.stride()) != (tensor.dtype, tensor.stride()):
            tensor.data = torch.empty_like(saved, device=tensor.device)
    try:
        module.load_state_dict(dict(weights))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"The weights do not fit {type(module).__name__}: {error}") from error
    if frozen is None:
        return
    parameters = dict(module.named_parameters(remove_duplicate=False))
    if not isinstance(frozen, list) or not set(frozen) <= parameters.keys():
        raise InputError(
            f"The list of frozen parameters names some that {type(module).__name__} does not have."
        )
    for name, parameter in parameters.items():
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.requires_grad_(name not in frozen)


def frozen_names(module: nn.Module) -> list[str]:
    """The names of the parameters that are not trained."""
    parameters = module.named_parameters(remove_duplicate=False)
    return [name for name, parameter in parameters if not parameter.requires_grad]


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _cast(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Gives a module, or otherwise each of its parts, the floating type of its weights.

    That includes tensors that are not among the weights, such as buffers filled by the constructor.
    """
    types = {each.dtype for each in weights.values() if each.is_floating_point()}
    if len(types) == 1:
        module.to(types.pop())
    elif types:
        for name, part in module.named_children():
            prefix = f"{name}."
            own = {n: each for n, each in weights.items() if n.startswith(prefix)}
            types = {each.dtype for each in own.values() if each.is_floating_point()}
            if len(types) == 1:
                part.to(types.pop())


def build_to_fit(description: Mapping[str, Any], weights: Mapping[str, Tensor]) -> nn.Module:
    """Builds a module for given weights, without loading them.

    The size of classes of this package is checked before they take memory.

    Raises:
        ValueError: as :func:`~quickstudy.saving.description.build`, or because the weights do
            not fit.
    """
    made: dict[int, nn.Module] = {}
    with _few_parameters(_MORE_THAN_SAVED * len(weights) + _ALWAYS_ALLOWED):
        for part in _foreign_parts(description):
            _check_own_parts(part, weights)
            made[id(part)] = build(part)
        if id(description) in made:
            return made[id(description)]
        try:
            shapes = None if _is_pretrained(description) else _shapes(description, made)
        except ValueError:
            shapes = None  # building raises the same error, or works where the meta device does not
    given = {name: weight.shape for name, weight in weights.items()}
    if shapes is not None:
        added = getattr(described_class(description), "added_buffers", ())
        given = {name: shapes[name] for name in added if name in shapes} | given
    if shapes is not None and shapes != given:
        different = sorted(
            name for name in {*shapes, *given} if shapes.get(name) != given.get(name)
        )
        raise InputError(
            f"The weights do not fit {description['class_path']}: {different[0]} should be "
            f"{_size(shapes.get(different[0]))} and is {_size(given.get(different[0]))} "
            f"({len(different)} such)."
        )
    with _few_parameters(_MORE_THAN_SAVED * len(weights) + _ALWAYS_ALLOWED):
        return build(description, made)


def _foreign_parts(description: Any) -> list[Mapping[str, Any]]:
    """The outermost parts of a description that are of classes outside this package."""
    if isinstance(description, Mapping):
        path = description.get("class_path")
        if isinstance(path, str) and not is_own(path):
            return [description]
        parts = [_foreign_parts(value) for value in description.values()]
    elif isinstance(description, list):
        parts = [_foreign_parts(value) for value in description]
    else:
        return []
    return [each for part in parts for each in part]


def _check_own_parts(description: Any, weights: Mapping[str, Tensor]) -> None:
    """Refuses modules of this package that are far larger than all weights (ValueError)."""
    if isinstance(description, Mapping):
        path = description.get("class_path")
        if not (isinstance(path, str) and is_own(path)):
            for value in description.values():
                _check_own_parts(value, weights)
            return
        if _is_pretrained(description) or _foreign_parts(description):
            return
        try:
            shapes = _shapes(description, {}) or {}
        except ValueError:
            return  # building raises the same error
        numbers = sum(math.prod(shape) for shape in shapes.values())
        saved = sum(each.numel() for each in weights.values())
        if numbers > _MORE_THAN_SAVED * saved + _MOST_NUMBERS:
            raise InputError(
                f"The weights do not fit {path}: it would have {numbers} numbers, but {saved} were "
                "saved."
            )
    elif isinstance(description, list):
        for value in description:
            _check_own_parts(value, weights)


def _shapes(
    description: Mapping[str, Any], made: Mapping[int, nn.Module]
) -> dict[str, torch.Size] | None:
    """The shapes of a module's tensors; None if they cannot be found out."""
    if any(is_lazy(tensor) for module in made.values() for _, tensor in _tensors(module)):
        return None
    try:
        copies = {key: copy.deepcopy(module).to("meta") for key, module in made.items()}
    except Exception:  # a third-party module can contain anything
        return None
    with torch.device("meta"), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = build(description, copies)
    return {name: weight.shape for name, weight in module.state_dict().items()}


def _size(shape: torch.Size | None) -> str:
    return "missing" if shape is None else f"{list(shape)}"


def _is_pretrained(description: Any) -> bool:
    """Whether a model is read from a folder, which determines its size."""
    if isinstance(description, Mapping):
        name = str(description.get("class_path")).rpartition(".")[2]
        return name.startswith("Pretrained") or any(map(_is_pretrained, description.values()))
    return isinstance(description, list) and any(map(_is_pretrained, description))


@contextmanager
def _few_parameters(most: int) -> Iterator[None]:
    """Stops a module from being built that has more parameters than ``most`` (ValueError)."""
    count = 0

    def check(*_: object) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise InputError(f"The description asks for a module with more than {most} parameters.")

    hook = register_module_parameter_registration_hook(check)
    try:
        yield
    finally:
        hook.remove()
