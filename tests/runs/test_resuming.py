"""A resume is the same run or no run: data, task sources, what is learned, and the optimiser."""

import random
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

import quickstudy as qs
from quickstudy.datasets import ClassDataset
from quickstudy.episodes import Episode, Examples, Mixture, Sinusoids
from quickstudy.inputs import FeatureInputs
from quickstudy.runs import Checkpoint, identity
from quickstudy.runs.run import RunDirectory

from .. import builders
from .. import own_encoders as own
from ..builders import fit, make_blobs, vectors
from ..own_encoders import TwoLayers


def prototypes():
    return builders.prototypes(TwoLayers())


def resumed(strategy, data, out, validation=None, **settings):
    return fit(strategy, data, validation, out=out, steps=4, resume=True, **settings)


@pytest.mark.parametrize(
    ("other", "said"),
    [({"seed": 9}, "other examples"), ({"each": 37}, "240 examples there and 444 here")],
)
def test_a_run_is_not_resumed_with_other_data_of_the_same_class_names(other, said, tmp_path):
    fit(prototypes(), vectors(), out=tmp_path / "run")
    with pytest.raises(ValueError, match=f"other training data: .*{said}"):
        resumed(prototypes(), vectors(**other), tmp_path / "run")
    assert resumed(prototypes(), vectors(), tmp_path / "run").progress["step"] == 4


def test_a_run_is_not_resumed_with_other_validation_data(tmp_path):
    fit(prototypes(), vectors(), vectors(seed=1), out=tmp_path / "run")
    with pytest.raises(ValueError, match="other validation data"):
        resumed(prototypes(), vectors(), tmp_path / "run", vectors(seed=2))


def test_a_single_example_or_a_turn_makes_other_data():
    data = make_blobs(6)
    same = identity.identity(make_blobs(6))
    assert identity.identity(data) == same
    data.examples[17, 0, 3, 3] += 1
    assert identity.identity(data) != same
    assert identity.identity(make_blobs(6).expand(2)) != same
    reordered = make_blobs(6).select([1, 0, 2, 3, 4, 5])
    assert identity.identity(reordered) != same


def test_of_large_data_a_part_is_read(monkeypatch):
    monkeypatch.setattr(identity, "MOST_BYTES", 1000)
    read = []
    digest = identity.feed
    monkeypatch.setattr(
        identity, "feed", lambda d, tensor: (read.append(len(tensor)), digest(d, tensor))
    )
    data = vectors(each=50)
    found = identity.identity(data)
    assert sum(read) - len(data.sizes) == identity.FEWEST_EXAMPLES
    assert identity.identity(vectors(each=50)) == found
    data.examples[-1] += 1  # the first and the last are always among them
    assert identity.identity(data) != found


def maml():
    torch.manual_seed(0)
    return qs.strategies.MAML(qs.encoders.MLP((1,), (4,)), ways=1, inner_learning_rate=0.01)


def test_a_run_is_not_resumed_with_another_source_of_tasks(tmp_path):
    fit(maml(), Sinusoids(tasks=2), tasks=2, out=tmp_path / "run")
    with pytest.raises(ValueError, match=r"another source of training tasks.*seed: 0, not 123"):
        resumed(maml(), Sinusoids(tasks=2, seed=123), tmp_path / "run", tasks=2)
    assert resumed(maml(), Sinusoids(tasks=2), tmp_path / "run", tasks=2).progress["step"] == 4


def test_sources_within_a_source_are_compared(tmp_path):
    def mixture(*seeds, weights=(1, 1)):
        return Mixture([Sinusoids(tasks=2, seed=seed) for seed in seeds], weights)

    fit(maml(), mixture(0, 1), tasks=2, out=tmp_path / "run")
    for other in (mixture(0, 2), mixture(0, 1, weights=(1, 2))):
        with pytest.raises(ValueError, match="another source of training tasks"):
            resumed(maml(), other, tmp_path / "run", tasks=2)


