"""Trials as tasks of a Ray cluster."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from quickstudy.errors import InputError
from quickstudy.sweeps.executors import RETRIES, answer, lost, terminable

A = TypeVar("A")
R = TypeVar("R")

PASSED_ON = ("QUICKSTUDY_", "HF_")
"""Prefixes of the environment variables that are passed on to tasks."""

STORE_BYTES = 128 * 2**20
"""Size of a local Ray's object store, which holds only settings and scores; runs are files."""

SECONDS_TO_CONNECT = 5
SECONDS_TO_STOP = 60


class OnRay:
    """Runs each call as a Ray task, restarted on another worker if its own dies.

    Calls read and write files by their paths on this machine, so the files must be on shared
    storage with the same paths on all workers.

    Args:
        address: "local" for a temporary Ray on this machine, "auto" for the cluster of this
            machine, or a cluster's HOST:PORT. An existing connection of this process is reused.
        cpus: number of CPUs, and of threads, per task.
        gpus: number of GPUs per task, or a fraction of one.
        retries: number of times that a call is restarted.

    Raises:
        ImportError: when Ray is not installed.
        ValueError: if the address is invalid or nothing answers there.
    """

    side_by_side = True

    def __init__(
        self, address: str, cpus: float = 1, gpus: float = 0, retries: int = RETRIES
    ) -> None:
        self.ray = _import()
        if address not in ("auto", "local") and not self.ray.is_initialized():
            _check_address(address)
        self.address = address
        self.cpus = cpus
        self.gpus = gpus
        self.retries = retries

    def run(
        self, function: Callable[[A], R], arguments: Sequence[A]
    ) -> Iterator[tuple[int, R | Exception]]:
        if not arguments:
            return
        ray = self.ray
        ours = not ray.is_initialized()
        if ours:
            _connect(ray, self.address)
        numbers: dict[Any, int] = {}
        try:
            self._check_resources()
            task = ray.remote(answer).options(
                num_cpus=self.cpus,
                num_gpus=self.gpus,
                max_retries=self.retries,
                runtime_env={"env_vars": _environment()},
            )
            numbers = {task.remote(function, each): number for number, each in enumerate(arguments)}
            with terminable():
                while numbers:
                    (done,), _ = ray.wait(list(numbers), num_returns=1)
                    result: R | Exception
                    try:
                        result = ray.get(done)
                    except ray.exceptions.RayError as error:
                        first = str(error).strip().partition("\n")[0]
                        result = lost(f"its worker died ({first})", self.retries)
                    yield numbers.pop(done), result
        finally:
            for unfinished in numbers:
                ray.cancel(unfinished)  # as Ctrl-C: training saves and stops
            if numbers:
                ray.wait(list(numbers), num_returns=len(numbers), timeout=SECONDS_TO_STOP)
            if ours:
                ray.shutdown()

    def _check_resources(self) -> None:
        """Refuses requests that would wait for ever."""
        there = self.ray.cluster_resources()
        for kind, asked in (("CPU", self.cpus), ("GPU", self.gpus)):
            if asked > there.get(kind, 0):
                raise InputError(
                    f"A trial asks for {asked:g} {kind}s, and the Ray cluster has "
                    f"{there.get(kind, 0):g} in all. Ask for fewer (--cpus, --gpus)."
                )


def _import() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "Running on Ray needs the package ray, which is not installed: "
            "pip install 'quickstudy[ray]'."
        ) from error
    return ray


def _connect(ray: Any, address: str) -> None:
    """Connects to a cluster, or starts a local one.

    Raises:
        ValueError: if the address is invalid or nothing answers there.
    """
    quietly: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address == "local":
        quietly |= {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    try:
        ray.init(address=address, **quietly)
    except Exception as error:  # Ray raises Exception itself for a node that starts too slowly
        hint = " Start one with `ray start --head`, or use --ray local." * (address == "auto")
        raise InputError(f"Ray cannot be reached at {address!r}: {error}{hint}") from error


def _check_address(address: str) -> None:
    """Refuses an unreachable address at once; Ray itself would retry for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise InputError(
            f"{address!r} is no address of a Ray cluster; expected auto, local, or HOST:PORT as in "
            "10.0.0.7:6379."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"Ray cannot be reached at {address!r}: {error}. Is the cluster running, and may this "
            "machine connect to it?"
        ) from error


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
