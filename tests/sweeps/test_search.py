"""The search, with objectives made by hand instead of training."""

import random

import pytest

from quickstudy.sweeps.executors import InProcess
from quickstudy.sweeps.halving import Rung, halving_rungs
from quickstudy.sweeps.search import ranked, search
from quickstudy.sweeps.trial import Outcome, Trial


def trials(count):
    return [Trial(number, {"x": number}, f"trials/{number}") for number in range(count)]


class Trained:
    """Training whose accuracy after so many steps a function says; it remembers what was asked."""

    def __init__(self, accuracy):
        self.accuracy = accuracy
        self.calls = []
        self.known = {}

    def train(self, trial):
        self.calls.append((trial.number, trial.until))
        found = Outcome(
            True, trial.until or 100, self.accuracy(trial.number, trial.until), 0.01, 1, 1.0
        )
        self.known[trial.number, trial.until] = found
        return found

    def lookup(self, trial):
        return self.known.get((trial.number, trial.until))

    def search(self, count, rungs, executor=None):
        return search(
            trials(count), rungs, executor or InProcess(), self.train, self.lookup, lambda *_: None
        )


class InAnotherOrder(InProcess):
    """Results come as they are done, which may be in any order."""

    def run(self, function, arguments):
        found = list(super().run(function, arguments))
        random.Random(3).shuffle(found)
        yield from found


def test_without_rungs_every_trial_is_trained_to_its_end():
    trained = Trained(lambda number, until: number / 10)
    states, complete = trained.search(4, [Rung(4, None)])
    assert complete
    assert trained.calls == [(0, None), (1, None), (2, None), (3, None)]
    assert [one.trial.number for one in ranked(states)] == [3, 2, 1, 0]
    assert {one.status for one in states} == {"finished"}


def test_halving_promotes_by_the_rung_and_not_by_the_end():
    # Trials 6, 7, 8 lead at first; 8 falls behind later; 0 would have won, had it not been slow.
    def accuracy(number, until):
        return {1: number / 10, 3: 0.8 if number == 6 else 0.1, 9: 0.85}[until]

    trained = Trained(accuracy)
    states, complete = trained.search(9, halving_rungs(9, 9))
    assert complete
    assert trained.calls == [*((n, 1) for n in range(9)), (6, 3), (7, 3), (8, 3), (6, 9)]
    assert [one.status for one in states] == ["left"] * 6 + ["finished"] + ["left"] * 2
    # By the rung that was reached first: the third of 7 and 8 are above the first of 5.
    assert [one.trial.number for one in ranked(states)] == [6, 7, 8, 5, 4, 3, 2, 1, 0]


def test_the_order_in_which_trials_end_changes_nothing():
    def accuracy(number, until):
        return (number * 7 % 9 // 2) / 10  # with equals

    found = []
    for executor in (InProcess(), InAnotherOrder()):
        states, _ = Trained(accuracy).search(9, halving_rungs(9, 9), executor)
        found.append([(one.trial.number, one.status, one.outcome) for one in ranked(states)])
    assert found[0] == found[1]


def test_a_failed_trial_is_a_row_and_the_others_go_on():
    def accuracy(number, until):
        if number == 2:
            raise FloatingPointError("The loss is not finite.")
        if number == 8 and until == 3:
            raise KeyError("x")
        return number / 10

    states, complete = Trained(accuracy).search(9, halving_rungs(9, 9))
    assert complete
    failed = {one.trial.number: one.error for one in states if one.status == "failed"}
    assert failed == {2: "The loss is not finite.", 8: "KeyError: 'x'"}
    order = [one.trial.number for one in ranked(states)]
    assert order[0] == 7
    assert set(order[-2:]) == {2, 8}


def test_when_all_fail_the_search_ends():
    def accuracy(number, until):
        raise ValueError("No.")

    states, complete = Trained(accuracy).search(9, halving_rungs(9, 9))
    assert complete
    assert {one.status for one in states} == {"failed"}


@pytest.mark.parametrize("stop_after", range(13))
def test_a_stopped_search_goes_on_to_the_same_end(stop_after):
    def accuracy(number, until):
        return (number * 5 % 9) / 10 + (until or 0) / 1000

    whole = Trained(accuracy)
    expected, _ = whole.search(9, halving_rungs(9, 9))
    assert len(whole.calls) == 13

    stopped = Trained(accuracy)

    def interrupted(trial):
        if len(stopped.calls) == stop_after:
            return Outcome(False, 0, None, None, None, 0.0)
        return stopped.train(trial)

    _, complete = search(
        trials(9), halving_rungs(9, 9), InProcess(), interrupted, stopped.lookup, lambda *_: None
    )
    assert not complete
    found, complete = stopped.search(9, halving_rungs(9, 9))
    assert complete
    assert found == expected
    assert stopped.calls == whole.calls  # nothing twice


def test_a_damaged_run_is_a_failed_row():
    trained = Trained(lambda number, until: 0.5)

    def lookup(trial):
        if trial.number == 1:
            raise ValueError("The checkpoint is damaged.")

    told = []
    states, complete = search(
        trials(3), [Rung(3, None)], InProcess(), trained.train, lookup,
        lambda _, changed: told.append(changed.trial.number),
    )  # fmt: skip
    assert complete
    assert states[1].error == "The checkpoint is damaged."
    assert [number for number, _ in trained.calls] == [0, 2]
    assert told == [1, 0, 2]
