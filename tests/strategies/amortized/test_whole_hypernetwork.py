"""The whole hypernetwork: its learner against a forward pass by hand, and what it emits."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.encoders import MLP, Conv4
from quickstudy.episodes import Episode, Examples, Sinusoids
from quickstudy.saving.description import build, describe
from quickstudy.strategies import PrototypicalNetwork, WholeHypernetwork
from quickstudy.strategies.amortized.weight_decoder import WeightDecoder

KINDS = ["cnn", "rnn", "transformer"]
SAME = {"rtol": 1e-9, "atol": 1e-9}  # float64 rounding
SHAPE = (1, 8, 8)


def tiny(learner=None, seed=0, noise=0.2, encoder=None, **arguments):
    """In float64 and evaluation mode; ``noise`` moves weights away from where they start."""
    torch.manual_seed(seed)
    encoder = Conv4(SHAPE, 3, blocks=2) if encoder is None else encoder
    learner = Conv4(SHAPE, 4, blocks=2) if learner is None else learner
    strategy = WholeHypernetwork(encoder, learner, **{"width": 8, **arguments}).double().eval()
    with torch.no_grad():
        for parameter in strategy.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return strategy


def blocks_by_hand(theta, x, statistics=None):
    """Vectors of images by a Conv4 of two blocks whose weights are θ's, for one task.

    Without ``statistics`` each block divides by those of ``x``, which are returned.
    """
    found = {}
    for block in range(2):
        x = F.conv2d(x, theta[f"learner.convolutions.{block}.weight"], padding=1)
        name = f"learner.norms.{block}"
        if statistics is None:
            found[f"{name}.mean"] = x.mean((0, 2, 3))
            found[f"{name}.var"] = x.var((0, 2, 3), unbiased=False)
        mean, var = ((statistics or found)[f"{name}.{part}"] for part in ("mean", "var"))
        x = (x - mean[:, None, None]) / (var + 1e-5).sqrt()[:, None, None]
        x = x * theta[f"{name}.weight"][:, None, None] + theta[f"{name}.bias"][:, None, None]
        x = F.max_pool2d(x.clamp(min=0), 2)
    return x.flatten(1), found


# --- the learner and its θ ---


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_the_learners_with_the_weights_of_theta(make_episode, kind):
    episode = make_episode(SHAPE, shots=[1, 3, 2])
    strategy = tiny(strategy_network=kind)
    theta = strategy.adapt(episode.support, 3)
    got = strategy.predict(theta, episode.query.inputs)
    for task in range(2):
        own = {name: value[task] for name, value in theta.items()}
        _, statistics = blocks_by_hand(own, episode.support.inputs[task])
        for name, value in statistics.items():
            torch.testing.assert_close(own[name], value, **SAME)
        features, _ = blocks_by_hand(own, episode.query.inputs[task], statistics)
        expected = features @ own["head.weight"].T + own["head.bias"]
        torch.testing.assert_close(got[task], expected, **SAME)


def test_every_weight_of_the_learner_is_emitted_and_differs_from_task_to_task(make_episode):
    strategy = tiny()
    theta = strategy.adapt(make_episode(SHAPE).support, 3)
    names = {f"learner.{name}" for name, _ in strategy.learner.named_parameters()}
    statistics = {f"learner.norms.{block}.{part}" for block in (0, 1) for part in ("mean", "var")}
    assert set(theta) == names | statistics | {"head.weight", "head.bias"}
    for name in names:
        assert theta[name].shape == (2, *strategy.learner.get_parameter(name[8:]).shape)
        assert (theta[name][0] - theta[name][1]).abs().max() > 1e-4, name


def test_a_frozen_weight_stays_as_it_is(make_episode):
    learner = Conv4(SHAPE, 4, blocks=2)
    learner.convolutions[0].requires_grad_(False)
    theta = tiny(learner).adapt(make_episode(SHAPE).support, 3)
    assert "learner.convolutions.0.weight" not in theta
    assert "learner.convolutions.1.weight" in theta


def test_the_row_of_a_class_is_made_from_its_code_and_where_the_learner_puts_it(make_episode):
    support = make_episode(SHAPE, shots=[1, 3, 2]).support
    strategy = tiny()
    theta = strategy.adapt(support, 3)
    tokens, targets = strategy.read(support, 3)
    features, _ = strategy.features(theta, support.inputs)
    scale = strategy.log_temperature.exp()
    for task in range(2):
        for k in range(3):
            mean = features[task, support.targets[task] == k].mean(0)
            code = tokens[task, targets[task] == k].mean(0)
            weight = 2 * scale * mean + strategy.head.rows.weight @ torch.cat([code, mean])
            bias = strategy.head.biases.weight[0] @ code - scale * mean @ mean
            torch.testing.assert_close(theta["head.weight"][task, k], weight, **SAME)
            torch.testing.assert_close(theta["head.bias"][task, k], bias, **SAME)


def test_without_what_is_emitted_it_is_a_prototypical_network(make_episode):
    """Its learner, with statistics of the support, is then the encoder of every task."""
    episode = make_episode(SHAPE, shots=[1, 3, 2], tasks=1)
    learner = Conv4(SHAPE, 4, blocks=2, normalization="group")
    strategy = tiny(learner)
    with torch.no_grad():
        for parameter in [*strategy.decoder.readouts.parameters(), *strategy.head.parameters()]:
            parameter.zero_()
        strategy.log_temperature.zero_()
    expected = PrototypicalNetwork(learner)(episode).log_softmax(-1)
    torch.testing.assert_close(strategy(episode).log_softmax(-1), expected, **SAME)


# --- the decoder ---


def rows_by_hand(decoder, tokens):
    """Changes of each tensor for one task's tokens ``[N, width]``, one slot at a time."""
    heads = decoder.heads
    size = tokens.shape[1] // heads
    slots, changes = iter(decoder.slots), {}
    for (name, shape), readout in zip(decoder.shapes.items(), decoder.readouts, strict=True):
        rows = []
        for _ in range(shape[0] if shape else 1):
            slot = next(slots)
            query = decoder.queries(decoder.slot_norm(slot))
            parts = []
            for head in range(heads):
                own = slice(head * size, (head + 1) * size)
                scores = [query[own] @ decoder.keys(t)[own] / math.sqrt(size) for t in tokens]
                shares = torch.stack(scores).softmax(0)
                parts.append(
                    sum(a * decoder.values(t)[own] for a, t in zip(shares, tokens, strict=True))
                )
            slot = slot + decoder.merge(torch.cat(parts))
            code = decoder.norm(slot + decoder.mlp(slot))
            rows.append(readout.weight @ code / math.sqrt(math.prod(shape[1:])))
        changes[name] = torch.stack(rows).view(shape)
    return changes


