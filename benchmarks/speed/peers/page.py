"""The page docs/performance.md, written from what benchmarks/speed/performance.py stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.common.pages import Pages, table
from benchmarks.speed.peers.plots import plot_growth

PAGE = "docs/performance.md"
PLOT = "images/performance-growth.svg"


def write_page(stored: Mapping[str, Any], pages: Pages) -> None:
    """Writes the tables of the page and its picture from what was stored."""
    parts = {name: part for name, part in stored.items() if name in SECTIONS}
    if "growth" in parts:
        pages.draw(f"docs/{PLOT}", plot_growth(parts["growth"]["found"]))
    pages.splice(PAGE, "setting", setting(parts), losses(parts))
    for name, part in parts.items():
        *tables, last = SECTIONS[name](part["found"])
        for number, each in enumerate(tables):
            pages.splice(PAGE, f"{name}-{number}", each)
        pages.splice(PAGE, name, last, footer(part))


def setting(stored: Mapping[str, Any]) -> str:
    """Machine and versions."""
    machines = sorted({part["machine"] for part in stored.values()})
    versions = {name: v for part in stored.values() for name, v in part["versions"].items()}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Machine: {'; '.join(machines)}. Versions: {listed}."


def footer(part: Mapping[str, Any]) -> str:
    """When and how a part was measured."""
    quick = ", quick" if part["quick"] else ""
    return (
        f"<sub>{part['date']}, {part['rounds']} rounds{quick}, {part['threads']} threads, "
        f"{part['minutes']:.1f} minutes; load of the machine before: {part['load_before']}</sub>"
    )


def losses(stored: Mapping[str, Any]) -> str:
    """Lists each race that another contestant won."""
    lines = []
    for title, rows in races(stored):
        for row in rows:
            others = not row["name"].startswith(("quickstudy", "its convolutions"))
            if others and "ratio" in row and row["ratio"]["median"] < 1 and not row.get("void"):
                lines.append(f"- {title}: {row['name']}, {ratio(row)} of quickstudy's time.")
    if not lines:
        return "No other contestant was faster than quickstudy (the first row of each table)."
    return "Others were faster than quickstudy (the first row of a table) here:\n\n" + "\n".join(
        lines
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
    return ["\n\n".join(f"### {race['title']}\n\n{contest(race['rows'])}" for race in found)]


def memory(found: Any) -> list[str]:
    """The section on memory."""
    sizes = list(found[0]["grown_mib"])
    rows = [[r["name"], *(f"{r['grown_mib'][size]:.0f} MiB" for size in sizes)] for r in found]
    return [table(["", *(f"{size} tasks" for size in sizes)], rows)]


def prototypes(found: Any) -> list[str]:
    """The section on the prototypical network."""
    return [contest(found)]


def evaluation(found: Any) -> list[str]:
    """The section on evaluation."""
    return [contest(found, "episodes")]


def sampler(found: Any) -> list[str]:
    """The section on the sampler."""
    return [contest(found, "tasks")]


def startup(found: Any) -> list[str]:
    """The section on starting."""
    rows = [[f"`{row['name']}`", duration(row["median_seconds"]), ratio(row)] for row in found]
    return [table(["", "time", "ratio"], rows)]


def classifier(found: Any) -> list[str]:
    """The section on the classifier."""
    rows = [[row["name"], duration(row["median_seconds"])] for row in found]
    return [table(["", "time"], rows)]


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
    return [table(["", "what grows", "arithmetic", "time", "memory", "measured"], rows)]


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
    steps = table(["", "total", *kinds, "the largest of the rest"], rows)
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
    return [steps, table(["", "per step", *kinds, "total waiting"], rows)]


SECTIONS: dict[str, Callable[[Any], list[str]]] = {
    each.__name__: each
    for each in (
        maml, memory, prototypes, evaluation, sampler, startup, classifier, growth, profile
    )
}  # fmt: skip
"""For each part the blocks that the page shows."""


def contest(rows: Sequence[Mapping[str, Any]], unit: str | None = None) -> str:
    """The table of a race; with ``unit``, also how many of it per second."""
    checked = any("loss_difference" in row for row in rows)
    gradients = any("gradient_difference" in row for row in rows)
    header = ["", "time", *[f"{unit} per second"] * bool(unit), "ratio (least–largest)"]
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
