"""Ways to make the package's strategies, which the tests of what all keep to go through."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from quickstudy.encoders import Conv4
from quickstudy.strategies import Strategy

WAYS = 3
SHAPE = (1, 8, 8)
# Everything runs in float64. Reordering examples, tasks or classes changes the order of sums, so
# results differ by rounding alone; inner steps and divisions by small variances may multiply that
# by a thousand or two.
ROUNDING = {"rtol": 1e-9, "atol": 1e-10}


def encoder() -> nn.Module:
    return Conv4(SHAPE, channels=4, blocks=2)


@dataclass(frozen=True)
class Case:
    """One way to make a strategy.

    Args:
        make: makes it, for tasks of ``WAYS`` ways.
        parameters_of_classes: parameters whose rows belong to the classes 0, 1, .. of every task.
            Renaming the classes of a task then means moving these rows too; why a strategy may
            have such parameters is written beside its entry.
        reads_in_order: the order of the support may matter; why is written beside its entry.
        same_rounding: how exact results are, where a solver stops before rounding does.
        frozen: how the names of parameters begin that are not learned.
    """

    make: Callable[[], Strategy]
    parameters_of_classes: tuple[str, ...] = field(default=())
    reads_in_order: bool = False
    same_rounding: dict[str, float] = field(default_factory=lambda: ROUNDING)
    frozen: tuple[str, ...] = ()
