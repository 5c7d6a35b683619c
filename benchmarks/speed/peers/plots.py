"""The plot of how cost grows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

COLUMNS = 4
LINES = {
    "operations": ("arithmetic", "0.6", "--"),
    "seconds": ("time", "tab:blue", "-o"),
    "mib": ("memory", "tab:orange", "-s"),
}


def plot_growth(sweeps: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws each sweep's costs relative to those of its smallest size, on logarithmic axes."""
    rows = math.ceil(len(sweeps) / COLUMNS)
    figure = Figure(figsize=(2.6 * COLUMNS, 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True).flatten()
    for axes, sweep in zip(grid, sweeps, strict=False):
        points = sweep["points"]
        sizes = [point["size"] for point in points]
        for key, (label, color, style) in LINES.items():
            if all(point[key] for point in points):
                costs = [point[key] / points[0][key] for point in points]
                axes.loglog(sizes, costs, style, color=color, label=label, markersize=3)
        axes.set_title(sweep["name"], fontsize=9)
        axes.set_xlabel(sweep["axis"].replace("_", " "), fontsize=8)
        axes.tick_params(labelsize=7, which="both")
        axes.minorticks_off()
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    for axes in grid[len(sweeps) :]:
        axes.set_axis_off()
    for axes in grid[::COLUMNS]:
        axes.set_ylabel("relative cost", fontsize=8)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="lower right", fontsize=8)
    return figure