@dataclass
class Waves:
    """Somebody's own tasks; what differs may be hidden."""

    heights: list[float]
    table: np.ndarray = field(default_factory=lambda: np.zeros(3))
    _hidden: float = 0.0
    inputs = FeatureInputs(1)
    ways = tasks = 1

    def episode(self, index, tasks=None):
        x = torch.linspace(0, 1, 6)[None, :, None] + index
        y = torch.sin(x) * sum(self.heights) + self._hidden
        return Episode(Examples(x[:, :3], y[:, :3]), Examples(x[:, 3:], y[:, 3:]), 1)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Waves([1.0, 3.0]), "heights"),
        (Waves([1.0, 2.0], np.ones(3)), "table"),
        (Waves([1.0, 2.0], _hidden=0.5), "first task"),
    ],
)
def test_fields_of_ones_own_source_are_compared(other, said, tmp_path):
    fit(maml(), Waves([1.0, 2.0]), out=tmp_path / "run")
    with pytest.raises(ValueError, match=said):
        resumed(maml(), other, tmp_path / "run")
    resumed(maml(), Waves([1.0, 2.0]), tmp_path / "run")


def test_a_run_is_not_resumed_with_other_layers_frozen(tmp_path):
    strategy = prototypes()
    strategy.encoder.net[0].requires_grad_(False)
    fit(strategy, vectors(), out=tmp_path / "run")
    with pytest.raises(ValueError, match=r"'encoder\.net\.0\.\w+' was frozen there and is learned"):
        resumed(prototypes(), vectors(), tmp_path / "run")
    other = prototypes()
    other.encoder.net[2].requires_grad_(False)
    with pytest.raises(ValueError, match="other parameters frozen"):
        resumed(other, vectors(), tmp_path / "run")


def test_a_run_is_not_resumed_with_parameters_of_another_type(tmp_path):
    fit(prototypes(), vectors(), out=tmp_path / "run")
    data = vectors()
    data = ClassDataset.contiguous(
        data.examples.double(), data.sizes, data.class_names, data.inputs
    )
    with pytest.raises(ValueError, match="parameters of other types"):
        resumed(prototypes().double(), data, tmp_path / "run")


def of_before(run):
    """Makes a run's checkpoint one that was written before names and data were in it."""
    path = RunDirectory(run).last
    saved = Checkpoint.load(path)
    named = {key.rpartition(".")[0] for key in saved.optimizer}
    learned = [name for name, _ in prototypes().named_parameters() if name in named]
    numbers = {name: str(number) for number, name in enumerate(learned)}
    saved.optimizer = {
        f"{numbers[which]}.{part}": value
        for key, value in saved.optimizer.items()
        for which, _, part in [key.rpartition(".")]
    }
    saved.frozen, saved.data = None, {}
    saved.save(path)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_optimisers_state_by_number_is_read_as_that_by_name(optimizer, tmp_path):
    found = []
    for name in ("new", "before"):
        fit(prototypes(), vectors(), out=tmp_path / name, optimizer=optimizer)
        state = Checkpoint.load(RunDirectory(tmp_path / name).last).optimizer
        assert any(key.startswith("encoder.net.0.weight.") for key in state)
        if name == "before":
            of_before(tmp_path / name)
        run = resumed(prototypes(), vectors(), tmp_path / name, optimizer=optimizer)
        found.append(run.strategy.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_checkpoint_of_before_with_other_layers_frozen_is_refused(tmp_path):
    strategy = prototypes()
    strategy.encoder.net[0].requires_grad_(False)
    fit(strategy, vectors(), out=tmp_path / "run")
    of_before(tmp_path / "run")
    with pytest.raises(ValueError, match="optimiser state"):
        resumed(prototypes(), vectors(), tmp_path / "run")


@pytest.mark.parametrize("strategy", [qs.strategies.PrototypicalNetwork, qs.strategies.MAML])
def test_a_network_that_draws_from_other_generators_draws_the_same_again(strategy, tmp_path):
    """Of Python's and NumPy's, whatever was drawn before and however tasks are computed."""

    def made():
        torch.manual_seed(0)
        return strategy(own.Drawing())

    settings = {"tasks": 3, "schedule": "constant"}
    whole = fit(made(), vectors(), steps=4, **settings)
    alone = fit(made(), vectors(), steps=4, tasks_at_once=1, **settings)
    random.seed(5)
    fit(made(), vectors(), steps=2, out=tmp_path / "run", **settings)
    np.random.seed(7)  # noqa: NPY002
    again = resumed(made(), vectors(), tmp_path / "run", **settings)
    for one in (alone, again):
        same = one.strategy.state_dict()
        assert all(torch.equal(same[n], each) for n, each in whole.strategy.state_dict().items())
