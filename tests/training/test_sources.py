"""Training on other things than tasks drawn from classes, and from other starts than chance."""

import pytest
import torch

import quickstudy
from quickstudy.encoders import MLP, Conv4
from quickstudy.episodes import Sinusoids
from quickstudy.runs import load
from quickstudy.runs.run import RunDirectory
from quickstudy.strategies import MAML, TIM, PrototypicalNetwork, SimpleShot
from quickstudy.strategies.bases.pretrained import PretrainedStrategy
from quickstudy.strategies.functional import class_means, similarity

from ..builders import SETTINGS, make


class NearestMean(PretrainedStrategy):
    """Classifies all training classes, then a task's queries by class means."""

    def adapt_features(self, support, ways):
        return {"means": class_means(support.inputs, support.targets, ways)}

    def predict_features(self, theta, features):
        return similarity(features, theta["means"], "euclidean")


def test_ordinary_classification_learns_features_for_classes_it_never_saw(parts):
    classes = parts["train"].classes
    settings = SETTINGS | {"tasks": 1, "batch_size": 32}
    reports = []
    for steps in (1, 150):
        strategy = make(NearestMean, classes=classes)
        run = quickstudy.fit(strategy, parts["train"], parts["validation"], steps=steps, **settings)
        reports.append(quickstudy.evaluate(run, parts["test"], ways=4, queries=5, episodes=100))
    before, after = (report.accuracy for report in reports)
    assert after.mean - before.mean > before.ci95 + after.ci95
    assert run.history[-1]["accuracy"] > 0.5  # of 12 training classes


def test_the_number_of_training_classes_must_be_right(parts):
    for classes, said in ((None, "tells no training classes"), (5, "tells 5 training classes")):
        with pytest.raises(ValueError, match=said):
            quickstudy.fit(make(NearestMean, classes=classes), parts["train"], steps=1, **SETTINGS)


def waves(**arguments):
    torch.manual_seed(0)
    return MAML(MLP((1,), hidden=(40, 40)), ways=1, inner_learning_rate=0.01, **arguments)


def test_maml_learns_to_learn_waves():
    tasks = Sinusoids(shots=10, queries=10, tasks=25)
    test = Sinusoids(shots=10, queries=50, tasks=200, seed=1).episode(0)
    losses = []
    for steps in (1, 400):
        run = quickstudy.fit(
            waves(), tasks, tasks=25, steps=steps, learning_rate=5e-3, show_progress=False
        )
        losses.append(float(run.strategy.loss(test)[0].detach()))
    assert losses[1] < 0.5 * losses[0]
    assert run.history[-1]["accuracy"] is None  # there is none in regression


def test_tasks_that_do_not_fit_the_trainer_or_the_strategy_are_refused(parts):
    with pytest.raises(ValueError, match="25 tasks, but the trainer's `tasks` is 4"):
        quickstudy.fit(waves(), Sinusoids(tasks=25), tasks=4, steps=1)
    with pytest.raises(ValueError, match="2 ways"):
        quickstudy.fit(MAML(MLP((1,)), ways=2), Sinusoids(tasks=4), tasks=4, steps=1)
    with pytest.raises(ValueError, match="Sinusoids, which are not drawn from classes"):
        quickstudy.fit(waves(), Sinusoids(tasks=4), parts["validation"], tasks=4, steps=1)


def trained(parts, folder):
    quickstudy.fit(make(), parts["train"], None, out=folder, steps=5, **SETTINGS)
    return load(folder)


def test_a_run_starts_from_another_and_remembers_its_classes(parts, tmp_path):
    first = trained(parts, tmp_path / "first")
    strategy = make(MAML, ways=4)
    settings = SETTINGS | {"learning_rate": 1e-12, "start_from": str(tmp_path / "first")}
    half = parts["validation"]
    second = quickstudy.fit(strategy, half, None, out=tmp_path / "second", steps=1, **settings)
    start = dict(first.strategy.encoder.named_parameters())
    for name, parameter in second.strategy.encoder.named_parameters():
        torch.testing.assert_close(parameter, start[name])
    assert set(load(tmp_path / "second").classes["start_from"]) == set(parts["train"].class_names)
    with pytest.warns(UserWarning, match="have names of classes"):
        quickstudy.evaluate(
            load(tmp_path / "second"), parts["train"], ways=4, queries=3, episodes=2
        )


