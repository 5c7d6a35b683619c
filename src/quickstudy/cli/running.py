"""Shared by commands that train several runs: how many at a time, and where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from jsonargparse import Namespace

from quickstudy.errors import InputError
from quickstudy.messages import UsageError
from quickstudy.sweeps.executors import Executor, InProcess, Processes


def executor(options: Namespace) -> Executor:
    """Where the options say that runs are trained.

    Raises:
        UsageError: when they contradict each other or are out of range.
        ImportError: when Ray is asked for and not installed.
    """
    if options.jobs < 1 or options.cpus < 0 or options.gpus < 0:
        raise UsageError(
            f"--jobs {options.jobs}, --cpus {options.cpus:g}, --gpus {options.gpus:g}: at least "
            "one job is needed, and neither CPUs nor GPUs can be fewer than none."
        )
    if options.ray is None:
        return InProcess() if options.jobs == 1 else Processes(options.jobs)
    if options.jobs != 1:
        raise UsageError(
            "Say --jobs to train on this machine or --ray to train on Ray, not both: on Ray as "
            "many runs train at a time as its CPUs and GPUs allow (--cpus and --gpus of each)."
        )
    from quickstudy.sweeps.on_ray import OnRay

    return OnRay(options.ray, options.cpus, options.gpus)


def alone(options: Namespace, command: str, whose: str = "contenders") -> None:
    """Refuses runs of several processes each."""
    if options.devices * options.nodes > 1:
        raise UsageError(
            f"{command} trains with one process. Train {whose} on several devices with "
            "`quickstudy train`, then evaluate them."
        )


def check_storage(out: Path) -> None:
    """Refuses, on a worker, a run directory that whoever started it would not see."""
    if not out.parent.is_dir():
        raise InputError(
            f"There is no folder {out.parent} on this worker. Runs must lie on storage that all "
            "workers share, at the same place: choose such a folder (--out)."
        )


@contextmanager
def output_to(path: Path | None) -> Iterator[None]:
    """Appends printed output to a file, or prints it if there is none."""
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        yield