def test_the_decoder_follows_its_equations():
    torch.manual_seed(0)
    shapes = {"kernel": (3, 2, 3, 3), "bias": (3,), "matrix": (2, 4), "number": ()}
    shapes = {name: torch.Size(shape) for name, shape in shapes.items()}
    decoder = WeightDecoder(shapes, width=8, change=1.0, heads=2).double()
    tokens = torch.randn(3, 5, 8, dtype=torch.float64)
    changes = decoder(tokens)
    for task in range(3):
        for name, expected in rows_by_hand(decoder, tokens[task]).items():
            torch.testing.assert_close(changes[name][task], expected, **SAME)


@pytest.mark.parametrize("change", [0.1, 1.0])
def test_changes_begin_with_the_scale_of_usual_weights_times_what_was_asked(change):
    """The root of the mean square of a tensor of r numbers a row is ``change`` / √r."""
    torch.manual_seed(0)
    shapes = {"kernel": torch.Size((64, 32, 3, 3)), "matrix": torch.Size((128, 400))}
    decoder = WeightDecoder(shapes, width=64, change=change)
    changes = decoder(torch.randn(8, 5, 64))
    for name, each in changes.items():
        expected = change / math.sqrt(math.prod(shapes[name][1:]))
        # Of 64 to 128 rows whose codes have length √width; they are alike, so a tenth either way.
        assert float(each.detach().square().mean().sqrt()) == pytest.approx(expected, rel=0.1), name


