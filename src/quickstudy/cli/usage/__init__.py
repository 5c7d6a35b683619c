"""The arguments of every command. Nothing here imports their code, so that help starts at once.

To add a command, declare it in a module here, list it in ``COMMANDS``, and write its function
``run(given: Given) -> int`` in ``quickstudy/cli/NAME.py``, which begins with
``options = parsed(given)`` and returns the exit code.
"""

from __future__ import annotations

from quickstudy.cli.usage.classifiers import (
    ADD,
    INSPECT,
    LEARN,
    PREDICT,
    RELABEL,
    REMOVE,
    UNDO,
)
from quickstudy.cli.usage.evaluation import DEMO, EVALUATE
from quickstudy.cli.usage.listings import DATASETS, STRATEGIES
from quickstudy.cli.usage.several_runs import COMPARE, SWEEP
from quickstudy.cli.usage.training import TRAIN

COMMANDS = {
    command.name: command
    for command in (
        DEMO,
        LEARN,
        PREDICT,
        INSPECT,
        ADD,
        REMOVE,
        RELABEL,
        UNDO,
        TRAIN,
        EVALUATE,
        COMPARE,
        SWEEP,
        DATASETS,
        STRATEGIES,
    )
}
"""The commands in the order in which ``quickstudy --help`` lists them."""
