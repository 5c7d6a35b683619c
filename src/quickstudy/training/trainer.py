"""Meta-training: the trainer, and the call that makes and runs one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import torch

from quickstudy.datasets import ClassDataset
from quickstudy.deprecated import FORMER_SETTINGS, once_positional, renamed_arguments
from quickstudy.episodes import TaskSource
from quickstudy.errors import InputError
from quickstudy.evaluation.arguments import checked_strategy, classes_or_tasks
from quickstudy.runs.run import Run
from quickstudy.strategies import Strategy
from quickstudy.training.callbacks import Callback
from quickstudy.training.loop import TrainingLoop
from quickstudy.training.settings import Settings, TrainerSettings


@dataclass(kw_only=True)
class Trainer(Settings):
    """Learns a strategy's φ over many tasks.

    A run is a function of its settings and its seed. The tasks of each step are drawn from
    (seed, step), and so are all random numbers of a strategy. Processes share the tasks of a step
    and average their gradients, so their number changes the result by rounding only.

    The metrics of a saved run are in its ``metrics.csv``, and in TensorBoard's events if the extra
    ``quickstudy[tensorboard]`` is installed.

    Args:
        ways: number of classes in a training task, or an inclusive range (low, high). All tasks of
            a step have the same ways and shots, which are drawn for each step from (seed, step).
        shots: number of support examples per class, or an inclusive range (low, high).
        queries: number of query examples per class.
        support_rotations: how many times each training task is used, each time with other examples
            of the task as its support. Examples are encoded once, so that more rotations learn more
            from them at little cost. At most (shots + queries) / shots, when each example has been
            in the support. Only for strategies that work on an encoder's vectors.
        tasks: number of tasks per step (the meta-batch).
        batch_size: number of examples per batch, for strategies that learn from ordinary batches of
            all classes instead of tasks; ``tasks`` is then the number of batches per step.
        steps: number of updates of φ. With 0, the result of ``start_from`` is used unchanged.
        optimizer: "adam", "adamw", "sgd" (with Nesterov momentum 0.9), or any subclass of
            ``torch.optim.Optimizer``, as a class or by its import path.
        optimizer_options: further keyword arguments of the optimizer, such as ``{"momentum": 0}``.
        learning_rate: the meta-learning rate η.
        weight_decay: penalty on large weights: an L2 term for "adam" and "sgd", decoupled from the
            gradient for "adamw".
        schedule: schedule of the learning rate: "constant", "cosine" or "linear" (the latter two
            fall to 0).
        warmup_steps: number of steps in which the learning rate grows to its value.
        clip_norm: gradients with a larger norm are scaled down to this one.
        ema: decay per step of an exponential moving average of φ (such as 0.999, whose memory is
            some thousand steps). The average is then validated, saved and returned.
        augmentation: random changes to the training images, support and query alike.
        precision: "32-true", or "bf16-mixed" (activations in bfloat16).
        tasks_at_once: number of tasks computed side by side, each on its own core; by default as
            many as cores and memory allow, and 1 if the strategy draws random numbers.
        compiled: compile the strategy's forward pass (``torch.compile``). The first step then takes
            half a minute or more; if compilation fails, training continues without it.
        max_minutes: stop after this many minutes if that comes before ``steps``; schedules end at
            the same time. Such a run also depends on the speed of the machine.
        validate_every: number of steps between meta-validations.
        validation_episodes: number of tasks per meta-validation.
        validation_ways: number of classes per validation task; by default as in training (the upper
            end of a range), but at most 5 and at most the number of classes.
        validation_shots: number of support examples per class in validation; by default as in
            training.
        validation_queries: number of query examples per class in validation; by default 15, or as
            many as the smallest class has beside its shots.
        patience: stop after this many validations without improvement; needs validation data.
        log_every: number of steps between rows of the metrics.
        checkpoint_every: number of steps between checkpoints.
        start_from: a run directory or checkpoint; its encoder, and whatever else has the same name
            and shape, initialises this run.
        seed: random seed.
        accelerator: "auto", "cpu", "cuda" or another accelerator known to Lightning Fabric.
        devices: number of processes on this machine.
        nodes: number of machines.
        show_progress: print progress on standard error.
        callbacks: follow the run (see :class:`Callback`); they are not saved with it.

    Example:
        >>> import torch
        >>> from quickstudy import ClassDataset, Trainer
        >>> from quickstudy.encoders import MLP
        >>> from quickstudy.inputs import FeatureInputs
        >>> from quickstudy.strategies import PrototypicalNetwork
        >>> vectors = torch.randn(80, 4, generator=torch.Generator().manual_seed(0))
        >>> data = ClassDataset.from_arrays(vectors, [n % 8 for n in range(80)], FeatureInputs(4))
        >>> trainer = Trainer(ways=3, queries=2, steps=5, accelerator="cpu", show_progress=False)
        >>> run = trainer.fit(PrototypicalNetwork(MLP((4,), [8])), data)
        >>> run.progress["step"]
        5
    """

    callbacks: Sequence[Callback] = field(default=(), repr=False, compare=False)

    @once_positional("out")
    def fit(
        self,
        strategy: Strategy,
        train: ClassDataset | TaskSource,
        validation: ClassDataset | TaskSource | None = None,
        *,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        config: Mapping[str, Any] | None = None,
        until: int | None = None,
    ) -> Run:
        """Meta-trains ``strategy``.

        Ctrl-C (or SIGTERM) finishes the current step, saves the run and returns; a second one stops
        immediately.

        Args:
            strategy: the strategy whose parameters are learned, in place.
            train: the training classes, or a source of tasks: any object with a method
                ``episode(number)`` that always returns the same :class:`Episode` for a number. Its
                attributes ``tasks``, ``ways`` and ``inputs`` are those of the first episode unless
                it states them.
            validation: classes or a source of tasks on which the best checkpoint is chosen and
                early stopping is decided: by accuracy, in regression by minus the mean squared
                error, which then replaces accuracy.
            out: the run directory; without it, nothing is written.
            resume: continue the run in ``out``.
            config: content of ``config.yaml``; by default the strategy and these settings.
            until: stop after this step, validate and save. The run can be resumed: schedules still
                end at ``steps``, so the result is the same as without this stop.

        Returns:
            The run, its strategy with the best φ found, in evaluation mode.

        Raises:
            ValueError: if ``strategy`` or the data are something else, the data are too small for
                the tasks, ``out`` already holds a run, or the run to be resumed had another
                strategy, other settings or other data.
        """
        strategy, train = checked_strategy(strategy), classes_or_tasks(train, "training")
        if validation is not None:
            validation = classes_or_tasks(validation, "validation")
        elif self.patience is not None:
            raise InputError(
                f"patience is {self.patience}, but there are no validation data, which early "
                "stopping needs. Give some, or leave patience out."
            )
        with torch.random.fork_rng(devices=[]):
            loop = TrainingLoop(
                self, strategy, train, validation, out, config, until, tuple(self.callbacks)
            )
            return loop.run(resume)


Trainer.__init__ = renamed_arguments(**FORMER_SETTINGS)(Trainer.__init__)  # type: ignore[method-assign]


@once_positional("out")
def fit(
    strategy: Strategy,
    train: ClassDataset | TaskSource,
    validation: ClassDataset | TaskSource | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    **settings: Unpack[TrainerSettings],
) -> Run:
    """Meta-trains ``strategy``: short for ``Trainer(**settings).fit(strategy, train, ...)``.

    Args:
        strategy: the strategy whose parameters are learned, in place.
        train: the training classes, or a source of tasks.
        validation: classes or a source of tasks on which the best checkpoint is chosen.
        out: the run directory; without it, nothing is written.
        resume: continue the run in ``out``.
        **settings: of :class:`Trainer`, which explains them.

    Returns:
        The run, its strategy with the best φ found, in evaluation mode.

    Raises:
        ValueError: if a setting is wrong, or as :meth:`Trainer.fit`.

    Example:
        >>> import quickstudy
        >>> parts = quickstudy.load_dataset("glyphs").split()
        >>> strategy = quickstudy.strategies.PrototypicalNetwork(
        ...     quickstudy.encoders.Conv4((1, 28, 28), channels=4)
        ... )
        >>> run = quickstudy.fit(strategy, parts["train"], steps=2, show_progress=False)
        >>> [row["step"] for row in run.history]
        [2]
    """
    return Trainer(**settings).fit(strategy, train, validation, out=out, resume=resume)
