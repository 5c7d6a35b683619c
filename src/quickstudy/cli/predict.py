"""``quickstudy predict``: what new images, texts or sounds are."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import Namespace

from quickstudy.classifier.file import load_model
from quickstudy.classifier.hub import downloaded
from quickstudy.classifier.incoming import Incoming, Named, in_groups, incoming
from quickstudy.classifier.model import Model
from quickstudy.cli.lines import lines_as_they_come
from quickstudy.cli.output import complain, printing_to_stderr, say
from quickstudy.cli.parsing import parsed
from quickstudy.cli.progress import progress_shown
from quickstudy.cli.reading import Given
from quickstudy.cli.resuming import form_of, resumed
from quickstudy.cli.rows import Form, Row, Rows
from quickstudy.cli.tables import to_terminal
from quickstudy.datasets.sources.tables import file_digest
from quickstudy.errors import InputError
from quickstudy.messages import UsageError
from quickstudy.progress import listening, report

AT_ONCE = 64
"""Inputs that are answered, and written, at a time."""


def run(given: Given) -> int:
    """Predicts and prints; returns the exit code."""
    options = parsed(given)
    _check(options)

    with printing_to_stderr():
        path = downloaded(options.file)
        model = load_model(path, device=options.device)
        inputs = incoming(options.inputs, modality(model), options.input_column)
    asked = Asked(options.keep, options.coverage, options.unreadable == "skip")
    if options.output is None:
        _print(model, inputs, asked, _form(options))
        return 0
    count = _write(model, inputs, asked, Path(options.output), path)
    say(f"Answered {count} inputs. Written to {options.output}.")
    return 0


@dataclass(frozen=True)
class Asked:
    """The answers to give for each input.

    Args:
        keep: share of the inputs of known classes that are not rejected; None to reject nothing.
        coverage: coverage of the prediction sets; None for no sets.
        skips: whether inputs that cannot be read are left out.
    """

    keep: float | None
    coverage: float | None
    skips: bool

    @property
    def columns(self) -> list[str]:
        """The columns of the answers."""
        nearest = [] if self.keep is None else ["nearest"]
        return ["input", "label", "probability", *nearest, *(["set"] if self.coverage else [])]


def modality(model: Model) -> str:
    """The modality of what a classifier reads; refused if it is arrays alone (InputError)."""
    found = model.parts.reader.modality
    if found == "features":
        raise InputError("This classifier reads arrays of numbers, so it is for use from Python.")
    return found


def answers(model: Model, group: Sequence[Named], asked: Asked) -> tuple[list[Row], int]:
    """For each input its label (None where rejected), probabilities and set of labels.

    Beside these rows, the number of inputs that the encoder cannot read; whoever asks reports it.
    """
    raw = [each for _, each in group]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The encoder cannot read")
        prepared = model.prepared(raw)
    logits = model.logits(prepared)
    probabilities = model.answers.proba(logits)
    known = model.known(prepared, asked.keep)
    readable = model.readable(prepared)
    sets = None
    if asked.coverage is not None:
        sets = model.answers.sets(logits, asked.coverage, readable)
    classes = [str(label) for label in model.classes.tolist()]
    rows: list[Row] = []
    for number, (name, _) in enumerate(group):
        best = int(probabilities[number].argmax())
        row: Row = {
            "input": name,
            "label": classes[best] if known is None or known[number] else None,
            "probability": float(probabilities[number, best]),
            "probabilities": dict(zip(classes, probabilities[number].tolist(), strict=True)),
        }
        if asked.keep is not None:
            row["nearest"] = classes[best]
        if sets is not None:
            row["set"] = [str(label) for label in sets[number].tolist()]
        rows.append(row)
    return rows, int((~readable).sum())


class Answering:
    """Answers groups of inputs, and counts them.

    Args:
        model: which answers.
        asked: about each input.
        total: number of inputs; None if unknown.
    """

    def __init__(self, model: Model, asked: Asked, total: int | None) -> None:
        self.model = model
        self.asked = asked
        self.total = total
        self.seen = self.unread = self.left_out = 0

    def groups(self, inputs: Incoming) -> Iterator[list[Named]]:
        """The inputs in groups that are answered together: all at once by a transductive model."""
        at_most = None if self.model.learner.strategy.transductive else AT_ONCE
        for group in in_groups(inputs.each(lines_as_they_come()), at_most):
            yield group
            self.seen += len(group)
            report("answering", self.seen, self.total or 0)

    def __call__(self, group: list[Named]) -> list[Row]:
        """The rows of a group; of what cannot be read none, or an error that names it."""
        reader = self.model.parts.reader
        with printing_to_stderr(), listening(_nothing):
            if self.asked.skips:
                problems = reader.problems([each for _, each in group], self.seen)
                for problem in problems.values():
                    warnings.warn(f"Left out. {problem}", stacklevel=2)
                self.left_out += len(problems)
                group = [each for number, each in enumerate(group) if number not in problems]
            try:
                rows, unread = answers(self.model, group, self.asked) if group else ([], 0)
            except InputError:
                problems = reader.problems([each for _, each in group], self.seen)
                if modality(self.model) == "text" or not problems:
                    raise
                number, problem = next(iter(problems.items()))
                raise InputError(
                    f"{group[number][0]} cannot be used. {problem} With --unreadable skip such "
                    "inputs are left out."
                ) from None
            self.unread += unread
            return rows

    def finish(self) -> None:
        """Reports what could not be read."""
        if self.left_out and self.left_out == self.seen:
            raise InputError(f"None of the {self.seen} inputs can be read.")
        if self.unread:
            complain(
                f"quickstudy: warning: The encoder cannot read {self.unread} of {self.seen} "
                "inputs. Their probabilities are the classes' shares of the examples, their "
                "prediction sets hold all classes, and with --keep they get no class."
            )
        if not self.seen:
            raise InputError("There is nothing to classify: no inputs were given.")


def _print(model: Model, inputs: Incoming, asked: Asked, form: Form) -> None:
    """Prints the answers as they come."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    rows = Rows(form, asked.columns, ascii=not encoding.lower().startswith("utf"))
    answering = Answering(model, asked, None if to_terminal() else inputs.total())
    with progress_shown(unless=to_terminal()):
        sys.stdout.write(rows.head())
        for group in answering.groups(inputs):
            sys.stdout.write(rows.text(answering(group)))
            sys.stdout.flush()
        answering.finish()
        sys.stdout.write(rows.tail())


