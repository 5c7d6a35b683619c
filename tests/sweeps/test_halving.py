import pytest

from quickstudy.sweeps.halving import Rung, halving_rungs, promoted


def test_rungs_by_hand():
    assert halving_rungs(9, 900) == [Rung(9, 100), Rung(3, 300), Rung(1, 900)]
    assert halving_rungs(8, 1000, eta=2) == [
        Rung(8, 125),
        Rung(4, 250),
        Rung(2, 500),
        Rung(1, 1000),
    ]
    # 10 / 3 and 10 / 9 rounded down, 100 / 9 and 100 / 3 rounded up.
    assert halving_rungs(10, 100) == [Rung(10, 12), Rung(3, 34), Rung(1, 100)]


def test_fewer_rungs_leave_more_trials_at_the_end():
    assert halving_rungs(9, 900, rungs=2) == [Rung(9, 300), Rung(3, 900)]
    assert halving_rungs(9, 900, rungs=1) == [Rung(9, 900)]
    assert halving_rungs(2, 900) == [Rung(2, 900)]


def test_the_last_rung_is_the_whole_run_and_rungs_cost_about_the_same():
    for trials in (1, 5, 27, 100):
        rungs = halving_rungs(trials, 8100)
        assert rungs[-1].steps == 8100
        assert [rung.steps for rung in rungs] == sorted({rung.steps for rung in rungs})
        costs = [rung.trials * rung.steps for rung in rungs]
        # What rounding to whole trials takes away is less than half.
        assert min(costs) > max(costs) / 2


def test_impossible_rungs():
    with pytest.raises(ValueError, match="eta is 1"):
        halving_rungs(9, 900, eta=1)
    with pytest.raises(ValueError, match="allow 1 to 3"):
        halving_rungs(9, 900, rungs=4)
    with pytest.raises(ValueError, match="allow 1 to 3"):
        halving_rungs(9, 900, rungs=0)
    with pytest.raises(ValueError, match="8 steps cannot be divided into 3 rungs"):
        halving_rungs(9, 8)


def test_the_best_are_promoted_and_equals_in_their_order():
    assert promoted([0.1, 0.9, 0.5, 0.9], 2) == [1, 3]
    assert promoted([0.5, 0.5, 0.5], 2) == [0, 1]
    assert promoted([None, 0.2, None, 0.1], 3) == [1, 3]
    assert promoted([None, None], 1) == []
