"""Several threads ask one classifier, or teach it: each gets the answers of a single thread."""

import contextlib
import copy
import multiprocessing
import pickle
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from quickstudy import FewShotClassifier
from quickstudy.compute.evaluation_mode import evaluating, in_use
from quickstudy.strategies import MAML, PrototypicalNetwork

FIRST, SECOND, DONE = (threading.Event() for _ in range(3))
HANGS = 60  # seconds; only a test that hangs waits so long


class Meeting(nn.Module):
    """Lets the thread called "second" come in while "first" is here, and wait until it is gone."""

    def forward(self, x):
        name = threading.current_thread().name
        if name == "first":
            FIRST.set()
            SECOND.wait(HANGS)
        elif name == "second":
            SECOND.set()
            DONE.wait(HANGS)
        return x


class Uneven(nn.Module):
    """Lets the first who comes be done while those who come next are in the middle."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        time.sleep(0.002 if self.calls == 1 else 0.006)
        return x


class Noting(nn.Module):
    """Keeps what one call computes on itself, as many people's networks do."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 16)

    def forward(self, x):
        self.noted = self.first(x)
        time.sleep(0.001)
        return self.second(self.noted)


def points():
    draw = np.random.default_rng(0)
    X = (draw.normal(size=(40, 8)) + np.repeat(3 * np.eye(8)[:4], 10, 0)).astype("f4")
    return X, np.repeat(list("abcd"), 10)


