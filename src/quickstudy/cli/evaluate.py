"""``quickstudy evaluate``: measure a run on classes it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from quickstudy.cli.options import (
    WHICH_DATA,
    add_data_options,
    check_counts,
    choose_part,
    load_split,
    measured_on,
    same_place,
)
from quickstudy.cli.output import say, show
from quickstudy.cli.parsing import add_trust, new_parser, parse
from quickstudy.compute.devices import usable_device
from quickstudy.compute.ranks import check_started, rank
from quickstudy.episodes.defaults import DEFAULT_SHOTS, DEFAULT_WAYS
from quickstudy.episodes.sampler import QueryBalance
from quickstudy.evaluation import evaluate
from quickstudy.evaluation.protocol import Protocol
from quickstudy.messages import UsageError
from quickstudy.runs import load
from quickstudy.saving.files import check_writable


def run(words: Sequence[str]) -> int:
    """Evaluates; returns the exit code."""
    parser = new_parser(
        "evaluate",
        "Measure a trained run on tasks of classes that it never saw: accuracy with "
        "its 95 % confidence interval, likelihood, calibration, time.",
    )
    parser.add_argument("run", type=str, help="a run directory or a checkpoint file")
    add_data_options(parser, data=None, split_seed=None)
    parser.add_argument(
        "--part", type=str, default="test", help='of the split, e.g. "test", or "all"'
    )
    parser.add_argument(
        "--ways",
        type=int | tuple[int, int] | None,
        help=(
            "classes per task, or a range such as [5,20]; by default as in training, but at most 5 "
            "and at most as many as there are"
        ),
    )
    parser.add_argument("--shots", type=int | tuple[int, int] | None, help="as trained by default")
    parser.add_argument(
        "--queries",
        type=int | None,
        help="query examples per class; by default 15, or fewer if a class has too few examples",
    )
    parser.add_argument(
        "--query_balance",
        type=QueryBalance,
        default="balanced",
        help="balanced, or dirichlet: as many queries a task, unequally many a class (α = 2)",
    )
    parser.add_argument("--episodes", type=int, default=1000, help="tasks")
    parser.add_argument("--seed", type=int, default=0, help="of the tasks")
    parser.add_argument(
        "--checkpoint", type=Literal["best", "last"], default="best", help="best or last"
    )
    parser.add_argument("--device", type=str | None, help="where to compute, e.g. cuda")
    parser.add_argument("--devices", type=int, default=1, help="processes that share the tasks")
    parser.add_argument("--nodes", type=int, default=1, help="machines; start it with torchrun")
    add_trust(parser)
    parser.add_argument("--json", type=str | None, help="also write the report to this file")
    options = parse(parser, words)

    check_counts(options, episodes=2, ways=1, shots=1, queries=1)
    if options.json and rank() == 0:
        check_writable(Path(options.json))
    trained = load(options.run, options.checkpoint)
    config = trained.config
    if options.data is None or same_place(options.data, config.get("data")):
        # What is not said is as it was in training, so that the test classes are new.
        for name in WHICH_DATA:
            if options[name] is None:
                setattr(options, name, config.get(name))
    if options.data is None:
        raise UsageError(
            f"{options.run} does not say which data it was trained on; name some with --data."
        )
    parts = load_split(options, trained.inputs)
    part = choose_part(parts, options.part)
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
    if options.json:
        report.save(options.json)
    try:
        show(report.table())
        print(measured_on(part, parts, options.part, trained.classes.get("train", [])))
    finally:
        if options.json:
            say(f"Written to {options.json}.")
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
