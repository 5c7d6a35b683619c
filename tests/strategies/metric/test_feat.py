"""FEAT against its equations, written out in loops."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.encoders import MLP
from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import FEAT, PrototypicalNetwork
from quickstudy.strategies.metric.feat import SetTransformer

from ...builders import Raw


def plain(**arguments):
    torch.manual_seed(0)
    strategy = FEAT(Raw(), **arguments).double()
    with torch.no_grad():
        for parameter in strategy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return strategy.eval()


def adapted(transformer, members):
    """What the transformer makes of one set ``[M, D]``, one member and one head at a time."""
    heads, size = transformer.heads, members.shape[1]
    matrices = transformer.projections.weight.view(3, heads, size, size)
    results = []
    for x in members:
        parts = []
        for query, key, value in zip(*matrices, strict=True):
            scores = torch.stack([(query @ x) @ (key @ other) for other in members]) / size**0.5
            shares = scores.exp() / scores.exp().sum()
            parts.append(sum(a * (value @ o) for a, o in zip(shares, members, strict=True)))
        y = x + transformer.merge.weight @ torch.cat(parts) + transformer.merge.bias
        if isinstance(transformer.norm, nn.LayerNorm):
            y = (y - y.mean()) / (y.var(unbiased=False) + transformer.norm.eps).sqrt()
            y = transformer.norm.weight * y + transformer.norm.bias
        results.append(y)
    return torch.stack(results)


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("heads", [1, 3])
def test_logits_follow_the_equations_for_unequal_shots(make_episode, heads, normalized):
    episode = make_episode((4,), shots=[1, 3, 2])
    strategy = plain(heads=heads, temperature=2.5, normalized=normalized)
    logits = strategy(episode)
    for task in range(2):
        x, y = episode.support.inputs[task], episode.support.targets[task]
        prototypes = adapted(
            strategy.transformer, torch.stack([x[y == k].mean(0) for k in range(3)])
        )
        for i, query in enumerate(episode.query.inputs[task]):
            expected = -(query - prototypes).square().sum(1) / 2.5
            torch.testing.assert_close(logits[task, i], expected)


def test_a_prototype_depends_on_the_other_classes(make_episode):
    support = make_episode((4,)).support
    strategy = plain()
    changed = support.inputs.clone()
    changed[support.targets == 2] += 1.0
    before = strategy.adapt(support, 3)["prototypes"]
    after = strategy.adapt(Examples(changed, support.targets), 3)["prototypes"]
    assert (after - before)[:, :2].abs().amax(-1).min() > 1e-3


def test_the_loss_adds_the_contrast_of_each_class_adapted_as_a_set(make_episode):
    episode = make_episode((4,), shots=[1, 3, 2])
    added = 0.0
    for task in range(2):
        parts = (episode.support, episode.query)
        x = torch.cat([part.inputs[task] for part in parts])
        y = torch.cat([part.targets[task] for part in parts])
        sets = [adapted(plain().transformer, x[y == k]) for k in range(3)]
        centres = torch.stack([each.mean(0) for each in sets])
        for k in range(3):
            for instance in sets[k]:
                logits = -(instance - centres).square().sum(1) / 8.0
                added -= logits.log_softmax(0)[k] / len(y) / 2
    bare = plain(temperature=8.0, contrast=0.0).loss(episode)[0]
    whole = plain(temperature=8.0, contrast=0.7).loss(episode)[0]
    torch.testing.assert_close(whole - bare, 0.7 * added)
    expected = F.cross_entropy(plain(temperature=8.0)(episode).mT, episode.query.targets)
    torch.testing.assert_close(bare, expected)


def test_the_loss_embeds_each_example_once_and_tells_its_logits(make_episode):
    """Training reads the accuracy from what the forward pass returned."""
    episode = make_episode((4,))
    torch.manual_seed(0)
    strategy = FEAT(MLP((4,), (8, 4))).double()
    seen, embedded = [], []
    strategy.register_forward_hook(lambda _, __, output: seen.append(output))
    strategy.encoder.register_forward_hook(lambda _, __, output: embedded.append(len(output)))
    strategy.loss(episode)
    assert embedded == [2 * (6 + 6)]
    assert [tuple(each.shape) for each in seen] == [(2, 6, 3)]


def test_members_of_other_sets_are_not_seen():
    torch.manual_seed(0)
    transformer = SetTransformer(4, heads=2, dropout=0.0).double()
    members = torch.randn(1, 5, 4, dtype=torch.float64)
    of_set = torch.tensor([[0, 1, 0, 1, 1]])
    together = of_set[:, :, None] == of_set[:, None, :]
    got = transformer(members, together)
    for one in (0, 1):
        alone = transformer(members[:, of_set[0] == one])
        torch.testing.assert_close(got[:, of_set[0] == one], alone)


def test_dropout_is_for_training_only(make_episode):
    episode = make_episode((4,))
    strategy = plain(dropout=0.5)
    assert torch.equal(strategy(episode), strategy(episode))
    strategy.train()
    assert not torch.equal(strategy(episode), strategy(episode))


def test_half_precision_is_compared_in_float32(make_episode):
    episode = make_episode((4,))
    expected = plain()(episode).float()
    support, query = (
        Examples(e.inputs.bfloat16(), e.targets) for e in (episode.support, episode.query)
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        strategy = plain().float()
        logits = strategy(Episode(support, query, 3))
        assert strategy.loss(Episode(support, query, 3))[0].dtype == torch.float32
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.02)


def test_any_number_of_ways(make_episode):
    for ways in (1, 2, 7):
        assert plain()(make_episode((4,), ways=ways)).shape == (2, 2 * ways, ways)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": 0}, "heads is 0; it must be more than 0"),
        ({"temperature": -2.0}, "temperature is -2.0; it must be more than 0"),
        ({"contrast": -0.1}, "contrast is -0.1"),
        ({"dropout": 1.0}, "dropout 1.0"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plain(**arguments)


def test_an_encoder_that_states_no_length_is_refused():
    with pytest.raises(ValueError, match="Flatten does not say how long its vectors are"):
        FEAT(nn.Flatten())


def test_without_normalisation_it_begins_as_prototypes(make_episode):
    episode = make_episode((4,), shots=[1, 3, 2])
    strategy = FEAT(Raw(), temperature=1.0, normalized=False).double().eval()
    torch.testing.assert_close(strategy(episode), PrototypicalNetwork(Raw())(episode))
