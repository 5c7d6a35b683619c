"""Relation networks against the paper's form: every pair's maps on top of each other."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.encoders import MLP, Conv4
from quickstudy.episodes import Examples
from quickstudy.strategies import RelationNetwork

SHAPE = (1, 8, 8)


def made(encoder=None, training=False, **arguments):
    """In float64, with running averages that are not where they start."""
    torch.manual_seed(0)
    encoder = Conv4(SHAPE, channels=4, blocks=1) if encoder is None else encoder
    strategy = RelationNetwork(encoder, channels=5, **arguments).double()
    for name, buffer in strategy.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.add_(torch.rand_like(buffer))
    return strategy.train(training)


def module_on_pairs(module, stacked):
    """The relation module as figure 2 of the paper draws it, on maps of pairs [P, 2 C, H, W]."""
    x = stacked
    for convolution, norm in (
        (module.first, module.first_norm),
        (module.second, module.second_norm),
    ):
        x = F.relu(norm(F.conv2d(x, convolution.weight, padding=1)))
        x = F.max_pool2d(x, 2) if x.shape[-1] > 1 else x
    return module.score(F.relu(module.linear(x.flatten(1))))[:, 0]


def plain(strategy, episode):
    """Logits by loops over tasks, queries and classes, each pair's maps concatenated."""
    shape = strategy.relation.map_shape
    inputs = torch.cat([episode.support.inputs, episode.query.inputs], 1)
    maps = strategy.encoder(inputs.flatten(0, 1)).view(*inputs.shape[:2], *shape)
    shots, pairs = episode.support.targets.shape[1], []
    for t in range(episode.tasks):
        classes = [
            maps[t, :shots][episode.support.targets[t] == k].mean(0) for k in range(episode.ways)
        ]
        for query in maps[t, shots:]:
            pairs += [torch.cat([each, query]) for each in classes]
    logits = module_on_pairs(strategy.relation, torch.stack(pairs))
    return logits.view(*episode.query.targets.shape, episode.ways)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("blocks", [1, 2, 3], ids=["4x4 maps", "2x2 maps", "1x1 maps"])
def test_logits_are_those_of_every_pair_concatenated(make_episode, training, blocks):
    episode = make_episode(SHAPE, shots=[1, 3, 2])
    strategy = made(Conv4(SHAPE, channels=4, blocks=blocks), training)
    # The first convolution adds in another order; division by small deviations enlarges that.
    torch.testing.assert_close(strategy(episode), plain(strategy, episode), rtol=1e-8, atol=1e-9)


def test_an_encoder_without_maps_is_a_map_of_one_place(make_episode):
    episode = make_episode((6,))
    strategy = made(MLP((6,), [7, 3]))
    assert strategy.relation.map_shape == (3, 1, 1)
    torch.testing.assert_close(strategy(episode), plain(strategy, episode), rtol=1e-8, atol=1e-9)


def test_the_loss_is_the_squared_error_of_scores_between_0_and_1(make_episode):
    episode = make_episode(SHAPE)
    strategy = made()
    logits, total = strategy(episode), 0.0
    for t in range(2):
        for q, target in enumerate(episode.query.targets[t]):
            for k in range(3):
                score = 1 / (1 + torch.exp(-logits[t, q, k]))
                total += (score - float(k == target)) ** 2
    torch.testing.assert_close(strategy.loss(episode)[0], total / logits.numel())


def test_the_loss_may_be_the_cross_entropy(make_episode):
    episode = make_episode(SHAPE)
    strategy = made(objective="cross-entropy")
    right = strategy(episode).log_softmax(-1).gather(2, episode.query.targets[:, :, None])
    torch.testing.assert_close(strategy.loss(episode)[0], -right.mean())


def test_probabilities_are_in_the_ratio_of_the_odds_of_the_scores(make_episode):
    logits = made()(make_episode(SHAPE))
    scores = logits.sigmoid()
    odds = scores / (1 - scores)
    torch.testing.assert_close(logits.softmax(-1), odds / odds.sum(-1, keepdim=True))


def test_a_class_shown_twice_is_the_same_class(make_episode):
    support = make_episode(SHAPE).support
    twice = Examples(
        torch.cat([support.inputs] * 2, dim=1), torch.cat([support.targets] * 2, dim=1)
    )
    strategy = made()
    expected = strategy.adapt(support, 3)["classes"]
    torch.testing.assert_close(strategy.adapt(twice, 3)["classes"], expected)


def test_gradients_agree_with_finite_differences(make_episode):
    episode = make_episode((4,), ways=2, tasks=1, shots=[1, 2], queries=1)
    strategy = made(MLP((4,), [3]), hidden=3)

    def loss(inputs):
        theta = strategy.adapt(Examples(inputs, episode.support.targets), 2)
        return strategy.predict(theta, episode.query.inputs)

    assert torch.autograd.gradcheck(loss, episode.support.inputs.clone().requires_grad_())


def test_it_learns_to_compare(make_episode):
    """Whatever else, a few steps on one episode must make its loss small."""
    episode = make_episode(SHAPE, tasks=2, queries=3)
    strategy = made(training=True)
    optimizer = torch.optim.Adam(strategy.parameters(), 0.02)
    first = float(strategy.loss(episode)[0].detach())
    for _ in range(40):
        optimizer.zero_grad()
        loss = strategy.loss(episode)[0]
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.3 * first


def test_bad_arguments_are_refused_in_a_sentence():
    encoder = Conv4(SHAPE, channels=4, blocks=1)
    with pytest.raises(ValueError, match="choose squared error or cross-entropy"):
        RelationNetwork(encoder, objective="hinge")
    with pytest.raises(ValueError, match="both must be at least 1"):
        RelationNetwork(encoder, channels=0)
    with pytest.raises(ValueError, match="out_features"):
        RelationNetwork(nn.Flatten())
