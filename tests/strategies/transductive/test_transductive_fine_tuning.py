"""Transductive fine-tuning against torch's own Adam on a copy of the network."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.encoders import Conv4
from quickstudy.strategies import TransductiveFineTuning
from quickstudy.strategies.functional import class_means

from ..meta_gradients import as_on_a_gpu

# A few steps in float64 whose order of operations differs; Adam divides by small numbers.
SAME = {"rtol": 1e-6, "atol": 1e-8}
SHAPE = (1, 8, 8)
depths = pytest.mark.parametrize("depth", ["all", "head"])


def tiny(**arguments):
    """A network whose running averages are not what it starts with."""
    torch.manual_seed(0)
    strategy = TransductiveFineTuning(Conv4(SHAPE, 3, blocks=2), **arguments).double()
    for name, buffer in strategy.named_buffers():
        if buffer.is_floating_point():
            buffer.add_(torch.rand_like(buffer), alpha=0.5 if name.endswith("var") else 0.1)
    return strategy.eval()


def entropy(logits):
    return torch.distributions.Categorical(logits=logits).entropy().mean()


def tuned_by_torch(strategy, support, targets, queries):
    """Logits of one task's queries, from a copy of the network after the steps."""
    encoder = copy.deepcopy(strategy.encoder)
    with torch.no_grad():
        means = class_means(encoder(support)[None], targets[None], 3)[0]
    head = nn.Linear(means.shape[1], 3).double()
    with torch.no_grad():
        head.weight.copy_(means / means.norm(dim=1, keepdim=True))
        head.bias.zero_()

    def answer(inputs):
        features = encoder(inputs)
        return head(features / features.norm(dim=1, keepdim=True))

    learned = list(head.parameters())
    if strategy.depth == "all":
        learned += list(encoder.parameters())
    optimizer = torch.optim.Adam(learned, strategy.inner_learning_rate)
    for _ in range(strategy.inner_steps):
        optimizer.zero_grad()
        (F.cross_entropy(answer(support), targets) + entropy(answer(queries))).backward()
        optimizer.step()
    return answer(queries).detach()


@depths
def test_each_task_is_what_adam_makes_of_a_copy(make_episode, depth):
    episode = make_episode(SHAPE, shots=[1, 4, 2], queries=3)
    strategy = tiny(depth=depth, inner_steps=6, inner_learning_rate=0.01)
    logits = strategy.predict(strategy.adapt(episode.support, 3), episode.query.inputs)
    for task in range(2):
        expected = tuned_by_torch(
            strategy,
            episode.support.inputs[task],
            episode.support.targets[task],
            episode.query.inputs[task],
        )
        torch.testing.assert_close(logits[task], expected, **SAME)


@depths
def test_without_steps_it_is_the_cosine_to_the_mean_feature_of_a_class(make_episode, depth):
    episode = make_episode(SHAPE, shots=[2, 4, 1])
    strategy = tiny(depth=depth, inner_steps=0)
    support, query = (strategy.encode(e.inputs, {}) for e in (episode.support, episode.query))
    means = class_means(support, episode.support.targets, 3)
    expected = F.cosine_similarity(query[:, :, None], means[:, None], dim=-1)
    torch.testing.assert_close(strategy(episode), expected, **SAME)


@depths
def test_steps_lower_the_entropy_of_the_queries_and_the_loss_of_the_support(make_episode, depth):
    episode = make_episode(SHAPE, shots=[3, 3, 3], queries=4)
    entropies = []
    for steps in (0, 5, 30):
        strategy = tiny(depth=depth, inner_steps=steps, inner_learning_rate=0.01)
        entropies.append(float(entropy(strategy(episode))))
    assert entropies == sorted(entropies, reverse=True)
    # Asked about its support, it has the support as queries too.
    theta = tiny(depth=depth, inner_steps=30, inner_learning_rate=0.01).adapt(episode.support, 3)
    losses = [
        float(
            F.cross_entropy(
                tiny(depth=depth, inner_steps=steps, inner_learning_rate=0.01)
                .predict(theta, episode.support.inputs)
                .flatten(0, 1),
                episode.support.targets.flatten(),
            )
        )
        for steps in (0, 30)
    ]
    assert losses[1] < losses[0]


@depths
def test_theta_is_the_first_head_and_the_support(make_episode, depth):
    episode = make_episode(SHAPE)
    strategy = tiny(depth=depth)
    theta = strategy.adapt(episode.support, 3)
    assert set(theta) == {"head.weight", "head.bias", "support.inputs", "support.targets"}
    torch.testing.assert_close(
        theta["head.weight"].norm(dim=-1), torch.ones(2, 3, dtype=torch.float64)
    )
    assert torch.equal(theta["support.targets"], episode.support.targets)
    assert not any(each.requires_grad for each in theta.values())
    assert not strategy.predict(theta, episode.query.inputs).requires_grad


def test_all_tasks_at_once_give_what_one_after_another_does(make_episode, monkeypatch):
    """On a GPU tasks are mapped by vmap."""
    episode = make_episode(SHAPE, tasks=3)
    strategy = tiny(inner_steps=3, inner_learning_rate=0.01)
    expected = strategy(episode)
    as_on_a_gpu(monkeypatch)
    torch.testing.assert_close(strategy(episode), expected, **SAME)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": "body"}, "depth 'body' is unknown; choose all or head"),
        ({"inner_steps": -1}, "inner_steps is -1; it must not be negative"),
        (
            {"inner_learning_rate": 0.0},
            "TransductiveFineTuning's inner_learning_rate is 0.0; it must be more than 0",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny(**arguments)
