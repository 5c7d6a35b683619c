"""``quickstudy evaluate``: measure a run on classes it never saw."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jsonargparse import ArgumentParser
from rich.console import Console

from quickstudy.cli.options import add_data_options, choose_part, load_split, parse
from quickstudy.evaluation import evaluate
from quickstudy.training import load


def run(words: Sequence[str]) -> int:
    """Evaluates; returns the exit code."""
    parser = ArgumentParser(
        prog="quickstudy evaluate",
        description="Measure a trained run on tasks of classes that it never saw: accuracy with "
        "its 95 % confidence interval, likelihood, calibration, time.",
    )
    parser.add_argument("run", type=str, help="a run directory or a checkpoint file")
    add_data_options(parser, default=None)
    parser.add_argument("--part", type=str, default="test", help='of the split, e.g. "test"')
    parser.add_argument(
        "--ways",
        type=int | tuple[int, int] | None,
        help="classes a task; as trained, at most 5, by default",
    )
    parser.add_argument("--shots", type=int | tuple[int, int] | None, help="as trained by default")
    parser.add_argument("--queries", type=int, default=15, help="query examples a class")
    parser.add_argument("--episodes", type=int, default=1000, help="tasks")
    parser.add_argument("--seed", type=int, default=0, help="of the tasks")
    parser.add_argument("--checkpoint", type=str, default="best", help="best or last")
    parser.add_argument("--device", type=str | None, help="where to compute, e.g. cuda")
    parser.add_argument("--json", type=str | None, help="also write the report to this file")
    options = parse(parser, words)

    trained = load(options.run, options.checkpoint)
    trained_here = options.data is None
    for name in ("data", "split", "rotations", "split_seed") if trained_here else ():
        setattr(options, name, trained.config.get(name, options[name]))
    if options.data is None:
        raise ValueError(
            f"{options.run} does not say which data it was trained on; name some with --data."
        )
    if options.split is None and options.data == trained.config.get("data"):
        options.split = trained.config.get("split")
    ways = options.ways or min(trained.config.get("ways", 5), 5)
    shots = options.shots or trained.config.get("shots", 1)
    part = choose_part(load_split(options, trained.inputs), options.part)
    report = evaluate(
        trained.to(torch.device(options.device)) if options.device else trained,
        part,
        ways=ways,
        shots=shots,
        queries=options.queries,
        episodes=options.episodes,
        seed=options.seed,
        progress=True,
    )
    Console().print(report.table())
    if options.json:
        report.save(options.json)
        print(f"Written to {options.json}.")
    return 0
