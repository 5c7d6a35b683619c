"""How tasks of networks that people bring are shared among threads and calls."""

import pytest
import torch
from torch import nn

from quickstudy.episodes import EpisodeSampler
from quickstudy.strategies import MAML, PrototypicalNetwork
from quickstudy.training import fit
from quickstudy.training.tasks import MetaGradient

from ..builders import make_blobs


@pytest.fixture(scope="module", autouse=True)
def _two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


class Net(nn.Module):
    """Of images, as a function of itself."""

    out_features = 8

    def __init__(self, forward, *layers):
        super().__init__()
        self.linear = nn.Linear(64, 8)
        self.layers = nn.ModuleList(layers)
        self.function = forward
        self.seen = 0

    def forward(self, x):
        return self.function(self, x.flatten(1))


class Closed(Net):
    def __init__(self):
        super().__init__(None)
        self.function = lambda _, x: self.linear(x)


class Listed(Net):
    """Keeps its layers in a plain list too, which copies with it."""

    def __init__(self):
        super().__init__(lambda own, x: own.all[0](x))
        self.all = [self.linear]


def by_its_count(own, x):
    own.seen += 1
    return own.linear(x) * (1 + own.seen % 7)


def by_the_batch(own, x):
    return own.linear(x / x.std())


def weight_normed():
    return Net(lambda own, x: own.layers[0](own.linear(x)), nn.utils.weight_norm(nn.Linear(8, 8)))


def tasks(count=4):
    return EpisodeSampler(make_blobs(), ways=3, shots=1, queries=2, tasks=count, seed=1).episode(0)


def computed(strategy, given, at_once):
    compute = MetaGradient(strategy.train(), at_once=at_once)
    sums = compute.sums(given, 1.0)
    compute.close()
    return sums.gradients, compute


KINDS = {
    "closure": (Closed, False),
    "list": (Listed, True),
    "counter": (lambda: Net(by_its_count), True),
    "plain": (lambda: Net(lambda own, x: own.linear(x)), True),
    "weight norm": (weight_normed, True),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at_once", [None, 3])
@pytest.mark.parametrize("strategy", [PrototypicalNetwork, MAML])
def test_only_faithful_copies_share_the_tasks(kind, at_once, strategy):
    make, faithful = KINDS[kind]

    def made():
        torch.manual_seed(0)
        options = {"ways": 3} if strategy is MAML else {}
        return strategy(make(), **options)

    expected, _ = computed(made(), tasks(), 1)
    found, compute = computed(made(), tasks(), at_once)
    assert compute.faithful is faithful
    assert (compute.at_once == 1) is not faithful
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def by_a_running_mean(own, x):
    if own.training:
        own.mean = 0.9 * own.mean + 0.1 * float(x.detach().mean())
    return own.linear(x - own.mean)


@pytest.mark.parametrize("at_once", [1, 3])
def test_each_task_begins_with_the_same_plain_attributes(at_once):
    torch.manual_seed(0)
    net = Net(by_a_running_mean)
    net.mean = 0.5
    strategy, given = PrototypicalNetwork(net), tasks()
    alone = []
    for number in range(given.tasks):
        net.mean = 0.5
        alone.append(computed(strategy, given[number : number + 1], 1)[0])
    net.mean = 0.5
    found, _ = computed(strategy, given, at_once)
    for one, *others in zip(found, *alone, strict=True):
        torch.testing.assert_close(one, sum(others))
    assert net.mean != 0.5  # a step leaves what its last task left


@pytest.mark.parametrize(
    ("function", "apart"), [(by_the_batch, False), (lambda o, x: o.linear(x), True)]
)
def test_a_network_that_looks_at_its_batch_gets_each_task_alone(function, apart, monkeypatch):
    monkeypatch.setattr("quickstudy.training.tasks.is_small", lambda tensor: True)

    def made():
        torch.manual_seed(0)
        return PrototypicalNetwork(Net(function))

    expected, _ = computed(made(), tasks(), 1)
    found, compute = computed(made(), tasks(), 4)
    assert compute.apart is apart
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_network_that_does_not_know_its_sizes_is_refused_before_training():
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(8))
    with pytest.raises(ValueError, match=r"layer encoder\.1 .* LazyLinear.*Pass one batch"):
        fit(PrototypicalNetwork(lazy), make_blobs(), ways=3, queries=2, steps=1)
    lazy(torch.zeros(1, 64))
    fit(PrototypicalNetwork(lazy), make_blobs(), ways=3, queries=2, steps=1, show_progress=False)
