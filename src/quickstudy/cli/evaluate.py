"""``quickstudy evaluate``: measures a run on classes it never saw, or a classifier on files."""

from __future__ import annotations

from pathlib import Path

import torch
from jsonargparse import Namespace

from quickstudy.classifier.collecting import labelled
from quickstudy.classifier.file import SUFFIX, load_model
from quickstudy.classifier.labels import as_typed
from quickstudy.classifier.measuring import measured
from quickstudy.cli.options import (
    WHICH_DATA,
    check_counts,
    choose_part,
    load_split,
    measured_on,
    same_place,
)
from quickstudy.cli.parsing import parsed
from quickstudy.cli.progress import progress_shown
from quickstudy.cli.reading import Given
from quickstudy.cli.tables import as_text, note, show_table
from quickstudy.compute.devices import usable_device
from quickstudy.compute.ranks import check_started, rank
from quickstudy.episodes.defaults import DEFAULT_SHOTS, DEFAULT_WAYS
from quickstudy.evaluation import evaluate
from quickstudy.evaluation.protocol import Protocol
from quickstudy.evaluation.report import as_json
from quickstudy.messages import UsageError
from quickstudy.runs import load
from quickstudy.saving.files import check_writable, write_text_atomically


def run(given: Given) -> int:
    """Evaluates; returns the exit code."""
    options = parsed(given)
    if options.run.endswith(SUFFIX):  # a classifier's file rather than a run
        return _measure(options)
    check_counts(options, episodes=2, ways=1, shots=1, queries=1)
    if options.report and rank() == 0:
        check_writable(Path(options.report))
    trained = load(options.run, options.checkpoint)
    config = trained.config
    if options.data is None or same_place(options.data, config.get("data")):
        # Options that are not given are as in training, so that the test classes are new.
        for name in WHICH_DATA:
            if options[name] is None:
                setattr(options, name, config.get(name))
    if options.data is None:
        raise UsageError(
            f"{options.run} does not say which data it was trained on; name some with --data."
        )
    parts = load_split(options, trained.inputs)
    part = choose_part(parts, options.test_split)
    protocol = Protocol.suited(
        trained.strategy,
        part,
        options.ways,
        options.shots,
        options.queries,
        config.get("ways", DEFAULT_WAYS),
        config.get("shots", DEFAULT_SHOTS),
        options.query_balance,
    )
    report = evaluate(
        trained.to(_place(options.device, options.devices, options.nodes)),
        part,
        ways=protocol.ways,
        shots=protocol.shots,
        queries=protocol.queries,
        episodes=options.episodes,
        seed=options.seed,
        query_balance=options.query_balance,
        progress=True,
    )
    if rank() > 0:
        return 0
    if options.report:
        report.save(options.report)
    facts = {"protocol": report.protocol, **report.to_dict()}
    records = [{"name": name, "value": value} for name, value in facts.items()]
    try:
        show_table(records, json=options.json, whole=facts, table=report.table())
        note(measured_on(part, parts, options.test_split, trained.classes.get("train", [])))
    finally:
        if options.report:
            note(f"Written to {options.report}.")
    return 0


def _measure(options: Namespace) -> int:
    """Measures and prints; returns the exit code."""
    if options.data is None:
        raise UsageError(
            "Name the labelled files to measure the classifier on: --data FOLDER, with one "
            "sub-folder per class, or a table."
        )
    if options.report:
        check_writable(Path(options.report))
    model = load_model(Path(options.run), device=options.device)
    skips = options.unreadable == "skip"
    with progress_shown():
        examples = labelled(
            Path(options.data), options.input_column, options.label_column, skips,
            options.data_split,
        )  # fmt: skip
        if skips:
            examples = examples.readable(model.parts.reader)
        labels = [as_typed(label, model.classes) for label in examples.labels]
        found = measured(model, examples.raw, labels)
    whole = {**found.facts, "classes": found.classes}
    if options.report:
        write_text_atomically(Path(options.report), as_json(whole))
    try:
        if not options.json:
            note("\n".join(f"{name}: {as_text(value)}" for name, value in found.facts.items()))
        show_table(found.classes, json=options.json, whole=whole)
    finally:
        if options.report:
            note(f"Written to {options.report}.")
    return 0


def _place(name: str | None, devices: int, nodes: int) -> torch.device:
    """Where this process computes; starts the others, if there are to be several."""
    if min(devices, nodes) < 1:
        raise UsageError(
            f"{devices} devices on {nodes} nodes were asked for; at least 1 is needed."
        )
    name = name or "cpu"
    if devices * nodes > 1 and ":" in name:
        raise UsageError(
            f"--device {name} is a single one; for {devices} devices say {name.partition(':')[0]}."
        )
    if devices * nodes > 1:
        from quickstudy.compute.launch import launch  # which takes seconds to import

        return launch(name, devices, nodes).device
    check_started(1)
    return usable_device(name)