# --- tasks, gradients, descriptions ---


def gradients_of(strategy, episode):
    loss = strategy.loss(episode)[0]
    return torch.autograd.grad(loss, list(strategy.parameters()))


def test_all_tasks_at_once_give_what_one_after_another_does(make_episode, monkeypatch):
    episode = make_episode(SHAPE, tasks=3, shots=[3, 1, 2])
    strategy = tiny()
    expected, logits = gradients_of(strategy, episode), strategy(episode)
    for task in range(3):
        alone = strategy(episode[task : task + 1])
        torch.testing.assert_close(alone[0], logits[task], **SAME)
    monkeypatch.setattr("quickstudy.strategies.functional.is_small", lambda tensor: True)
    torch.testing.assert_close(strategy(episode), logits, **SAME)
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter_from_the_first_step_on(make_episode, kind):
    strategy = tiny(noise=0.0, strategy_network=kind).train()
    strategy.loss(make_episode(SHAPE))[0].backward()
    for name, parameter in strategy.named_parameters():
        assert parameter.grad is not None, name
        # What is exactly zero stands still; attention's own-class bias starts there, and moves.
        assert parameter.grad.abs().max() > 1e-9, name


def test_the_gradient_agrees_with_finite_differences(make_episode):
    episode = make_episode((6,), shots=[1, 3, 2])
    strategy = tiny(MLP((6,), (5, 4)), encoder=MLP((6,), (5,)))
    for parameter in [strategy.decoder.slots, strategy.learner.layers[0].weight]:
        (gradient,) = torch.autograd.grad(strategy.loss(episode)[0], parameter)
        direction = torch.randn_like(parameter)
        losses = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                parameter.add_(step * direction)
                losses.append(strategy.loss(episode)[0])
                parameter.sub_(step * direction)
        slope = (losses[0] - losses[1]) / 2e-6
        # Rounding of the losses over the step: 1e-16 / 1e-6.
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-8)


def test_in_bfloat16_predictions_stay_near(make_episode):
    episode = make_episode(SHAPE)
    strategy = tiny(noise=0.0).float()
    support = Examples(episode.support.inputs.float(), episode.support.targets)
    query = Examples(episode.query.inputs.float(), episode.query.targets)
    episode = Episode(support, query, 3)
    expected = strategy(episode).softmax(-1)
    with torch.autocast("cpu", torch.bfloat16):
        got = strategy(episode).softmax(-1)
    # Eight bits of mantissa, four layers deep.
    torch.testing.assert_close(got, expected, rtol=0, atol=0.1)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 5, 9), (7,)])
def test_the_usual_learner_reads_what_the_encoder_reads(make_episode, shape):
    encoder = MLP(shape, (5,))
    strategy = WholeHypernetwork(encoder, width=8).double().eval()
    assert type(strategy.learner) is (MLP if len(shape) == 1 else Conv4)
    assert strategy(make_episode(shape)).shape == (2, 6, 3)
    again = build(describe(strategy)).double().eval()
    again.load_state_dict(strategy.state_dict())
    episode = make_episode(shape)
    torch.testing.assert_close(again(episode), strategy(episode), **SAME)


# --- regression ---


