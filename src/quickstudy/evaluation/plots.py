"""Pictures of results."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quickstudy.compute.evaluation_mode import evaluating
from quickstudy.episodes import Episode
from quickstudy.evaluation.report import Report
from quickstudy.saving.files import atomically
from quickstudy.strategies import Strategy

RIGHT, WRONG, GREY = "#2a7f4f", "#b3261e", "#777777"
ROW_PITCH = 1.2


def plot_comparison(
    reports: Mapping[str, Sequence[Report]],
    histories: Mapping[str, Sequence[Mapping[str, float | None]]],
    path: str | os.PathLike[str],
) -> None:
    """Draws accuracies with their intervals as bars, beside the curves of meta-validation.

    Args:
        reports: for each contender its reports, one a protocol, in the same order for all.
        histories: for each trained contender the rows of its metrics.
        path: the picture to write, e.g. a ``.png``.
    """
    figure, (bars, curves) = _canvas(2, (12, 4.5))
    draw_bars(bars, reports)
    draw_curves(curves, histories)
    _save(figure, path)


def plot_demo(
    strategy: Strategy,
    episode: Episode,
    reports: Mapping[str, Sequence[Report]],
    histories: Mapping[str, Sequence[Mapping[str, float | None]]],
    path: str | os.PathLike[str],
) -> None:
    """Draws an episode with its predictions, the accuracies, and the training curve.

    Args:
        strategy: whose predictions are shown.
        episode: one task of grey images ``[1, N, 1, H, W]``, ink 1 on paper 0.
        reports: as :func:`plot_comparison` takes them.
        histories: likewise.
        path: the picture to write.
    """
    figure, (task, bars, curves) = _canvas(3, (17, 5))
    draw_episode(task, strategy, episode)
    draw_bars(bars, reports)
    draw_curves(curves, histories)
    _save(figure, path)


def draw_episode(axes: Any, strategy: Strategy, episode: Episode, queries: int = 6) -> None:
    """Draws the support of each class and some queries with the answer and its confidence."""
    with evaluating(strategy):
        theta = strategy.adapt(episode.support, episode.ways)
        probabilities = strategy.predict(theta, episode.query.inputs)[0].softmax(-1)
    confidence, answer = probabilities.max(-1)
    support, query = episode.support[:1], episode.query[:1]
    height, width = support.inputs.shape[-2:]
    axes.set_title("one task: support | queries, answer and confidence", fontsize=10)
    for way in range(episode.ways):
        first = support.inputs[0][support.targets[0] == way][0]
        row = ROW_PITCH * way
        _draw_image(axes, first, 0.0, row, height, width)
        axes.text(-0.15, row + 0.6, str(way + 1), ha="right", va="center")
        chosen = (query.targets[0] == way).nonzero().flatten()[:queries]
        for column, number in enumerate(chosen.tolist()):
            x = 1.4 + column * 1.1
            _draw_image(axes, query.inputs[0, number], x, row, height, width)
            right = bool(answer[number] == way)
            axes.text(
                x + 0.5,
                row + 0.18,
                f"{int(answer[number]) + 1}  {confidence[number]:.0%}",
                ha="center",
                va="bottom",
                fontsize=8,
                color=RIGHT if right else WRONG,
            )
    axes.axvline(1.2, color=GREY, linewidth=0.8)
    axes.set_xlim(-0.5, 1.5 + queries * 1.1)
    axes.set_ylim(ROW_PITCH * episode.ways, -0.15)
    axes.set_aspect("equal")
    axes.axis("off")


def _draw_image(axes: Any, image: Tensor, x: float, y: float, height: int, width: int) -> None:
    side = 0.8
    axes.imshow(
        (1 - image.cpu().mean(0).clamp(0, 1)).numpy(),
        cmap="gray",
        vmin=0,
        vmax=1,
        extent=(x + 0.1, x + 0.1 + side * width / height, y + 0.2 + side, y + 0.2),
    )


def draw_bars(axes: Any, reports: Mapping[str, Sequence[Report]]) -> None:
    """Draws a group of bars for each protocol, one bar a contender, with 95 % intervals."""
    protocols = [report.protocol for report in next(iter(reports.values()))]
    width = 0.8 / len(reports)
    for number, (name, own) in enumerate(reports.items()):
        places = torch.arange(len(own)) + (number - (len(reports) - 1) / 2) * width
        bars = axes.bar(
            places.tolist(),
            [100 * report.accuracy.mean for report in own],
            width,
            yerr=[100 * report.accuracy.ci95 for report in own],
            capsize=3,
            label=name,
        )
        axes.bar_label(bars, fmt="%.1f", fontsize=8, padding=2)
    axes.set_xticks(range(len(protocols)), protocols)
    axes.set_ylim(0, 112)
    axes.set_ylabel("accuracy (%) with 95 % interval")
    axes.set_title(f"classes never seen: {next(iter(reports.values()))[0].data}")
    axes.legend(fontsize=8, loc="upper right", ncols=len(reports))


def draw_curves(axes: Any, histories: Mapping[str, Sequence[Mapping[str, float | None]]]) -> None:
    """Draws accuracy over seconds: training faint, meta-validation with its interval."""
    for name, rows in histories.items():
        trained = [(row["seconds"], row["accuracy"]) for row in rows if row["accuracy"] is not None]
        validated = [
            (row["seconds"], row["validation_accuracy"], row["validation_ci95"])
            for row in rows
            if row["validation_accuracy"] is not None
        ]
        (line,) = axes.plot(
            [x for x, _ in trained], [100 * (y or 0) for _, y in trained], alpha=0.4, linewidth=1
        )
        if validated:
            axes.errorbar(
                [x for x, _, _ in validated],
                [100 * (y or 0) for _, y, _ in validated],
                [100 * (ci or 0) for _, _, ci in validated],
                color=line.get_color(),
                marker="o",
                markersize=3,
                capsize=2,
                label=name,
            )
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("accuracy (%)")
    axes.set_title("training tasks (faint) and meta-validation")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, loc="lower right")


def _canvas(panels: int, size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, panels)


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    with atomically(Path(path)) as temporary:
        figure.savefig(temporary, format=Path(path).suffix.lower().lstrip(".") or "png", dpi=130)
