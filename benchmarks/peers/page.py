"""The page of docs/ that shows what benchmarks/performance.py stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from peers.plots import plot_growth

PLOT = "images/performance-growth.svg"

START = """# Performance

How long quickstudy takes, beside what one would pick instead, on one machine. `make bench` repeats
all of it and writes this page; `benchmarks/performance.py --help` tells how to run a part.

Contestants work in turns, one round after another, each in a process of its own: what else the
machine does meets all of them. A *ratio* is a contestant's time over quickstudy's in the same
round, as the median over rounds with the least and the largest: above 1, quickstudy is faster.
quickstudy runs as its `fit` and `evaluate` run it: weights channels-last, tasks of a meta-batch
side by side on the cores, an allocator told to keep freed memory. The others run as they come."""

MAML = """## MAML's meta-gradient

Second order, forward and backward, of a meta-batch: 5-way 1-shot, 15 queries, 28x28x1,
batch normalisation by each batch's own statistics. All start from the same weights and read the
same data. Differences are from plain PyTorch, of the loss and, relative to its norm, of the
gradient; a float32 contestant whose loss differs by more than 10⁻⁴ has no valid time. Five inner
steps are smaller because steps of 0.4 amplify rounding here until any two float32 programs differ
by more than that, though in double precision they agree; the size of a step costs no time.

*Plain PyTorch* is a loop with `torch.func.functional_call` and `torch.autograd.grad`; *freed memory
kept* is the same loop with glibc told (by its environment variables) what quickstudy tells it.
`higher` and TorchOpt's `MetaSGD` differentiate through the same network's optimiser. bfloat16 is
autocast: its gradient is another one, rounded, and is no free gain.

learn2learn is missing because it does not install here: its sources (there are no wheels) contain
generated C that includes `longintrepr.h`, a header that Python 3.11 removed."""

MEMORY = """## Memory

By how much one meta-gradient (Conv4-64 with max-pooling, 1 inner step) raises the peak of resident
memory, each in a fresh process. Tasks side by side cost memory, a task a core."""

PROTOTYPES = """## A prototypical network's step

60-way 1-shot, 5 queries (360 images 28x28x1), Conv4-64 with max-pooling, forward and backward. *Its
convolutions alone* are the same four convolutions at the same shapes in the same memory format,
forward and both gradients, without anything else: what no arrangement of the rest can beat. easyfsl
embeds support and query as two batches and does not square the distance, so its loss is checked
against plain PyTorch that does the same."""

EVALUATION = """## Evaluation on stored features

5-way 1-shot, 15 queries, 20 classes of 600 vectors of 640 numbers, time an episode. quickstudy
reports accuracy with its interval, likelihood and calibration, easyfsl accuracy. Each draws tasks
of its own; the accuracies agree to 3 points or the row is void."""

SAMPLER = """## Drawing tasks

The indices of 5-way 1-shot tasks with 15 queries, from 1,600 classes of 20 examples, time a task.
quickstudy draws a task as a function of (seed, number), so that any process can make any task;
easyfsl's `TaskSampler` goes on from the state of a global generator."""

EASYFSL = """About easyfsl: it requires torchvision, which is not installed. Empty stand-ins take
the names it imports, and none of what is measured uses them. Its sampler also hands
`torch.utils.data.Sampler` an argument that torch has dropped; it is let through. setfit is missing
from this page: it fine-tunes pretrained sentence encoders, which is none of the work compared."""

STARTUP = """## Starting

Time until the process has ended; ratios refer to `quickstudy --help`."""

CLASSIFIER = """## A classifier from photographs

10 classes of 5 JPEG files of 640x480, Conv4-64 at 84x84, until the process has ended; in Python
after the first call, the file decoded each time."""

GROWTH = f"""## How cost grows

Exponents p of cost ∝ size^p, fitted over the sizes measured (the slope of a line through the
logarithms). *Arithmetic* is the exponent of the counted operations of convolutions and matrix
products at the same sizes; where only indices are drawn there is none, and 0 is what a draw that
does not depend on the size would have. Memory is the growth of the peak in a fresh process.

![Growth of time, memory and arithmetic]({PLOT})"""

PROFILE = """## Where the time goes

Operators' own time in the loss and its gradient, of one task on one core."""

TRAINING = """Training with `quickstudy.fit`, 1,600 classes of 20 images (rotations as classes): the
share of the time in which training waits for data. *Augmented*: random affine maps of 3 images in
4."""


def write_page(stored: Mapping[str, Any], docs: Path) -> None:
    """Writes docs/performance.md and its plot from what was stored."""
    if "growth" in stored:
        (docs / "images").mkdir(parents=True, exist_ok=True)
        plot_growth(stored["growth"]["found"], docs / PLOT)
    pieces = [START, setting(stored), losses(stored)]
    for name, section in SECTIONS.items():
        if name in stored:
            pieces += [*section(stored[name]["found"]), footer(stored[name])]
    (docs / "performance.md").write_text("\n\n".join(filter(None, pieces)) + "\n", encoding="utf-8")


def setting(stored: Mapping[str, Any]) -> str:
    """Machine and versions."""
    machines = sorted({part["machine"] for part in stored.values()})
    versions = {name: v for part in stored.values() for name, v in part["versions"].items()}
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Machine: {'; '.join(machines)}. Versions: {told}."


def footer(part: Mapping[str, Any]) -> str:
    """When and how a part was measured."""
    quick = ", quick" if part["quick"] else ""
    return (
        f"<sub>{part['date']}, {part['rounds']} rounds{quick}, {part['threads']} threads, "
        f"{part['minutes']:.1f} minutes; load of the machine before: {part['load_before']}</sub>"
    )


