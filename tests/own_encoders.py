"""Encoders as people write them, which files can describe or cannot."""

import random
from itertools import pairwise

import numpy as np
import torch
from torch import nn


class WithOptions(nn.Module):
    out_features = 16

    def __init__(self, **options):
        super().__init__()
        self.scale = options.get("scale", 1.0)
        self.linear = nn.Linear(16, 16)

    def forward(self, x):
        return torch.sin(self.scale * self.linear(x))


class WithSizes(nn.Module):
    out_features = 16

    def __init__(self, *sizes):
        super().__init__()
        ends = [16, *(sizes or (8,)), 16]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(ends))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).tanh()
        return x


class WithDropout(nn.Module):
    out_features = 16

    def __init__(self, dropout=0.1):
        super().__init__()
        self.linear = nn.Linear(16, 16)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return self.linear(self.dropout(x))


class TwoLayers(nn.Module):
    out_features = 16

    def __init__(self, hidden=32):
        super().__init__()
        self.hidden = hidden
        self.net = nn.Sequential(nn.Linear(16, hidden), nn.ReLU(), nn.Linear(hidden, 16))

    def forward(self, x):
        return self.net(x)


class OddlyNamed(nn.Module):
    out_features = 16

    def __init__(s, hidden=24):
        super().__init__()
        s.hidden = hidden
        s.net = nn.Sequential(nn.Linear(16, hidden), nn.Tanh(), nn.Linear(hidden, 16))

    def forward(s, x):
        return s.net(x)


class KeepingAll(nn.Module):
    """Keeps arguments of every kind as descriptions want them."""

    out_features = 16

    def __init__(self, first, /, *sizes, scale=1.0, **options):
        super().__init__()
        self.first, self.sizes, self.scale, self.options = first, sizes, scale, options
        ends = [16, first, *sizes, 16]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(ends))

    def forward(self, x):
        for layer in self.layers:
            x = self.scale * layer(x).tanh() + self.options.get("shift", 0.0)
        return x


class OfParts(nn.Module):
    out_features = 16

    def __init__(self, parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x


class Gated(nn.Module):
    """A branch that counts for nothing as long as its gate is 0."""

    out_features = 16

    def __init__(self):
        super().__init__()
        self.linear, self.gate = nn.Linear(16, 16), nn.Parameter(torch.zeros(16))
        self.frequency = 1.0

    def forward(self, x):
        return x + self.gate * torch.sin(self.frequency * self.linear(x))


class Projecting(nn.Module):
    """Draws numbers that are in no state dict."""

    out_features = 16

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)
        self.projection = torch.randn(16, 16)

    def forward(self, x):
        return self.linear(x @ self.projection)


class Shifted(nn.Module):
    out_features = 16

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)
        self.register_buffer("mean", torch.zeros(16), persistent=False)

    def forward(self, x):
        return self.linear(x - self.mean)


class Summing(nn.Module):
    out_features = 16

    def __init__(self, one, two):
        super().__init__()
        self.one, self.two = one, two

    def forward(self, x):
        return self.one(x) + 2 * self.two(x)


class Doubling(nn.Module):
    out_features = 16

    def __init__(self, hidden=8):
        super().__init__()
        self.hidden = 2 * hidden
        self.net = nn.Sequential(nn.Linear(16, self.hidden), nn.Linear(self.hidden, 16))

    def forward(self, x):
        return self.net(x)


class Lazy(nn.Module):
    out_features = 16

    def __init__(self):
        super().__init__()
        self.linear = nn.LazyLinear(16)

    def forward(self, x):
        return self.linear(x)


class Normalising(nn.Module):
    """Changes its averages and draws random numbers in training."""

    out_features = 16

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm1d(16), nn.Dropout(0.2))

    def forward(self, x):
        return self.net(x)


class RunningMean(TwoLayers):
    """Keeps what it learns of its inputs where no file has it."""

    def __init__(self):
        super().__init__()
        self.mean = torch.zeros(16)

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return super().forward(x - self.mean)


class Warming(TwoLayers):
    """Grows stronger with the number of its passes."""

    def forward(self, x):
        self.passes = getattr(self, "passes", 0) + self.training
        return super().forward(x) * min(1, (1 + self.passes) / 10)


class Counting(TwoLayers):
    def __init__(self):
        super().__init__()
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        return super().forward(x)


class Caching(TwoLayers):
    """Notes things of its latest pass, as many do for plots."""

    def forward(self, x):
        self.latest, self.hidden, self.size = x.detach(), self.net[0](x), len(x)
        return super().forward(x)


class Drawing(TwoLayers):
    """Draws from Python's and NumPy's generators in training, as stochastic depth does."""

    def forward(self, x):
        if self.training and random.random() < 0.5:
            return float(np.random.rand()) * x + super().forward(x)  # noqa: NPY002
        return super().forward(x)


class Growing(TwoLayers):
    def forward(self, x):
        if not hasattr(self, "last"):
            self.last = nn.Linear(16, 16)
        return self.last(super().forward(x))


class Freezing(TwoLayers):
    def train(self, mode=True):
        self.net[0].requires_grad_(False)
        return super().train(mode)


class WithoutGradients(TwoLayers):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class OfComplexNumbers(nn.Module):
    out_features = 16

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(0.2 * torch.randn(16, 16, dtype=torch.complex64))

    def forward(self, x):
        return (x.to(self.weight.dtype) @ self.weight).abs()


def bfloat16():
    return TwoLayers().bfloat16()


def replaced():
    encoder = TwoLayers()
    encoder.net[1] = nn.Tanh()
    return encoder


def sequential():
    encoder = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))
    encoder.out_features = 16
    return encoder


def with_weight_norm():
    encoder = TwoLayers()
    nn.utils.parametrizations.weight_norm(encoder.net[0])
    return encoder


def tied():
    encoder = TwoLayers(16)
    encoder.net[2].weight = encoder.net[0].weight
    return encoder


def other_dropout():
    encoder = Normalising()
    encoder.net[1].p = 0.7
    return encoder


def hooked():
    encoder = TwoLayers()
    encoder.net[0].register_forward_hook(lambda _, __, output: 2 * output)
    return encoder


def patched():
    encoder = TwoLayers()
    encoder.forward = lambda x: -encoder.net(x)
    return encoder


def gated():
    encoder = Gated()
    encoder.frequency = 9.0
    return encoder


def shifted():
    encoder = Shifted()
    encoder.mean.fill_(3.0)
    return encoder


def shared():
    part = TwoLayers()
    return Summing(part, part)


def frozen():
    encoder = TwoLayers()
    encoder.net[0].requires_grad_(False)
    return encoder


def local():
    class Local(TwoLayers):
        pass

    return Local()


def double():
    return TwoLayers().double()
