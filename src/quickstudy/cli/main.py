"""The command ``quickstudy``: finds the sub-command and reports errors as sentences."""

from __future__ import annotations

import importlib
import os
import select
import sys
import warnings
from collections.abc import Sequence

from quickstudy.cli.help import help_asked_for, usage
from quickstudy.cli.output import (
    complain,
    drop,
    finished,
    is_of_output,
    make_streams_forgiving,
    output_failed,
    show_log,
)
from quickstudy.cli.reading import read
from quickstudy.cli.usage import COMMANDS
from quickstudy.messages import UsageError, did_you_mean, reason
from quickstudy.saving.trust import trusting


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits.

    The exit code is 0 on success, or if the reader of the output stopped reading; 1 after an error,
    2 if the command line is wrong, and 130 after Ctrl-C.
    """
    make_streams_forgiving()
    show_log()
    if not debugging():
        warnings.formatwarning = warning_sentence
    try:
        code = run(list(sys.argv[1:] if arguments is None else arguments))
    except SystemExit as ended:  # of --print-config
        code = ended.code if isinstance(ended.code, int) else 0
    except BaseException as error:
        code = reported(error)
    sys.exit(finished(code))


def run(words: list[str]) -> int:
    """Runs the command that the words name; returns the exit code."""
    first, rest = (words[0], words[1:]) if words else ("help", [])
    if first == "help" and rest:
        first, rest = rest[0], ["--help"]
    if first in ("-h", "--help", "--help-all", "help"):
        print(usage(COMMANDS))
        return 0
    if first in ("-V", "--version"):
        from quickstudy import __version__

        print(f"quickstudy {__version__}")
        return 0
    if first == "--print-completion":
        from quickstudy.cli.completion import completion

        print(completion(COMMANDS, rest))
        return 0
    if first not in COMMANDS:
        hint = did_you_mean(first, COMMANDS)
        raise UsageError(f"there is no command {first!r}.{hint} Commands: {', '.join(COMMANDS)}.")
    given = read(COMMANDS[first], rest)
    with trusting(given.classes):
        if given.help:
            print(help_asked_for(given))
            return 0
        return int(importlib.import_module(f"quickstudy.cli.{first}").run(given))


def debugging() -> bool:
    """Whether errors are shown with their traceback."""
    return bool(os.environ.get("QUICKSTUDY_DEBUG"))


def reported(error: BaseException) -> int:
    """Prints what ended a command, if that is no fault of this package; returns the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return failed("stopped.", code=130)
    if isinstance(error, BrokenPipeError) and output_is_closed():
        drop(sys.stdout)  # the reader has stopped reading, as `| head` does
        return 0
    if debugging():
        raise error
    if isinstance(error, OSError) and is_of_output(error):
        drop(sys.stdout)
        return failed(output_failed(error))
    if isinstance(error, ValueError | OSError | FloatingPointError | ImportError):
        return failed(sentence(error), code=2 if isinstance(error, UsageError) else 1)
    if isinstance(error, MemoryError | RuntimeError) and ran_out_of_memory(error):
        return failed(
            f"memory ran out ({reason(error)}) Fewer tasks or examples at a time "
            "(--tasks-at-once, --queries, --batch-size) or a smaller encoder "
            "need less. A run that has begun goes on from its last checkpoint (--resume)."
        )
    raise error


def sentence(error: Exception) -> str:
    """An error as it is printed; system errors without their number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return str(error)


def output_is_closed() -> bool:
    """Whether nobody reads the standard output any more."""
    if sys.stdout is None or not hasattr(select, "poll"):  # Windows raises another error instead
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def ran_out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory, of the machine or of an accelerator."""
    # PyTorch's own class is not looked up: it need not be imported by now.
    names = {each.__name__ for each in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or "allocate memory" in str(error)


def warning_sentence(message: Warning | str, *_: object, **__: object) -> str:
    """A warning as it is printed, without its line of code."""
    return f"quickstudy: warning: {message}\n"


def failed(message: str, code: int = 1) -> int:
    """Prints an error; returns the exit code."""
    complain(f"quickstudy: {message}")
    return code
