"""What strategies the package has: the source of ``quickstudy strategies`` and of their page."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

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
        name: name of the class.
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


@dataclass(frozen=True)
class Argument:
    """One argument of a strategy's constructor.

    Args:
        name: name of the argument.
        type: its annotation; empty if it has none.
        default: as Python writes it; None where a value must be given.
        help: the sentence about it in the docstring of the class, or of the class it inherits from.
    """

    name: str
    type: str
    default: str | None
    help: str


def documentation(name: str) -> str:
    """A strategy's docstring without its list of arguments: the idea, the equation, the paper."""
    text = inspect.getdoc(getattr(quickstudy.strategies, name)) or ""
    return text.partition("\nArgs:")[0].strip()


def arguments(name: str) -> list[Argument]:
    """The arguments of a strategy's constructor, without the encoder."""
    strategy = getattr(quickstudy.strategies, name)
    helps: dict[str, str] = {}
    for each in reversed(strategy.__mro__):
        helps |= _argument_helps(inspect.cleandoc(each.__doc__ or ""))
    return [
        Argument(
            each.name,
            "" if each.annotation is each.empty else _written(each.annotation),
            None if each.default is each.empty else repr(each.default),
            helps.get(each.name, ""),
        )
        for each in inspect.signature(strategy).parameters.values()
        if each.name != "encoder" and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]


def _written(annotation: Any) -> str:
    """An annotation as the source has it; annotations are strings where they are postponed."""
    is_text = isinstance(annotation, str)
    return str(annotation) if is_text else inspect.formatannotation(annotation)


def _argument_helps(docstring: str) -> dict[str, str]:
    """The texts of a docstring's section "Args", by the arguments' names."""
    section = docstring.partition("\nArgs:\n")[2].partition("\n\n")[0]
    parts = re.split(r"(?m)^ {4}(\**\w+): ", section)[1:]
    return {
        name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)
    }


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
