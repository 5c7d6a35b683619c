"""The command ``quickstudy``: finds the sub-command, and says errors in sentences."""

from __future__ import annotations

import importlib
import os
import re
import select
import sys
import warnings
from collections.abc import Sequence

from quickstudy.cli.output import (
    complain,
    drop,
    finished,
    is_of_output,
    make_streams_forgiving,
    output_failed,
)
from quickstudy.messages import UsageError, did_you_mean, reason
from quickstudy.saving.trust import trusting_what_is_typed

COMMANDS = {
    "demo": "learn to learn letters, and show it on scripts never seen (a few minutes)",
    "learn": "learn classes from a handful of examples of your own, into one file",
    "predict": "say what new images, texts or sounds are",
    "inspect": "show what a classifier's file holds",
    "add": "add examples or a class to a classifier's file",
    "train": "meta-train a strategy over many tasks",
    "evaluate": "measure a trained run on classes it never saw",
    "compare": "train and evaluate several strategies under one budget",
    "sweep": "try many values of a run's parameters, and keep the best",
    "datasets": "list the data sets by name and where they are",
    "strategies": "list the strategies, with their papers",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits.

    The exit code is 0 on success, or if the reader of the output stopped reading; 1 after an error,
    2 if the command line is wrong, and 130 after Ctrl-C.
    """
    make_streams_forgiving()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(with_underscores(words))
    except SystemExit as ended:  # of --help
        code = ended.code if isinstance(ended.code, int) else 0
    sys.exit(finished(code))


def _run(words: list[str]) -> int:
    """Runs a command and reports its errors; returns the exit code."""
    debugging = bool(os.environ.get("QUICKSTUDY_DEBUG"))
    if not debugging:
        warnings.formatwarning = warning_sentence
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(usage())
            return 0
        if words[0] == "--version":
            from quickstudy import __version__

            print(f"quickstudy {__version__}")
            return 0
        if words[0] not in COMMANDS:
            hint = did_you_mean(words[0], COMMANDS)
            raise UsageError(
                f"there is no command {words[0]!r}.{hint} Commands: {', '.join(COMMANDS)}."
            )
        command = importlib.import_module(f"quickstudy.cli.{words[0]}")
        with trusting_what_is_typed(words):
            return int(command.run(words[1:]))
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
            "(--tasks_at_once, --queries, --batch_size) or a smaller encoder "
            "need less. A run that has begun goes on from its last checkpoint (--resume)."
        )
    except KeyboardInterrupt:
        return failed("stopped.", code=130)


def with_underscores(words: Sequence[str]) -> list[str]:
    """The words of a command line with options spelled as the parser expects.

    Dashes in an option's name become underscores. Column names after ``--where.``, values of
    options, and everything after ``--`` are left unchanged.
    """
    until = words.index("--") if "--" in words else len(words)
    return [_with_underscores(word) for word in words[:until]] + list(words[until:])


def _with_underscores(word: str) -> str:
    name, equals, value = word.partition("=")
    if not re.fullmatch(r"--\w[\w.-]*", name) or name.startswith("--where."):
        return word
    return "--" + name[2:].replace("-", "_") + equals + value


def usage() -> str:
    """What ``quickstudy --help`` prints."""
    lines = "\n".join(f"  {name:<10} {help_}" for name, help_ in COMMANDS.items())
    return (
        "usage: quickstudy COMMAND [options]\n\n"
        "Few-shot learning by meta-learning.\n\n"
        f"commands:\n{lines}\n\n"
        "quickstudy COMMAND --help shows a command's options. Commands exit with 0 on success, 1\n"
        "on failure, 2 on wrong usage and 130 after Ctrl-C."
    )


def sentence(error: Exception) -> str:
    """What to print of an error; the system's without their number."""
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
    """What to print of a warning, without the line of code that it came from."""
    return f"quickstudy: warning: {message}\n"


def failed(message: str, code: int = 1) -> int:
    """Prints an error; returns the exit code."""
    complain(f"quickstudy: {message}")
    return code
