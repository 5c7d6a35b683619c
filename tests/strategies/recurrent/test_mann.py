"""MANN against its equations written out with loops, and its memory on cases by hand."""

import pytest
import torch
from torch import nn

from quickstudy.encoders import MLP
from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import MANN
from quickstudy.strategies.bases.set_networks import reading_order
from quickstudy.strategies.recurrent.mann import EMPTY, Memory, attention, least_used

from ...builders import Raw
from ..toy_tasks import accuracy_after_training


def plain(ways=3, **arguments):
    torch.manual_seed(0)
    sizes = {"hidden": 6, "slots": 7, "slot_size": 5, "reads": 2, "decay": 0.9} | arguments
    strategy = MANN(Raw(), ways, **sizes).double()
    with torch.no_grad():
        for parameter in strategy.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return strategy.eval()


# --- the equations ---


def shares_by_hand(strategy, key, memory):
    """w^r of one head: a softmax over the rows of how well their direction fits the key."""
    scores = torch.stack([key @ row / (key @ key * (row @ row) + EMPTY).sqrt() for row in memory])
    scores = (strategy.sharpness * scores).exp()
    return scores / scores.sum()


def controlled_by_hand(strategy, x, label, h, c, r):
    """The LSTM of [x, y, h, r], y one-hot, as one matrix for each gate."""
    y = torch.zeros(strategy.ways, dtype=x.dtype)
    if label is not None:
        y[label] = 1.0
    of_h_and_r = strategy.gates_of_state.weight
    matrix = [strategy.gates_of_features.weight, strategy.gates_of_labels.weight.T, of_h_and_r]
    gates = torch.cat(matrix, dim=1) @ torch.cat([x, y, h, r]) + strategy.gates_of_features.bias
    f, i, o, u = gates.split(strategy.hidden)
    c = f.sigmoid() * c + i.sigmoid() * u.tanh()
    return o.sigmoid() * c.tanh(), c


def logits_by_hand(strategy, support, labels, queries):
    """Of one task, one example, head and slot at a time."""
    heads, slots, size = strategy.reads, strategy.slots, strategy.slot_size

    def zeros(*shape):
        return torch.zeros(*shape, dtype=torch.float64)

    def keys_of(h):
        return (strategy.keys.weight @ h + strategy.keys.bias).tanh().split(size)

    h, c, r = zeros(strategy.hidden), zeros(strategy.hidden), zeros(heads * size)
    memory, usage = zeros(slots, size), [0.0] * slots
    reading = [zeros(slots) for _ in range(heads)]
    for x, label in zip(support, labels.tolist(), strict=True):
        h, c = controlled_by_hand(strategy, x, label, h, c, r)
        keys = keys_of(h)
        free = sorted(range(slots), key=lambda i: usage[i])[:heads]  # the first of equals first
        memory = memory.clone()
        for i in free:
            memory[i] = 0.0
        writing = []
        for head in range(heads):
            gate = strategy.write_gate[head].sigmoid()
            own = torch.tensor([float(i == free[head]) for i in range(slots)]).double()
            writing.append(gate * reading[head] + (1 - gate) * own)
        for i in range(slots):
            memory[i] = memory[i] + sum(w[i] * k for w, k in zip(writing, keys, strict=True))
        reading = [shares_by_hand(strategy, key, memory) for key in keys]
        r = torch.cat([sum(w * row for w, row in zip(ws, memory, strict=True)) for ws in reading])
        for i in range(slots):
            lately = sum(w[i].item() for w in [*reading, *writing])
            usage[i] = strategy.decay * usage[i] + lately
    results = []
    for x in queries:
        now, _ = controlled_by_hand(strategy, x, None, h, c, r)
        found = [shares_by_hand(strategy, key, memory) @ memory for key in keys_of(now)]
        results.append(strategy.output(torch.cat([now, *found])))
    return torch.stack(results)


@pytest.mark.parametrize(
    "arguments",
    # Six examples: in the last case heads run out of fresh slots after the third.
    [{"reads": 1}, {"reads": 2, "sharpness": 8.0}, {"reads": 3, "slots": 9, "decay": 0.5}],
    ids=str,
)
def test_logits_follow_the_equations_for_unequal_shots(make_episode, arguments):
    episode = make_episode((4,), shots=[1, 3, 2])
    strategy = plain(**arguments)
    support = episode.support
    order = reading_order(support.inputs, support.targets, 3)
    logits = strategy(episode)
    for task in range(2):
        expected = logits_by_hand(
            strategy,
            support.inputs[task, order[task]],
            support.targets[task, order[task]],
            episode.query.inputs[task],
        )
        # The same numbers, added in another order.
        torch.testing.assert_close(logits[task], expected, rtol=1e-9, atol=1e-10)


def test_a_query_reads_what_the_support_wrote(make_episode):
    episode = make_episode((4,))
    strategy = plain()
    theta = strategy.adapt(episode.support, 3)
    assert {name: value.shape[1:] for name, value in theta.items()} == {
        "hidden": (6,),
        "cell": (6,),
        "memory": (7, 5),
        "read": (10,),
    }
    before = strategy.predict(theta, episode.query.inputs)
    moved = strategy.predict(theta | {"memory": theta["memory"].flip(2)}, episode.query.inputs)
    assert not torch.allclose(before, moved, rtol=1e-3)