def losses(stored: Mapping[str, Any]) -> str:
    """Names each race that another package won, in the same precision."""
    lines = []
    for title, rows in races(stored):
        for row in rows:
            others = not row["name"].startswith(("quickstudy", "its convolutions"))
            if others and "ratio" in row and row["ratio"]["median"] < 1 and not row.get("void"):
                lines.append(f"- {title}: {row['name']}, {ratio(row)} of quickstudy's time.")
    if not lines:
        return "No other contestant was faster than quickstudy (the first row of each table)."
    return "\n".join(
        ["Where others are faster than quickstudy (the first row of a table):", "", *lines]
    )


def races(stored: Mapping[str, Any]) -> Iterable[tuple[str, Sequence[Mapping[str, Any]]]]:
    """Every table of contestants with its title."""
    for race in stored.get("maml", {"found": []})["found"]:
        yield f"MAML, {race['title']}", race["rows"]
    for name in ("prototypes", "evaluation", "sampler"):
        if name in stored:
            yield name, stored[name]["found"]


def maml(found: Any) -> list[str]:
    """The section on meta-gradients."""
    return [MAML, *(f"### {race['title']}\n\n{contest(race['rows'])}" for race in found)]


def memory(found: Any) -> list[str]:
    """The section on memory."""
    sizes = list(found[0]["grown_mib"])
    rows = [[r["name"], *(f"{r['grown_mib'][size]:.0f} MiB" for size in sizes)] for r in found]
    return [MEMORY, table(["", *(f"{size} tasks" for size in sizes)], rows)]


def prototypes(found: Any) -> list[str]:
    """The section on the prototypical network."""
    return [PROTOTYPES, contest(found)]


def evaluation(found: Any) -> list[str]:
    """The section on evaluation."""
    return [EVALUATION, contest(found, "episodes")]


def sampler(found: Any) -> list[str]:
    """The section on the sampler."""
    return [SAMPLER, contest(found, "tasks"), EASYFSL]


def startup(found: Any) -> list[str]:
    """The section on starting."""
    rows = [[f"`{row['name']}`", duration(row["median_seconds"]), ratio(row)] for row in found]
    return [STARTUP, table(["", "time", "ratio"], rows)]


def classifier(found: Any) -> list[str]:
    """The section on the classifier."""
    rows = [[row["name"], duration(row["median_seconds"])] for row in found]
    return [CLASSIFIER, table(["", "time"], rows)]


def growth(found: Any) -> list[str]:
    """The section on growth."""
    rows = []
    for sweep in found:
        sizes = [point["size"] for point in sweep["points"]]
        axis = sweep["axis"].replace("_", " ")
        exponents = [
            f"{sweep['exponents'][key]:.2f}" if key in sweep["exponents"] else "—"
            for key in ("operations", "seconds", "mib")
        ]
        times = " to ".join(duration(sweep["points"][end]["seconds"]) for end in (0, -1))
        rows.append([sweep["name"], f"{axis}, {min(sizes):,} to {max(sizes):,}", *exponents, times])
    return [GROWTH, table(["", "what grows", "arithmetic", "time", "memory", "measured"], rows)]


def profile(found: Any) -> list[str]:
    """The section on profiles."""
    kinds = ["convolutions", "normalisation", "pooling and activation", "the rest"]
    rows = []
    for step in found["step"]:
        largest = ", ".join(
            f"`{name.removeprefix('aten::')}` {share:.0%}"
            for name, share in list(step["largest_of_the_rest"].items())[:3]
        )
        shares = [f"{step['shares'].get(kind, 0):.0%}" for kind in kinds]
        rows.append([step["name"], f"{step['milliseconds']:.1f} ms", *shares, largest])
    steps = table(["", "in all", *kinds, "the largest of the rest"], rows)
    kinds = ["sampling", "gathering", "augmentation"]
    rows = [
        [
            run["name"],
            f"{run['milliseconds']:.0f} ms",
            *(f"{run['shares'].get(kind, 0):.1%}" for kind in kinds),
            f"{run['waiting']:.1%}",
        ]
        for run in found["training"]
    ]
    return [PROFILE, steps, TRAINING, table(["", "a step", *kinds, "waiting in all"], rows)]


SECTIONS: dict[str, Callable[[Any], list[str]]] = {
    section.__name__: section
    for section in (
        maml,
        memory,
        prototypes,
        evaluation,
        sampler,
        startup,
        classifier,
        growth,
        profile,
    )
}


def contest(rows: Sequence[Mapping[str, Any]], unit: str | None = None) -> str:
    """The table of a race; with ``unit``, how many of it a second."""
    checked = any("loss_difference" in row for row in rows)
    gradients = any("gradient_difference" in row for row in rows)
    header = ["", "time", *[f"{unit} a second"] * bool(unit), "ratio (least–largest)"]
    header += ["accuracy differs by" if unit else "loss differs by"] * checked
    header += ["gradient differs by"] * gradients
    lines = []
    for row in rows:
        if "error" in row:
            lines.append([row["name"], f"not measured: {row['error']}", *[""] * (len(header) - 2)])
            continue
        void = "void: " if row.get("void") else ""
        line = [row["name"], void + duration(row["median_seconds"])]
        line += [f"{1 / row['median_seconds']:,.0f}"] * bool(unit)
        line.append("1" if row is rows[0] else ratio(row))
        for key, wanted in (("loss_difference", checked), ("gradient_difference", gradients)):
            line += [f"{row[key]:.0e}" if key in row else ""] * wanted
        lines.append(line)
    return table(header, lines)


def ratio(row: Mapping[str, Any]) -> str:
    """A ratio with its spread."""
    found = row["ratio"]
    return f"**{found['median']:.2f}** ({found['min']:.2f}–{found['max']:.2f})"


def duration(seconds: float) -> str:
    """Seconds in a fitting unit, three digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
