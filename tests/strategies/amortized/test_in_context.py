"""The in-context learner against its sequence, one query at a time, and the label embeddings."""

import itertools
import math

import pytest
import torch
from torch import nn

from quickstudy.encoders import MLP
from quickstudy.episodes import Examples
from quickstudy.strategies import InContextLearner
from quickstudy.strategies.amortized.in_context import elmes
from quickstudy.strategies.functional import class_means, similarity

from ...builders import Raw


def plain(encoder=None, **arguments):
    torch.manual_seed(0)
    arguments = {"max_ways": 7, "width": 6, "layers": 2, "heads": 2, **arguments}
    strategy = InContextLearner(encoder or Raw(), **arguments).double()
    with torch.no_grad():
        for name, parameter in strategy.named_parameters():
            if not name.startswith("encoder"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return strategy.eval()


# --- label embeddings ---


@pytest.mark.parametrize("most", [2, 3, 5, 20])
def test_label_embeddings_are_corners_of_a_regular_simplex(most):
    for ways in range(1, most + 1):
        embeddings = elmes(ways, most)
        assert embeddings.shape == (ways, ways)
        products = embeddings @ embeddings.T
        torch.testing.assert_close(products.diagonal(), torch.ones(ways, dtype=torch.float64))
        for one, other in itertools.permutations(range(ways), 2):
            assert float(products[one, other]) == pytest.approx(-1 / (most - 1))
    # All of them lie around 0, which is what an unknown label is.
    assert elmes(most, most).sum(0).abs().max() < 1e-12


def test_they_are_as_far_apart_as_that_many_can_be():
    """Σ_kl e_kᵀ e_l = |Σ e_k|² ≥ 0, so the mean product of K (K − 1) pairs is −1 / (K − 1) or more.

    The embeddings of 3 classes are the corners of a triangle: 120° from each other.
    """
    products = elmes(3, 3) @ elmes(3, 3).T
    assert float(products[0, 1]) == pytest.approx(math.cos(2 * math.pi / 3))


# --- the sequence ---


def normalized(norm, x):
    y = (x - x.mean()) / (x.var(unbiased=False) + norm.eps).sqrt()
    return norm.weight * y + (0 if norm.bias is None else norm.bias)


def sequence_by_hand(strategy, query, x, y, ways):
    """One query before its support, in loops, with embeddings as corners in max_ways dimensions.

    Tokens are [features, label]; each head's query and key are products of whole tokens.
    """
    most, heads = strategy.max_ways, strategy.heads
    corners = math.sqrt(most / (most - 1)) * (torch.eye(most).double() - 1 / most)
    size = strategy.width // heads
    length = (x - x.mean(0)).square().sum(1).mean().sqrt()
    usual = [2 * (v - x.mean(0)) / length for v in (query, *x)]  # 2 = √4
    h = [strategy.embedding.weight @ v + strategy.embedding.bias for v in usual]
    z = [torch.zeros(most, dtype=torch.float64), *(corners[int(k)] for k in y)]
    for layer in strategy.transformer:
        projected = [
            layer.projections.weight @ normalized(layer.norm, each) + layer.projections.bias
            for each in h
        ]
        q, k, v = ([p.view(3, heads, size)[part] for p in projected] for part in range(3))
        next_h, next_z = [], []
        for i in range(len(h)):
            seen = [j for j in range(len(h)) if j > 0 or i == 0]  # nobody else sees the query
            read, vote = [], torch.zeros(most, dtype=torch.float64)
            for head in range(heads):
                scores = torch.stack(
                    [
                        q[i][head] @ k[j][head] / math.sqrt(size)
                        + layer.agreement[head] * (z[i] @ z[j])
                        for j in seen
                    ]
                )
                shares = scores.exp() / scores.exp().sum()
                read.append(sum(a * v[j][head] for a, j in zip(shares, seen, strict=True)))
                vote = vote + layer.votes[head] * sum(
                    a * z[j] for a, j in zip(shares, seen, strict=True)
                )
            middle = h[i] + layer.merge.weight @ torch.cat(read) + layer.merge.bias
            first, up, _, down = layer.mlp
            inner = nn.functional.gelu(up.weight @ normalized(first, middle) + up.bias)
            next_h.append(middle + down.weight @ inner + down.bias)
            next_z.append(z[i] + vote)
        h, z = next_h, next_z
    outputs = [normalized(strategy.norm, each) for each in h]
    logits = []
    for way in range(ways):
        own = torch.stack([outputs[1 + i] for i in range(len(x)) if y[i] == way]).mean(0)
        near = -(outputs[0] - own).square().sum()
        logits.append(
            strategy.log_label_scale.exp() * (z[0] @ corners[way])
            + strategy.log_feature_scale.exp() * near
        )
    return torch.stack(logits)


@pytest.mark.parametrize("arguments", [{}, {"heads": 3, "layers": 1}, {"max_ways": 3}])
def test_all_queries_at_once_are_each_query_with_its_support(make_episode, arguments):
    episode = make_episode((4,), shots=[1, 3, 2])
    strategy = plain(**arguments)
    logits = strategy(episode).detach()
    for task in range(2):
        x, y = episode.support.inputs[task], episode.support.targets[task]
        for i, query in enumerate(episode.query.inputs[task]):
            expected = sequence_by_hand(strategy, query, x, y, 3).detach()
            torch.testing.assert_close(logits[task, i], expected)


def test_a_query_reads_the_labels_of_examples_like_it():
    """With features that say nothing, the vote goes to the larger class; sizes are 3 and 1."""
    strategy = plain(max_ways=2, layers=1)
    with torch.no_grad():
        strategy.embedding.weight.zero_()
        strategy.transformer[0].votes.fill_(0.5)
    support = Examples(torch.randn(1, 4, 4).double(), torch.tensor([[0, 0, 0, 1]]))
    logits = strategy.predict(strategy.adapt(support, 2), torch.randn(1, 1, 4).double())
    # Five equal shares (itself among them): z = 3/5 e_0 + 1/5 e_1 = 2/5 e_0, as e_1 = −e_0. The
    # class outputs are equal, as labels enter features by their inner products alone.
    voted = float(strategy.log_label_scale.exp().detach()) * 0.4
    classes = strategy.adapt(support, 2)["classes"]
    torch.testing.assert_close(classes[:, 0], classes[:, 1])
    assert float((logits[0, 0, 0] - logits[0, 0, 1]).detach()) == pytest.approx(2 * voted)


def test_it_begins_as_a_prototypical_network(make_episode):
    episode = make_episode((4,), shots=[1, 3, 2])
    torch.manual_seed(0)
    strategy = InContextLearner(Raw(), width=8).double()
    theta = strategy.adapt(episode.support, 3)
    logits = strategy.predict(theta, episode.query.inputs)
    support, queries = (
        strategy.norm(strategy.embedded(part.inputs, theta))
        for part in (episode.support, episode.query)
    )
    means = class_means(support, episode.support.targets, 3)
    expected = 5 / 8 * similarity(queries, means, "euclidean")
    # The scale is kept as a float32 logarithm until the strategy is made float64.
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_theta_is_keys_and_values_of_the_support(make_episode):
    support = make_episode((4,), shots=[1, 3, 2]).support
    theta = plain().adapt(support, 3)
    # Of two heads of three features, with three numbers of a label.
    sequence = {f"{layer}.{kind}": (2, 2, 6, 6) for layer in (0, 1) for kind in ("keys", "values")}
    rest = {"classes": (2, 3, 6), "centre": (2, 1, 4), "length": (2, 1, 1)}
    assert {k: tuple(v.shape) for k, v in theta.items()} == {**sequence, **rest}


def test_any_number_of_ways_up_to_the_most(make_episode):
    for ways in (1, 2, 7):
        assert plain()(make_episode((4,), ways=ways)).shape == (2, 2 * ways, ways)
    with pytest.raises(ValueError, match=r"label embeddings for 7 ways; the task has 8"):
        plain()(make_episode((4,), ways=8))
    with pytest.raises(ValueError, match="larger max_ways"):
        plain().check_ways(8)


def test_a_frozen_encoder_stays_as_it_is(make_episode):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.BatchNorm1d(5))
    encoder.out_features = 5
    strategy = plain(encoder, frozen=True).train()
    assert strategy.training
    assert strategy.transformer.training
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    loss = strategy.loss(make_episode((4,)))[0]
    loss.backward()
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert strategy.norm.weight.grad.abs().max() > 0
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_mixed_precision_says_about_the_same(make_episode):
    episode = make_episode((4,))
    expected = plain()(episode).float()
    strategy = plain().float()
    half = Examples(episode.support.inputs.float(), episode.support.targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theta = strategy.adapt(half, 3)
        logits = strategy.predict(theta, episode.query.inputs.float())
    assert logits.dtype == torch.float32
    # Three digits in each of two layers.
    torch.testing.assert_close(logits, expected, rtol=0.1, atol=0.1)


def test_it_learns_in_context():
    """Clusters at random places: nothing but the support says where."""
    torch.manual_seed(0)
    strategy = InContextLearner(MLP((6,), hidden=(16, 16)), width=16, layers=2)
    generator = torch.Generator().manual_seed(0)

    def loss():
        centres = 1.5 * torch.randn(8, 3, 6, generator=generator)
        targets = torch.arange(3).repeat(5).expand(8, -1)
        x = centres.gather(1, targets[:, :, None].expand(-1, -1, 6))
        x = x + torch.randn(x.shape, generator=generator)
        theta = strategy.adapt(Examples(x[:, :6], targets[:, :6]), 3)
        logits = strategy.predict(theta, x[:, 6:])
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets[:, 6:].flatten())

    optimizer = torch.optim.Adam(strategy.parameters(), lr=3e-3)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        losses.append(loss())
        losses[-1].backward()
        optimizer.step()
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_ways": 1}, "max_ways is 1; it must be at least 2"),
        ({"layers": 0}, "layers is 0; it must be more than 0"),
        ({"width": 7}, "width 7 must be a multiple of the 2 heads"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plain(**arguments)


def test_an_encoder_that_states_no_length_is_refused():
    with pytest.raises(ValueError, match="Flatten does not say how long its vectors are"):
        InContextLearner(nn.Flatten())
