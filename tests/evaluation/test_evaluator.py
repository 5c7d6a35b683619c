import json
import math

import pytest
import torch
from torch import nn

import quickstudy
from quickstudy.datasets import ClassDataset
from quickstudy.encoders import MLP, Conv4
from quickstudy.evaluation import Report, evaluate
from quickstudy.evaluation import outcomes as validation
from quickstudy.evaluation.evaluator import calibration_error
from quickstudy.evaluation.observing import normalization_policy
from quickstudy.evaluation.plots import plot_comparison
from quickstudy.inputs import ImageInputs
from quickstudy.runs.run import Run
from quickstudy.strategies import MAML, NearestNeighbor, PrototypicalNetwork, Strategy


def dataset(classes=12, each=20, noise=40.0):
    generator = torch.Generator().manual_seed(0)
    pictures = 256 * torch.rand(classes, 1, 1, 6, 6, generator=generator)
    spread = noise * torch.randn(classes, each, 1, 6, 6, generator=generator)
    images = (pictures + spread).clamp(0, 255).to(torch.uint8).flatten(0, 1)
    names = [f"class{n:02}" for n in range(classes)]
    return ClassDataset.contiguous(images, [each] * classes, names, ImageInputs(6, 1), "noisy")


class Guesser(Strategy):
    """Says class 0 with probability 0.4, whatever it is asked."""

    def adapt(self, support, ways):
        return {"ways": torch.full((support.tasks,), ways)}

    def predict(self, theta, inputs):
        ways = int(theta["ways"][0])
        probabilities = torch.full((ways,), 0.6 / (ways - 1))
        probabilities[0] = 0.4
        return probabilities.log().expand(*inputs.shape[:2], ways)


def test_known_strategy_has_the_values_calculated_by_hand():
    report = evaluate(Guesser(), dataset(), ways=4, shots=1, queries=5, episodes=50)
    assert report.accuracy.mean == pytest.approx(1 / 4)  # balanced queries, one class always right
    assert report.accuracy.ci95 == pytest.approx(0)
    assert report.nll == pytest.approx(-(math.log(0.4) + 3 * math.log(0.2)) / 4, rel=1e-5)
    assert report.ece == pytest.approx(0.4 - 0.25, rel=1e-5)
    assert report.transductive is False


def test_calibration_error_by_hand():
    confidences = torch.tensor([0.95, 0.95, 0.55, 0.52])
    hits = torch.tensor([True, False, True, True])
    # Bins of width 0.1: [0.9, 1): accuracy 0.5 against 0.95; [0.5, 0.6): 1 against 0.535.
    expected = 0.5 * abs(0.5 - 0.95) + 0.5 * abs(1 - 0.535)
    assert calibration_error(confidences, hits, bins=10) == pytest.approx(expected, rel=1e-6)


def test_interval_covers_the_truth_about_95_times_of_100():
    data = dataset(noise=110)
    strategy = NearestNeighbor()
    truth = evaluate(strategy, data, queries=5, episodes=3000, seed=99).accuracy.mean
    covered = 0
    for seed in range(100):
        estimate = evaluate(strategy, data, queries=5, episodes=40, seed=seed).accuracy
        covered += abs(estimate.mean - truth) <= estimate.ci95
    # 100 trials at 0.95 lie below 88 with probability 0.002.
    assert covered >= 88


def test_same_seed_same_report_and_the_strategy_is_left_alone():
    strategy = PrototypicalNetwork(Conv4((1, 6, 6), channels=4, blocks=2)).train()
    before = {k: v.clone() for k, v in strategy.state_dict().items()}
    first = evaluate(strategy, dataset(), queries=5, episodes=30, seed=4)
    again = evaluate(strategy, dataset(), queries=5, episodes=30, seed=4)
    assert torch.equal(first.accuracies, again.accuracies)
    assert strategy.training
    assert all(torch.equal(before[k], v) for k, v in strategy.state_dict().items())
    other = evaluate(strategy, dataset(), queries=5, episodes=30, seed=5)
    assert not torch.equal(first.accuracies, other.accuracies)


def test_the_report_is_the_same_on_features_as_on_images(monkeypatch):
    strategy = PrototypicalNetwork(Conv4((1, 6, 6), channels=4, blocks=2), scale=0.1)
    calls = []
    strategy.encoder.register_forward_hook(lambda module, args, out: calls.append(len(out)))
    data = dataset()
    once = evaluate(strategy, data, queries=5, episodes=300)
    assert sum(calls) == len(data)  # 300 episodes of 30 images
    monkeypatch.setattr(validation, "has_fixed_encoder", lambda strategy: False)
    plain = evaluate(strategy, data, queries=5, episodes=300)
    assert sum(calls) == len(data) + 300 * 30
    assert torch.equal(once.accuracies, plain.accuracies)
    assert once.nll == pytest.approx(plain.nll, rel=1e-5)  # float32
    assert once.ece == pytest.approx(plain.ece, abs=1e-5)
    assert once.adapt_seconds > 0
    assert once.predict_seconds > 0


