"""Parameters of networks that people bring keep the layout in memory that they had."""

import torch
from torch import nn

from quickstudy.encoders import Conv4
from quickstudy.encoders.encoder import use_channels_last
from quickstudy.strategies import MAML, PrototypicalNetwork, RelationNetwork


class Flattening(nn.Module):
    """As tutorials write it."""

    out_features = 8 * 2 * 2

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.MaxPool2d(4)
        )

    def forward(self, x):
        x = self.block(x)
        return x.view(x.size(0), -1)


class Around(nn.Module):
    """Somebody's, with an encoder of this package and a convolution of its own."""

    out_features = 4

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(1, 2, 3, padding=1)
        self.inner = Conv4((2, 8, 8), 4, blocks=3)

    def forward(self, x):
        return self.inner(self.mix(x))


def laid_out(convolution):
    return convolution.weight.is_contiguous(memory_format=torch.channels_last)


def test_convolutions_of_others_are_not_laid_out_anew():
    for strategy in (PrototypicalNetwork(Flattening()), MAML(Flattening())):
        use_channels_last(strategy)
        assert strategy.encoder.block[0].weight.is_contiguous()
        x = torch.randn(2, 1, 8, 8)
        assert strategy.encoder.eval()(x).shape == (2, 32)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten())
    use_channels_last(PrototypicalNetwork(plain))
    assert not laid_out(plain[0])


def test_those_of_this_package_are_wherever_they_stand():
    strategy = RelationNetwork(Conv4((3, 16, 16), 8, blocks=2))
    use_channels_last(strategy)
    ours = [each for each in strategy.modules() if isinstance(each, nn.Conv2d)]
    assert len(ours) == 4
    assert all(map(laid_out, ours))
    mixed = Around()
    mixed.inner.convolutions[1] = Other(4, 4, 3, padding=1)
    use_channels_last(PrototypicalNetwork(mixed))
    assert laid_out(mixed.inner.convolutions[2])
    assert not laid_out(mixed.mix) or mixed.mix.weight.is_contiguous()
    assert not laid_out(mixed.inner.convolutions[1])


class Other(nn.Conv2d):
    """Somebody's convolution."""
