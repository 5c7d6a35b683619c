"""Encoders with batch normalisation in strategies that adapt it: left alone, and rightly run."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.encoders.task_normalization import task_batch_norms
from quickstudy.episodes import Examples
from quickstudy.strategies import (
    ANIL,
    BOIL,
    CAVIA,
    FOMAML,
    IMAML,
    MAML,
    LearnedOptimizer,
    MAMLPlusPlus,
    MetaCurvature,
    MetaLSTM,
    MetaSGD,
    ProtoMAML,
    PrototypicalNetwork,
    Reptile,
    TNet,
    WholeHypernetwork,
)
from quickstudy.training import fit

from ..builders import vectors
from .foreign import encoder_of, episode

ADAPTING = [ANIL, BOIL, CAVIA, FOMAML, IMAML, LearnedOptimizer, MAML, MAMLPlusPlus, MetaCurvature]
ADAPTING += [MetaLSTM, MetaSGD, ProtoMAML, Reptile, TNet]
QUICK = {"queries": 3, "steps": 2, "show_progress": False, "validation_episodes": 4}


def with_batch_norm():
    torch.manual_seed(0)
    encoder = encoder_of(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16))
    for _ in range(20):
        encoder(torch.randn(64, 16) * 3 + 1)  # running averages far from those of a batch
    return encoder


def answers(strategy, tasks):
    return strategy.eval()(tasks).detach()


@pytest.mark.parametrize("strategy", ADAPTING)
def test_making_maml_leaves_the_encoder_as_it_was(strategy):
    encoder = with_batch_norm()
    prototypes = PrototypicalNetwork(encoder)
    before = answers(prototypes, episode())
    kinds = [type(layer) for layer in encoder.modules()]
    names = list(encoder.state_dict())
    strategy(encoder)
    assert torch.equal(before, answers(prototypes, episode()))
    assert [type(layer) for layer in encoder.modules()] == kinds
    assert list(encoder.state_dict()) == names


def test_a_learner_whose_weights_are_emitted_is_left_as_it_was():
    learner = with_batch_norm()
    x = torch.randn(4, 16)
    before = learner.eval()(x)
    learner.train()
    WholeHypernetwork(with_batch_norm(), learner, width=8)
    assert torch.equal(learner.eval()(x), before)


def test_after_maml_was_trained_its_encoder_is_still_an_ordinary_module():
    encoder = with_batch_norm()
    kinds = [type(layer) for layer in encoder.modules()]
    before = copy.deepcopy(encoder.state_dict())
    fit(MAML(encoder), vectors(), tasks=2, **QUICK)
    assert [type(layer) for layer in encoder.modules()] == kinds
    x = torch.randn(8, 16)
    with torch.no_grad():
        assert torch.allclose(encoder.eval()(x)[:2], encoder(x[:2]), atol=1e-6)  # rounding
    after = encoder.state_dict()
    assert not torch.equal(after["0.weight"], before["0.weight"])  # it shares what was learned
    assert torch.equal(after["1.running_mean"], before["1.running_mean"])


def test_an_encoder_follows_the_strategy_into_another_precision():
    encoder = with_batch_norm()
    x = torch.randn(4, 16)
    expected = encoder.eval()(x)
    maml = MAML(encoder).double()
    torch.testing.assert_close(encoder(x.double()).float(), expected)
    maml(episode(dtype=torch.float64))
    assert encoder[1].running_mean.dtype == torch.float64
    assert encoder[0].weight is maml.encoder[0].weight


@pytest.mark.parametrize("how", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
@pytest.mark.parametrize("norm", [nn.BatchNorm1d, lambda size: NormThenRelu(size)])
def test_copies_of_a_strategy_answer_alike_and_share_nothing(how, norm):
    torch.manual_seed(0)
    strategy = MAML(encoder_of(nn.Linear(16, 16), norm(16)))
    copied = how(strategy)
    assert torch.equal(answers(strategy, episode()), answers(copied, episode()))
    mine = {id(parameter) for parameter in strategy.parameters()}
    assert not mine & {id(parameter) for parameter in copied.parameters()}


def test_two_strategies_of_one_encoder_learn_the_same_weights():
    encoder = with_batch_norm()
    prototypes, maml = PrototypicalNetwork(encoder), MAML(encoder)
    fit(maml, vectors(), tasks=2, **QUICK)
    assert torch.equal(prototypes.encoder[0].weight, maml.encoder[0].weight)
    plus_plus = MAMLPlusPlus(maml.encoder)  # whose layers are the strategy's own already
    assert isinstance(maml.encoder[1].weight, nn.Parameter)
    assert isinstance(encoder[1].weight, nn.Parameter)
    plus_plus.loss(episode(ways=5))[0].backward()


# --- layers that are not torch's plain ones ---


class NormThenRelu(nn.BatchNorm1d):
    """As some image models have it: normalisation with the activation inside."""

    def forward(self, x):
        return torch.relu(super().forward(x))


class WithOptions(nn.BatchNorm1d):
    """Calls the functional form, has a layer inside and an argument more."""

    def __init__(self, size):
        super().__init__(size, affine=False)
        self.act = nn.Tanh()

    def forward(self, x, scale=2.0):
        mean, var = self.running_mean, self.running_var
        return self.act(scale * F.batch_norm(x, mean, var, training=self.training, eps=self.eps))


class OnlyMade(nn.BatchNorm1d):
    def __init__(self, size):
        super().__init__(size, eps=1e-3, momentum=None)


def hooked(size):
    norm = nn.BatchNorm1d(size)
    norm.register_forward_hook(lambda _, __, output: output * 3)
    return norm


def parametrized(size):
    return nn.utils.parametrizations.weight_norm(nn.BatchNorm1d(size), dim=None)


NORMS = {
    "own forward": NormThenRelu,
    "functional": WithOptions,
    "own constructor": OnlyMade,
    "hook": hooked,
    "parametrized": parametrized,
    "no weights": lambda size: nn.BatchNorm1d(size, affine=False),
    "no averages": lambda size: nn.BatchNorm1d(size, track_running_stats=False),
    "synchronised": nn.SyncBatchNorm,
}


def unadapted(encoder, ways=3):
    """MAML that takes no step: its answers to the support are those of the encoder in training."""
    maml = MAML(encoder, ways=ways, inner_steps=0).eval()
    nn.init.normal_(maml.head.weight)
    return maml


@pytest.mark.parametrize("kind", NORMS)
def test_a_norm_with_a_forward_of_its_own_keeps_it_in_maml(kind):
    torch.manual_seed(0)
    encoder = encoder_of(nn.Linear(6, 8), NORMS[kind](8))
    plain = copy.deepcopy(encoder).train()
    maml, x = unadapted(encoder), torch.randn(1, 12, 6)
    theta = maml.adapt(Examples(x, torch.arange(3).repeat(4)[None]), 3)
    assert {"encoder.1.mean", "encoder.1.var"} <= set(theta)
    expected = maml.head(plain(x[0]))
    torch.testing.assert_close(maml.predict(theta, x)[0], expected)
    torch.testing.assert_close(maml.predict(theta, x[:, :2])[0], expected[:2])


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("strategy", [MAML, MAMLPlusPlus])
def test_its_meta_gradient_of_several_tasks_is_the_mean_of_their_own(kind, strategy):
    torch.manual_seed(0)
    options = {"first_order_passes": 0, "multi_step_passes": 0} if strategy is MAMLPlusPlus else {}
    encoder = encoder_of(nn.Linear(6, 8), NORMS[kind](8), nn.Linear(8, 8))
    strategy = strategy(encoder, ways=3, inner_steps=2, **options).double().train()
    tasks = episode(size=6, ways=3, tasks=3, dtype=torch.float64)
    parameters = [each for each in strategy.parameters() if each.requires_grad]
    together = torch.autograd.grad(strategy.loss(tasks)[0], parameters, allow_unused=True)
    single = [
        torch.autograd.grad(strategy.loss(tasks[t : t + 1])[0], parameters, allow_unused=True)
        for t in range(3)
    ]
    for found, *each in zip(together, *single, strict=True):
        if found is not None:
            torch.testing.assert_close(found, sum(each) / 3, rtol=1e-8, atol=1e-10)  # rounding


def test_a_norm_that_does_not_call_the_functional_form_is_refused():
    class ByHand(nn.BatchNorm1d):
        def forward(self, x):
            return (x - self.running_mean) / (self.running_var + self.eps).sqrt()

    with pytest.raises(ValueError, match=r"ByHand normalises without"):
        MAML(encoder_of(nn.Linear(16, 8), ByHand(8)))(episode())


@pytest.mark.parametrize("kind", ["SyncBatchNorm", "LazyBatchNorm1d"])
def test_other_kinds_of_batch_norm_work_in_maml_or_are_refused(kind):
    def logits(norm):
        torch.manual_seed(0)
        encoder = encoder_of(nn.Linear(6, 8), norm, nn.Tanh(), nn.Linear(8, 8))
        torch.manual_seed(0)
        maml = MAML(encoder, ways=3, inner_steps=2).train()
        tasks = episode(size=6, ways=3)
        maml.loss(tasks)[0].backward()
        assert all(p.grad.abs().sum() > 0 for p in encoder.parameters())
        return maml(tasks).detach()

    if kind == "SyncBatchNorm":
        torch.testing.assert_close(logits(nn.SyncBatchNorm(8)), logits(nn.BatchNorm1d(8)))
        return
    lazy = nn.LazyBatchNorm1d()
    with pytest.raises(ValueError, match=r"LazyBatchNorm1d.*Pass one batch"):
        logits(lazy)
    lazy(torch.randn(4, 8))
    torch.testing.assert_close(logits(lazy), logits(nn.BatchNorm1d(8)))


# --- layers that are not used once for the whole batch ---


class Twice(nn.Module):
    """The same layer in two places."""

    out_features = 8

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.again = self.norm
        self.blocks = [self.first, self.norm]  # a plain list, which torch does not look into

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.again(x.tanh() ** 2)


class InPlaces(nn.Module):
    """Normalises over the batch and over places."""

    out_features = 12

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.unused = nn.BatchNorm1d(5)
        self.linear = nn.Linear(6, 12)

    def forward(self, x):
        return self.linear(self.norm(x.reshape(-1, 2)).reshape(len(x), -1))


@pytest.mark.parametrize("make", [Twice, InPlaces])
def test_queries_are_normalised_as_the_support_in_every_use_of_a_layer(make):
    torch.manual_seed(0)
    encoder = make()
    plain = copy.deepcopy(encoder).train()
    maml, x = unadapted(encoder), torch.randn(1, 12, 6)
    theta = maml.adapt(Examples(x, torch.arange(3).repeat(4)[None]), 3)
    expected = maml.head(plain(x[0]))
    torch.testing.assert_close(maml.predict(theta, x)[0], expected)
    torch.testing.assert_close(maml.predict(theta, x[:, :2])[0], expected[:2])
    assert len(task_batch_norms(maml.encoder)) == (1 if make is Twice else 2)


def test_uses_that_depend_on_the_size_of_the_batch_are_refused():
    class InParts(Twice):
        def forward(self, x):
            return torch.cat([self.norm(self.first(part)) for part in x.split(5)])

    with pytest.raises(ValueError, match="used a different number of times on a task's support"):
        MAML(InParts(), ways=5)(episode(size=6, ways=5))


def test_layers_that_an_encoder_keeps_frozen_stay_frozen():
    class Frozen(nn.Module):
        out_features = 8

        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 8)
            self.norm = nn.BatchNorm1d(8).requires_grad_(False)

        def train(self, mode=True):
            super().train(mode)
            self.norm.eval()
            return self

        def forward(self, x):
            return self.norm(self.linear(x))

    encoder = Frozen()
    encoder.norm.running_mean += 3
    maml = unadapted(encoder).train()
    x = torch.randn(1, 12, 6)
    theta = maml.adapt(Examples(x, torch.arange(3).repeat(4)[None]), 3)
    torch.testing.assert_close(maml.predict(theta, x)[0], maml.head(encoder.eval()(x[0])))
    assert not task_batch_norms(maml.encoder)


def test_the_encoder_inside_maml_is_no_encoder_of_fixed_features():
    encoder = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8))
    encoder.out_features = 8
    maml = MAML(encoder)
    with pytest.raises(ValueError, match="that task's statistics"):
        PrototypicalNetwork(maml.encoder)
    PrototypicalNetwork(encoder)  # which MAML left as it was
