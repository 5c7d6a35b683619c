"""SNAIL against whole sequences, one for each query, and its blocks against their equations."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.encoders import MLP
from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import SNAIL
from quickstudy.strategies.bases.set_networks import reading_order
from quickstudy.strategies.recurrent.snail import LABEL_SIZE, AttentionBlock, DenseBlock

from ...builders import Raw
from ..toy_tasks import accuracy_after_training

# Two ways to write one computation in float64 differ by rounding only.
SAME = {"rtol": 1e-9, "atol": 1e-10}


def plain(ways=3, longest=6, filters=8):
    torch.manual_seed(0)
    strategy = SNAIL(Raw(), ways, longest, filters).double()
    with torch.no_grad():
        for parameter in strategy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return strategy.eval()


def with_random_past(module):
    """Lets convolutions see the place before, which they begin without."""
    for block in module.modules():
        if isinstance(block, DenseBlock):
            nn.init.normal_(block.before.weight, std=0.3)
    return module.double()


# --- whole sequences ---


def attention_by_hand(block, z):
    """``[N, C]``: each place with a weighted mean of the values up to it."""
    k, _, v = block.sizes
    query, key, value = block.projections(z).split([k, k, v], dim=1)
    rows = []
    for t in range(len(z)):
        shares = torch.stack([(query[t] @ key[s]) / k**0.5 for s in range(t + 1)]).exp()
        shares = shares / shares.sum()
        read = sum(a * value[s] for s, a in enumerate(shares))
        rows.append(torch.cat([z[t], read]))
    return torch.stack(rows)


def dense_by_hand(block, z):
    """``[N, C]``: two convolutions of kernel size 2, padded with zeros on the left."""
    kernel = torch.stack([block.before.weight, block.now.weight], dim=2)
    padded = F.pad(z.T[None], (block.dilation, 0))
    both = F.conv1d(padded, kernel, block.now.bias, dilation=block.dilation)[0].T
    filters = both.shape[1] // 2
    return torch.cat([z, both[:, :filters].tanh() * both[:, filters:].sigmoid()], dim=1)


def block_by_hand(block, z):
    by_hand = attention_by_hand if isinstance(block, AttentionBlock) else dense_by_hand
    return by_hand(block, z)


@pytest.mark.parametrize("shots", [[1, 3, 2], [1, 1, 1], [1, 0, 0]], ids=str)
def test_each_query_is_the_end_of_a_sequence_of_its_own(make_episode, shots):
    episode = make_episode((4,), shots=shots)
    strategy = plain()
    support = episode.support
    order = reading_order(support.inputs, support.targets, 3)
    logits = strategy(episode)
    for task in range(2):
        x, y = support.inputs[task, order[task]], support.targets[task, order[task]]
        for number, query in enumerate(episode.query.inputs[task]):
            labels = torch.cat([strategy.labels.weight[y], torch.zeros(1, LABEL_SIZE)])
            features = torch.cat([x, query[None]])
            features = features - features.mean(1, keepdim=True)
            spread = (features.square().mean(1, keepdim=True) + 1e-5).sqrt()
            z = torch.cat([features / spread, labels], dim=1)
            for block in strategy.blocks:
                z = block_by_hand(block, z)
            expected = strategy.output(z[-1])
            torch.testing.assert_close(logits[task, number], expected, **SAME)


# --- blocks ---

blocks = pytest.mark.parametrize(
    "block",
    [
        AttentionBlock(5, 4, 3),
        DenseBlock(5, 3, dilation=1),
        DenseBlock(5, 3, dilation=4),
        DenseBlock(5, 3, dilation=20),  # farther than the sequence is long
    ],
    ids=["attention", "dense 1", "dense 4", "dense 20"],
)


def sequences(length):
    torch.manual_seed(1)
    return torch.randn(2, length, 5, dtype=torch.float64)


@blocks
def test_a_block_is_its_equation_at_each_place(block):
    block = with_random_past(block)
    x = sequences(7)
    got, _ = block(x)
    for task in range(2):
        torch.testing.assert_close(got[task], block_by_hand(block, x[task]), **SAME)


@blocks
def test_the_place_after_the_last_is_the_end_of_a_sequence_longer_by_one(block):
    block = with_random_past(block)
    x = sequences(7)
    whole, _ = block(x)
    _, seen = block(x[:, :6])
    torch.testing.assert_close(block.at_the_end(x[:, 6:], seen), whole[:, 6:], **SAME)


@blocks
def test_no_place_sees_what_comes_after_it(block):
    block = with_random_past(block)
    x = sequences(7)
    before, _ = block(x)
    for place in range(7):
        changed = x.clone()
        changed[:, place] += 1.0
        moved = (block(changed)[0] - before).abs().amax((0, 2)) > 1e-9
        if isinstance(block, AttentionBlock):
            expected = [t >= place for t in range(7)]
        else:
            expected = [t in (place, place + block.dilation) for t in range(7)]
        assert moved.tolist() == expected


@pytest.mark.parametrize(("longest", "layers"), [(1, 1), (3, 2), (4, 3), (7, 3), (25, 5), (31, 5)])
def test_convolutions_reach_from_the_last_place_to_the_first(longest, layers):
    """⌈log₂ T⌉ dense blocks for a support of T − 1 examples and a query."""
    strategy = with_random_past(SNAIL(Raw(), longest=longest, filters=4))
    dense = [block for block in strategy.blocks if isinstance(block, DenseBlock)]
    assert len(dense) == 2 * layers
    wide = dense[0].now.in_features
    x = torch.randn(1, longest + 1, wide, dtype=torch.float64, requires_grad=True)
    z = x
    for block in dense[:layers]:
        z, _ = block(z)
    (gradient,) = torch.autograd.grad(z[0, -1, wide:].sum(), x)
    assert gradient[0].abs().amax(1).min() > 0


def test_the_sizes_are_the_papers():
    strategy = SNAIL(MLP((4,), [64]), ways=5, longest=5)
    kinds = [(type(b).__name__, getattr(b, "sizes", None)) for b in strategy.blocks]
    dense = [("DenseBlock", None)] * 3
    assert kinds == [
        ("AttentionBlock", (64, 64, 32)),
        *dense,
        ("AttentionBlock", (256, 256, 128)),
        *dense,
        ("AttentionBlock", (512, 512, 256)),
    ]
    assert strategy.output.in_features == 64 + LABEL_SIZE + 32 + 384 + 128 + 384 + 256


def test_distances_that_no_training_task_had_say_nothing(make_episode):
    """Of three examples and a query, the first is three places before the last."""
    strategy = SNAIL(Raw(), ways=3, longest=6, filters=8).double()
    optimizer = torch.optim.Adam(strategy.parameters(), 0.01)
    for _ in range(2):
        optimizer.zero_grad()
        strategy.loss(make_episode((4,), shots=[1, 1, 1]))[0].backward()
        optimizer.step()
    dense = [block for block in strategy.blocks if isinstance(block, DenseBlock)]
    moved = [(block.dilation, bool(block.before.weight.any())) for block in dense]
    assert moved == 2 * [(1, True), (2, True), (4, False)]


# --- gradients, precision, learning ---


def test_gradients_agree_with_finite_differences(make_episode):
    episode = make_episode((4,), ways=2, tasks=1, shots=[1, 2], queries=1)
    strategy = plain(ways=2, longest=3, filters=4)

    def logits(support, queries):
        theta = strategy.adapt_features(Examples(support, episode.support.targets), 2)
        return strategy.predict_features(theta, queries)

    inputs = [e.inputs.clone().requires_grad_() for e in (episode.support, episode.query)]
    assert torch.autograd.gradcheck(logits, inputs)


def test_half_precision_says_nearly_the_same(make_episode):
    episode = make_episode((4,))
    strategy = plain()
    expected = strategy(episode).float()
    support, query = (
        Examples(e.inputs.float(), e.targets) for e in (episode.support, episode.query)
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = strategy.float()(Episode(support, query, 3))
    # Eight bits at each of nine layers.
    torch.testing.assert_close(logits.float(), expected, rtol=0.1, atol=0.1)


def test_it_learns_which_label_goes_with_which_class():
    torch.manual_seed(0)
    strategy = SNAIL(Raw(), ways=2, longest=2, filters=16)
    assert accuracy_after_training(strategy, steps=30) > 0.95


# --- what cannot be ---


def test_more_examples_than_it_was_made_for_are_refused(make_episode):
    strategy = plain(longest=5)
    assert strategy(make_episode((4,), shots=[1, 3, 1])).isfinite().all()
    with pytest.raises(ValueError, match="6 examples was given, and this SNAIL was made for 5"):
        strategy(make_episode((4,), shots=[1, 3, 2]))


def test_tasks_of_other_ways_are_refused(make_episode):
    with pytest.raises(ValueError, match="made for tasks of 3 ways"):
        plain()(make_episode((4,), ways=2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"longest": 0}, "longest is 0; it must be more than 0"),
        ({"filters": 0}, "filters is 0; it must be more than 0"),
        ({"filters": 6}, "filters are 6; .* give a multiple of 4"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SNAIL(MLP((4,), [3]), **arguments)


def test_an_encoder_that_states_no_length_is_refused():
    with pytest.raises(ValueError, match="Flatten does not say how long its vectors are"):
        SNAIL(nn.Flatten())