def network(pause):
    """With batch normalisation and dropout, and in training mode, as torch makes them."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 32), pause, nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 16)
    )


def measured(net):
    net.out_features = 16
    return net


def fitted(pause):
    X, y = points()
    return FewShotClassifier(encoder=network(pause)).fit(X, y), X


@pytest.fixture(autouse=True)
def nobody_has_come():
    for event in (FIRST, SECOND, DONE):
        event.clear()


def first_and_second(first, second):
    """What two calls give of which the first is over while the second is in the middle."""
    found = {}

    def run(call):
        found[threading.current_thread().name] = call()

    threads = [
        threading.Thread(target=run, args=[call], name=name)
        for name, call in (("first", first), ("second", second))
    ]
    threads[0].start()
    assert FIRST.wait(HANGS)
    threads[1].start()
    threads[0].join(HANGS)
    DONE.set()
    threads[1].join(HANGS)
    return found["first"], found["second"]


def in_threads(calls, threads=8):
    with ThreadPoolExecutor(threads) as pool:
        return [each.result(HANGS) for each in [pool.submit(call) for call in calls]]


def test_two_threads_do_not_put_each_other_into_training():
    classifier, X = fitted(Meeting())
    right = classifier.predict_proba(X)
    before = [buffer.clone() for buffer in classifier.encoder.buffers()]
    for found in first_and_second(*[lambda: classifier.predict_proba(X)] * 2):
        np.testing.assert_allclose(found, right, atol=1e-6)
    assert all(map(torch.equal, before, classifier.encoder.buffers())), "running averages moved"


def test_probabilities_are_the_same_in_eight_threads():
    wrong = 0
    for _ in range(2):
        classifier, X = fitted(Uneven())
        right = classifier.predict_proba(X)
        before = [buffer.clone() for buffer in classifier.encoder.buffers()]
        found = in_threads([lambda: classifier.predict_proba(X)] * 32)  # noqa: B023
        wrong += sum(float(np.abs(each - right).max()) > 1e-5 for each in found)
        wrong += not all(map(torch.equal, before, classifier.encoder.buffers()))
    assert wrong == 0


def test_evaluating_ends_with_the_last_thread_that_does_it():
    module = network(Meeting())
    module[2].eval()
    x = torch.from_numpy(points()[0])

    def ask():
        with evaluating(module):
            return module(x)

    with evaluating(module):
        right = module(x)
    for found in first_and_second(ask, ask):
        assert torch.equal(found, right)
    assert [part.training for part in module] == [True, True, False, True, True, True]


def test_the_mode_of_a_network_is_its_owners_while_a_classifier_answers():
    """Its owner trains on in one thread; neither disturbs the other."""
    classifier, X = fitted(Meeting())
    right = classifier.predict_proba(X)
    mine, x = classifier.encoder, torch.from_numpy(X)

    def train():
        assert all(part.training for part in mine.modules())
        with torch.no_grad():
            mine[2](mine[1](mine[0](x)))
        return mine[2].running_mean.clone()

    before = mine[2].running_mean.clone()
    found, moved = first_and_second(lambda: classifier.predict_proba(X), train)
    assert not torch.equal(moved, before), "its own running averages are to move"
    np.testing.assert_allclose(found, right, atol=1e-6)


def test_what_a_network_keeps_on_itself_is_no_other_threads():
    X, y = points()
    classifier = FewShotClassifier(encoder=Noting()).fit(X, y)
    rows = [X[[number]] for number in range(40)]
    right = [classifier.predict_proba(row) for row in rows]
    found = in_threads([lambda row=row: classifier.predict_proba(row) for row in rows])
    np.testing.assert_array_equal(np.stack(found), np.stack(right))


def test_a_network_that_cannot_be_copied_answers_in_threads_too():
    """A function in it refers to the network itself, so that a copy would compute with that."""
    net = network(Uneven())
    net.add_module("last", nn.Identity())
    net.last.forward = lambda x: x + net[2].running_mean[:1]
    assert in_use(net) is net
    X, y = points()
    classifier = FewShotClassifier(encoder=net).fit(X, y)
    right = classifier.predict_proba(X)
    before = [buffer.clone() for buffer in net.buffers()]
    found = in_threads([lambda: classifier.predict_proba(X)] * 16)
    np.testing.assert_allclose(np.stack(found), np.stack([right] * 16), atol=1e-6)
    assert all(map(torch.equal, before, net.buffers()))
    assert all(part.training for part in net.modules())


def test_weights_are_shared_and_not_copied():
    net = network(nn.Identity())
    copied = in_use(net)
    assert not any(part.training for part in copied.modules())
    assert all(a is b for a, b in zip(net.parameters(), copied.parameters(), strict=True))
    assert all(a is b for a, b in zip(net.buffers(), copied.buffers(), strict=True))


def test_a_network_that_merges_weights_when_it_is_used_keeps_its_own():
    class Merging(nn.Linear):
        def train(self, mode=True):
            if self.training and not mode:
                self.weight.data += 1
            return super().train(mode)

    net = Merging(8, 4)
    before = net.weight.detach().clone()
    X, y = points()
    FewShotClassifier(encoder=net).fit(X, y)
    assert torch.equal(net.weight, before)


@pytest.mark.parametrize(
    "made",
    [
        lambda: MAML(measured(network(Uneven())), ways=4, inner_steps=2),
        lambda: PrototypicalNetwork(network(Uneven())),
    ],
)
def test_strategies_that_hold_their_encoder_answer_in_threads(made):
    """MAML's functional calls exchange the parameters of its network meanwhile."""
    X, y = points()
    strategy = made()
    classifier = FewShotClassifier(strategy=strategy).fit(X, y)
    right = classifier.predict_proba(X)
    state = {name: each.clone() for name, each in classifier.strategy_.state_dict().items()}
    found = in_threads([lambda: classifier.predict_proba(X)] * 48)
    np.testing.assert_allclose(np.stack(found), np.stack([right] * 48), atol=1e-5)
    for name, each in classifier.strategy_.state_dict().items():
        assert torch.equal(each, state[name]), name
    assert strategy.training


class Drawing(PrototypicalNetwork):
    """Draws random numbers when it is asked."""

    def predict_features(self, theta, features):
        logits = super().predict_features(theta, features)
        time.sleep(0.001)
        return logits + torch.randn_like(logits)


@pytest.mark.parametrize("strategy", [Drawing, PrototypicalNetwork])
def test_random_numbers_in_threads(strategy):
    """What a strategy draws comes from its seed, and torch's own generator goes on as it was."""
    X, y = points()
    classifier = FewShotClassifier(strategy=strategy).fit(X, y)
    right = classifier.predict_proba(X)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = in_threads([lambda: classifier.predict_proba(X)] * 24)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.stack(found), np.stack([right] * 24))


def test_answers_beside_partial_fit_are_old_ones_or_new_ones():
    """Labels, probabilities and their number belong together, whenever somebody asks."""
    X, y = points()
    steps = [FewShotClassifier().fit(X, y)]
    more = [(X[:2] + 9 * number, [f"z{number}"] * 2) for number in range(1, 5)]
    for some in more:
        steps.append(copy.deepcopy(steps[-1]).partial_fit(*some))
    right = [(each.predict(X).tolist(), each.predict_proba(X)) for each in steps]
    taught, over = copy.deepcopy(steps[0]), threading.Event()

    def ask():
        found = []
        while not over.wait(0.002):
            found.append((taught.predict(X).tolist(), taught.predict_proba(X)))
        return found

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask) for _ in range(3)]
        for some in more:
            taught.partial_fit(*some)
        over.set()
        found = [each for some in asked for each in some.result(HANGS)]
    assert found
    for labels, probabilities in found:
        assert any(labels == each[0] for each in right)
        assert any(
            probabilities.shape == each[1].shape and np.allclose(probabilities, each[1])
            for each in right
        )


