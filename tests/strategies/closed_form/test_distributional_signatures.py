"""DistributionalSignatures against its equations, and on words that it never saw."""

import math

import pytest
import torch
from torch import nn

from quickstudy.encoders import MLP, TextEncoder
from quickstudy.episodes import Episode, Examples
from quickstudy.saving.description import build, describe
from quickstudy.strategies import DistributionalSignatures
from quickstudy.strategies.closed_form.distributional_signatures import class_importance
from quickstudy.training.tasks import MetaGradient

VOCABULARY, LENGTH = 30, 9
# The same sums in another order, in float64.
SAME = {"rtol": 1e-9, "atol": 1e-10}


def made(body="bag", **arguments):
    torch.manual_seed(0)
    encoder = TextEncoder((LENGTH,), VOCABULARY, body, width=6, layers=1, heads=2, dropout=0.0)
    strategy = DistributionalSignatures(encoder, **({"states": 3} | arguments)).double()
    with torch.no_grad():
        for parameter in strategy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    strategy.count(texts((1, 40), seed=5) % 11)  # the small numbers are frequent
    return strategy.eval()


def texts(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(1, VOCABULARY, (*shape, LENGTH), generator=generator)
    lengths = torch.randint(1, LENGTH + 1, shape, generator=generator)
    return words * (torch.arange(LENGTH) < lengths[..., None])


@pytest.fixture
def episode():
    targets = torch.tensor([[0, 1, 1, 2, 0, 1], [2, 2, 0, 1, 1, 1]])
    queries = torch.tensor([[0, 1, 2, 2], [2, 1, 0, 0]])
    support = Examples(texts((2, 6), seed=1), targets)
    return Episode(support, Examples(texts((2, 4), seed=2), queries), ways=3)


# --- the equations, in loops over plain numbers ---


def lstm_states(lstm, signatures):
    """What a bidirectional LSTM makes of ``[L, 2]``, step by step: ``[L, 2 * states]``."""
    both = []
    for ending in ("", "_reverse"):
        w, u, b, c = (
            getattr(lstm, f"{name}_l0{ending}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h = memory = torch.zeros(lstm.hidden_size).double()
        states = []
        for signature in signatures if not ending else signatures.flip(0):
            i, f, g, o = (w @ signature + b + u @ h + c).chunk(4)
            memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
            h = o.sigmoid() * memory.tanh()
            states.append(h)
        both.append(torch.stack(states[::-1] if ending else states))
    return torch.cat(both, dim=1)


def logits_by_hand(strategy, episode):
    """A task, a text and a word at a time; for a bag, whose vectors are the embeddings."""
    embedding, ways = strategy.encoder.embedding.detach(), episode.ways
    total = sum(float(each) for each in strategy.counts)

    def s(word):
        return strategy.smoothing / (strategy.smoothing + float(strategy.counts[word]) / total)

    def t(word, classifier):
        shares = (classifier.T @ embedding[word]).softmax(0).tolist()
        return 1 / -sum(p * math.log(p) for p in shares)

    def ridge(x, y, penalty):
        return torch.linalg.inv(x.T @ x + penalty * torch.eye(x.shape[1]).double()) @ x.T @ y

    def represented(text, classifier):
        signatures = torch.tensor([[s(w), t(w, classifier)] for w in text], dtype=torch.float64)
        scores = lstm_states(strategy.lstm, signatures) @ strategy.attention.weight[0]
        shares = scores.exp() / scores.exp().sum()
        vector = sum(share * embedding[w] for share, w in zip(shares, text, strict=True))
        return torch.cat([vector, torch.ones(1).double()])

    outputs = []
    for task in range(episode.tasks):
        support, query = (
            [[w for w in text if w] for text in part.inputs[task].tolist()]
            for part in (episode.support, episode.query)
        )
        y = torch.eye(ways).double()[episode.support.targets[task]]
        x = torch.stack([sum(s(w) * embedding[w] for w in text) / len(text) for text in support])
        classifier = ridge(x, y, strategy.importance_penalty)
        x = torch.stack([represented(text, classifier) for text in support])
        w = ridge(x, y, strategy.log_penalty.exp())
        q = torch.stack([represented(text, classifier) for text in query])
        outputs.append(strategy.log_scale.exp() * q @ w)
    return torch.stack(outputs)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"smoothing": 0.2, "importance_penalty": 0.1, "states": 5, "penalty": 2.0}],
    ids=["usual", "other"],
)
def test_logits_follow_the_equations(episode, arguments):
    strategy = made(**arguments)
    torch.testing.assert_close(strategy(episode), logits_by_hand(strategy, episode), **SAME)


def test_importances_on_a_case_solved_by_hand():
    strategy = made(smoothing=0.25)
    strategy.counts.zero_()
    strategy.count(torch.tensor([[[3, 3, 3, 7, 0, 0]]]))
    words = torch.tensor([[3, 7, 9, 0]])
    # P = 3/4, 1/4 and 0: s = 1/4, 1/2 and 1.
    expected = torch.tensor([[0.25, 0.5, 1.0, 0.0]]).double()
    torch.testing.assert_close(strategy.general_importance(words), expected)
    # No classifier, so two equal classes: H = log 2; and one class that is certain.
    vectors = torch.tensor([[[0.0], [100.0]]]).double()
    found = class_importance(vectors, torch.tensor([[[1.0, -1.0]]]).double())
    torch.testing.assert_close(found[0, 0], torch.tensor(1 / math.log(2)).double())
    assert 100 < found[0, 1] < math.inf