def _write(model: Model, inputs: Incoming, asked: Asked, output: Path, classifier: Path) -> int:
    """Writes the answers to a file, without those that are there; returns how many inputs."""
    identity = {
        "classifier": file_digest(classifier),
        "input": inputs.identity(),
        "choice of columns, --keep or --coverage": [asked.columns, asked.keep, asked.coverage],
    }
    answering = Answering(model, asked, inputs.total())
    with progress_shown(), resumed(output, asked.columns, identity, asked.skips) as file:
        for group in answering.groups(inputs):
            done = file.already([name for name, _ in group])
            if done is not None:
                file.write(answering(group)[done:])
        answering.finish()
    return answering.seen - answering.left_out


def _check(options: Namespace) -> None:
    if options.json and options.csv:
        raise UsageError("Give either --json or --csv, not both.")
    if options.output is not None:
        form_of(Path(options.output))
        if options.json or options.csv:
            raise UsageError(
                "--json and --csv are forms of what is printed; with --output the ending of the "
                "file's name says its form (.tsv, .csv or .jsonl)."
            )
    for name, share in (("keep", options.keep), ("coverage", options.coverage)):
        if share is not None and not 0 < share < 1:
            raise UsageError(f"--{name} is {share:g}; it must be between 0 and 1.")


def _form(options: Namespace) -> Form:
    if options.json:
        return "json"
    if options.csv:
        return "csv"
    return "terminal" if to_terminal() else "tsv"


def _nothing(what: str, done: int, total: int) -> None:
    """Progress inside a group is not shown."""
