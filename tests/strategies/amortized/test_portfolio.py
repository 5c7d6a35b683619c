"""The portfolio: its members against their equations, left-out examples, and the mixture."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.encoders import MLP
from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import Portfolio
from quickstudy.strategies.amortized.learners import LEAST_PENALTY, MEMBERS, STEPS
from quickstudy.strategies.amortized.portfolio import LEAST_SCORE
from quickstudy.strategies.solvers import ridge, ridge_left_out

from ...builders import Raw

NAMES = ["prototypes", "ridge", "neighbors", "gradient"]
each_member = pytest.mark.parametrize("name", NAMES)


def plain(members=tuple(NAMES), noise=0.3, **arguments):
    torch.manual_seed(0)
    strategy = Portfolio(Raw(), members, width=8, **arguments).double()
    with torch.no_grad():
        for parameter in strategy.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return strategy.eval()


def settings_of(name, tasks=2):
    """Settings that differ from task to task."""
    return {
        setting: value * torch.linspace(0.5, 1.5, tasks, dtype=torch.float64)[:, None, None]
        for setting, value in MEMBERS[name].settings.items()
    }


# --- members ---


def taught(name, x, y, query, settings):
    """Logits of one query by one member that learns from one support, in plain steps."""
    ways = int(y.max()) + 1
    means = torch.stack([x[y == k].mean(0) for k in range(ways)])
    members = F.one_hot(y, ways).double()
    if name == "prototypes":
        return torch.stack([-settings["scale"] * (query - c).square().sum() for c in means])
    if name == "neighbors":
        votes = torch.exp(-settings["temperature"] * (x - query).square().sum(1))
        return settings["scale"] * torch.stack([votes[y == k].sum().log() for k in range(ways)])
    with_one = torch.cat([x, torch.ones(len(x), 1).double()], 1)
    asked = torch.cat([query, torch.ones(1).double()])
    if name == "ridge":
        penalty = (LEAST_PENALTY + settings["penalty"]) * torch.eye(with_one.shape[1])
        weight = torch.linalg.inv(with_one.T @ with_one + penalty) @ with_one.T @ members
        return settings["scale"] * (asked @ weight)
    weight = torch.cat([2 * means, -means.square().sum(1, keepdim=True)], 1) * settings["scale"]
    for _ in range(STEPS):
        weight = weight.detach().requires_grad_()
        loss = F.cross_entropy(with_one @ weight.T, y)
        weight = weight - settings["rate"] * torch.autograd.grad(loss, weight)[0]
    return (weight @ asked).detach()


@each_member
def test_a_member_follows_its_equation_for_unequal_shots(make_episode, name):
    episode = make_episode((4,), shots=[1, 3, 2])
    settings = settings_of(name)
    member = MEMBERS[name]
    logits = member.logits(member.learn(episode.support, 3, settings), episode.query.inputs)
    for task in range(2):
        own = {key: float(value[task]) for key, value in settings.items()}
        x, y = episode.support.inputs[task], episode.support.targets[task]
        for i, query in enumerate(episode.query.inputs[task]):
            torch.testing.assert_close(logits[task, i], taught(name, x, y, query, own))


@each_member
def test_left_out_examples_are_what_the_others_teach(make_episode, name):
    support = make_episode((4,), shots=[2, 4, 3]).support
    settings = settings_of(name)
    logits = MEMBERS[name].left_out(support, 3, settings)
    if name == "gradient":
        assert logits is None
        return
    for task in range(2):
        own = {key: float(value[task]) for key, value in settings.items()}
        x, y = support.inputs[task], support.targets[task]
        for i in range(len(y)):
            others = torch.arange(len(y)) != i
            expected = taught(name, x[others], y[others], x[i], own)
            torch.testing.assert_close(logits[task, i], expected)


@pytest.mark.parametrize(("examples", "size"), [(9, 3), (4, 7)])
def test_ridge_without_an_example_is_ridge_without_it(examples, size):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, examples, size, generator=generator, dtype=torch.float64)
    y = torch.randn(2, examples, 2, generator=generator, dtype=torch.float64)
    penalty = torch.tensor([0.3, 2.0], dtype=torch.float64)
    found = ridge_left_out(x, y, penalty)
    for i in range(examples):
        others = torch.arange(examples) != i
        weight = ridge(x[:, others], y[:, others], penalty)
        torch.testing.assert_close(found[:, i], (x[:, i, None] @ weight)[:, 0])
    arguments = (x.requires_grad_(), y.requires_grad_(), penalty.requires_grad_())
    assert torch.autograd.gradcheck(ridge_left_out, arguments)


def test_far_classes_of_the_vote_stay_finite():
    support = Examples(torch.tensor([[[0.0], [1e3]]]), torch.tensor([[0, 1]]))
    one = torch.ones(1, 1, 1)
    member = MEMBERS["neighbors"]
    theta = member.learn(support, 3, {"temperature": one, "scale": one})  # class 2 is empty
    logits = member.logits(theta, torch.tensor([[[0.0], [1e3]]]))
    assert logits.isfinite().all()
    assert logits.argmax(-1).tolist() == [[0, 1]]
    assert (logits[..., 2] <= logits[..., :2].amin(-1)).all()


# --- what the network is told and says ---


def prepared(support):
    """Features with mean 0 and mean squared length 1."""
    x = support.inputs - support.inputs.mean(1, keepdim=True)
    return Examples(x / x.square().sum(-1).mean(1).sqrt()[:, None, None], support.targets)


def test_scores_are_means_over_examples_that_have_others_of_their_class(make_episode):
    support = prepared(make_episode((4,), shots=[1, 3, 2]).support)
    settings = {name: settings_of(name) for name in NAMES}
    scores = plain().scores(support, 3, settings)
    assert scores.shape == (2, 9)
    for task in range(2):
        y = support.targets[task]
        tried = [i for i in range(6) if (y == y[i]).sum() > 1]
        assert float(scores[task, 0]) == pytest.approx(len(tried) / 6)
        for number, name in enumerate(NAMES):
            logits = MEMBERS[name].left_out(support, 3, settings[name])
            if logits is None:
                assert scores[task, 1 + 2 * number :].eq(0).all()
                continue
            above = [
                max(float(logits[task, i].log_softmax(0)[y[i]]) + math.log(3), LEAST_SCORE)
                for i in tried
            ]
            right = [float(logits[task, i].argmax() == y[i]) for i in tried]
            found = scores[task, 1 + 2 * number : 3 + 2 * number].tolist()
            assert found == pytest.approx([sum(above) / 5, sum(right) / 5])


def test_one_shot_tasks_have_no_scores(make_episode):
    support = prepared(make_episode((4,), shots=[1, 1, 1]).support)
    scores = plain().scores(support, 3, {name: settings_of(name) for name in NAMES})
    assert torch.equal(scores, torch.zeros(2, 9, dtype=torch.float64))


def test_shares_depend_on_the_scores(make_episode):
    """With no code of the task, only how the members do can tell two supports apart."""
    episode = make_episode((4,), shots=[3, 3, 3])
    strategy = plain()
    with torch.no_grad():
        strategy.reader.norm.weight.zero_()
        strategy.reader.norm.bias.zero_()
    shares = strategy.adapt(episode.support, 3)["log_shares"]
    assert (shares[0] - shares[1]).abs().max() > 1e-3
    with torch.no_grad():
        strategy.shares.weight[:, -9:] = 0
    shares = strategy.adapt(episode.support, 3)["log_shares"]
    torch.testing.assert_close(shares[0], shares[1])


def test_predictions_are_the_mixture_that_theta_says(make_episode):
    episode = make_episode((4,), shots=[1, 3, 2])
    strategy = plain()
    theta = strategy.adapt(episode.support, 3)
    got = strategy.predict(theta, episode.query.inputs)
    queries = (episode.query.inputs - theta["centre"]) / theta["length"]
    shares, sharpness = theta["log_shares"].exp(), theta["sharpness"]
    torch.testing.assert_close(shares.sum(1), torch.ones(2, dtype=torch.float64))
    assert shares.std(1).min() > 1e-3
    mixture = torch.zeros_like(got)
    for number, name in enumerate(NAMES):
        own = {k.partition(".")[2]: v for k, v in theta.items() if k.startswith(f"{name}.")}
        logits = MEMBERS[name].logits(own, queries)
        for task in range(2):
            each = (sharpness[task, number] * logits[task]).softmax(-1)
            mixture[task] += shares[task, number] * each
    torch.testing.assert_close(got.exp(), mixture)


@each_member
def test_a_single_member_begins_as_that_algorithm(make_episode, name):
    episode = make_episode((4,), shots=[1, 3, 2])
    strategy = plain((name,), noise=0.0)
    support = prepared(episode.support)
    theta = strategy.adapt(episode.support, 3)
    queries = (episode.query.inputs - theta["centre"]) / theta["length"]
    got = strategy.predict(theta, episode.query.inputs)
    settings = MEMBERS[name].settings
    for task in range(2):
        x, y = support.inputs[task], support.targets[task]
        for i, query in enumerate(queries[task]):
            expected = taught(name, x, y, query, settings).log_softmax(0)
            # Settings are kept as float32 logarithms until the strategy is made float64.
            torch.testing.assert_close(got[task, i], expected, rtol=1e-5, atol=1e-5)


def test_features_may_be_moved_and_scaled(make_episode):
    episode = make_episode((4,), shots=[2, 3, 2])
    strategy = plain()
    theta = strategy.adapt(episode.support, 3)
    expected = strategy.predict(theta, episode.query.inputs)
    moved = Examples(100 * episode.support.inputs + 7, episode.support.targets)
    theta = strategy.adapt(moved, 3)
    got = strategy.predict(theta, 100 * episode.query.inputs + 7)
    torch.testing.assert_close(got, expected)


def test_any_number_of_ways_and_shots(make_episode):
    for ways in (1, 2, 7):
        for shots in (1, 4):
            episode = make_episode((4,), ways=ways, shots=[shots] * ways)
            logits = plain()(episode)
            assert logits.shape == (2, 2 * ways, ways)
            assert logits.isfinite().all()


def test_a_single_example_is_no_task_to_fail_on():
    support = Examples(torch.ones(1, 1, 4).double(), torch.zeros(1, 1, dtype=torch.int64))
    strategy = plain()
    logits = strategy.predict(strategy.adapt(support, 1), torch.ones(1, 2, 4).double())
    torch.testing.assert_close(logits, torch.zeros(1, 2, 1, dtype=torch.float64))


def test_half_precision_is_compared_in_float32(make_episode):
    episode = make_episode((4,), shots=[2, 3, 2])
    expected = plain()(episode).float()
    support, query = (
        Examples(e.inputs.bfloat16(), e.targets) for e in (episode.support, episode.query)
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = plain().float()(Episode(support, query, 3))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=0.1, atol=0.1)


# --- learning ---


def two_kinds(generator, tasks=16, ways=3, shots=5, queries=5):
    """Tasks of even numbers are clusters in two numbers; of odd ones, one number of four matters.

    In the latter, the class is in the first number, and the others are loud noise: neighbours and
    prototypes are lost there, while ridge regression learns which number it is.
    """
    each = shots + queries
    targets = torch.arange(ways)[:, None].expand(tasks, ways, each)
    noise = torch.randn(tasks, ways, each, 4, generator=generator)
    places = 2 * torch.randn(tasks, ways, 1, 4, generator=generator)
    clusters = 0.6 * noise + places
    along = 2.0 * noise
    along[..., 0] = targets - 1 + 0.1 * noise[..., 0]
    odd = (torch.arange(tasks) % 2 == 1)[:, None, None, None]
    x = torch.where(odd, along, clusters)

    def part(chosen):
        return Examples(x[:, :, chosen].flatten(1, 2), targets[:, :, chosen].flatten(1, 2))

    return Episode(part(slice(shots)), part(slice(shots, None)), ways)


def test_it_learns_which_member_suits_which_task():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    unseen = two_kinds(torch.Generator().manual_seed(1), tasks=400)
    losses = {}
    for members in (("neighbors", "ridge"), ("neighbors",), ("ridge",)):
        strategy = Portfolio(Raw(), members, width=16)
        optimizer = torch.optim.Adam(strategy.parameters(), lr=1e-2)
        for _ in range(150):
            optimizer.zero_grad()
            strategy.loss(two_kinds(generator))[0].backward()
            optimizer.step()
        with torch.no_grad():
            losses[members] = float(strategy.loss(unseen)[0])
            if len(members) == 2:
                shares = strategy.adapt(unseen.support, 3)["log_shares"].exp()
    assert losses["neighbors", "ridge"] < min(losses["neighbors",], losses["ridge",])
    assert shares[::2, 0].mean() > shares[1::2, 0].mean() + 0.2


def test_gradients_reach_the_encoder(make_episode):
    torch.manual_seed(0)
    strategy = Portfolio(MLP((4,), (8, 4)), width=8).double()
    strategy.loss(make_episode((4,)))[0].backward()
    assert all(p.grad.abs().max() > 0 for p in strategy.encoder.parameters())


@pytest.mark.parametrize("members", [(), ("tree",), ("ridge", "ridge")])
def test_impossible_members_are_refused(members):
    with pytest.raises(ValueError, match=r"cannot be a portfolio; name one or more of prototypes"):
        plain(members)


def test_an_encoder_that_states_no_length_is_refused():
    with pytest.raises(ValueError, match="Flatten does not say how long its vectors are"):
        Portfolio(nn.Flatten())