def test_nothing_is_lost_when_several_threads_teach():
    X, y = points()
    classifier = FewShotClassifier(calibrate=False).fit(X, y)
    in_threads(
        [
            lambda number=number: classifier.partial_fit(X[:1] + number, [f"n{number}"])
            for number in range(1, 9)
        ]
    )
    assert len(classifier.classes_) == 4 + 8
    assert len(classifier.model_.support) == 40 + 8


def test_fit_anew_beside_predict_gives_answers_of_one_state():
    """The new state has other columns, other classes and another type of labels."""
    X, y = points()
    classifier, over = FewShotClassifier(calibrate=False).fit(X, y), threading.Event()

    def ask():
        kinds = set()
        while not over.wait(0.001):
            with contextlib.suppress(ValueError):  # the other state has other columns
                kinds.add(classifier.predict(X).dtype.kind)
        return kinds

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask) for _ in range(2)]
        for _ in range(5):
            classifier.fit(X[:, :5], np.repeat(range(4), 10))
            classifier.fit(X, y)
        over.set()
        assert set().union(*[each.result(HANGS) for each in asked]) == {"U"}


def test_a_fit_that_fails_leaves_what_was_learned():
    X, y = points()
    classifier = FewShotClassifier().fit(X, y)
    right = classifier.predict_proba(X)
    with pytest.raises(ValueError, match="one class"):
        classifier.fit(X[:, :3], ["a"] * 40)
    np.testing.assert_array_equal(classifier.predict_proba(X), right)


def test_copies_are_made_while_others_ask(tmp_path):
    classifier, X = fitted(Uneven())
    right = classifier.predict_proba(X)
    makers = [
        lambda: copy.deepcopy(classifier),
        lambda: pickle.loads(pickle.dumps(classifier)),
    ]
    asks = [lambda: classifier.predict_proba(X)] * 16
    found = in_threads([*asks[:8], *makers, *asks[8:]])
    for each in (*found[:8], *found[-8:], *(made.predict_proba(X) for made in found[8:10])):
        np.testing.assert_allclose(each, right, atol=1e-6)


def test_several_classifiers_share_one_network():
    """One learns while another answers; the network's own mode and averages stay as they were."""
    encoder = network(Uneven())
    X, y = points()
    before = {name: each.clone() for name, each in encoder.state_dict().items()}
    one = FewShotClassifier(encoder=encoder).fit(X, y)
    right = one.predict_proba(X)

    def learn():
        return FewShotClassifier(encoder=encoder).fit(X, y).predict_proba(X)

    found = in_threads(
        [learn if number % 4 == 0 else (lambda: one.predict_proba(X)) for number in range(16)]
    )
    np.testing.assert_allclose(np.stack(found), np.stack([right] * 16), atol=1e-6)
    assert all(torch.equal(each, before[name]) for name, each in encoder.state_dict().items())
    assert all(part.training for part in encoder.modules())


def test_filters_of_warnings_stay_what_they_are():
    X, y = points()
    before = list(warnings.filters)
    in_threads([lambda: FewShotClassifier(calibrate=False).fit(X, y)] * 16)
    assert list(warnings.filters) == before


def _predict(classifier, X, answers):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = classifier.predict_proba(X)
    answers.put((found, [str(each.message) for each in said], torch.get_num_threads()))


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system"
)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_answers():
    """It was forked while a thread of its parent was in the middle of an answer."""
    classifier, X = fitted(Meeting())
    right = classifier.predict_proba(X)
    torch.randn(300, 300) @ torch.randn(300, 300)  # its threads are there
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=_predict, args=(classifier, X, answers))
    waiting = threading.Thread(target=classifier.predict_proba, args=[X], name="first")
    waiting.start()
    try:
        assert FIRST.wait(HANGS)
        process.start()
        found, said, threads = answers.get(timeout=HANGS)
        np.testing.assert_allclose(found, right, atol=1e-6)
        assert threads == 1
        assert len(said) == (torch.get_num_threads() > 1)
    finally:
        SECOND.set()
        waiting.join()
        process.kill()
