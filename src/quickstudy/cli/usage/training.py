"""The arguments of the commands that train and evaluate strategies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from quickstudy.cli.command import Command, Group, Option
from quickstudy.cli.usage.shared import COUNT, TRUST, data_options, flag, number, out

STEPS = Option("steps", "training steps", type=int, default=1000, main=True, metavar="N")
PRINT_CONFIG = flag("print_config", "print all options as a configuration and exit", main=False)
CONFIG = Option(
    "config",
    "YAML file of options; those typed override it",
    type=str | list[str] | None,
    main=True,
    metavar="FILE",
    repeated=True,
)

MODEL = Group(
    "model",
    (
        Option(
            "strategy",
            "strategy by name or import path",
            default="PrototypicalNetwork",
            main=True,
            base="strategy",
            metavar="NAME",
        ),
        Option(
            "encoder",
            "encoder by name; by default one that suits the data",
            main=True,
            base="encoder",
            metavar="NAME",
        ),
        Option(
            "start_from",
            "start with the encoder that this run has learned, and with whatever else has the "
            "same name and shape",
            type=str | None,
            metavar="RUN",
        ),
    ),
)

TASKS = Group(
    "training tasks",
    (
        Option(
            "train_split",
            "split of the classes to train on, such as train+validation",
            default="train",
            metavar="NAME",
        ),
        Option(
            "ways",
            "number of classes per task, or a range",
            type=COUNT,
            default=5,
            main=True,
            metavar="N",
        ),
        Option(
            "shots",
            "number of support examples per class, or a range",
            type=COUNT,
            default=1,
            main=True,
            metavar="N",
        ),
        number("queries", "number of query examples per class", 15, main=True),
        number(
            "support_rotations",
            "number of ways in which each task's examples are divided into support and query",
            1,
        ),
        number("tasks", "number of tasks per step (the meta-batch)", 1),
        number(
            "batch_size",
            "number of examples per batch, for strategies that learn from ordinary batches "
            "instead of tasks",
            128,
        ),
        Option(
            "augmentation.degrees",
            "rotate training images by up to this many degrees",
            type=float,
            default=0.0,
        ),
        Option(
            "augmentation.shift",
            "shift training images by up to this fraction of their side",
            type=float,
            default=0.0,
            metavar="FRACTION",
        ),
        Option(
            "augmentation.scale",
            "enlarge or shrink training images by a factor of up to 1 + this",
            type=float,
            default=0.0,
            metavar="X",
        ),
        Option(
            "augmentation.shear",
            "shear training images by up to this slope",
            type=float,
            default=0.0,
            metavar="SLOPE",
        ),
        Option(
            "augmentation.share",
            "fraction of the images that are rotated, shifted, scaled and sheared",
            type=float,
            default=1.0,
            metavar="FRACTION",
        ),
        Option(
            "augmentation.flip",
            "mirror half of the training images left to right",
            type=bool,
            default=False,
        ),
    ),
)

OPTIMIZATION = Group(
    "optimization",
    (
        STEPS,
        Option(
            "max_minutes",
            "stop after this many minutes, even before --steps",
            type=float | None,
            main=True,
            metavar="MINUTES",
        ),
        Option(
            "optimizer",
            "optimizer of φ: adam, adamw, sgd (with Nesterov momentum 0.9), or the import path of "
            "a class",
            default="adam",
            metavar="NAME",
            classes=True,
        ),
        Option(
            "optimizer_options",
            "arguments of the optimizer, as in --optimizer-options.momentum 0.9",
            type=dict[str, Any],
            default={},
            metavar="VALUES",
            free=True,
        ),
        Option(
            "learning_rate",
            "meta-learning rate η",
            type=float,
            default=1e-3,
            main=True,
            metavar="RATE",
        ),
        Option("weight_decay", "L2 penalty", type=float, default=0.0, metavar="X"),
        Option(
            "schedule",
            "how the learning rate falls to 0",
            type=Literal["constant", "cosine", "linear"],
            default="constant",
        ),
        number("warmup_steps", "number of steps over which the learning rate rises", 0),
        Option(
            "clip_norm",
            "shorten gradients to at most this norm",
            type=float | None,
        ),
        Option(
            "ema",
            "keep an exponential moving average of φ with this decay per step, such as 0.999, "
            "and validate and save that",
            type=float | None,
            metavar="DECAY",
        ),
    ),
)

VALIDATION = Group(
    "validation",
    (
        Option(
            "validation_split",
            "split of the classes for meta-validation, if there is one; null for none",
            type=str | None,
            default="validation",
            metavar="NAME",
        ),
        number("validate_every", "number of steps between validations", 250),
        number("validation_episodes", "number of tasks per validation", 200),
        number(
            "validation_ways",
            "number of classes per validation task; by default as in training, but at most 5",
        ),
        number(
            "validation_shots", "number of support examples per class; by default as in training"
        ),
        number(
            "validation_queries",
            "number of query examples per class; by default at most 15",
        ),
        number("patience", "stop after this many validations without improvement"),
    ),
)

MACHINE = Group(
    "run and machine",
    (
        number("seed", "random seed", 0),
        number("log_every", "number of steps between rows of metrics.csv", 50),
        number("checkpoint_every", "number of steps between checkpoints", 250),
        Option(
            "accelerator",
            "where to compute: auto, cpu, cuda, or another that Lightning Fabric knows",
            default="auto",
            metavar="NAME",
        ),
        number("devices", "number of processes on this machine", 1),
        number("nodes", "number of machines", 1),
        Option(
            "precision",
            "floating-point precision; bf16-mixed computes activations in bfloat16",
            type=Literal["32-true", "bf16-mixed"],
            default="32-true",
        ),
        number(
            "tasks_at_once",
            "number of tasks of a step computed side by side, each on one core; by default as "
            "many as cores and memory allow",
        ),
        Option(
            "compiled",
            "compile the strategy with torch.compile, which takes half a minute or more",
            type=bool,
            default=False,
        ),
        Option("show_progress", "show progress", type=bool, default=True),
        TRUST,
    ),
)


def training_groups(*first: Option, main: tuple[str, ...] = ()) -> tuple[Group, ...]:
    """The options of a command, then those of a training run; ``--help`` shows ``main``."""
    groups = (
        Group("command", (*first, CONFIG, PRINT_CONFIG)),
        data_options("glyphs", 0),
        MODEL,
        TASKS,
        OPTIMIZATION,
        VALIDATION,
        MACHINE,
    )
    if not main:
        return groups
    return tuple(
        Group(group.title, tuple(replace(each, main=each.name in main) for each in group.options))
        for group in groups
    )


TRAIN = Command(
    "train",
    "meta-train a strategy over many tasks",
    "Meta-train a strategy over many tasks drawn from the training classes. Ctrl-C saves and "
    "stops; --resume RUN continues. --strategy.ARGUMENT and --encoder.ARGUMENT set arguments of "
    "the two classes, and --strategy.help lists them.",
    groups=training_groups(
        out("run directory; by default runs/STRATEGY-DATA"),
        Option("resume", "run directory to continue", type=str | None, main=True, metavar="RUN"),
    ),
)
