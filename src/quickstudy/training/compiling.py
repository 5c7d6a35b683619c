"""A strategy's forward pass through ``torch.compile``, or uncompiled if that fails."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from quickstudy.strategies import Strategy


class CompiledForward:
    """Compiles a strategy's ``forward`` at its first use, and lends it to the strategy.

    On a GPU small operations are recorded once and launched together (CUDA graphs). If compilation
    fails, because there is no C++ compiler or the strategy does something that cannot be compiled,
    a warning states the reason and the strategy runs uncompiled.

    Args:
        strategy: the strategy whose forward pass is compiled.

    Attributes:
        seconds: duration of the first use, most of it compilation; None before that.
    """

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        on_gpu = any(p.is_cuda for p in strategy.parameters())
        # A C++ wrapper leaves the interpreter to the other tasks' threads while it runs.
        how: Any = {"mode": "reduce-overhead"} if on_gpu else {"options": {"cpp_wrapper": True}}
        if not on_gpu:
            _keep_pooling()
        self.plain = strategy.forward
        self.forward: Any = torch.compile(strategy.forward, dynamic=False, **how)
        self.seconds: float | None = None

    def _call(self, *arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            output = self.forward(*arguments)
        except RuntimeError as error:
            if self.forward is self.plain:
                raise
            output = self.plain(*arguments)  # raises again if the error is the strategy's own
            self.forward = self.plain
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            warnings.warn(
                f"{type(self.strategy).__name__} could not be compiled and runs uncompiled: "
                f"{reason}",
                stacklevel=2,
            )
        if self.seconds is None:
            self.seconds = time.perf_counter() - started
        return output

    @contextmanager
    def lent(self) -> Iterator[None]:
        """While this is open, the strategy's forward pass is the compiled one."""
        self.strategy.forward = self._call  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            del self.strategy.forward


@functools.cache
def _keep_pooling() -> None:
    """Makes compiled networks call torch's own max-pooling.

    On a CPU the compiler's version takes several times as long in the backward pass. There is no
    public switch; without this private one, compiled networks that pool are slower.
    """
    aten = torch.ops.aten
    try:
        from torch._inductor import decomposition, lowering

        for operation in (
            aten.max_pool2d_with_indices.default,
            aten.max_pool2d_with_indices_backward.default,
        ):
            lowering.lowerings.pop(operation, None)
            decomposition.decompositions.pop(operation, None)
            lowering.make_fallback(operation, warn=False)  # type: ignore[no-untyped-call]
    except (ImportError, AttributeError, AssertionError) as error:
        warnings.warn(f"Max-pooling is left to the compiler ({error}).", stacklevel=2)
