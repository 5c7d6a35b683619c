"""The command ``quickstudy``: finds the sub-command and reports errors as sentences."""

from __future__ import annotations

import importlib
import os
import select
import sys
import warnings
from collections.abc import Sequence

from quickstudy.cli.log import show_log
from quickstudy.cli.output import (
    complain,
    drop,
    finished,
    is_of_output,
    make_streams_forgiving,
    output_failed,
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
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(words)
    except SystemExit as ended:  # of --help
        code = ended.code if isinstance(ended.code, int) else 0
    sys.exit(finished(code))


def _run(words: list[str]) -> int:
    """Runs a command and reports its errors; returns the exit code."""
    debugging = bool(os.environ.get("QUICKSTUDY_DEBUG"))
    show_log()
    if not debugging:
        warnings.formatwarning = warning_sentence
    try:
        return _command(words)
    except BrokenPipeError as error:
        if not output_is_closed():
            return failed(sentence(error))
        drop(sys.stdout)  # the reader has stopped reading, as `| head` does
        return 0
    except UsageError as error:
        if debugging:
            raise
        return failed(str(error), code=2)
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        if debugging:
            raise
        if isinstance(error, OSError) and is_of_output(error):
            drop(sys.stdout)
            return failed(output_failed(error))
        return failed(sentence(error))
    except (MemoryError, RuntimeError) as error:
        if debugging or not ran_out_of_memory(error):
            raise
        return failed(
            f"memory ran out ({reason(error)}) Fewer tasks or examples at a time "
            "(--tasks-at-once, --queries, --batch-size) or a smaller encoder "
            "need less. A run that has started can be resumed from its last checkpoint (--resume)."
        )
    except KeyboardInterrupt:
        return failed("stopped.", code=130)


def _command(words: list[str]) -> int:
    """Runs the command that the words name; returns the exit code."""
    from quickstudy.cli.help import help_of, usage

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
    if given.help:
        print(help_of(given.command, complete=given.help == "all"))
        return 0
    command = importlib.import_module(f"quickstudy.cli.{first}")
    with trusting(given.naming_classes()):
        return int(command.run(given))


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
