"""What strategies the package has: the source of ``quickstudy strategies`` and of their page."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import quickstudy.strategies
from quickstudy.strategies.strategy import Strategy

FAMILIES = {
    "metric": "A query is compared with the support, or with what stands for each class.",
    "gradient": "θ is reached by a few gradient steps from a learned start.",
    "closed_form": "θ is the solution of a small convex problem, through which gradients flow.",
    "amortized": "A network reads the support and gives θ.",
    "recurrent": "A network reads the support step by step: what it remembers is θ, or moves θ.",
    "finetune": "An encoder learned by ordinary classification, and a plain learner on top.",
    "transductive": "All queries of a task are looked at before any of them is answered.",
}


@dataclass(frozen=True)
class Entry:
    """One strategy in a few words.

    Args:
        name: of the class.
        family: its folder.
        summary: its idea in one line.
        paper: authors and year; empty where there is none.
        transductive: "no", "yes" or "if asked".
        regression: whether it learns numbers too.
        trained_on: "tasks", or "batches" of all training classes.
    """

    name: str
    family: str
    summary: str
    paper: str
    transductive: str
    regression: bool
    trained_on: str


def strategies() -> list[Entry]:
    """The strategies of the package, family by family."""
    public = (getattr(quickstudy.strategies, name) for name in quickstudy.strategies.__all__)
    found = [
        _entry(each)
        for each in public
        if inspect.isclass(each) and issubclass(each, Strategy) and not inspect.isabstract(each)
    ]
    order = list(FAMILIES)
    return sorted(found, key=lambda entry: (order.index(entry.family), entry.name))


def _entry(strategy: type[Strategy]) -> Entry:
    asked = "transductive" in inspect.signature(strategy).parameters
    always = "yes" if strategy.transductive else "no"
    return Entry(
        name=strategy.__name__,
        family=strategy.__module__.split(".")[-2],
        summary=(inspect.getdoc(strategy) or "").partition("\n\n")[0].replace("\n", " "),
        paper=strategy.paper,
        transductive="if asked" if asked else always,
        regression=strategy.regression,
        trained_on="tasks" if strategy.episodic else "batches",
    )


def markdown() -> str:
    """The documentation's page of strategies."""
    lines = [
        "# Strategies",
        "",
        "What `quickstudy strategies` lists; this page is written from the classes themselves",
        "(`quickstudy strategies --markdown`). *Transductive*: whether a prediction depends on the",
        "other queries. *Trained on*: tasks, or ordinary batches of all training classes.",
    ]
    entries = strategies()
    for family, idea in FAMILIES.items():
        lines += ["", f"## {family.replace('_', ' ').capitalize()}", "", idea, ""]
        lines += ["| strategy | idea | paper | transductive | regression | trained on |"]
        lines += ["| --- | --- | --- | --- | --- | --- |"]
        for entry in entries:
            if entry.family == family:
                cells = [
                    f"`{entry.name}`",
                    entry.summary,
                    entry.paper or "—",
                    entry.transductive,
                    "yes" if entry.regression else "no",
                    entry.trained_on,
                ]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
