"""Where trials run: in this process, in several, or (``on_ray``) on a Ray cluster.

An executor calls one function for each of several arguments. They differ for the caller only in
``side_by_side``. Functions and arguments must be importable and picklable.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, Protocol, TypeVar

A = TypeVar("A")
R = TypeVar("R")

RETRIES = 3
"""Number of times that a call is restarted when its process dies."""

PLAIN_ERRORS = (ValueError, OSError, FloatingPointError, ImportError)
"""Errors whose text is a sentence for a person."""


class Executor(Protocol):
    """Calls a function for each of several arguments."""

    side_by_side: bool
    """Whether calls run at the same time in separate processes, so that their output would mix."""

    def run(
        self, function: Callable[[A], R], arguments: Sequence[A]
    ) -> Iterator[tuple[int, R | Exception]]:
        """Yields each argument's number with its result or its error, in the order of completion.

        If the iterator is closed or interrupted before its end, running calls are asked to stop
        (SIGTERM), and it waits for them.
        """


class InProcess:
    """One call after another, in this process."""

    side_by_side = False

    def run(
        self, function: Callable[[A], R], arguments: Sequence[A]
    ) -> Iterator[tuple[int, R | Exception]]:
        for number, argument in enumerate(arguments):
            result: R | Exception
            try:
                result = function(argument)
            except Exception as error:
                result = error
            yield number, result


class Processes:
    """Several calls at a time, in processes of this machine that share its cores.

    A call whose process dies is restarted in a new one. The processes end with the one that
    started them, however it ends.

    Args:
        jobs: number of processes.
        retries: number of times that a call is restarted.
    """

    side_by_side = True

    def __init__(self, jobs: int, retries: int = RETRIES) -> None:
        self.jobs = jobs
        self.retries = retries

    def run(
        self, function: Callable[[A], R], arguments: Sequence[A]
    ) -> Iterator[tuple[int, R | Exception]]:
        waiting = deque((number, 0) for number in range(len(arguments)))  # and deaths
        idle: list[_Worker] = []
        busy: dict[Connection, tuple[_Worker, int, int]] = {}
        try:
            with terminable():
                while waiting or busy:
                    while waiting and len(busy) < self.jobs:
                        number, deaths = waiting.popleft()
                        worker = idle.pop() if idle else _Worker(self.jobs)
                        busy[worker.connection] = worker, number, deaths
                        worker.begin(function, arguments[number])
                    for connection in wait(list(busy)):
                        assert isinstance(connection, Connection)
                        worker, number, deaths = busy[connection]
                        result: R | Exception
                        try:
                            result = connection.recv()
                            idle.append(worker)
                        except (EOFError, OSError):
                            code = worker.death()
                            result = lost(f"its process died (exit code {code})", deaths)
                            if deaths < self.retries:
                                waiting.appendleft((number, deaths + 1))
                                del busy[connection]
                                continue
                        del busy[connection]
                        yield number, result
        finally:
            _end(idle, [worker for worker, _, _ in busy.values()])


class _Worker:
    """A process that answers calls, and this side of the pipe to it."""

    def __init__(self, sharing: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        threads = max(1, (os.cpu_count() or 1) // sharing)
        self.process = context.Process(target=_serve, args=(other, threads))
        self.process.start()
        other.close()  # so that the pipe ends with the process

    def begin(self, function: Callable[[A], Any], argument: A) -> None:
        try:
            self.connection.send((function, argument))
        except BrokenPipeError:  # it is dead: so will the pipe say when it is read
            return

    def death(self) -> int | None:
        self.connection.close()
        self.process.join()
        return self.process.exitcode


def _end(idle: list[_Worker], busy: list[_Worker]) -> None:
    """Ends processes: the idle at once, the busy as soon as they have saved."""
    everyone = [*idle, *busy]
    for worker in idle:
        worker.connection.close()
    for worker in busy:
        worker.process.terminate()
    try:
        for worker in busy:
            with suppress(EOFError, OSError):
                worker.connection.recv()  # what it had done when it was asked to stop
            worker.connection.close()
        for worker in everyone:
            worker.process.join()
    except BaseException:  # a second Ctrl-C
        for worker in everyone:
            worker.process.kill()
        raise


def _serve(connection: Connection, threads: int) -> None:
    """Answers calls until the pipe ends."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C reaches the parent only, which passes it on, once
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            function, argument = connection.recv()
            connection.send(answer(function, argument))
        except (EOFError, OSError):
            return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def answer(function: Callable[[A], R], argument: A) -> R | Exception:
    """Calls ``function``; an error becomes a value, of a kind that every process can read."""
    try:
        return function(argument)
    except Exception as error:
        return ValueError(sentence(error))


def sentence(error: Exception) -> str:
    """An error as a sentence; its type is added if the text was not written for users."""
    return str(error) if isinstance(error, PLAIN_ERRORS) else f"{type(error).__name__}: {error}"


def lost(how: str, deaths: int) -> Exception:
    """The error of a call whose process died again and again."""
    return ValueError(
        f"Gave up after {deaths + 1} attempts: {how}. Perhaps memory ran out; fewer jobs at a time "
        "or smaller tasks need less."
    )


@contextmanager
def terminable() -> Iterator[None]:
    """Lets SIGTERM interrupt like Ctrl-C, so that calls in other processes are asked to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
