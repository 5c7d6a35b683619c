"""The command ``quickstudy``: finds the sub-command, and says errors in sentences."""

from __future__ import annotations

import importlib
import os
import select
import sys
import warnings
from collections.abc import Sequence

from quickstudy.messages import did_you_mean, reason
from quickstudy.trust import trusting_what_is_typed

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
    """Runs a command and exits: 0 if all went well, 1 after an error, 2 for bad arguments."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        sys.exit(0)
    if words[0] == "--version":
        from quickstudy import __version__

        print(f"quickstudy {__version__}")
        sys.exit(0)
    if words[0] not in COMMANDS:
        hint = did_you_mean(words[0], COMMANDS)
        fail(f"there is no command {words[0]!r}.{hint} Commands: {', '.join(COMMANDS)}.", code=2)
    if not os.environ.get("QUICKSTUDY_DEBUG"):
        warnings.formatwarning = warning_sentence
    try:
        command = importlib.import_module(f"quickstudy.cli.{words[0]}")
        with trusting_what_is_typed(words):
            sys.exit(command.run(words[1:]))
    except BrokenPipeError as error:
        if not output_is_closed():
            fail(sentence(error))
        # Whoever read the output has enough of it, as `| head` has.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        if os.environ.get("QUICKSTUDY_DEBUG"):
            raise
        fail(sentence(error))
    except (MemoryError, RuntimeError) as error:
        if os.environ.get("QUICKSTUDY_DEBUG") or not ran_out_of_memory(error):
            raise
        fail(
            f"memory ran out ({reason(error)}) Fewer tasks or examples at a time "
            "(--tasks_at_once, --queries, --batch_size) or a smaller encoder "
            "need less. A run that has begun goes on from its last checkpoint (--resume)."
        )
    except KeyboardInterrupt:
        fail("stopped.", code=130)


def usage() -> str:
    """What ``quickstudy --help`` prints."""
    lines = "\n".join(f"  {name:<10} {help_}" for name, help_ in COMMANDS.items())
    return (
        "usage: quickstudy COMMAND [options]\n\n"
        "Few-shot learning by meta-learning.\n\n"
        f"commands:\n{lines}\n\n"
        "quickstudy COMMAND --help tells a command's options."
    )


def sentence(error: Exception) -> str:
    """What to print of an error; the system's without their number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return str(error)


def output_is_closed() -> bool:
    """Whether nobody reads the standard output any more."""
    if not hasattr(select, "poll"):  # Windows says so by another error
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


def fail(message: str, code: int = 1) -> None:
    """Prints an error and exits."""
    print(f"quickstudy: {message}", file=sys.stderr)
    sys.exit(code)
