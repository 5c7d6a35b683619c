"""Intervals and files of reports: what the numbers mean, and that none is lost."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from quickstudy.encoders import MLP
from quickstudy.evaluation import Estimate, Report, evaluate
from quickstudy.evaluation.outcomes import mean_and_interval, students_t
from quickstudy.evaluation.report import as_json
from quickstudy.strategies import NearestNeighbor, PrototypicalNetwork
from quickstudy.training import Trainer

from .. import builders


def vectors():
    return builders.vectors(classes=8, spread=0.6)


def measured(**protocol):
    return evaluate(NearestNeighbor(nn.Identity()), vectors(), **{"queries": 5} | protocol)


@pytest.mark.parametrize("count", [2, 3, 10, 1000])
def test_the_interval_is_students(count):
    values = torch.rand(count, generator=torch.Generator().manual_seed(count))
    mean, half = mean_and_interval(values)
    low, high = stats.t.interval(
        0.95, count - 1, loc=values.double().mean(), scale=stats.sem(values.double())
    )
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-9)


def test_quantiles_of_a_table_of_students_distribution():
    assert [round(students_t(n), 3) for n in (1, 2, 9, 30)] == [12.706, 4.303, 2.262, 2.042]
    assert students_t(10**6) == pytest.approx(1.96, abs=1e-4)


def test_the_interval_of_one_value_and_of_equal_values():
    assert mean_and_interval(torch.tensor([0.25])) == (0.25, pytest.approx(math.nan, nan_ok=True))
    for constant in (0.0, 0.1, 1.0):
        assert mean_and_interval(torch.full((7,), constant))[1] == pytest.approx(0, abs=1e-15)
    assert math.isnan(mean_and_interval(torch.tensor([0.1, math.nan, 0.2]))[1])


def test_the_interval_of_three_values_covers_the_truth_95_times_of_100():
    """With 1.96 instead of t it would cover 80 %."""
    draws = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    covered = [abs(mean) <= half for mean, half in map(mean_and_interval, draws)]
    # The share of 4000 such trials is within 0.014 of 0.95 but for one time in 16,000.
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.014)


@pytest.mark.parametrize("episodes", [2, 5])
def test_the_interval_of_few_episodes_is_students(episodes):
    report = measured(episodes=episodes, seed=3)
    each = report.accuracies.double().numpy()
    assert each.std() > 0, "choose another seed"
    right = stats.t.ppf(0.975, episodes - 1) * stats.sem(each)
    assert report.accuracy.ci95 == pytest.approx(right, rel=1e-9)


def test_the_interval_of_few_validation_episodes_is_students(tmp_path, monkeypatch):
    from quickstudy.training import loop

    seen = []

    def noted(values):
        seen.append(values)
        return mean_and_interval(values)

    monkeypatch.setattr(loop, "mean_and_interval", noted)
    strategy = PrototypicalNetwork(MLP((16,), [4]))
    trainer = Trainer(
        steps=1, tasks=1, queries=5, validate_every=1, validation_episodes=3, show_progress=False
    )
    run = trainer.fit(strategy, vectors(), vectors(), out=tmp_path)
    rows = [row for row in run.history if row["validation_accuracy"] is not None]
    assert rows
    for row, values in zip(rows, seen, strict=True):
        right = stats.t.ppf(0.975, 2) * stats.sem(values.double())
        assert row["validation_ci95"] == pytest.approx(right, rel=1e-6)


def test_a_saved_report_keeps_the_accuracy_of_each_episode(tmp_path):
    report = measured(episodes=40)
    assert len(report.accuracies.unique()) > 3
    report.save(tmp_path / "report.json")
    kept = Report.load(tmp_path / "report.json")
    assert kept == report
    assert torch.equal(kept.accuracies, report.accuracies)
    assert kept.accuracies.dtype == torch.float32
    # One line holds them, so that a person still finds the rest.
    lines = (tmp_path / "report.json").read_text().splitlines()
    assert len(lines) < 30
    assert sum("accuracies" in line for line in lines) == 1


def test_any_accuracies_come_back_to_the_bit(tmp_path):
    generator = torch.Generator().manual_seed(0)
    each = torch.cat([torch.rand(2000, generator=generator), torch.tensor([0.0, 1.0, 1 / 3, 1e-7])])
    replace(measured(episodes=2), accuracies=each).save(tmp_path / "report.json")
    assert torch.equal(Report.load(tmp_path / "report.json").accuracies, each)


@pytest.mark.parametrize(
    "protocol",
    [{"ways": (2, 5), "shots": (1, 3)}, {"query_balance": "dirichlet"}, {"queries": 1}],
)
def test_reports_of_tasks_of_unequal_sizes_come_back_as_they_were(protocol, tmp_path):
    report = measured(episodes=12, **protocol)
    report.save(tmp_path / "report.json")
    kept = Report.load(tmp_path / "report.json")
    assert kept == report
    assert torch.equal(kept.accuracies, report.accuracies)
    assert kept.protocol == report.protocol


def test_numbers_of_numpy_and_lists_for_ranges_are_the_same_report(tmp_path):
    report = measured(episodes=4, ways=(2, 4), seed=3)
    other = replace(report, ways=[2, np.int64(4)], shots=np.int32(1), seed=np.int64(3))
    assert other == report
    other.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report
    assert other.protocol == "2-4-way 1-shot"


def test_two_saved_reports_are_compared_episode_by_episode(tmp_path):
    for name, queries in (("a", 5), ("b", 5)):
        measured(episodes=10, queries=queries).save(tmp_path / name)
    first, second = (Report.load(tmp_path / name) for name in "ab")
    assert mean_and_interval(first.accuracies - second.accuracies) == (0.0, 0.0)


def test_files_of_before_have_no_accuracies_and_are_read(tmp_path):
    report = measured(episodes=5)
    (tmp_path / "report.json").write_text(json.dumps(report.to_dict(), indent=2))
    kept = Report.load(tmp_path / "report.json")
    assert kept == report
    assert kept.accuracies is None
    kept.save(tmp_path / "again.json")
    assert Report.load(tmp_path / "again.json") == report


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"accuracy": 0.5}', "3", '{"accuracies": ["a"]}']
)
def test_a_file_that_holds_no_report_is_refused_in_a_sentence(text, tmp_path):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ValueError, match=r"other\.json is not a report as quickstudy saves them"):
        Report.load(tmp_path / "other.json")
    with pytest.raises(ValueError, match="is not a report as quickstudy saves them"):
        Report.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        Report.load(tmp_path / "none.json")


def test_a_report_says_what_its_interval_covers():
    words = " ".join(str(measured(episodes=4)).replace("│", " ").split())
    assert "95 % confidence, for other tasks of the same classes" in words
    assert str(Estimate(0.5, 0.01)) == "50.00% ± 1.00%"
    assert str(Estimate(0.5, math.nan)) == "50.00%"  # of a single episode


def test_lists_of_numbers_take_one_line_and_texts_stay_as_they_are():
    values = {"each": [0.5, 1, None], "names": ["[\n 1 ]", "b"], "in": [{"ways": [2, 5]}, []]}
    text = as_json(values)
    assert json.loads(text) == values
    assert '"each": [0.5, 1, null]' in text
    assert '"ways": [2, 5]' in text
