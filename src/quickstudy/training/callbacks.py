"""Calls from the training loop to whoever follows a run."""

from __future__ import annotations

from collections.abc import Mapping

Values = Mapping[str, float | None]
"""Measurements by name; None where something does not apply, such as accuracy in regression."""


class Callback:
    """Follows a training run; override the methods of interest.

    Callbacks receive plain numbers only, so they cannot change what is learned, and they are not
    recorded with the run. They run in the process of rank 0. An exception raised by one ends the
    run after its state was saved, and then reaches the caller of ``fit``.

    Example:
        >>> class Printer(Callback):
        ...     def on_validation(self, step, values):
        ...         print(step, f"{values['validation_accuracy']:.0%}")
        >>> Printer().on_validation(250, {"validation_accuracy": 0.97})
        250 97%
    """

    def on_step(self, step: int, values: Values) -> None:
        """Called after every update of φ.

        Args:
            step: the number of updates so far.
            values: ``loss``, ``accuracy`` (of the step's tasks), ``learning_rate``, ``seconds``.
        """

    def on_validation(self, step: int, values: Values) -> None:
        """Called after every meta-validation.

        Args:
            step: the number of updates so far.
            values: the row of ``metrics.csv``: among others ``validation_accuracy`` (in regression
                minus the mean squared error) and ``validation_ci95``.
        """

    def on_end(self, step: int, values: Values) -> None:
        """Called once, when the run ends or is interrupted, after everything has been saved.

        Args:
            step: the number of updates so far.
            values: ``best_accuracy``, ``best_step``, ``seconds`` and ``finished`` (0 or 1).
        """
