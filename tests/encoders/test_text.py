"""TextEncoder: rows of subword numbers to vectors, whatever stands behind and beside a text."""

import pytest
import torch
from torch import nn

from quickstudy.encoders import TextEncoder
from quickstudy.encoders.sequences import AttentionLayer, RecurrentLayer, mean_and_maximum
from quickstudy.encoders.text import without_trailing_padding
from quickstudy.episodes import Episode, Examples
from quickstudy.saving.description import build, describe
from quickstudy.strategies import MAML, PrototypicalNetwork

from .conftest import lively

IN_ORDER = ["convolutional", "recurrent", "attention"]
BODIES = [*IN_ORDER, "bag"]
# Sums of float64 in another order, or over more zeros.
SAME = {"rtol": 1e-10, "atol": 1e-11}

each_body = pytest.mark.parametrize("body", BODIES)


def small(body, **arguments):
    torch.manual_seed(0)
    settings = {"input_shape": (12,), "vocabulary": 30, "width": 8, "dropout": 0.0} | arguments
    return TextEncoder(body=body, **settings)


def texts(*lengths, columns=12, seed=0):
    """Rows of random subwords, so many in each, padding behind them."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(1, 30, (len(lengths), columns), generator=generator)
    return rows * (torch.arange(columns) < torch.tensor(lengths)[:, None])


@each_body
def test_vectors_are_as_long_as_stated(body):
    encoder = small(body)
    assert encoder.out_features == 16
    assert encoder(texts(3, 12, 1)).shape == (3, 16)


@each_body
def test_padding_and_other_texts_change_nothing(body):
    encoder, x = lively(small(body)), texts(3, 7, 1, 5)
    together = encoder(x)
    assert (together.std(0) > 1e-3).any()
    for row, length in zip(range(4), (3, 7, 1, 5), strict=True):
        alone = encoder(x[row : row + 1, :length])[0]
        torch.testing.assert_close(alone, together[row], **SAME)
        beside_a_long_one = encoder(torch.cat([x[row : row + 1], texts(12)]))[0]
        torch.testing.assert_close(beside_a_long_one, together[row], **SAME)


@each_body
def test_trimming_changes_nothing(body):
    encoder, x = lively(small(body)), texts(3, 7)
    assert without_trailing_padding(x).shape == (2, 7)
    whole = mean_and_maximum(encoder.vectors_of_subwords(x), x != 0)
    torch.testing.assert_close(encoder(x), whole, **SAME)


@each_body
def test_vectors_of_subwords_are_zero_where_there_is_none(body):
    encoder, x = lively(small(body)), texts(3, 12)
    vectors = encoder.vectors_of_subwords(x)
    assert vectors.shape == (2, 12, 8)
    assert (vectors[0, 3:] == 0).all()
    assert (vectors[0, :3] != 0).all()
    expected = torch.cat([vectors[0, :3].mean(0), vectors[0, :3].amax(0)])
    torch.testing.assert_close(encoder(x)[0], expected, **SAME)


@each_body
def test_the_embedding_of_padding_is_not_used(body):
    encoder, x = lively(small(body)), texts(3, 9)
    expected = encoder(x)
    expected.sum().backward()
    assert (encoder.embedding.grad[0] == 0).all()
    assert (encoder.embedding.grad[x[0, 0]] != 0).any()
    with torch.no_grad():
        encoder.embedding[0] += 100
    assert torch.equal(encoder(x), expected)


@each_body
def test_a_text_without_subwords_is_a_vector_of_finite_numbers(body):
    encoder = lively(small(body))
    x = torch.zeros(2, 12, dtype=torch.int64)
    encoder(x).sum().backward()
    assert (encoder(x) == 0).all()
    assert encoder.embedding.grad.isfinite().all()
    assert encoder(x[:0]).shape == (0, 16)


@each_body
def test_only_a_bag_ignores_the_order(body):
    encoder, x = lively(small(body)), texts(6)
    turned = x.clone()
    turned[:, :6] = x[:, :6].flip(1)
    same = torch.allclose(encoder(x), encoder(turned), rtol=1e-6)
    assert same == (body == "bag")


# --- the layers against what they say they are ---


def test_the_recurrent_layer_is_torchs_own_on_packed_rows():
    layer = lively(RecurrentLayer(8, dropout=0.0))
    lengths = torch.tensor([3, 7, 1])
    x = torch.randn(3, 7, 8, dtype=torch.float64)
    present = (torch.arange(7) < lengths[:, None])[..., None]
    gru = nn.GRU(8, 4, batch_first=True, bidirectional=True).double()
    for direction, ending in enumerate(("", "_reverse")):
        rows = slice(12 * direction, 12 * direction + 12)
        own = {
            "weight_ih": layer.reading.weight[rows],
            "bias_ih": layer.reading.bias[rows],
            "weight_hh": layer.weight[direction].T,
            "bias_hh": layer.bias[direction, 0],
        }
        with torch.no_grad():
            for name, value in own.items():
                getattr(gru, f"{name}_l0{ending}").copy_(value)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(gru(packed)[0], batch_first=True)
    torch.testing.assert_close(layer.states(x, present) * present, expected, **SAME)


def test_attention_is_torchs_own_among_the_subwords_of_a_text():
    layer = lively(AttentionLayer(8, heads=2, dropout=0.0))
    x = torch.randn(1, 7, 8, dtype=torch.float64)
    present = (torch.arange(7) < 5)[None, :, None]
    query, key, value = (
        part.view(5, 2, 4).transpose(0, 1) for part in layer.attention(x[0, :5]).chunk(3, dim=-1)
    )
    attended = nn.functional.scaled_dot_product_attention(query, key, value)
    expected = attended.transpose(0, 1).reshape(5, 8)
    torch.testing.assert_close(layer.attended(x, present)[0, :5], expected, **SAME)


# --- learning ---


def ordered(count, generator):
    """Texts in which 1 and 2 stand somewhere, and whether 1 comes first."""
    lengths = torch.randint(2, 9, (count,), generator=generator)
    x = torch.randint(3, 30, (count, 12), generator=generator)
    x *= torch.arange(12) < lengths[:, None]
    first = (torch.rand(count, generator=generator) * (lengths - 1)).long()
    step = 1 + (torch.rand(count, generator=generator) * (lengths - 1 - first)).long()
    targets = torch.randint(0, 2, (count,), generator=generator)
    rows = torch.arange(count)
    x[rows, first] = 2 - targets
    x[rows, first + step] = 1 + targets
    return x, targets


@pytest.mark.parametrize("body", IN_ORDER)
def test_it_learns_which_of_two_words_comes_first(body):
    encoder = small(body, width=16, layers=3, kernel=5)
    head = nn.Linear(encoder.out_features, 2)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(120):
        x, targets = ordered(64, generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(encoder(x)), targets).backward()
        optimizer.step()
    x, targets = ordered(500, generator)
    right = (head(encoder.eval()(x)).argmax(-1) == targets).float().mean()
    assert right > 0.9  # half are right by chance


@pytest.fixture
def episode():
    """Three tasks of three classes, each with a word of its own in all of its texts."""
    targets = torch.arange(3).repeat(3, 2)
    own = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])

    def examples(seed):
        x = torch.stack([texts(3, 5, 7, 2, 4, 9, seed=3 * seed + task) for task in range(3)])
        x[:, :, 0] = own.gather(1, targets)
        return Examples(x, targets)

    return Episode(examples(1), examples(2), ways=3)


def strategies(body):
    yield PrototypicalNetwork(small(body))
    yield MAML(small(body), ways=3, inner_steps=2, inner_learning_rate=0.1)


@each_body
def test_strategies_learn_with_it(body, episode):
    for strategy in strategies(body):
        optimizer = torch.optim.Adam(strategy.parameters(), 0.003)
        losses = []
        for _ in range(5):
            optimizer.zero_grad()
            loss = strategy.loss(episode)[0]
            loss.backward()
            losses.append(loss.item())
            for name, parameter in strategy.named_parameters():
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name
            optimizer.step()
        assert losses[-1] < losses[0]


@each_body
def test_inner_loops_run_for_all_tasks_at_once(body, episode):
    """On a GPU they do; second derivatives too are those of tasks one by one."""
    strategy = MAML(lively(small(body)), ways=3, inner_steps=2, inner_learning_rate=0.1).double()
    support, query = episode.support, episode.query

    def outputs(inputs, targets, queries):
        return strategy.answer(strategy.descend(inputs, targets), queries)

    found = []
    for at_once in (True, False):
        arguments = (support.inputs, support.targets, query.inputs)
        if at_once:
            logits = torch.func.vmap(outputs)(*arguments)
        else:
            logits = torch.stack([outputs(*task) for task in zip(*arguments, strict=True)])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), query.targets.flatten())
        found.append([loss, *torch.autograd.grad(loss, list(strategy.parameters()))])
    torch.testing.assert_close(found[0], found[1], rtol=1e-8, atol=1e-10)  # two inner steps


@each_body
def test_second_derivatives_agree_with_finite_differences(body):
    encoder = lively(small(body, vocabulary=6, width=4, layers=1, heads=2))
    x = torch.tensor([[1, 2, 5, 0], [3, 1, 0, 0]])

    def vectors(embedding):
        return torch.func.functional_call(encoder, {"embedding": embedding}, (x,))

    embedding = encoder.embedding.detach().clone().requires_grad_()
    torch.autograd.gradcheck(vectors, embedding)
    torch.autograd.gradgradcheck(vectors, embedding)


def test_dropout_is_drawn_in_training_only():
    encoder, x = small("convolutional", dropout=0.5), texts(5, 9)
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))


# --- saved and refused ---


@each_body
def test_a_description_and_a_state_make_it_again(body, tmp_path):
    encoder, x = lively(small(body, layers=1, kernel=5, heads=2)), texts(4, 8)
    again = build(describe(encoder)).double().eval()
    assert describe(again) == describe(encoder)
    assert not torch.equal(again(x), encoder(x))
    torch.save(encoder.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(again(x), encoder(x))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"input_shape": (3, 32, 32)}, r"rows of subword numbers \[length\]"),
        ({"input_shape": (0,)}, r"rows of subword numbers \[length\]"),
        ({"vocabulary": 1}, "a vocabulary of 1"),
        ({"layers": 0}, "0 layers"),
        ({"body": "circular"}, "circular"),
        ({"kernel": 4}, "must be odd"),
        ({"body": "recurrent", "width": 7}, "must be even"),
        ({"body": "attention", "heads": 3}, "multiple of its 3 heads"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_refused(arguments, why):
    with pytest.raises(ValueError, match=why):
        small(**({"body": "convolutional"} | arguments))


@pytest.mark.parametrize(
    "x",
    [torch.randn(2, 12), torch.ones(12, dtype=torch.int64), torch.ones(2, 13, dtype=torch.int64)],
    ids=["numbers", "no batch", "too long"],
)
def test_what_is_no_row_of_subwords_is_refused(x):
    with pytest.raises(ValueError, match="reads at most 12 subword numbers"):
        small("attention")(x)
