"""What networks do to a batch in use is found out, whatever their layers are called."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.encoders import MLP, Conv4
from quickstudy.episodes import EpisodeSampler
from quickstudy.evaluation import evaluate
from quickstudy.evaluation.observing import BY_AVERAGES, BY_BATCH, needs_a_look, observed
from quickstudy.strategies import MAML, TIM, FineTuning, PrototypicalNetwork, SimpleShot

from ..builders import vectors
from ..strategies.foreign import encoder_of, episode


class Net(nn.Module):
    """Somebody's, with what a function makes of its vectors."""

    out_features = 16

    def __init__(self, function=lambda own, x: x):
        super().__init__()
        self.linear, self.function = nn.Linear(16, 16), function
        self.register_buffer("mean", torch.zeros(16))
        self.register_buffer("var", torch.ones(16))
        self.unused = nn.BatchNorm1d(16)

    def forward(self, x):
        return self.function(self, self.linear(x))


class ByItsBatch(nn.BatchNorm1d):
    """Has running averages, and does not use them."""

    def forward(self, x):
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True)


BY_HAND = {
    "centred": lambda own, x: x - x.mean(0),
    "functional": lambda own, x: F.batch_norm(x, None, None, training=True),
    "softmax over the batch": lambda own, x: 5 * x.softmax(0),
}


def one_by_one(strategy, data):
    tasks = EpisodeSampler(data, 5, 1, 3, tasks=6, seed=0).episode(0)
    single = [tasks[number : number + 1] for number in range(6)]
    with torch.no_grad():
        logits = [
            strategy.predict(strategy.adapt(each.support, 5), each.query.inputs) for each in single
        ]
    found = [
        (answers.argmax(-1) == task.query.targets).float().mean()
        for answers, task in zip(logits, single, strict=True)
    ]
    return torch.stack(found)


@pytest.mark.parametrize("how", BY_HAND)
@pytest.mark.parametrize("make", [PrototypicalNetwork, SimpleShot, TIM, FineTuning, MAML])
def test_a_network_that_looks_at_its_batch_gets_each_task_alone_and_is_reported(make, how):
    torch.manual_seed(0)
    strategy, data = make(Net(BY_HAND[how])).eval(), vectors()
    report = evaluate(strategy, data, ways=5, queries=3, episodes=6)
    torch.testing.assert_close(report.accuracies, one_by_one(strategy, data))
    assert report.transductive
    assert BY_BATCH in report.normalization


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda own, x: F.batch_norm(x, own.mean, own.var), BY_AVERAGES),
        (lambda own, x: x, "none"),
        (lambda own, x: F.layer_norm(x, (16,)), "layer, each input by itself"),
        (lambda own, x: F.group_norm(x, 4), "group, each input by itself"),
        (lambda own, x: F.instance_norm(x.view(-1, 4, 4)).flatten(1), "instance, each input"),
    ],
)
def test_the_report_states_the_normalisation_that_happens(function, said):
    report = evaluate(PrototypicalNetwork(Net(function)), vectors(), queries=3, episodes=2)
    assert report.normalization.startswith(said)
    assert not report.transductive


@pytest.mark.parametrize(
    ("norm", "said"),
    [
        (nn.BatchNorm1d(16), BY_AVERAGES),
        (nn.SyncBatchNorm(16), BY_AVERAGES),
        (nn.BatchNorm1d(16, track_running_stats=False), BY_BATCH),
        (ByItsBatch(16), BY_BATCH),
    ],
)
def test_layers_are_reported_by_what_they_do(norm, said):
    strategy = PrototypicalNetwork(encoder_of(nn.Linear(16, 16), norm, features=16))
    report = evaluate(strategy, vectors(), queries=3, episodes=2)
    assert report.normalization == said
    assert report.transductive is (said == BY_BATCH)


def test_looking_leaves_no_trace():
    strategy = PrototypicalNetwork(Net(lambda own, x: own.mean.add_(1) + F.dropout(x))).eval()
    before, state = copy.deepcopy(strategy.state_dict()), torch.get_rng_state()
    assert observed(strategy, episode) is not None
    assert torch.equal(state, torch.get_rng_state())
    after = strategy.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_networks_of_the_package_need_no_look():
    assert not needs_a_look(MLP((16,)))
    assert not needs_a_look(Conv4())
    hooked = Conv4()
    hooked.convolutions[0].register_forward_hook(lambda _, __, output: output - output.mean(0))
    assert needs_a_look(hooked)
    assert observed(PrototypicalNetwork(MLP((16,))), episode) is None