def test_variable_ways_and_shots():
    report = evaluate(NearestNeighbor(), dataset(), ways=(2, 6), shots=(1, 3), episodes=20)
    assert report.protocol == "2-6-way 1-3-shot"
    assert 0 < report.accuracy.mean <= 1


def test_unbalanced_queries_are_drawn_as_asked_and_the_report_says_so(tmp_path):
    data = dataset(each=40)
    protocol = {"ways": 4, "shots": 1, "queries": 8, "episodes": 300}
    report = evaluate(Guesser(), data, **protocol, query_balance="dirichlet")
    # A task's accuracy is the share of one class: of a Dirichlet distribution with α = 2, whose
    # variance is (1/4) (3/4) / 9; to whole queries of 32 it changes little.
    assert report.accuracy.mean == pytest.approx(1 / 4, abs=0.03)
    assert report.accuracies.var().item() == pytest.approx(1 / 48, rel=0.25)
    assert report.protocol == "4-way 1-shot, unbalanced queries"
    assert "8 queries a class on average" in " ".join(str(report).split())
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report
    balanced = evaluate(Guesser(), data, **protocol)
    assert balanced.accuracies.var().item() == pytest.approx(0, abs=1e-12)
    assert balanced.query_balance == "balanced"
    assert "on average" not in str(balanced)
    with pytest.raises(ValueError, match="query_balance 'odd' is unknown"):
        evaluate(Guesser(), data, **protocol, query_balance="odd")


def test_reports_of_before_are_balanced(tmp_path):
    report = evaluate(NearestNeighbor(), dataset(), queries=5, episodes=5)
    values = report.to_dict()
    del values["query_balance"]
    (tmp_path / "report.json").write_text(json.dumps(values))
    assert Report.load(tmp_path / "report.json") == report


def test_unbalanced_tasks_are_the_same_on_features_as_on_images(monkeypatch):
    strategy = PrototypicalNetwork(Conv4((1, 6, 6), channels=4, blocks=2), scale=0.1)
    once = evaluate(strategy, dataset(), queries=5, episodes=60, query_balance="dirichlet")
    monkeypatch.setattr(validation, "has_fixed_encoder", lambda strategy: False)
    plain = evaluate(strategy, dataset(), queries=5, episodes=60, query_balance="dirichlet")
    assert torch.equal(once.accuracies, plain.accuracies)


def test_report_round_trip(tmp_path):
    report = evaluate(NearestNeighbor(), dataset(), queries=5, episodes=10)
    report.save(tmp_path / "report.json")
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["accuracy"] == {"mean": report.accuracy.mean, "ci95": report.accuracy.ci95}
    assert Report.load(tmp_path / "report.json") == report
    text = str(report)
    for words in ("5-way 1-shot", "95 % confidence", "inductive", "ms an episode"):
        assert words in text


def test_the_policy_of_normalisation_is_stated():
    assert "running averages" in normalization_policy(PrototypicalNetwork(Conv4()))
    group = Conv4(normalization="group")
    assert "each input by itself" in normalization_policy(PrototypicalNetwork(group))
    assert normalization_policy(PrototypicalNetwork(MLP())) == "none"
    assert "of the support" in normalization_policy(MAML(Conv4()))
    assert "of the queries" in normalization_policy(MAML(Conv4(), transductive=True))


def test_inputs_of_another_kind_are_refused():
    run = Run(NearestNeighbor(), ImageInputs(28, 1))
    with pytest.raises(ValueError, match=r"inputs=run\.inputs"):
        evaluate(run, dataset())


def test_plain_errors():
    for few in (0, 1):
        with pytest.raises(ValueError, match=f"{few} episodes"):
            evaluate(NearestNeighbor(), dataset(), episodes=few)
    with pytest.raises(ValueError, match="40 ways"):
        evaluate(NearestNeighbor(), dataset(), ways=40)


def test_comparison_plot_is_a_picture(tmp_path):
    report = evaluate(NearestNeighbor(nn.Flatten()), dataset(), queries=5, episodes=5)
    row = {"seconds": 1.0, "accuracy": 0.5, "validation_accuracy": 0.4, "validation_ci95": 0.1}
    path = tmp_path / "plots" / "comparison.png"
    plot_comparison({"a": [report], "b": [report]}, {"a": [row], "b": [row]}, path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_public_names_are_importable():
    for name in quickstudy.__all__:
        assert getattr(quickstudy, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = quickstudy.nothing
