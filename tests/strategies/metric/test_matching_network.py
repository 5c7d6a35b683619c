"""Matching networks on cases solved by hand, and their LSTMs against the paper's equations."""

import math

import pytest
import torch
from torch import nn

from quickstudy.encoders import MLP
from quickstudy.episodes import Examples
from quickstudy.strategies import MatchingNetwork
from quickstudy.strategies.metric.matching_network import embedded_queries, embedded_support

SUPPORT = Examples(torch.tensor([[[2.0, 0.0], [0.0, 0.3], [-1.0, 0.0]]]), torch.tensor([[0, 1, 1]]))
QUERY = torch.tensor([[[3.0, 4.0], [-7.0, 0.0]]])


def made(context, size=3, **arguments):
    torch.manual_seed(0)
    return MatchingNetwork(MLP((4,), [size]), context, **arguments).double()


# --- attention ---


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_probabilities_are_the_attention_that_a_class_gets(scale):
    strategy = MatchingNetwork(nn.Flatten(), scale=scale)
    logits = strategy.predict(strategy.adapt(SUPPORT, ways=2), QUERY)
    cosines = [[0.6, 0.8, -0.6], [-1.0, 0.0, 1.0]]
    weights = [[math.exp(scale * cosine) for cosine in of_query] for of_query in cosines]
    expected = torch.tensor([[[w[0] / sum(w), (w[1] + w[2]) / sum(w)] for w in weights]])
    torch.testing.assert_close(logits.exp(), expected)  # they are probabilities as they are


def test_a_class_without_examples_is_never_predicted_and_spoils_no_gradient():
    strategy = MatchingNetwork(nn.Flatten())
    inputs = SUPPORT.inputs.clone().requires_grad_()
    logits = strategy.predict(strategy.adapt(Examples(inputs, SUPPORT.targets), 3), QUERY)
    assert logits[..., 2].eq(-torch.inf).all()
    nn.functional.cross_entropy(logits[0], torch.tensor([0, 1])).backward()
    assert inputs.grad.isfinite().all()


def test_a_large_scale_is_the_nearest_neighbour():
    strategy = MatchingNetwork(nn.Flatten(), scale=1e4)
    logits = strategy.predict(strategy.adapt(SUPPORT, ways=2), QUERY)
    assert logits.isfinite().all()  # though some probabilities are too small for float32
    assert logits.argmax(-1).tolist() == [[1, 1]]


# --- full context embeddings ---


def lstm_step(x, h, c, weight_x, weight_h, bias):
    """One step of an LSTM (gates in torch's order: input, forget, cell, output)."""
    i, f, g, o = (weight_x @ x + weight_h @ h + bias).chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def test_a_query_reads_the_support_as_in_equations_3_to_6():
    torch.manual_seed(0)
    size, reads = 3, 4
    cell = nn.LSTMCell(2 * size, size).double()
    queries, support = torch.randn(2, 5, size).double(), torch.randn(2, 4, size).double()
    got = embedded_queries(cell, queries, support, reads)
    # The paper's LSTM(x, [h, r], c): r is multiplied by weights of the hidden state.
    of_x, of_r = cell.weight_ih.split(size, dim=1)
    of_h_and_r = torch.cat([cell.weight_hh, of_r], dim=1)
    for t in range(2):
        for q in range(5):
            x, h, c = queries[t, q], torch.zeros(size).double(), torch.zeros(size).double()
            for _ in range(reads):
                weights = torch.stack([h @ each for each in support[t]]).exp()
                r = sum(w * g for w, g in zip(weights / weights.sum(), support[t], strict=True))
                output, c = lstm_step(
                    x, torch.cat([h, r]), c, of_x, of_h_and_r, cell.bias_ih + cell.bias_hh
                )
                h = output + x
            torch.testing.assert_close(got[t, q], h)


def test_the_support_is_read_forth_and_back_in_the_order_of_a_fixed_projection():
    torch.manual_seed(0)
    size = 3
    lstm = nn.LSTM(size, size, batch_first=True, bidirectional=True).double()
    features = torch.randn(2, 5, size).double()
    got = embedded_support(lstm, features)
    for t in range(2):
        order = sorted(range(5), key=lambda i: float(features[t, i, 1] / 2 + features[t, i, 2]))
        expected = features[t].clone()
        for suffix, sequence in (("", order), ("_reverse", order[::-1])):
            names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
            of_x, of_h, *biases = (getattr(lstm, name + suffix) for name in names)
            h, c = torch.zeros(size).double(), torch.zeros(size).double()
            for i in sequence:
                h, c = lstm_step(features[t, i], h, c, of_x, of_h, sum(biases))
                expected[i] += h
        torch.testing.assert_close(got[t], expected)


def test_a_prediction_joins_the_embeddings_as_the_context_says(make_episode):
    episode = make_episode((4,), shots=[1, 3, 2])
    for context in ("none", "query", "full"):
        strategy = made(context, reads=2)
        g, f = (strategy.encode(e.inputs, {}) for e in (episode.support, episode.query))
        if context == "full":
            g = embedded_support(strategy.support_lstm, g)
        if context != "none":
            f = embedded_queries(strategy.query_lstm, f, g, 2)
        cosines = nn.functional.cosine_similarity(f[:, :, None], g[:, None], dim=-1)
        attention = cosines.softmax(-1)
        logits = strategy(episode)
        for k in range(3):
            members = (episode.support.targets == k)[:, None]
            torch.testing.assert_close(logits[..., k].exp(), (attention * members).sum(-1))


def test_with_full_context_an_example_changes_how_the_others_are_seen(make_episode):
    episode = make_episode((4,))
    changed = episode.support.inputs.clone()
    changed[:, 0] *= -2
    others = slice(1, None)
    for context, same in (("query", True), ("full", False)):
        strategy = made(context)
        before = strategy.adapt(episode.support, 3)["features"][:, others]
        after = strategy.adapt(Examples(changed, episode.support.targets), 3)["features"][:, others]
        assert torch.allclose(after, before, rtol=1e-6) == same


@pytest.mark.parametrize("context", ["query", "full"])
def test_gradients_agree_with_finite_differences(make_episode, context):
    episode = make_episode((2,), ways=2, tasks=1, shots=[1, 2], queries=1)
    torch.manual_seed(0)
    strategy = MatchingNetwork(MLP((2,), [2]), context, reads=2).double()

    def logits(support, queries):
        theta = strategy.adapt_features(Examples(support, episode.support.targets), 2)
        return strategy.predict_features(theta, queries)

    inputs = [e.inputs.clone().requires_grad_() for e in (episode.support, episode.query)]
    assert torch.autograd.gradcheck(logits, inputs)


def test_without_context_nothing_is_learned_but_the_encoder():
    assert all(name.startswith("encoder.") for name, _ in made("none").named_parameters())


def test_bad_arguments_are_refused_in_a_sentence():
    encoder = MLP((4,), [3])
    with pytest.raises(ValueError, match="choose none, query or full"):
        MatchingNetwork(encoder, context="both")
    with pytest.raises(ValueError, match="ask for at least 1"):
        MatchingNetwork(encoder, context="full", reads=0)
    with pytest.raises(ValueError, match="give more than 0"):
        MatchingNetwork(encoder, scale=0.0)
    with pytest.raises(ValueError, match="out_features"):
        MatchingNetwork(nn.Flatten(), context="query")
