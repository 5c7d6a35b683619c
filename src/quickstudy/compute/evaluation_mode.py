"""Modules used for answers: in evaluation mode, and by several threads at once."""

from __future__ import annotations

import copy
import functools
import os
import threading
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

_SEARCHED_DEPTH = 4


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Puts ``module`` in evaluation mode, without gradients, and restores its mode afterwards.

    If several threads do this with one module, or with modules that share parts, each part stays in
    evaluation mode until the last thread is done. It then returns to the mode it had before the
    first.
    """
    parts = list(module.modules())
    with _modes.lock:
        _modes.enter(parts)
        if any(part.training for part in parts):
            module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        with _modes.lock:
            _modes.leave(parts)


class _Modes:
    """The modes that submodules had before threads began to evaluate them."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Starts empty; a forked process has none of the threads that were evaluating."""
        self.lock = threading.RLock()
        self.before: dict[int, tuple[int, bool]] = {}  # by id: threads, earlier mode

    def enter(self, parts: list[nn.Module]) -> None:
        before = self.before
        for part in parts:
            users, mode = before.get(id(part), (0, part.training))
            before[id(part)] = users + 1, mode

    def leave(self, parts: list[nn.Module]) -> None:
        before = self.before
        over = []
        for part in parts:
            users, mode = before.pop(id(part), (1, part.training))
            if users > 1:
                before[id(part)] = users - 1, mode
            else:
                over.append((part, mode))
        if len(over) == len(parts):
            for part, mode in over:
                if part.training != mode and _sets_mode_its_own_way(part):
                    part.train(mode)
        for part, mode in over:
            part.training = mode


_modes = _Modes()
_forked: list[bool] = []
"""Not empty in a forked process that has not computed anything yet."""


def _begin_after_fork() -> None:
    _modes.begin()
    _forked.append(True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_after_fork)


def _use_one_thread() -> None:
    """Makes torch compute in one thread; waiting for its others, which were not forked, hangs."""
    _forked.clear()
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        warnings.warn(
            "This process was forked after torch had started its threads, which do not exist here, "
            "so torch computes in one thread from now on. To use several, start processes with "
            'multiprocessing.get_context("spawn").',
            stacklevel=6,
        )


def in_use(module: Module) -> Module:
    """A copy of a module, in evaluation mode, that shares its weights; the module is not changed.

    Parameters and buffers are the same tensors, so the copy needs hardly any memory; its mode and
    all other attributes are separate. If the module cannot be copied, or holds functions that refer
    to the module itself, the module itself is returned.
    """
    # A module that overrides train() can write to the weights there, as LoRA does when it merges.
    writes = any(part.training and _sets_mode_its_own_way(part) for part in module.modules())
    copied = _copied(module, with_weights=writes)
    if copied is None:
        return module
    if any(part.training for part in copied.modules()):
        copied.eval()
    return copied


def _sets_mode_its_own_way(part: nn.Module) -> bool:
    own = type(part).train
    return own is not nn.Module.train and not own.__module__.startswith("quickstudy.")


class Answering(Generic[Module]):
    """A module that several threads use at once: each call has a copy with the same weights.

    A module can store the state of a call in its attributes: ``torch.func.functional_call``
    replaces its parameters during the call, and many layers remember values for later. The number
    of copies is the largest number of calls that ever ran at the same time.

    Args:
        module: in evaluation mode and used by nobody else; only copies of it compute.
        copies: whether calls need copies; if not, all calls use the module itself.
    """

    def __init__(self, module: Module, copies: bool = True) -> None:
        self.module = module
        self._copies = copies
        self._idle: list[Module] = []

    @contextmanager
    def one(self) -> Iterator[Module]:
        """The module for one call, in evaluation mode and without gradients."""
        if _forked:
            _use_one_thread()
        try:
            mine = self._idle.pop()
        except IndexError:
            mine = in_use(self.module) if self._copies else self.module
        try:
            with evaluating(mine):
                yield mine
        finally:
            self._idle.append(mine)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_idle": []}

    def __deepcopy__(self, memo: dict[int, Any]) -> Answering[Module]:
        return type(self)(copy.deepcopy(self.module, memo), self._copies)


def _copied(module: Module, with_weights: bool) -> Module | None:
    """A copy of the module; None if no independent copy can be made."""
    memo: dict[int, Any] = {}
    if not with_weights:
        for part in module.modules():
            for values in (part._parameters, part._buffers, vars(part)):
                memo |= {id(each): each for each in values.values() if isinstance(each, Tensor)}
    shared = set(memo)
    try:
        copied = copy.deepcopy(module, memo)
    except Exception:  # a third-party class can raise anything
        return None
    originals = {key for key, made in memo.items() if key not in shared and key != id(made)}
    held = [value for part in copied.modules() for value in vars(part).values()]
    return None if _refer_to(held, originals, _SEARCHED_DEPTH) else copied


def _refer_to(values: Any, originals: set[int], depth: int) -> bool:
    """Whether a function among the values, also in containers, refers to an object with these ids.

    Copying an object does not copy its functions: they still refer to the original objects.
    """
    for value in values:
        if isinstance(value, dict | list | tuple | set | frozenset):
            inside: Any = value.values() if isinstance(value, dict) else value
        elif isinstance(value, types.FunctionType):
            cells = value.__closure__ or ()
            inside = [cell.cell_contents for cell in cells if _is_filled(cell)]
            inside += value.__defaults__ or ()
            if any(id(each) in originals for each in inside):
                return True
        elif isinstance(value, functools.partial):
            inside = [value.func]
        else:
            continue
        if depth and _refer_to(inside, originals, depth - 1):
            return True
    return False


def _is_filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
