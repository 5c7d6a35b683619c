import itertools
import math

import numpy as np
import pytest

from quickstudy.sweeps.space import Range, distinct, draws, grid, read_space

SECTION = {
    "learning_rate": {"log_uniform": ["1e-4", 1e-2]},
    "strategy.init_args.inner_steps": {"integers": [1, 5]},
    "clip_norm": {"uniform": [0.5, 2]},
    "strategy": ["PrototypicalNetwork", "MAML"],
}


def first(count, section=SECTION, seed=0):
    return list(itertools.islice(draws(read_space(section), seed), count))


def test_names_and_numbers_are_read_as_people_write_them():
    space = read_space(SECTION | {"weight_decay": ["1e-4", "0", 0.1]})
    assert space["learning_rate"] == Range("log_uniform", 1e-4, 1e-2)
    assert "strategy.inner_steps" in space
    assert space["weight_decay"] == (1e-4, 0, 0.1)
    assert isinstance(space["weight_decay"][1], int)


def test_a_grid_changes_the_last_parameter_fastest():
    found = list(grid(read_space({"shots": [1, 5], "strategy": ["A", "B", "C"]})))
    expected = [(1, "A"), (1, "B"), (1, "C"), (5, "A"), (5, "B"), (5, "C")]
    assert [(values["shots"], values["strategy"]) for values in found] == expected


def test_a_grid_of_a_range_or_without_end_is_refused():
    with pytest.raises(ValueError, match="learning_rate has a range"):
        grid(read_space(SECTION))
    with pytest.raises(ValueError, match="1000000 combinations"):
        grid(read_space({name: list(range(100)) for name in "abc"}))


def test_draws_are_a_function_of_seed_and_number():
    assert first(20) == first(40)[:20]
    assert first(20) != first(20, seed=1)


def test_draws_stay_in_their_ranges_and_reach_all_of_them():
    found = first(2000)
    rates = np.array([values["learning_rate"] for values in found])
    assert rates.min() >= 1e-4
    assert rates.max() <= 1e-2
    # Half of a log-uniform range lies below its geometric mean; 2000 draws, 5 standard errors.
    assert abs((rates < 1e-3).mean() - 0.5) < 5 * 0.5 / math.sqrt(2000)
    assert {values["strategy.inner_steps"] for values in found} == {1, 2, 3, 4, 5}
    norms = np.array([values["clip_norm"] for values in found])
    assert norms.min() >= 0.5
    assert norms.max() <= 2
    assert abs(norms.mean() - 1.25) < 5 * 1.5 / math.sqrt(12 * 2000)
    assert {values["strategy"] for values in found} == {"PrototypicalNetwork", "MAML"}


def without_inner_steps(values):
    if values["strategy"] == "MAML":
        return values
    return {"strategy": values["strategy"]}


def test_what_has_no_meaning_for_a_trial_makes_no_second_one():
    space = read_space({"strategy": ["PrototypicalNetwork", "MAML"], "inner_steps": [1, 5]})
    assert distinct(grid(space), without_inner_steps, None) == [
        {"strategy": "PrototypicalNetwork"},
        {"strategy": "MAML", "inner_steps": 1},
        {"strategy": "MAML", "inner_steps": 5},
    ]


def test_random_trials_differ_and_end_when_there_are_no_more():
    space = read_space({"shots": [1, 2, 3]})
    few = distinct(draws(space, 0), dict, 2)
    assert len(few) == 2
    assert few[0] != few[1]
    all_there_are = distinct(draws(space, 0), dict, 50)
    assert all_there_are[:2] == few
    assert sorted(values["shots"] for values in all_there_are) == [1, 2, 3]


@pytest.mark.parametrize(
    "entry",
    [
        [],
        3,
        "MAML",
        {"log_uniform": [0, 1]},
        {"uniform": [2, 1]},
        {"uniform": [1]},
        {"integers": [1, 2.5]},
        {"normal": [0, 1]},
        {"uniform": [True, 2]},
        {"uniform": [0, "nan"]},
    ],
)
def test_what_is_no_list_or_range_is_refused_by_name(entry):
    with pytest.raises(ValueError, match="shots"):
        read_space({"shots": entry})


def test_nothing_to_vary_and_the_same_twice():
    with pytest.raises(ValueError, match="varies nothing"):
        read_space({})
    with pytest.raises(ValueError, match=r"strategy\.inner_steps twice"):
        read_space({"strategy.init_args.inner_steps": [1], "strategy.inner_steps": [2]})
