"""``quickstudy predict``: what new images, texts or sounds are."""

from __future__ import annotations

import csv
import json
import sys
from typing import Any

from quickstudy.classifier.collecting import new_inputs
from quickstudy.classifier.file import load_model
from quickstudy.classifier.hub import downloaded
from quickstudy.classifier.model import Model
from quickstudy.cli.foreign_output import printing_to_stderr
from quickstudy.cli.output import lines_of_input, print_json
from quickstudy.cli.parsing import parsed
from quickstudy.cli.reading import Given
from quickstudy.errors import InputError
from quickstudy.messages import UsageError


def run(given: Given) -> int:
    """Predicts and prints; returns the exit code."""
    options = parsed(given)
    if options.json and options.csv:
        raise UsageError("Give either --json or --csv, not both.")
    if options.keep is not None and not options.reject:
        raise UsageError("--keep sets the share of inputs that --reject keeps; give --reject too.")
    for name, share in (("keep", options.keep), ("coverage", options.coverage)):
        if share is not None and not 0 < share < 1:
            raise UsageError(f"--{name} is {share:g}; it must be between 0 and 1.")

    with printing_to_stderr():
        model = load_model(downloaded(options.file), device=options.device)
        examples = new_inputs(options.inputs, modality(model), lines_of_input())
        if options.unreadable == "skip":
            examples = examples.readable(model.parts.reader)
        keep = options.reject if options.keep is None else options.keep
        rows = answers(model, examples.raw, examples.names, keep, options.coverage)
    if options.json:
        print_json(rows)
    elif options.csv:
        _print_csv(rows)
    else:
        for row in rows:
            others = f"  {{{', '.join(row['set'])}}}" if "set" in row else ""
            print(f"{row['input']}: {_said(row)}{others}")
    return 0


def modality(model: Model) -> str:
    """The modality of what a classifier reads; refused if it is arrays alone (ValueError)."""
    inputs = model.parts.reader.inputs
    if inputs is None or inputs.modality == "features":
        raise InputError("This classifier reads arrays of numbers, so it is for use from Python.")
    return inputs.modality


def answers(
    model: Model, raw: list[Any], names: list[str], keep: bool | float, coverage: float | None
) -> list[dict[str, Any]]:
    """For each input its label (None where rejected), probabilities and set of labels."""
    prepared = model.prepared(raw)
    logits = model.logits(prepared)
    probabilities = model.answers.proba(logits)
    known = model.known(prepared, keep)
    sets = None
    if coverage is not None:
        sets = model.answers.sets(logits, coverage, model.readable(prepared))
    classes = [str(label) for label in model.classes.tolist()]
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        best = int(probabilities[number].argmax())
        row: dict[str, Any] = {
            "input": name,
            "label": classes[best] if known is None or known[number] else None,
            "probability": float(probabilities[number, best]),
            "probabilities": dict(zip(classes, probabilities[number].tolist(), strict=True)),
        }
        if sets is not None:
            row["set"] = [str(label) for label in sets[number]]
        rows.append(row)
    return rows


def _said(row: dict[str, Any]) -> str:
    """The class and how likely it is; of what was rejected, the class that it is nearest to."""
    if row["label"] is not None:
        return f"{row['label']} ({row['probability']:.0%})"
    nearest = max(row["probabilities"], key=row["probabilities"].__getitem__)
    return f"none of the known classes (nearest: {nearest}, {row['probability']:.0%})"


def _print_csv(rows: list[dict[str, Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    with_sets = "set" in rows[0]
    writer.writerow(["input", "label", "probability", *(["set"] if with_sets else [])])
    for row in rows:
        label = "" if row["label"] is None else row["label"]
        rest = [json.dumps(row["set"], ensure_ascii=False)] if with_sets else []
        writer.writerow([row["input"], label, f"{row['probability']:.6f}", *rest])