@pytest.mark.parametrize("body", ["bag", "convolutional", "recurrent", "attention"])
def test_attention_is_shared_among_the_words_of_a_text(episode, body):
    strategy = made(body)
    words = episode.support.inputs[0]
    vectors = strategy.encoder.vectors_of_subwords(words)
    classifier = strategy.adapt(episode.support, 3)["importance"][:1].expand(6, -1, -1)
    shares = strategy.weigh(words, vectors, classifier)
    assert ((shares > 0) == (words > 0)).all()
    torch.testing.assert_close(shares.sum(1), torch.ones(6).double(), **SAME)


@pytest.mark.parametrize("body", ["bag", "convolutional"])
def test_padding_and_the_length_of_other_texts_change_nothing(episode, body):
    strategy = made(body)
    theta = strategy.adapt(episode.support, 3)
    short = torch.tensor([[[4, 9, 2] + [0] * 6]] * 2)
    alone = strategy.predict(theta, short)
    beside = strategy.predict(theta, torch.cat([short, torch.full((2, 1, LENGTH), 5)], dim=1))
    torch.testing.assert_close(beside[:, :1], alone, **SAME)
    assert strategy.predict(theta, torch.zeros_like(short)).isfinite().all()


def test_gradients_agree_with_finite_differences(episode):
    """Of all but the embeddings, whose part in s and t is left out, as in the paper's code."""
    strategy = made()
    names = [name for name, _ in strategy.named_parameters() if not name.startswith("encoder")]
    parameters = dict(strategy.named_parameters())

    def loss(*values):
        with torch.nn.utils.stateless._reparametrize_module(
            strategy, dict(zip(names, values, strict=True))
        ):
            return strategy.loss(episode)[0]

    given = [parameters[name].detach().clone().requires_grad_() for name in names]
    torch.autograd.gradcheck(loss, given)
    assert len(given) == 11  # 8 of the LSTM, the attention, penalty and scale


# --- how often words stand in the texts of training ---


def test_only_training_counts_and_counts_both_parts_of_its_tasks(episode):
    strategy = made()
    before = strategy.counts.clone()
    strategy(episode)
    strategy.adapt(episode.support, 3)
    assert torch.equal(strategy.counts, before)
    strategy.train()
    strategy.adapt(episode.support, 3)
    assert torch.equal(strategy.counts, before)
    strategy(episode)
    both = torch.cat([episode.support.inputs, episode.query.inputs], dim=1)
    expected = both.flatten().bincount(minlength=VOCABULARY).double() / 2  # of two tasks
    expected[0] = 0
    torch.testing.assert_close(strategy.counts - before, expected, **SAME)


def test_a_task_is_weighed_by_the_words_of_those_before_it(episode):
    strategy = made()
    expected = strategy(episode)
    torch.testing.assert_close(strategy.train()(episode), expected, **SAME)


def test_a_meta_batch_counts_its_tasks_however_they_are_computed(episode):
    together = made().train()
    together.loss(episode)
    strategy = made().train()
    start = strategy.counts.clone()
    sums = MetaGradient(strategy, at_once=1).sums(episode, 1 / 2)
    torch.testing.assert_close(sums.averages[0] / 2, together.counts, **SAME)
    assert (together.counts > start).any()


# --- learning ---


def tasks_of_key_words(first, last, generator, tasks=8, ways=4):
    """Each class has a rare word of its own, from ``first`` to ``last``, among frequent ones."""
    keys = torch.stack(
        [first + torch.randperm(last - first, generator=generator)[:ways] for _ in range(tasks)]
    )

    def examples(each):
        targets = torch.arange(ways).repeat(tasks, each)
        words = torch.randint(1, 11, (*targets.shape, LENGTH), generator=generator)
        places = torch.randint(0, LENGTH, (*targets.shape, 1), generator=generator)
        return Examples(words.scatter(2, places, keys.gather(1, targets)[..., None]), targets)

    return Episode(examples(1), examples(4), ways)


def test_attention_learned_on_some_words_finds_words_never_seen():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    encoder = TextEncoder((LENGTH,), 200, "bag", width=64, dropout=0.0)
    strategy = DistributionalSignatures(encoder)
    unseen = tasks_of_key_words(110, 200, generator, tasks=100)

    def accuracy():
        with torch.no_grad():
            found = strategy.eval()(unseen).argmax(-1)
        return (found == unseen.query.targets).float().mean().item()

    before = accuracy()
    optimizer = torch.optim.Adam(strategy.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        strategy.train().loss(tasks_of_key_words(11, 110, generator))[0].backward()
        optimizer.step()
    after = accuracy()
    # A quarter is right by chance. One key word among eight others is hard to see unweighed.
    assert before < 0.7
    assert after > 0.9
    words = unseen.query.inputs.flatten(0, 1)
    theta = strategy.adapt(unseen.support, 4)
    vectors = strategy.encoder.vectors_of_subwords(words)
    classifier = theta["importance"].repeat_interleave(unseen.query.inputs.shape[1], 0)
    shares = strategy.weigh(words, vectors, classifier)
    assert (shares * (words > 10)).sum(1).mean() > 3 / LENGTH


# --- saved and refused ---


def test_a_description_makes_it_again(episode):
    strategy = made("convolutional", smoothing=0.01, penalty=0.3)
    again = build(describe(strategy)).double().eval()
    again.load_state_dict(strategy.state_dict())
    assert describe(again) == describe(strategy)
    assert torch.equal(again(episode), strategy(episode))


@pytest.mark.parametrize("encoder", [MLP((4,)), nn.Flatten()], ids=["MLP", "Flatten"])
def test_encoders_without_words_are_refused(encoder):
    with pytest.raises(ValueError, match="gives no vectors of words: use TextEncoder"):
        DistributionalSignatures(encoder)


@pytest.mark.parametrize("name", ["smoothing", "importance_penalty", "states", "penalty", "scale"])
def test_numbers_that_are_not_positive_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0; it must be more than 0"):
        made(**{name: 0})
