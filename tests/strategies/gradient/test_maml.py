"""MAML against double backward written out, finite differences, and a case solved by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.encoders import Conv4, ResNet12
from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import MAML
from quickstudy.training.task_memory import held_bytes

from ..inner_loops_by_hand import network_by_hand
from ..meta_gradients import SAME, as_on_a_gpu, gradients_of


def tiny(ways=3, blocks=2, channels=3, side=8, normalization="batch", seed=0, **arguments):
    """A MAML in float64 whose numbers are all away from the special values they start at."""
    torch.manual_seed(seed)
    encoder = Conv4((1, side, side), channels, normalization=normalization, blocks=blocks)
    strategy = MAML(encoder, ways=ways, **arguments).double()
    with torch.no_grad():
        for name, parameter in strategy.named_parameters():
            if name != "rates":
                parameter.add_(0.3 * torch.randn_like(parameter))
    return strategy


# --- the meta-gradient, written out ---


def meta_gradient_by_hand(strategy, episode, steps, rate, *, second_order, transductive):
    phi = {
        name: parameter.detach().clone().requires_grad_()
        for name, parameter in strategy.named_parameters()
    }
    losses = []
    for task in range(episode.tasks):
        support, targets = episode.support.inputs[task], episode.support.targets[task]
        theta = phi
        for _ in range(steps):
            logits, _ = network_by_hand(theta, support, blocks=2)
            inner = F.cross_entropy(logits, targets)
            step = torch.autograd.grad(inner, list(theta.values()), create_graph=second_order)
            theta = {
                name: theta[name] - rate * gradient
                for name, gradient in zip(theta, step, strict=True)
            }
        statistics = None
        if not transductive:
            _, statistics = network_by_hand(theta, support, blocks=2)
        logits, _ = network_by_hand(theta, episode.query.inputs[task], 2, statistics)
        losses.append(F.cross_entropy(logits, episode.query.targets[task]))
    loss = torch.stack(losses).mean()
    gradients = torch.autograd.grad(loss, list(phi.values()))
    return loss.detach(), dict(zip(phi, gradients, strict=True))


@pytest.mark.parametrize("transductive", [False, True], ids=["inductive", "transductive"])
@pytest.mark.parametrize("second_order", [True, False], ids=["second order", "first order"])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_meta_gradient_is_that_of_double_backward(
    make_episode, steps, second_order, transductive
):
    episode = make_episode((1, 8, 8), shots=[3, 2, 1])
    strategy = tiny(
        inner_steps=steps,
        inner_learning_rate=0.3,
        first_order=not second_order,
        transductive=transductive,
    )
    expected_loss, expected = meta_gradient_by_hand(
        strategy, episode, steps, 0.3, second_order=second_order, transductive=transductive
    )
    loss, got = gradients_of(strategy, episode)
    torch.testing.assert_close(loss, expected_loss, **SAME)
    torch.testing.assert_close(got, expected, **SAME)
    assert all(gradient.abs().max() > 1e-4 for gradient in expected.values())  # something to see


def test_first_and_second_order_agree_in_the_loss_and_differ_in_the_gradient(make_episode):
    episode = make_episode((1, 8, 8))
    (loss, second), (same_loss, first) = (
        gradients_of(tiny(inner_steps=2, first_order=order), episode) for order in (False, True)
    )
    torch.testing.assert_close(loss, same_loss, **SAME)
    for name, gradient in second.items():
        assert (gradient - first[name]).norm() > 0.01 * gradient.norm(), name


def test_without_inner_steps_the_meta_gradient_is_the_ordinary_gradient(make_episode):
    episode = make_episode((1, 8, 8))
    strategy = tiny(inner_steps=0, transductive=True)
    expected = meta_gradient_by_hand(
        strategy, episode, 0, 0.0, second_order=True, transductive=True
    )
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)


@pytest.mark.parametrize(
    "arguments",
    [
        {"inner_steps": 2},
        {"inner_steps": 1, "transductive": True},
        {"inner_steps": 2, "learn_inner_rates": True},
        {"inner_steps": 2, "normalization": "none"},
    ],
    ids=str,
)
def test_every_entry_of_the_meta_gradient_agrees_with_finite_differences(make_episode, arguments):
    episode = make_episode((1, 4, 4), ways=2)
    strategy = tiny(ways=2, blocks=1, channels=2, side=4, inner_learning_rate=0.3, **arguments)
    _, gradients = gradients_of(strategy, episode)
    assert ("rates" in gradients) == ("learn_inner_rates" in arguments)
    # Central differences err by about step² (third derivatives) and rounding / step: 1e-10 each.
    step = 1e-5
    for name, parameter in strategy.named_parameters():
        flat = parameter.detach().view(-1)
        differences = []
        for i in range(len(flat)):
            value = flat[i].item()
            sides = []
            for side in (value + step, value - step):
                flat[i] = side
                with torch.no_grad():
                    sides.append(float(strategy.loss(episode)[0]))
            flat[i] = value
            differences.append((sides[0] - sides[1]) / (2 * step))
        expected = torch.tensor(differences, dtype=torch.float64).view_as(parameter)
        torch.testing.assert_close(gradients[name], expected, rtol=1e-6, atol=1e-7)
        assert expected.abs().max() > 1e-4, name


# --- a case solved by hand ---


class Times(nn.Module):
    """The encoder x → w x of one number."""

    out_features = 1

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w))

    def forward(self, x):
        return self.w * x


ALPHA = 0.7
X, SIGNS = torch.tensor([1.0, -2.0, 0.5, 3.0]).double(), torch.tensor([1.0, -1, 1, -1]).double()


def solvable(first_order=False):
    """Two classes, w = 0, W = (1, -1), b = 0: at the start all probabilities are one half.

    The difference of the two logits is z = (W_0 - W_1) w x + b_0 - b_1, and the loss of an example
    of class 0 (s = 1) or 1 (s = -1) is softplus(-s z), whose derivative by z is -s / 2 and whose
    second derivative is 1/4 at z = 0. So one step moves w to α mean(s x), and leaves W and b, whose
    gradients are means of s w x = 0 and of s = 0.
    """
    strategy = MAML(
        Times(0.0), ways=2, inner_steps=1, inner_learning_rate=ALPHA, first_order=first_order
    ).double()
    with torch.no_grad():
        strategy.head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        strategy.head.bias.zero_()
    return strategy


def solvable_episode(x=1.3):
    support = Examples(X[None, :, None], (SIGNS < 0).long()[None])
    query = Examples(torch.tensor([[[x]]], dtype=torch.float64), torch.tensor([[0]]))
    return Episode(support, query, ways=2)


def test_one_step_solved_by_hand():
    strategy, episode = solvable(), solvable_episode()
    theta = strategy.adapt(episode.support, ways=2)
    w = ALPHA * (SIGNS * X).mean()
    torch.testing.assert_close(theta["encoder.w"], w[None])
    torch.testing.assert_close(theta["head.weight"][0], strategy.head.weight)
    torch.testing.assert_close(theta["head.bias"][0], strategy.head.bias)
    logits = strategy.predict(theta, episode.query.inputs)
    torch.testing.assert_close(logits, torch.stack([1.3 * w, -1.3 * w]).view(1, 1, 2))


@pytest.mark.parametrize("first_order", [False, True])
def test_its_meta_gradient_solved_by_hand(first_order):
    strategy, q = solvable(first_order), 1.3
    _, gradients = gradients_of(strategy, solvable_episode(q))
    w = ALPHA * float((SIGNS * X).mean())
    wrong = 1 / (1 + math.exp(2 * w * q))  # the query is of class 0, and its z is 2 w q
    by_w, by_row, by_bias = -wrong * 2 * q, -wrong * w * q, -wrong  # row and bias of class 0
    expected = by_w
    if not first_order:
        # Derivatives of the step by w, at w = 0: the loss's second derivatives by w and w, by w and
        # W_0 (W_1: minus that) and by w and b_0 (b_1: minus that).
        w_w, w_row, w_bias = (X**2).mean(), -(SIGNS * X).mean() / 2, X.mean() / 2
        expected = by_w * (1 - ALPHA * w_w) - 2 * ALPHA * (by_row * w_row + by_bias * w_bias)
    assert float(gradients["encoder.w"]) == pytest.approx(float(expected), rel=1e-12)


# --- inner steps, rates and statistics ---


def test_more_inner_steps_fit_the_support_better(make_episode):
    episode = make_episode((1, 8, 8))
    losses = []
    for steps in (0, 1, 5, 20):
        strategy = tiny(inner_steps=steps, inner_learning_rate=0.05)
        theta = strategy.adapt(episode.support, 3)
        logits = strategy.predict(theta, episode.support.inputs).detach()
        losses.append(float(F.cross_entropy(logits.flatten(0, 1), episode.support.targets.ravel())))
    assert losses == sorted(losses, reverse=True)


def test_test_inner_steps_count_in_evaluation_only(make_episode):
    episode = make_episode((1, 8, 8))
    strategy = tiny(inner_steps=1, test_inner_steps=3)
    for training, steps in ((True, 1), (False, 3)):
        expected = tiny(inner_steps=steps).adapt(episode.support, 3)
        torch.testing.assert_close(strategy.train(training).adapt(episode.support, 3), expected)


def test_no_test_inner_steps_leave_the_start(make_episode):
    strategy = tiny(inner_steps=1, test_inner_steps=0).eval()
    theta = strategy.adapt(make_episode((1, 8, 8)).support, 3)
    for name, parameter in strategy.named_parameters():
        assert torch.equal(theta[name], parameter.expand(2, *parameter.shape)), name


def test_learned_rates_start_at_the_inner_rate_and_belong_to_one_tensor_each(make_episode):
    episode = make_episode((1, 8, 8))
    fixed, learned = tiny(inner_steps=2), tiny(inner_steps=2, learn_inner_rates=True)
    torch.testing.assert_close(learned(episode), fixed(episode))
    names = [name for name, _ in fixed.named_parameters()]
    assert learned.rates.shape == (len(names),)
    with torch.no_grad():
        learned.rates.zero_()
        learned.rates[names.index("head.weight")] = 0.5
    theta = learned.adapt(episode.support, 3)
    moved = {name for name in names if not torch.equal(theta[name][0], dict_of(learned)[name])}
    assert moved == {"head.weight"}


def dict_of(strategy):
    return dict(strategy.named_parameters())


def test_the_statistics_of_the_support_belong_to_theta(make_episode):
    support = make_episode((1, 8, 8)).support
    inductive = set(tiny().adapt(support, 3))
    transductive = set(tiny(transductive=True).adapt(support, 3))
    assert inductive - transductive == {
        f"encoder.norms.{block}.{kind}" for block in (0, 1) for kind in ("mean", "var")
    }
    assert tiny(transductive=True).transductive
    assert not tiny().transductive


def test_the_support_is_predicted_as_it_was_learned(make_episode):
    """Normalised by its own statistics, the support gives the logits that training saw."""
    support = make_episode((1, 8, 8)).support
    theta = tiny().adapt(support, 3)
    joint = tiny(transductive=True)
    torch.testing.assert_close(
        tiny().predict(theta, support.inputs),
        joint.predict(joint.adapt(support, 3), support.inputs),
        **SAME,
    )


@pytest.mark.parametrize("transductive", [False, True], ids=["inductive", "transductive"])
def test_all_tasks_at_once_give_what_one_after_another_does(
    make_episode, monkeypatch, transductive
):
    """On a GPU tasks are mapped by vmap. Second derivatives through a batch normalisation with
    weights, as torch provides it, would be wrong there."""
    episode = make_episode((1, 8, 8), tasks=3)
    strategy = tiny(inner_steps=2, transductive=transductive)
    expected = gradients_of(strategy, episode)
    as_on_a_gpu(monkeypatch)
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"first_order": True}, {"learn_inner_rates": True}, {"transductive": True}],
    ids=str,
)
def test_recomputed_inner_steps_give_the_same_gradient(make_episode, arguments):
    episode = make_episode((1, 8, 8))
    expected = gradients_of(tiny(inner_steps=3, **arguments), episode)
    got = gradients_of(tiny(inner_steps=3, recompute=True, **arguments), episode)
    torch.testing.assert_close(got, expected, **SAME)


def test_recomputed_inner_steps_drop_again_what_they_dropped(make_episode):
    episode = make_episode((1, 8, 8))
    results = []
    for recompute in (False, True):
        torch.manual_seed(0)
        encoder = nn.Sequential(Conv4((1, 8, 8), 3, blocks=2), nn.Dropout(0.5))
        encoder.out_features = 12
        strategy = MAML(encoder, ways=3, inner_steps=2, recompute=recompute).double()
        results.append(gradients_of(strategy, episode))
    torch.testing.assert_close(*results, **SAME)


def test_recomputed_inner_steps_hold_little(make_episode):
    episode = make_episode((1, 8, 8), shots=[3, 3, 3])

    def growth(recompute):
        few, many = (
            held_bytes(tiny(inner_steps=steps, recompute=recompute, channels=8), episode)
            for steps in (2, 12)
        )
        return (many - few) / 10

    theta = 8 * sum(p.numel() for p in tiny(channels=8).parameters())  # bytes of float64
    tasks = episode.tasks
    assert growth(recompute=True) <= 1.05 * tasks * theta  # each θ_s, and nothing else
    assert growth(recompute=False) > 4 * growth(recompute=True)


def test_an_encoder_that_drops_and_counts_can_be_trained(make_episode):
    episode = make_episode((1, 8, 8))
    encoder = ResNet12((1, 8, 8), (3, 4), drop_rate=0.2, drop_block_size=2, drop_block_warmup=5)
    strategy = MAML(encoder, ways=3, inner_steps=2, inner_learning_rate=0.01).double()
    strategy.loss(episode)[0].backward()
    assert all(parameter.grad.isfinite().all() for parameter in strategy.parameters())
    strategy.eval()
    assert torch.equal(strategy(episode), strategy(episode))


# --- what cannot be ---


@pytest.mark.parametrize("ways", [2, 4])
def test_other_ways_than_it_was_made_for_are_refused(make_episode, ways):
    message = f"made for tasks of 3 ways.*the task has {ways} ways"
    with pytest.raises(ValueError, match=message):
        tiny(ways=3).adapt(make_episode((1, 8, 8), ways=ways).support, ways)


@pytest.mark.parametrize("arguments", [{"inner_steps": -1}, {"test_inner_steps": -2}])
def test_negative_steps_are_refused(arguments):
    with pytest.raises(ValueError, match="neither may be negative"):
        tiny(**arguments)


def test_an_encoder_that_states_no_length_is_refused():
    with pytest.raises(ValueError, match="Flatten does not say how long its vectors are"):
        MAML(nn.Flatten())