# --- least recently used access, by hand ---

KEYS = torch.eye(4, dtype=torch.float64)


def accesses(which, slots, decay):
    """The memory after each access of one head with the keys named, written to fresh slots."""
    memory = Memory(*(torch.zeros(1, *s).double() for s in ((slots, 4), (1, slots), (slots,))))
    for name in which:
        # So sharp that all attention goes to rows of the key's own direction.
        memory = memory.accessed(KEYS[None, None, name], torch.zeros(1, 1), decay, 1000.0)
        yield memory


def test_slots_are_filled_one_after_another_and_then_the_oldest_is_overwritten():
    states = list(accesses([0, 1, 2, 3], slots=3, decay=0.5))
    torch.testing.assert_close(states[2].rows[0], KEYS[[0, 1, 2]])
    # Each access writes 1 and reads 1 of its own slot; then it fades by half with each access.
    usage = torch.tensor([[0.5, 1.0, 2.0]]).double()
    torch.testing.assert_close(states[2].usage, usage, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(states[3].rows[0], KEYS[[3, 1, 2]])


def test_what_was_read_again_is_kept_although_it_is_older():
    """Key 0 comes again: read half from slot 0 and half from slot 2, into which it is written."""
    states = list(accesses([0, 1, 0, 3], slots=3, decay=0.6))
    usage = torch.tensor([[0.36 * 2 + 0.5, 0.6 * 2, 1 + 0.5]]).double()
    torch.testing.assert_close(states[2].usage, usage, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(states[3].rows[0], KEYS[[0, 3, 0]])  # slot 1 was least used


def test_an_open_gate_writes_where_was_read_before_and_still_wipes_the_least_used():
    (first,) = accesses([0], slots=2, decay=0.9)
    after = first.accessed(2 * KEYS[None, None, 1], torch.ones(1, 1), 0.9, 1000.0)
    torch.testing.assert_close(after.rows[0], torch.stack([KEYS[0] + 2 * KEYS[1], 0 * KEYS[0]]))
    wiped = first._replace(usage=torch.tensor([[0.1, 0.2]]).double())
    after = wiped.accessed(2 * KEYS[None, None, 1], torch.ones(1, 1), 0.9, 1000.0)
    torch.testing.assert_close(after.rows[0], torch.stack([2 * KEYS[1], 0 * KEYS[0]]))


def test_the_least_used_slots_least_first_and_the_first_of_equals():
    usage = torch.tensor([[3.0, 1.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    got = least_used(usage, 3).argmax(-1)
    assert got.tolist() == [[1, 3, 2], [0, 1, 2]]


def test_an_empty_memory_is_read_evenly():
    shares = attention(torch.randn(2, 3, 4), torch.zeros(2, 5, 4), sharpness=10.0)
    torch.testing.assert_close(shares, torch.full((2, 3, 5), 0.2))


# --- gradients, precision, learning ---


def test_gradients_agree_with_finite_differences(make_episode):
    episode = make_episode((4,), ways=2, tasks=1, shots=[1, 2], queries=1)
    strategy = plain(ways=2, hidden=3, slots=4, slot_size=2)

    def logits(support, queries):
        theta = strategy.adapt_features(Examples(support, episode.support.targets), 2)
        return strategy.predict_features(theta, queries)

    inputs = [e.inputs.clone().requires_grad_() for e in (episode.support, episode.query)]
    assert torch.autograd.gradcheck(logits, inputs)


def test_half_precision_is_remembered_in_float32(make_episode):
    episode = make_episode((4,))
    support, query = (
        Examples(e.inputs.bfloat16(), e.targets) for e in (episode.support, episode.query)
    )
    rounded = Episode(
        Examples(support.inputs.float(), support.targets),
        Examples(query.inputs.float(), query.targets),
        3,
    )
    strategy = plain().float()
    expected = strategy(rounded)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theta = strategy.adapt(support, 3)
        logits = strategy.predict(theta, query.inputs)
    assert {value.dtype for value in theta.values()} == {torch.float32}
    torch.testing.assert_close(logits, expected)


def test_it_learns_which_label_goes_with_which_class():
    torch.manual_seed(0)
    strategy = MANN(Raw(), 2, hidden=32, slots=8, slot_size=16, reads=2, sharpness=10.0)
    assert accuracy_after_training(strategy, steps=50) > 0.95


# --- what cannot be ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": 0}, "hidden is 0; it must be more than 0"),
        ({"slot_size": 0}, "slot_size is 0; it must be more than 0"),
        ({"reads": 0}, "reads is 0; it must be more than 0"),
        ({"sharpness": -1.0}, "sharpness is -1.0; it must be more than 0"),
        ({"slots": 2, "reads": 3}, "2 slots for 3 reads"),
        ({"decay": 1.5}, "decay is 1.5"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MANN(MLP((4,), [3]), **arguments)


def test_tasks_of_other_ways_are_refused(make_episode):
    with pytest.raises(ValueError, match="made for tasks of 3 ways"):
        plain()(make_episode((4,), ways=2))


def test_an_encoder_that_states_no_length_is_refused():
    with pytest.raises(ValueError, match="Flatten does not say how long its vectors are"):
        MANN(nn.Flatten())
