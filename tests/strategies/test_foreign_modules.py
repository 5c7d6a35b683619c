"""Encoders of torch's layers and of people's own in inner loops: as plain torch runs them."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from quickstudy.encoders import MLP
from quickstudy.encoders.normalization import TaskBatchNorm
from quickstudy.encoders.task_normalization import copied
from quickstudy.strategies import (
    ANIL,
    BOIL,
    CAVIA,
    FOMAML,
    IMAML,
    MAML,
    FineTuning,
    LearnedOptimizer,
    MAMLPlusPlus,
    MetaCurvature,
    MetaSGD,
    ProtoMAML,
    PrototypicalNetwork,
    Reptile,
    TNet,
    TransductiveFineTuning,
    WholeHypernetwork,
)
from quickstudy.strategies.foreign import KNOWN, is_known, plain_attention
from quickstudy.training import fit

from ..builders import vectors
from .foreign import encoder_of, episode
from .meta_gradients import as_on_a_gpu

QUICK = {"queries": 3, "steps": 2, "show_progress": False, "validation_episodes": 4}
QUICK |= {"validation_queries": 3}
parametrizations = nn.utils.parametrizations


class Own(nn.Module):
    """An encoder whose forward pass is a function of it and its inputs."""

    out_features = 8

    def __init__(self, function, *layers):
        super().__init__()
        self.linear = nn.Linear(16, 8)
        self.layers = nn.ModuleList(layers)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def on_images(*layers):
    def forward(own, x):
        x = x.view(len(x), 1, 4, 4)
        for layer in own.layers:
            x = layer(x)
        return own.linear(x.flatten(1)[:, :16])

    return Own(forward, nn.Conv2d(1, 4, 3, padding=1), *layers)


class Series(nn.Module):
    out_features = 8

    def __init__(self, kind, **options):
        super().__init__()
        self.recurrent = kind(4, 8, batch_first=True, **options)
        self.linear = nn.Linear(16 if options.get("bidirectional") else 8, 8)

    def forward(self, x):
        return self.linear(self.recurrent(x.view(len(x), -1, 4))[0][:, -1])


class Attending(nn.Module):
    out_features = 16

    def __init__(self, layer=None):
        super().__init__()
        self.layer = layer or nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True)

    def forward(self, x):
        x = x.view(len(x), -1, 4)
        if isinstance(self.layer, nn.MultiheadAttention):
            return self.layer(x, x, x, need_weights=False)[0].flatten(1)
        if isinstance(self.layer, nn.Linear):
            q, k, v = self.layer(x)[:, None].chunk(3, -1)
            return F.scaled_dot_product_attention(q, k, v).flatten(1)
        return self.layer(x).flatten(1)


class Counting(nn.Module):
    """Keeps a running mean, in place or anew, and counts."""

    out_features = 8

    def __init__(self, in_place=True):
        super().__init__()
        self.in_place = in_place
        self.linear = nn.Linear(16, 8)
        self.register_buffer("mean", torch.zeros(16))
        self.register_buffer("passes", torch.tensor(0))
        self.seen = 0

    def forward(self, x):
        if self.training and self.in_place:
            self.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
        elif self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        self.passes += 1
        self.seen += 1
        return self.linear(x - self.mean)


class Tied(nn.Module):
    out_features = 16

    def __init__(self):
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(16, 16), nn.Linear(16, 16), nn.LayerNorm(16)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.norm(self.first(x)).tanh())


def linear():
    return nn.Linear(16, 8)


def scripted():
    module = torch.jit.script(nn.Sequential(linear(), nn.Tanh()))
    module.out_features = 8
    return module


def looked_up():
    def forward(own, x):
        return own.linear(x) + own.layers[0]((x[:, 0].abs() * 3).long().clamp(max=9))

    return Own(forward, nn.Embedding(10, 8, max_norm=1.0))


def changing(own, x):
    return own.linear(x.mul_(2))


def branching(own, x):
    return own.linear(x) if x.sum().item() > 0 else own.linear(x).tanh()


ENCODERS = {
    "LSTM": lambda: Series(nn.LSTM),
    "GRU both ways": lambda: Series(nn.GRU, bidirectional=True),
    "RNN": lambda: Series(nn.RNN),
    "transformer": Attending,
    "attention": lambda: Attending(nn.MultiheadAttention(4, 2, batch_first=True)),
    "attention by hand": lambda: Attending(nn.Linear(4, 12)),
    "LayerNorm": lambda: encoder_of(linear(), nn.LayerNorm(8)),
    "LayerNorm without weights": lambda: encoder_of(linear(), nn.LayerNorm(8, 1e-5, False)),
    "LayerNorm without bias": lambda: encoder_of(linear(), nn.LayerNorm(8, bias=False)),
    "LayerNorm of maps": lambda: on_images(nn.LayerNorm((4, 4, 4))),
    "layer_norm by hand": lambda: Own(
        lambda own, x: F.layer_norm(own.linear(x), (8,), own.linear.bias)
    ),
    "RMSNorm": lambda: encoder_of(linear(), nn.RMSNorm(8)),
    "InstanceNorm": lambda: on_images(nn.InstanceNorm2d(4, affine=True)),
    "InstanceNorm with averages": lambda: on_images(
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    ),
    "GroupNorm": lambda: on_images(nn.GroupNorm(2, 4)),
    "LocalResponseNorm": lambda: on_images(nn.LocalResponseNorm(2)),
    "weight norm": lambda: encoder_of(parametrizations.weight_norm(linear())),
    "weight norm as it was": lambda: encoder_of(nn.utils.weight_norm(linear())),
    "orthogonal": lambda: encoder_of(parametrizations.orthogonal(linear())),
    "spectral norm": lambda: encoder_of(parametrizations.spectral_norm(linear())),
    "spectral norm as it was": lambda: encoder_of(nn.utils.spectral_norm(linear())),
    "running mean": Counting,
    "running mean, anew": lambda: Counting(in_place=False),
    "largest norm": looked_up,
    "tied": Tied,
    "by value": lambda: Own(branching),
    "changes its inputs": lambda: Own(changing),
    "checkpointed": lambda: Own(
        lambda own, x: checkpoint(own.linear, x, use_reentrant=False).tanh()
    ),
    "batch's mean": lambda: Own(lambda own, x: own.linear(x - x.mean(0))),
    "PReLU": lambda: encoder_of(linear(), nn.PReLU()),
    "scripted": scripted,
}
ALIKE = {"rtol": 1e-8, "atol": 1e-10}  # rounding of float64


def gradients(strategy, tasks):
    learned = [each for each in strategy.parameters() if each.requires_grad]
    found = torch.autograd.grad(strategy.loss(tasks)[0], learned, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(learned, found, strict=True)]


def by_hand(maml, support, query):
    """The meta-gradient of one task by plain autograd, on a copy of MAML's modules."""
    network = copied(maml.network(), {})
    start = {n: p for n, p in network.named_parameters() if p.requires_grad}
    theta = start
    with plain_attention():
        for _ in range(maml.inner_steps):
            outputs = torch.func.functional_call(network, theta, (support.inputs[0].clone(),))
            loss = F.cross_entropy(outputs, support.targets[0])
            slopes = torch.autograd.grad(
                loss, list(theta.values()), create_graph=True, materialize_grads=True
            )
            rate = maml.inner_learning_rate
            theta = {n: v - rate * g for (n, v), g in zip(theta.items(), slopes, strict=True)}
        outputs = torch.func.functional_call(network, theta, (query.inputs[0].clone(),))
    loss = F.cross_entropy(outputs, query.targets[0])
    return torch.autograd.grad(loss, list(start.values()), materialize_grads=True)


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_meta_gradient_is_that_of_plain_torch(kind):
    """Of one task, and of three as each for itself, in float64."""
    torch.manual_seed(0)
    maml = MAML(ENCODERS[kind](), inner_steps=2, inner_learning_rate=0.1, transductive=True)
    maml.double().train()
    nn.init.normal_(maml.head.weight)
    tasks = episode(tasks=3, dtype=torch.float64)
    given, start = tasks.support.inputs.clone(), copy.deepcopy(maml.state_dict())
    alone = []
    for number in range(3):
        maml.load_state_dict(start)
        task = tasks[number : number + 1]
        expected = by_hand(maml, task.support, task.query)
        maml.load_state_dict(start)
        alone.append(gradients(maml, task))
        torch.testing.assert_close(alone[-1], list(expected), **ALIKE)
    maml.load_state_dict(start)
    together = gradients(maml, tasks)
    keeps_state = any(not torch.equal(start[n], v) for n, v in maml.state_dict().items())
    if not keeps_state:  # else one task leaves the next another start
        expected = [sum(each) / 3 for each in zip(*alone, strict=True)]
        torch.testing.assert_close(together, expected, **ALIKE)
    assert torch.equal(tasks.support.inputs, given)