@pytest.mark.parametrize("kind", KINDS)
def test_in_regression_the_last_layer_is_emitted_like_the_others(kind):
    episode = Sinusoids(shots=5, queries=4, tasks=3).episode(0)
    x, y = episode.support.inputs.double(), episode.support.targets.double()
    queries = episode.query.inputs.double()
    strategy = tiny(
        MLP((1,), (6, 4)), encoder=MLP((1,), (5,)), target_size=1, strategy_network=kind
    )
    theta = strategy.adapt(Examples(x, y), 1)
    got = strategy.predict(theta, queries)
    for task in range(3):
        own = {name: value[task] for name, value in theta.items()}
        hidden = queries[task]
        for layer in (0, 1):
            weight, bias = (own[f"learner.layers.{layer}.{part}"] for part in ("weight", "bias"))
            hidden = (hidden @ weight.T + bias).clamp(min=0)
        expected = hidden @ own["head.weight"].T + own["head.bias"]
        torch.testing.assert_close(got[task], expected, **SAME)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(strategy.adapt(Examples(x[:, order], y[:, order]), 1), theta, **SAME)
    # Targets are read with their inputs: given to others they say something else.
    other = strategy.adapt(Examples(x, y[:, order]), 1)
    assert (other["head.weight"] - theta["head.weight"]).abs().max() > 1e-6
    strategy.loss(Episode(Examples(x, y), Examples(queries, episode.query.targets.double()), 1))[
        0
    ].backward()
    for name, parameter in strategy.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_a_learner_with_batch_normalisation_learns_numbers_too(make_episode):
    episode = make_episode(SHAPE)
    strategy = tiny(target_size=2)
    numbers = torch.randn(2, 6, 2, dtype=torch.float64)
    theta = strategy.adapt(Examples(episode.support.inputs, numbers), 2)
    own = {name: value[1] for name, value in theta.items()}
    _, statistics = blocks_by_hand(own, episode.support.inputs[1])
    features, _ = blocks_by_hand(own, episode.query.inputs[1], statistics)
    got = strategy.predict(theta, episode.query.inputs)[1]
    torch.testing.assert_close(got, features @ own["head.weight"].T + own["head.bias"], **SAME)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_sine_waves(kind):
    torch.manual_seed(0)
    strategy = WholeHypernetwork(
        MLP((1,), (20,)), MLP((1,), (20, 20)), kind, target_size=1, width=32
    )
    waves = Sinusoids(shots=10, queries=10, tasks=25)
    optimizer = torch.optim.Adam(strategy.parameters(), lr=3e-3)
    unseen = Sinusoids(shots=10, queries=20, tasks=100, seed=1).episode(0)
    for step in range(100):
        optimizer.zero_grad()
        strategy.loss(waves.episode(step))[0].backward()
        optimizer.step()
    with torch.no_grad():
        after = float(strategy.loss(unseen)[0])
    guessing = float(unseen.query.targets.var())
    assert after < 0.7 * guessing


# --- what cannot be ---


def test_targets_of_another_kind_are_refused(make_episode):
    support = make_episode(SHAPE).support
    with pytest.raises(ValueError, match=r"are classes, .* make and train one with no target_size"):
        tiny(target_size=3).adapt(support, 3)
    numbers = Examples(support.inputs, torch.zeros(2, 6, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"are numbers, .* with target_size, their length"):
        tiny().adapt(numbers, 3)


def test_targets_of_another_length_are_refused(make_episode):
    support = make_episode(SHAPE).support
    with pytest.raises(ValueError, match="made for tasks of 2 ways"):
        tiny(target_size=2).adapt(support, 3)


@pytest.mark.parametrize(
    "arguments", [{"change": 0.0}, {"width": 0}, {"layers": 0}, {"target_size": 0}], ids=str
)
def test_arguments_that_leave_nothing_are_refused(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"WholeHypernetwork's {name} is 0.*must be more than 0"):
        tiny(**arguments)


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="width 6 must be a multiple of the decoder's 4 heads"):
        tiny(strategy_network="rnn", width=6)


def test_an_unknown_strategy_network_is_refused():
    with pytest.raises(ValueError, match="strategy network 'gru' is unknown"):
        tiny(strategy_network="gru")


def test_networks_that_do_not_say_what_is_needed_are_refused():
    encoder = nn.Flatten()
    encoder.out_features = 64
    with pytest.raises(ValueError, match="Flatten does not state its `input_shape`"):
        WholeHypernetwork(encoder)
    with pytest.raises(ValueError, match="Flatten does not say how long its vectors are"):
        WholeHypernetwork(Conv4(SHAPE, 3, blocks=2), nn.Flatten())
