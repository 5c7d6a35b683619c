"""Parameters of networks that people bring keep the layout in memory that they had."""

import pytest
import torch
from torch import nn

import quickstudy as qs
from quickstudy.datasets import ClassDataset
from quickstudy.encoders import Conv4
from quickstudy.encoders.cpu.layout import use_channels_last
from quickstudy.episodes import Episode, Examples
from quickstudy.inputs import ImageInputs
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


@pytest.mark.parametrize("strategy", [PrototypicalNetwork, MAML])
def test_an_encoder_may_end_in_view(strategy, tmp_path):
    draw = torch.Generator().manual_seed(0)
    stored = torch.randint(0, 256, (60, 1, 8, 8), generator=draw, dtype=torch.uint8)
    inputs = ImageInputs(8, 1)
    data = ClassDataset.from_arrays(stored, [f"c{n // 6}" for n in range(60)], inputs)
    made = strategy(Flattening())
    settings = {"queries": 3, "steps": 2, "tasks": 3, "show_progress": False}
    qs.fit(made, data, out=tmp_path / "run", **settings)
    loaded = qs.load(tmp_path / "run", trust=[f"{__name__}.*"]).strategy
    examples = Examples(inputs.prepare(stored[:10])[None], torch.arange(5).repeat(2)[None])
    tasks = Episode(examples, examples, 5)
    with torch.no_grad():
        assert torch.equal(made.eval()(tasks), loaded.eval()(tasks))


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
