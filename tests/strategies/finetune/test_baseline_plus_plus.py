"""Baseline++ against torch's own optimiser and autograd, and on a case solved by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import BaselinePlusPlus
from quickstudy.strategies.functional import class_means

# A hundred steps in float64 whose order of operations differs.
SAME = {"rtol": 1e-8, "atol": 1e-10}


def plain(**arguments):
    """Raw vectors, so that features are what the case says."""
    return BaselinePlusPlus(nn.Flatten(), **arguments).double()


@pytest.mark.parametrize("size", [2, 20], ids=["short features", "long features"])
def test_it_is_gradient_descent_on_a_cosine_classifier(make_episode, size):
    support = make_episode((size,), shots=[1, 4, 2]).support
    strategy = plain(scale=4.0, head_steps=100, head_learning_rate=0.1, head_weight_decay=0.02)
    theta = strategy.adapt(support, 3)
    for task in range(2):
        inputs, targets = support.inputs[task], support.targets[task]
        units = F.normalize(inputs, dim=-1)
        w = nn.Parameter(class_means(units[None], targets[None], 3)[0])
        optimizer = torch.optim.SGD([w], 0.1, weight_decay=0.02)
        for _ in range(100):
            optimizer.zero_grad()
            cosines = F.cosine_similarity(inputs[:, None], w[None], dim=-1)
            F.cross_entropy(4 * cosines, targets).backward()
            optimizer.step()
        torch.testing.assert_close(theta["directions"][task], w.data, **SAME)


def test_logits_are_scaled_cosines_with_mean_directions_before_the_first_step():
    support = Examples(
        torch.tensor([[[2.0, 0.0], [0.0, 5.0], [0.0, -1.0]]]).double(), torch.tensor([[0, 0, 1]])
    )
    strategy = plain(scale=10.0, head_steps=0)
    theta = strategy.adapt(support, 2)
    # Each example counts alike, however long it is.
    expected = torch.tensor([[[0.5, 0.5], [0.0, -1.0]]]).double()
    torch.testing.assert_close(theta["directions"], expected)
    logits = strategy.predict(theta, torch.tensor([[[3.0, 4.0]]]).double())
    torch.testing.assert_close(logits, torch.tensor([[[7 / 2**0.5 * 2, -8.0]]]).double())


def test_steps_fit_the_support_better(make_episode):
    support = make_episode((5,), shots=[4, 4, 4]).support
    losses = []
    for steps in (0, 10, 100, 1000):
        strategy = plain(head_steps=steps, head_learning_rate=0.1)
        logits = strategy.predict(strategy.adapt(support, 3), support.inputs)
        losses.append(F.cross_entropy(logits.flatten(0, 1), support.targets.flatten()).item())
    assert losses == sorted(losses, reverse=True)


def test_the_length_of_features_does_not_matter(make_episode):
    support = make_episode((5,)).support
    longer = Examples(30 * support.inputs, support.targets)
    torch.testing.assert_close(plain().adapt(longer, 3), plain().adapt(support, 3), **SAME)


def test_the_training_classes_are_told_apart_by_cosines_too(make_episode):
    torch.manual_seed(0)
    encoder = nn.Linear(4, 6)
    strategy = BaselinePlusPlus(encoder, classes=8, scale=5.0).double()
    batch = make_episode((4,), ways=8).query
    nothing = Examples(batch.inputs[:, :0], batch.targets[:, :0])
    logits = strategy(Episode(nothing, batch, ways=8))
    directions = dict(strategy.named_parameters())["classifier.directions"]
    expected = 5 * F.cosine_similarity(encoder(batch.inputs)[:, :, None], directions, dim=-1)
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0.0}, "scale is 0.0; it must be more than 0"),
        ({"head_steps": -1}, "head_steps is -1; it must be 0 or more"),
        ({"head_learning_rate": 0.0}, "head_learning_rate is 0.0; it must be more than 0"),
        ({"head_weight_decay": -0.1}, "head_weight_decay is -0.1; it must not be negative"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plain(**arguments)
