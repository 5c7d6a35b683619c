"""Fine-tuning against torch's own optimiser on a copy of the network."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.encoders import Conv4
from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import FineTuning
from quickstudy.strategies.functional import class_means

from ..meta_gradients import as_on_a_gpu

# A few steps in float64 whose order of operations differs.
SAME = {"rtol": 1e-8, "atol": 1e-10}
SHAPE = (1, 8, 8)
depths = pytest.mark.parametrize("depth", ["all", "head"])


def tiny(**arguments):
    """A network whose running averages are not what it starts with."""
    torch.manual_seed(0)
    strategy = FineTuning(Conv4(SHAPE, 3, blocks=2), **arguments).double()
    for name, buffer in strategy.named_buffers():
        if buffer.is_floating_point():
            buffer.add_(torch.rand_like(buffer), alpha=0.5 if name.endswith("var") else 0.1)
    return strategy.eval()


def tuned_by_torch(strategy, inputs, targets, ways):
    """A copy of the network with a new head, after the steps on one task."""
    encoder = copy.deepcopy(strategy.encoder)
    features = encoder(inputs).detach()
    head = nn.Linear(features.shape[1], ways).double()
    with torch.no_grad():
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        if strategy.start == "prototypes":
            means = class_means(features[None], targets[None], ways)[0]
            spread = (features[:, None] - features[None]).square().sum(-1).mean()
            head.weight.copy_(2 * means / spread)
            head.bias.copy_(-means.square().sum(1) / spread)
    learned = list(head.parameters())
    if strategy.depth == "all":
        learned += list(encoder.parameters())
    optimizer = torch.optim.SGD(learned, strategy.inner_learning_rate)
    for _ in range(strategy.inner_steps):
        optimizer.zero_grad()
        F.cross_entropy(head(encoder(inputs)), targets).backward()
        optimizer.step()
    return nn.Sequential(encoder, head)


@depths
@pytest.mark.parametrize("start", ["prototypes", "zeros"])
def test_each_task_is_what_an_optimiser_makes_of_a_copy(make_episode, depth, start):
    episode = make_episode(SHAPE, shots=[1, 4, 2])
    strategy = tiny(depth=depth, start=start, inner_steps=5, inner_learning_rate=0.1)
    logits = strategy.predict(strategy.adapt(episode.support, 3), episode.query.inputs)
    for task in range(2):
        inputs, targets = episode.support.inputs[task], episode.support.targets[task]
        expected = tuned_by_torch(strategy, inputs, targets, 3)(episode.query.inputs[task])
        torch.testing.assert_close(logits[task], expected.detach(), **SAME)


def test_theta_holds_all_weights_or_the_head_alone(make_episode):
    support = make_episode(SHAPE).support
    head = {"head.weight", "head.bias"}
    assert set(tiny(depth="head").adapt(support, 3)) == head
    strategy = tiny(depth="all")
    theta = strategy.adapt(support, 3)
    weights = {f"encoder.{name}": p for name, p in strategy.encoder.named_parameters()}
    assert set(theta) == head | set(weights)
    for name, weight in weights.items():
        assert theta[name].shape == (2, *weight.shape)
        assert not torch.equal(theta[name][0], weight), name
        assert not torch.equal(theta[name][0], theta[name][1]), name


@depths
def test_a_start_at_the_prototypes_classifies_like_nearest_prototypes(make_episode, depth):
    episode = make_episode(SHAPE, shots=[2, 4, 1])
    strategy = tiny(depth=depth, inner_steps=0)
    logits = strategy(episode)
    both = [e.inputs for e in (episode.support, episode.query)]
    support, query = (strategy.encode(inputs, {}) for inputs in both)
    means = class_means(support, episode.support.targets, 3)
    distances = (query[:, :, None] - means[:, None]).square().sum(-1)
    spread = (support[:, :, None] - support[:, None]).square().sum(-1).mean((1, 2))
    # Up to what all classes of a query share, |f(x)|² / s.
    torch.testing.assert_close(
        logits.softmax(-1), (-distances / spread[:, None, None]).softmax(-1), **SAME
    )


@depths
def test_more_steps_fit_the_support_better(make_episode, depth):
    support = make_episode(SHAPE, shots=[3, 3, 3]).support
    losses = []
    for steps in (0, 5, 50):
        strategy = tiny(depth=depth, inner_steps=steps, inner_learning_rate=0.05)
        logits = strategy.predict(strategy.adapt(support, 3), support.inputs)
        losses.append(F.cross_entropy(logits.flatten(0, 1), support.targets.flatten()).item())
    assert losses == sorted(losses, reverse=True)


def test_running_averages_are_used_and_kept_even_in_training_mode(make_episode):
    episode = make_episode(SHAPE)
    strategy = tiny(inner_steps=2)
    expected, before = strategy(episode), copy.deepcopy(strategy.state_dict())
    torch.testing.assert_close(strategy.train()(episode), expected, rtol=0, atol=0)
    assert all(part.training for part in strategy.modules())
    torch.testing.assert_close(strategy.state_dict(), before, rtol=0, atol=0)


def test_nothing_is_learned_from_what_comes_out(make_episode):
    episode = make_episode(SHAPE)
    theta = tiny().adapt(episode.support, 3)
    assert not any(each.requires_grad for each in theta.values())


def test_it_is_trained_on_all_classes(make_episode):
    strategy = tiny(classes=8).train()
    batch = make_episode(SHAPE, ways=8).query
    nothing = Examples(batch.inputs[:, :0], batch.targets[:, :0])
    strategy.loss(Episode(nothing, batch, ways=8))[0].backward()
    assert all(parameter.grad is not None for parameter in strategy.parameters())
    assert not FineTuning.episodic


def test_all_tasks_at_once_give_what_one_after_another_does(make_episode, monkeypatch):
    """On a GPU tasks are mapped by vmap."""
    episode = make_episode(SHAPE, tasks=3)
    expected = tiny(inner_steps=2)(episode)
    as_on_a_gpu(monkeypatch)
    torch.testing.assert_close(tiny(inner_steps=2)(episode), expected, **SAME)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": "body"}, "depth 'body' is unknown; choose all or head"),
        ({"start": "ones"}, "start 'ones' is unknown; choose prototypes or zeros"),
        ({"inner_steps": -1}, "inner_steps is -1; it must not be negative"),
        ({"inner_learning_rate": 0.0}, "inner_learning_rate is 0.0; it must be more than 0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny(**arguments)