@pytest.mark.parametrize("kind", ENCODERS)
def test_it_answers_several_tasks_as_each_by_itself(kind):
    torch.manual_seed(0)
    maml = MAML(ENCODERS[kind](), inner_steps=2, inner_learning_rate=0.1).eval()
    tasks = episode(tasks=3)
    with torch.no_grad():
        together = maml(tasks)
        alone = torch.cat([maml(tasks[t : t + 1]) for t in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)  # float32, mapped or not


ADAPTING = [
    *(ANIL, BOIL, CAVIA, FOMAML, IMAML, LearnedOptimizer, MAMLPlusPlus, MetaCurvature),
    *(MetaSGD, ProtoMAML, Reptile, TNet),
]


@pytest.mark.parametrize("strategy", ADAPTING)
@pytest.mark.parametrize(
    "kind", ["LSTM", "transformer", "LayerNorm", "spectral norm", "running mean"]
)
def test_every_strategy_of_gradient_steps_learns_with_it(kind, strategy):
    torch.manual_seed(0)
    made = strategy(ENCODERS[kind]())
    before = copy.deepcopy(made.state_dict())
    parts = vectors(24).split()
    fit(made, parts["train"], parts["validation"], tasks=3, **QUICK | {"steps": 1})
    after = made.state_dict()
    assert any(not torch.equal(before[n], after[n]) for n in before if "encoder" in n)


@pytest.mark.parametrize("kind", ["LSTM", "transformer", "LayerNorm", "spectral norm"])
@pytest.mark.parametrize("make", [FineTuning, TransductiveFineTuning, PrototypicalNetwork])
def test_strategies_of_one_encoder_answer_tasks_each_by_itself(kind, make):
    torch.manual_seed(0)
    strategy, tasks = make(ENCODERS[kind]()).eval(), episode(tasks=3)
    alone = torch.cat([strategy(tasks[t : t + 1]) for t in range(3)])
    torch.testing.assert_close(strategy(tasks), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["LSTM", "LayerNorm"])
def test_emitted_weights_go_into_any_learner(kind):
    torch.manual_seed(0)
    strategy = WholeHypernetwork(encoder_of(linear()), ENCODERS[kind](), width=8).double()
    tasks = episode(tasks=3, dtype=torch.float64)
    alone = [gradients(strategy, tasks[t : t + 1]) for t in range(3)]
    expected = [sum(each) / 3 for each in zip(*alone, strict=True)]
    torch.testing.assert_close(gradients(strategy, tasks), expected, **ALIKE)


# --- the cases of people's reports ---


@pytest.mark.parametrize("strategy", [MAML, MetaSGD])
def test_layer_norm_keeps_second_derivatives_of_several_tasks(strategy):
    torch.manual_seed(1)
    encoder = encoder_of(
        nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), features=8
    )
    maml = strategy(encoder, ways=3, inner_steps=2).double().train()
    nn.init.normal_(maml.head.weight)
    tasks = episode(size=6, ways=3, tasks=3, dtype=torch.float64)
    alone = [gradients(maml, tasks[t : t + 1]) for t in range(3)]
    expected = [sum(each) / 3 for each in zip(*alone, strict=True)]
    torch.testing.assert_close(gradients(maml, tasks), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tasks", [1, 3])
def test_maml_learns_with_a_recurrent_encoder(tasks):
    parts = vectors(24).split()
    maml = MAML(Series(nn.LSTM))
    before = copy.deepcopy(maml.state_dict())
    fit(maml, parts["train"], parts["validation"], tasks=tasks, **QUICK)
    assert any(not torch.equal(before[n], v) for n, v in maml.state_dict().items())


def test_maml_of_second_order_learns_with_a_transformer():
    maml = MAML(Attending())
    before = copy.deepcopy(maml.state_dict())
    fit(maml, vectors(), **QUICK)
    assert any(not torch.equal(before[n], v) for n, v in maml.state_dict().items())
    assert torch.backends.cuda.flash_sdp_enabled()  # as it was


@pytest.mark.parametrize("make", [Counting, ENCODERS["spectral norm"]])
def test_an_encoder_that_writes_its_buffers_learns_in_maml_or_is_refused(make):
    torch.manual_seed(0)
    maml = MAML(make())
    before = copy.deepcopy(maml.state_dict())
    fit(maml, vectors(), tasks=4, **QUICK)
    after = maml.state_dict()
    assert all(not torch.equal(before[n], after[n]) for n in before if n.startswith("encoder"))


# --- how it is found out ---


def test_trying_leaves_no_trace():
    torch.manual_seed(0)
    maml = MAML(Counting())
    tasks, random = episode(), torch.get_rng_state()
    maml.loss(tasks)[0].backward()
    assert torch.equal(torch.get_rng_state(), random)
    assert maml.encoder.seen == maml.encoder.passes == 3  # a step, the statistics, the queries


def test_what_was_found_is_remembered_and_copied(monkeypatch):
    maml = MAML(encoder_of(linear(), nn.LayerNorm(8)))
    maml.loss(episode(tasks=2))
    monkeypatch.setattr("quickstudy.strategies.foreign._outcome", None)
    maml.loss(episode(tasks=2, seed=1))
    copy.deepcopy(maml).loss(episode(tasks=2))


def test_own_encoders_are_not_tried(monkeypatch):
    monkeypatch.setattr("quickstudy.strategies.foreign._outcome", None)
    MAML(encoder_of(linear(), nn.ReLU(), nn.BatchNorm1d(8)))(episode(tasks=2))


def test_hooks_see_tasks_one_by_one():
    encoder, seen = encoder_of(linear()), []
    encoder[0].register_forward_hook(
        lambda _, __, output: seen.append(output.detach().sum().item())
    )
    MAML(encoder)(episode(tasks=3))
    assert len(seen) == 3 * 3


def test_an_operation_without_second_derivatives_is_refused_where_they_are_needed():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return gradient * 2

    def forward(own, x):
        return Once.apply(own.linear(x))

    with pytest.raises(ValueError, match="needs second derivatives, but Own"):
        MAML(Own(forward))(episode())
    FOMAML(Own(forward)).loss(episode(tasks=2))[0].backward()


def test_layers_that_are_reached_past_their_module_are_refused():
    class Closed(nn.Module):
        out_features = 8

        def __init__(self, norm):
            super().__init__()
            self.linear, self.norm = linear(), norm
            self.block = lambda x: self.norm(self.linear(x))

        def forward(self, x):
            return self.block(x)

    MAML(Closed(nn.Identity()))(episode())
    for refused in (MAML(Closed(nn.BatchNorm1d(8))), copy.deepcopy(MAML(Closed(nn.Identity())))):
        with pytest.raises(ValueError, match="Closed uses parameters that it does not reach"):
            refused(episode())


KNOWN_LAYERS = {
    nn.Conv1d: lambda: nn.Conv1d(1, 1, 3, padding=1),
    nn.Conv2d: lambda: nn.Conv2d(1, 1, 3, padding=1),
    nn.Conv3d: lambda: nn.Conv3d(1, 1, 3, padding=1),
    nn.Linear: lambda: nn.Linear(16, 16),
    nn.MaxPool1d: lambda: nn.MaxPool1d(2),
    nn.MaxPool2d: lambda: nn.MaxPool2d(2),
    nn.AvgPool1d: lambda: nn.AvgPool1d(2),
    nn.AvgPool2d: lambda: nn.AvgPool2d(2),
    nn.AdaptiveAvgPool1d: lambda: nn.AdaptiveAvgPool1d(8),
    nn.AdaptiveAvgPool2d: lambda: nn.AdaptiveAvgPool2d(2),
    TaskBatchNorm: lambda: TaskBatchNorm(16),
}
CONTAINERS = {nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict}


class Shaped(nn.Module):
    """A layer between two linear ones, on inputs in the shape that it needs."""

    def __init__(self, layer):
        super().__init__()
        self.first, self.layer = nn.Linear(16, 16), layer
        shapes = {"1d": (1, 16), "2d": (1, 4, 4), "3d": (1, 4, 2, 2)}
        self.shape = shapes.get(type(layer).__name__[-2:], (16,))
        self.out_features = len(self(torch.zeros(2, 16))[0])

    def forward(self, x):
        return self.layer(self.first(x).view(len(x), *self.shape)).flatten(1)


TRUSTED = KNOWN - CONTAINERS - {nn.Dropout} | {TaskBatchNorm}


@pytest.mark.parametrize("layer", sorted(TRUSTED, key=lambda layer: layer.__name__))
def test_layers_that_are_trusted_under_vmap_deserve_it(layer, monkeypatch):
    """Their meta-gradient of several tasks at once, by torch.func, against one after another."""
    as_on_a_gpu(monkeypatch)
    monkeypatch.setattr("quickstudy.strategies.foreign.is_known", lambda module: True)
    torch.manual_seed(0)
    maml = MAML(Shaped(KNOWN_LAYERS.get(layer, layer)()), inner_steps=2).double().train()
    nn.init.normal_(maml.head.weight)
    tasks = episode(tasks=3, dtype=torch.float64)
    together = gradients(maml, tasks)
    alone = [gradients(maml, tasks[t : t + 1]) for t in range(3)]
    expected = [sum(each) / 3 for each in zip(*alone, strict=True)]
    torch.testing.assert_close(together, expected, **ALIKE)


def test_only_layers_of_known_kinds_are_known():
    known = encoder_of(linear(), nn.ReLU(), nn.Dropout(0.1))
    assert is_known(known)
    for layer in (nn.LayerNorm(8), nn.LSTM(8, 8), parametrizations.weight_norm(linear())):
        assert not is_known(encoder_of(linear(), layer))
    assert not is_known(Tied())


def test_attention_is_plain_until_the_last_has_left():
    switch = torch.backends.cuda.flash_sdp_enabled
    one, other = plain_attention(), plain_attention()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert not switch()
    other.__exit__(None, None, None)
    assert switch()


def test_modes_are_tried_one_by_one():
    """Second derivatives that begin later, as in MAML++, are looked at when they begin."""
    torch.manual_seed(0)
    encoder = encoder_of(linear(), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8))
    strategy = MAMLPlusPlus(encoder, inner_steps=2, multi_step_passes=0, first_order_passes=1)
    strategy.double().train()
    nn.init.normal_(strategy.head.weight)
    tasks = episode(tasks=3, dtype=torch.float64)
    for _ in range(2):
        together = gradients(strategy, tasks)
    alone = [gradients(strategy, tasks[t : t + 1]) for t in range(3)]
    expected = [sum(each) / 3 for each in zip(*alone, strict=True)]
    torch.testing.assert_close(together, expected, **ALIKE)


@pytest.mark.parametrize("strategy", [MAML, *ADAPTING, FineTuning])
def test_inputs_of_another_shape_are_refused_by_name_however_tasks_run(strategy):
    made = strategy(MLP((16,)))
    with pytest.raises(ValueError, match=r"encoder MLP cannot read float32 inputs \[B, \*\[9\]\]"):
        made.eval()(episode(9, tasks=3))
