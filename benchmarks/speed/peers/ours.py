"""quickstudy, through its public interface."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.speed.peers.plain import gradients
from benchmarks.speed.peers.work import Problem, Work, weights
from quickstudy import ClassDataset, Episode, EpisodeSampler, Strategy, evaluate
from quickstudy.compute.allocator import keep_freed_memory
from quickstudy.encoders import Conv4
from quickstudy.encoders.cpu.layout import channels_last, use_channels_last
from quickstudy.episodes import Examples
from quickstudy.inputs import FeatureInputs
from quickstudy.strategies import MAML, R2D2, PrototypicalNetwork
from quickstudy.training.tasks import MetaGradient


def meta_gradient(
    strategy: Strategy,
    episode: Episode,
    precision: str = "float32",
    at_once: int | None = None,
    compiled: bool = False,
) -> Callable[[], float]:
    """What computes the tasks' mean loss, and leaves its gradient in the parameters.

    Args:
        strategy: whose parameters they are.
        episode: the meta-batch.
        precision: "float32" or "bfloat16" (activations).
        at_once: tasks side by side; as many as there are cores by default.
        compiled: through torch.compile.
    """
    half = functools.partial(torch.autocast, "cpu", torch.bfloat16)
    autocast = half if precision == "bfloat16" else contextlib.nullcontext
    compute = MetaGradient(strategy, autocast, at_once, compiled)

    def run() -> float:
        sums = compute.sums(episode, 1 / episode.tasks)
        for parameter, gradient in zip(compute.parameters, sums.gradients, strict=True):
            parameter.grad = None if gradient is None else gradient.to(parameter.dtype)
        return float(sums.loss / episode.tasks)

    return run


def as_episode(problem: Problem, ways: int) -> Episode:
    """The problem's tasks."""
    support = Examples(problem["support_inputs"], problem["support_targets"])
    return Episode(support, Examples(problem["query_inputs"], problem["query_targets"]), ways)


def start_from(module: nn.Module, start: Problem) -> dict[str, str]:
    """Gives the module the plain network's initial weights.

    Returns:
        The plain network's name of each parameter.
    """
    keep_freed_memory()
    use_channels_last(module)
    own = [(n, p) for n, p in module.named_parameters()]
    ours_by_shape = _in_order(own)
    theirs = _in_order(list(start.items()))
    names = {}
    with torch.no_grad():
        for (name, parameter), (other, value) in zip(ours_by_shape, theirs, strict=True):
            parameter.copy_(value)
            names[name] = other
    return names


def _in_order(named: Sequence[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
    """Convolutions, linear weights, then vectors: each in the order of the network."""
    return sorted(named, key=lambda pair: -pair[1].ndim)


def renamed_gradients(module: nn.Module, names: dict[str, str]) -> dict[str, Tensor]:
    """The gradients under the plain network's names."""
    return {names[name]: gradient for name, gradient in gradients(module).items()}


def maml(
    problem: Problem,
    *,
    pooling: Literal["max", "stride"],
    inner_steps: int,
    rate: float,
    ways: int = 5,
    precision: str = "float32",
    at_once: int | None = None,
    compiled: bool = False,
) -> Work:
    """The second-order MAML gradient of a meta-batch."""
    encoder = Conv4(input_shape=(1, 28, 28), pooling=pooling)
    strategy = MAML(
        encoder, ways, inner_steps=inner_steps, inner_learning_rate=rate, transductive=True
    )
    names = start_from(strategy, weights(problem))
    episode = as_episode(problem, ways)
    run = meta_gradient(strategy, episode, precision, at_once, compiled)
    return Work(run, lambda: renamed_gradients(strategy, names))


def prototypes(
    problem: Problem, *, ways: int, precision: str = "float32", compiled: bool = False
) -> Work:
    """The gradient of a prototypical network's step."""
    strategy = PrototypicalNetwork(Conv4(input_shape=(1, 28, 28)))
    names = start_from(strategy, weights(problem))
    run = meta_gradient(strategy, as_episode(problem, ways), precision, compiled=compiled)
    return Work(run, lambda: renamed_gradients(strategy, names))


def convolutions(problem: Problem) -> Work:
    """The convolutions of a prototypical network's step and nothing else.

    Forward, gradient of the weights, and gradient of the inputs where a step needs it: not of the
    images. Channels last, in the allocator that quickstudy sets up.
    """
    keep_freed_memory()
    images = sum(problem[f"{part}_targets"].numel() for part in ("support", "query"))
    kernels = [kernel for kernel in weights(problem).values() if kernel.ndim == 4]
    layers = []
    for kernel, size in zip(kernels, (28, 14, 7, 3), strict=True):
        shapes = [(images, kernel.shape[1], size, size), (images, kernel.shape[0], size, size)]
        x, upstream = (channels_last(torch.randn(shape)) for shape in shapes)
        layers.append((x, upstream, kernel.to(memory_format=torch.channels_last)))
    geometry: Any = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)

    def run() -> None:
        for x, _, kernel in layers:
            torch.convolution(x, kernel, None, *geometry)
        for number, (x, upstream, kernel) in reversed(list(enumerate(layers))):
            wanted = [number > 0, True, False]
            torch.ops.aten.convolution_backward(upstream, x, kernel, None, *geometry, wanted)

    return Work(run)


def evaluation(problem: Problem, *, episodes: int, strategy: str = "PrototypicalNetwork") -> Work:
    """The accuracy over many episodes of stored features, 5-way 1-shot, 15 queries."""
    data = ClassDataset.from_arrays(
        problem["features"],
        problem["labels"].tolist(),
        FeatureInputs(problem["features"].shape[1]),
    )
    solver = {"PrototypicalNetwork": PrototypicalNetwork, "R2D2": R2D2}[strategy](nn.Identity())

    def run() -> float:
        report = evaluate(solver, data, ways=5, shots=1, queries=15, episodes=episodes)
        return float(report.accuracy.mean)

    return Work(run)


def sampler(problem: Problem, *, episodes: int, tasks: int) -> Work:
    """Draws the indices of ``episodes`` tasks, ``tasks`` at a time; returns how many."""
    sizes = torch.bincount(problem["labels"])
    names = [str(number) for number in range(len(sizes))]
    data = ClassDataset.contiguous(torch.empty(int(sizes.sum()), 0), sizes, names, FeatureInputs(0))
    drawing = EpisodeSampler(data, ways=5, shots=1, queries=15, tasks=tasks)
    return Work(lambda: sum(len(drawing.indices(n).classes) for n in range(episodes // tasks)))