def test_without_steps_another_strategy_stands_on_what_was_learned(parts, tmp_path):
    first = trained(parts, tmp_path / "first")
    run = quickstudy.fit(
        make(TIM, classes=parts["train"].classes), parts["train"], parts["validation"],
        out=tmp_path / "second", steps=0, **SETTINGS | {"start_from": str(tmp_path / "first")},
    )  # fmt: skip
    assert run.progress["finished"]
    assert run.progress["step"] == 0
    second = load(tmp_path / "second")
    start = first.strategy.encoder.state_dict()
    for name, value in second.strategy.encoder.state_dict().items():
        assert torch.equal(value, start[name])
    report = quickstudy.evaluate(second, parts["test"], ways=4, queries=3, episodes=20)
    assert report.accuracy.mean > 0.3


def test_without_steps_what_no_run_has_learned_is_named(parts, tmp_path):
    trained(parts, tmp_path / "first")
    strategy = make(SimpleShot, classes=parts["train"].classes)
    settings = SETTINGS | {"start_from": str(tmp_path / "first")}
    with pytest.warns(UserWarning, match="SimpleShot learns what .*begins: batches, running_mean"):
        quickstudy.fit(strategy, parts["train"], steps=0, **settings)
    with pytest.raises(ValueError, match="steps is 0 and start_from names no run"):
        quickstudy.fit(strategy, parts["train"], steps=0, **SETTINGS)


def test_a_resumed_run_goes_on_from_itself_and_not_from_its_start(parts, tmp_path):
    trained(parts, tmp_path / "first")
    settings = SETTINGS | {"start_from": str(tmp_path / "first")}
    whole = quickstudy.fit(make(), parts["train"], None, out=tmp_path / "a", steps=8, **settings)
    quickstudy.fit(make(), parts["train"], None, out=tmp_path / "b", steps=4, **settings)
    again = quickstudy.fit(
        make(), parts["train"], None, out=tmp_path / "b", resume=True, steps=8, **settings
    )
    for one, other in zip(whole.strategy.parameters(), again.strategy.parameters(), strict=True):
        assert torch.equal(one, other)
    assert again.classes["start_from"] == whole.classes["start_from"]


def test_a_start_with_another_encoder_is_refused(parts, tmp_path):
    trained(parts, tmp_path / "first")
    settings = SETTINGS | {"start_from": str(tmp_path / "first")}
    wide = PrototypicalNetwork(Conv4((1, 8, 8), channels=16, blocks=2))
    with pytest.raises(ValueError, match=r"another encoder.*do not fit"):
        quickstudy.fit(wide, parts["train"], steps=1, **settings)
    with pytest.raises(ValueError, match=r"another encoder.*do not fit"):
        quickstudy.fit(wide, parts["train"], None, out=tmp_path / "refused", steps=1, **settings)
    assert not (tmp_path / "refused").exists()
    with pytest.raises(FileNotFoundError, match="is not a run"):
        quickstudy.fit(
            make(), parts["train"], steps=1, **SETTINGS | {"start_from": str(tmp_path / "none")}
        )


def test_a_run_killed_before_its_first_checkpoint_still_starts_from_the_other(parts, tmp_path):
    first = trained(parts, tmp_path / "first")
    RunDirectory(tmp_path / "second").write_config({})  # all that such a run leaves
    settings = SETTINGS | {"learning_rate": 1e-12, "start_from": str(tmp_path / "first")}
    second = quickstudy.fit(
        make(MAML, ways=4), parts["train"], None, out=tmp_path / "second", resume=True, steps=1,
        **settings,
    )  # fmt: skip
    start = dict(first.strategy.encoder.named_parameters())
    for name, parameter in second.strategy.encoder.named_parameters():
        torch.testing.assert_close(parameter, start[name])
    assert second.classes["start_from"]
