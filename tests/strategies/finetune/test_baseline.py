"""The baseline's classifier against torch's own optimiser, and on a case solved by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import Baseline

# A few hundred steps in float64 whose order of operations differs.
SAME = {"rtol": 1e-8, "atol": 1e-10}


def plain(**arguments):
    """Raw vectors, so that features are what the case says."""
    return Baseline(nn.Flatten(), **arguments).double()


def trained_by_torch(inputs, targets, ways, steps, rate, decay):
    """A linear layer from zero, on the whole support of one task."""
    layer = nn.Linear(inputs.shape[1], ways).double()
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), rate, weight_decay=decay)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(layer(inputs), targets).backward()
        optimizer.step()
    return layer


@pytest.mark.parametrize("size", [2, 20], ids=["short features", "long features"])
def test_it_is_gradient_descent_on_a_linear_layer(make_episode, size):
    support = make_episode((size,), shots=[1, 4, 2]).support
    theta = plain(head_steps=120, head_learning_rate=0.1, head_weight_decay=0.02).adapt(support, 3)
    for task in range(2):
        layer = trained_by_torch(support.inputs[task], support.targets[task], 3, 120, 0.1, 0.02)
        torch.testing.assert_close(theta["weight"][task], layer.weight, **SAME)
        torch.testing.assert_close(theta["bias"][task], layer.bias, **SAME)


@pytest.mark.parametrize(("shots", "steps"), [(1, 100), (5, 400)])
def test_by_default_it_takes_the_papers_hundred_epochs_of_batches_of_four(
    make_episode, shots, steps
):
    support = make_episode((6,), shots=[shots] * 3).support
    expected = plain(head_steps=steps).adapt(support, 3)
    torch.testing.assert_close(plain().adapt(support, 3), expected, **SAME)


def test_one_step_solved_by_hand():
    """From zero each probability is 1/2: W moves by half of η times each example, over N = 2."""
    support = Examples(torch.tensor([[[4.0], [-2.0]]]).double(), torch.tensor([[0, 1]]))
    strategy = plain(head_steps=1, head_learning_rate=0.1)
    theta = strategy.adapt(support, 2)
    torch.testing.assert_close(theta["weight"], torch.tensor([[[0.15], [-0.15]]]).double())
    torch.testing.assert_close(theta["bias"], torch.zeros(1, 2).double())
    logits = strategy.predict(theta, torch.tensor([[[2.0]]]).double())
    torch.testing.assert_close(logits, torch.tensor([[[0.3, -0.3]]]).double())


def test_without_steps_all_classes_are_alike(make_episode):
    logits = plain(head_steps=0)(make_episode((4,)))
    assert torch.equal(logits, torch.zeros_like(logits))


def test_it_is_trained_on_all_classes_and_its_features_are_the_encoders(make_episode):
    torch.manual_seed(0)
    encoder = nn.Linear(4, 6)
    strategy = Baseline(encoder, classes=8).double()
    batch = make_episode((4,), ways=8).query
    nothing = Examples(batch.inputs[:, :0], batch.targets[:, :0])
    logits = strategy(Episode(nothing, batch, ways=8))
    torch.testing.assert_close(logits, strategy.classifier(encoder(batch.inputs)))
    assert not Baseline.episodic


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head_steps": -1}, "head_steps is -1; it must be 0 or more"),
        ({"head_learning_rate": 0.0}, "head_learning_rate is 0.0; it must be more than 0"),
        ({"head_weight_decay": -0.1}, "head_weight_decay is -0.1; it must not be negative"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plain(**arguments)
