"""The gradient of a meta-batch does not depend on which core computed which task."""

import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

from quickstudy.encoders import MLP, Conv4
from quickstudy.episodes import EpisodeSampler, Sinusoids
from quickstudy.strategies import MAML, PrototypicalNetwork, Strategy
from quickstudy.training.tasks import MetaGradient, _mixes_tasks

from ..builders import make_blobs
from ..conftest import HANG


@pytest.fixture(scope="module", autouse=True)
def _one_thread_an_operation():
    """So that an operation sums in the same order in whatever thread it runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tasks():
    return EpisodeSampler(make_blobs(), ways=3, shots=1, queries=2, tasks=7, seed=1).episode(0)


def encoder():
    return Conv4((1, 8, 8), 9, blocks=2)


def maml():
    torch.manual_seed(0)
    return MAML(encoder(), ways=3, inner_steps=2)


def prototypes():
    torch.manual_seed(0)
    return PrototypicalNetwork(encoder())


class Noisy(PrototypicalNetwork):
    """Draws random numbers, from its third task on."""

    quiet_tasks = 2

    def loss(self, episode):
        type(self).quiet_tasks -= 1
        loss, logits = super().loss(episode)
        return loss * torch.rand(()) if self.quiet_tasks < 0 else loss, logits


class LossAlone(PrototypicalNetwork):
    def loss(self, episode):
        return super().loss(episode)[0]


class NoLoss(PrototypicalNetwork):
    def loss(self, episode):
        return None


def test_a_loss_without_logits_is_accepted_for_now(tasks):
    strategy = LossAlone(MLP((1, 8, 8), (4,)))
    expected = MetaGradient(PrototypicalNetwork(strategy.encoder)).sums(tasks, 1.0)
    with pytest.warns(DeprecationWarning, match=r"LossAlone\.loss .*`return loss, logits`"):
        found = MetaGradient(strategy).sums(tasks, 1.0)
    assert found.loss == expected.loss
    assert expected.accuracy >= 0
    assert found.accuracy != found.accuracy
    with pytest.raises(ValueError, match=r"NoLoss\.loss returned a NoneType"):
        MetaGradient(NoLoss(strategy.encoder)).sums(tasks, 1.0)


class Counting(nn.Module):
    """Counts its passes where no buffer shows it."""

    def __init__(self):
        super().__init__()
        self.passes = 0

    def get_extra_state(self):
        return self.passes

    def set_extra_state(self, state):
        self.passes = state

    def forward(self, x):
        self.passes += 1
        return x


def added(total, more):
    return total if more is None else more if total is None else total + more


def gradient(strategy, tasks, at_once, calls=1):
    """The gradients, the sums and the buffers after so many meta-batches."""
    gradients = [None] * len(list(strategy.parameters()))
    compute = MetaGradient(strategy.train(), at_once=at_once)

    def prepare(number):
        torch.manual_seed(number)
        return tasks[number : number + 1]

    for _ in range(calls):
        sums = compute.sums(tasks, 1 / tasks.tasks, prepare)
        found = [None if each is None else each.float() for each in sums.gradients]
        gradients = [added(*pair) for pair in zip(gradients, found, strict=True)]
    used = compute.at_once
    compute.close()
    return gradients, sums, [b.clone() for b in strategy.buffers()], used


@pytest.mark.parametrize("at_once", [2, 3, 8])
@pytest.mark.parametrize("make", [maml, prototypes])
def test_tasks_side_by_side_give_the_same_bits_as_one_after_another(make, tasks, at_once):
    expected, expected_sums, expected_buffers, _ = gradient(make(), tasks, 1)
    found, sums, buffers, _ = gradient(make(), tasks, at_once)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert (sums.loss, sums.accuracy) == (expected_sums.loss, expected_sums.accuracy)
    for pair in zip(
        sums.averages + buffers, expected_sums.averages + expected_buffers, strict=True
    ):
        assert torch.equal(*pair)


@pytest.mark.parametrize("at_once", [2, 3, 7])
def test_tasks_in_one_call_give_what_one_after_another_does(tasks, at_once, monkeypatch):
    monkeypatch.setattr(MetaGradient, "_joins", lambda self, task: True)  # as on a GPU
    sizes = []
    monkeypatch.setattr(
        MAML, "loss", lambda self, each: (sizes.append(each.tasks), Strategy.loss(self, each))[1]
    )
    expected, expected_sums, expected_buffers, _ = gradient(maml(), tasks, 1)
    sizes.clear()
    found, sums, buffers, _ = gradient(maml(), tasks, at_once)
    assert max(sizes) == at_once
    assert sum(sizes) == tasks.tasks
    for pair in zip(found + buffers, expected + expected_buffers, strict=True):
        torch.testing.assert_close(*pair)  # float32, summed in another order
    assert sums.loss == pytest.approx(expected_sums.loss)
    assert sums.accuracy == pytest.approx(expected_sums.accuracy)
    for pair in zip(sums.averages, expected_sums.averages, strict=True):
        torch.testing.assert_close(*pair)


def test_tasks_of_short_vectors_go_into_one_call(monkeypatch):
    waves = Sinusoids(tasks=9).episode(0)
    results, sizes = [], []
    loss = MAML.loss
    monkeypatch.setattr(
        MAML, "loss", lambda self, each: (sizes.append(each.tasks), loss(self, each))[1]
    )
    for at_once in (1, None):
        torch.manual_seed(0)
        strategy = MAML(MLP((1,), hidden=(8,)), ways=1, inner_steps=2, inner_learning_rate=0.01)
        results.append(gradient(strategy, waves, at_once)[0])
    assert sizes == [1] * 10 + [9]  # the first of the second alone, to see what a task takes
    for pair in zip(*results, strict=True):
        torch.testing.assert_close(*pair)  # float32, summed in another order


def test_only_strategies_that_keep_tasks_apart_take_several_in_one_call():
    assert not _mixes_tasks(maml().train())
    assert _mixes_tasks(prototypes().train())
    assert not _mixes_tasks(prototypes().eval())


def test_it_is_the_gradient_of_the_mean_loss(tasks):
    strategy = maml().train()
    losses = torch.stack([strategy.loss(tasks[t : t + 1])[0] for t in range(tasks.tasks)])
    expected = torch.autograd.grad(losses.mean(), list(strategy.parameters()))
    found, sums, _, _ = gradient(maml(), tasks, 2)
    assert sums.loss == pytest.approx(float(losses.detach().sum()), rel=1e-5)
    for pair in zip(found, expected, strict=True):
        torch.testing.assert_close(*pair)  # float32, summed in another order


def test_gradients_add_to_those_that_are_there(tasks):
    once, _, _, _ = gradient(maml(), tasks, 2)
    twice, _, _, _ = gradient(maml(), tasks, 2, calls=2)
    for one, two in zip(once, twice, strict=True):
        torch.testing.assert_close(two, 2 * one)


@pytest.mark.parametrize("at_once", [None, 2])
def test_who_draws_random_numbers_draws_the_same_for_each_task(tasks, at_once):
    torch.manual_seed(0)
    dropping = PrototypicalNetwork(nn.Sequential(encoder(), nn.Dropout(0.5)))
    found, _, _, used = gradient(dropping, tasks, at_once)
    assert used == 1
    torch.manual_seed(0)
    dropping = PrototypicalNetwork(nn.Sequential(encoder(), nn.Dropout(0.5)))
    expected, _, _, _ = gradient(dropping, tasks, 1)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_who_begins_to_draw_later_is_noticed(tasks):
    results = []
    for at_once in (2, 1):
        torch.manual_seed(0)
        Noisy.quiet_tasks = 2 if at_once == 2 else -1
        results.append(gradient(Noisy(encoder()), tasks, at_once))
    (found, _, _, used), (expected, _, _, _) = results
    assert used == 1
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("at_once", [1, 2])
def test_counters_move_by_one_a_meta_batch(tasks, at_once):
    strategy = PrototypicalNetwork(nn.Sequential(encoder(), Counting()))
    gradient(strategy, tasks, at_once, calls=3)
    assert strategy.encoder[1].passes == 3
    assert strategy.encoder[0].norms[0].num_batches_tracked == 3


def test_copies_share_the_memory_of_parameters(tasks):
    compute = MetaGradient(maml().train(), at_once=3)
    compute.sums(tasks, 1.0)
    workers = [compute.threads.idle.get() for _ in range(3)]
    compute.close()
    first, *others = (list(worker.strategy.parameters()) for worker in workers)
    for other in others:
        for one, same in zip(first, other, strict=True):
            assert one.data_ptr() == same.data_ptr()
            assert one.requires_grad == same.requires_grad
    assert len({id(worker.strategy.encoder) for worker in workers}) == 3


def test_an_error_in_a_thread_is_raised_and_the_threads_go_on(tasks):
    strategy = maml().train()
    compute = MetaGradient(strategy, at_once=2)
    wrong = EpisodeSampler(make_blobs(), ways=4, shots=1, queries=2, tasks=3).episode(0)
    with pytest.raises(ValueError, match="made for tasks of 3 ways"):
        compute.sums(wrong, 1.0)
    assert all(each is not None for each in compute.sums(tasks, 1.0).gradients)
    compute.close()
    assert strategy.head.weight.grad is None


def test_what_cannot_be_copied_runs_one_after_another(tasks):
    strategy = prototypes()
    strategy.lock = threading.Lock()
    torch.set_num_threads(2)
    _, _, _, used = gradient(strategy, tasks, None)
    torch.set_num_threads(1)
    assert used == 1


def test_the_callers_number_of_threads_stays(tasks):
    torch.set_num_threads(2)
    _, _, _, used = gradient(maml(), tasks, None)
    assert used == torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_compiled_tasks_give_the_same_gradient(tasks):
    def make():
        torch.manual_seed(0)
        return MAML(MLP((1, 8, 8), (16,)), ways=3, inner_steps=1)

    compute = MetaGradient(make().train(), at_once=1, compiled=True)
    sums = compute.sums(tasks[:2], 1.0)
    expected, expected_sums, _, _ = gradient(make(), tasks[:2], 1)
    assert compute.worker.compiled.seconds > 0
    assert sums.loss == pytest.approx(expected_sums.loss, rel=1e-5)
    assert sums.accuracy == expected_sums.accuracy
    for found, each in zip(sums.gradients, expected, strict=True):
        # Twice the gradient of the mean of two; fused operations round differently.
        torch.testing.assert_close(found.float(), 2 * each, rtol=1e-3, atol=1e-5)


def test_what_cannot_be_compiled_goes_on_uncompiled(tasks, monkeypatch):
    def broken(forward, **_):
        def call(*_):
            raise RuntimeError("no compiler here\nand more")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    strategy = maml().train()
    compute = MetaGradient(strategy, at_once=1, compiled=True)
    with pytest.warns(UserWarning, match=r"MAML could not be compiled .*: no compiler here$"):
        found = compute.sums(tasks, 1 / tasks.tasks).gradients
    expected, _, _, _ = gradient(maml(), tasks, 1)
    assert all(torch.equal(f.float(), e) for f, e in zip(found, expected, strict=True))
    assert "forward" not in vars(strategy)


HANGING = """
import torch
from torch import nn
from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import Strategy
from quickstudy.training.tasks import MetaGradient

class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, one, other):
        return one * other

    @staticmethod
    def backward(ctx, gradient):
        return gradient, gradient

class Hanging(Strategy):
    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.ones(2)) for _ in range(200))

    def adapt(self, support, ways):
        raise NotImplementedError

    def predict(self, theta, query):
        raise NotImplementedError

    def loss(self, episode):
        x = episode.support.inputs.mean()
        if episode.support.targets.any():
            return sum(Product.apply(weight, x).sum() for weight in self.weights), None
        return sum((weight * x).sum() for weight in self.weights), None

def examples(target):
    return Examples(torch.ones(1, 1, 1), torch.full((1, 1), target))

tasks = Episode.joined([Episode(examples(t), examples(t), 2) for t in (0, 1)])
compute = MetaGradient(Hanging(), at_once=2)
compute._joins = lambda task: False
for _ in range(50):
    compute.sums(tasks, 1.0)
compute.close()
print("done")
"""


def test_threads_never_wait_for_each_other():
    """One in an operation of Python, the other in one of C++, on the same parameters."""
    done = subprocess.run([sys.executable, "-c", HANGING], timeout=HANG, capture_output=True)
    assert done.stdout.split() == [b"done"], done.stderr
