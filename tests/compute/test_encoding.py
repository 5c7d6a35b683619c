"""What an encoder must be and give, wherever vectors are made."""

import pytest
import torch
from torch import nn

import quickstudy as qs
from quickstudy.compute.encoding import encode_batches, encoded
from quickstudy.inputs import FeatureInputs

from ..builders import fit, vectors


class Own(nn.Module):
    """An encoder that gives what a function makes of its vectors."""

    out_features = 16

    def __init__(self, gives=lambda x: x):
        super().__init__()
        self.linear = nn.Linear(16, 16)
        self.gives = gives

    def forward(self, x):
        return self.gives(self.linear(x))


WRONG = {
    "pair": (lambda x: (x, x), "returns a tuple"),
    "dictionary": (lambda x: {"x": x}, "returns a dict"),
    "nothing": (lambda x: None, "returns None"),
    "maps": (lambda x: x[:, :, None, None], r"Pool or flatten"),
    "numbers": (lambda x: x[:, 0], r"Pool or flatten"),
    "whole": (lambda x: x.long(), "int64.*one row of floating-point numbers"),
    "complex": (lambda x: x * 1j, "complex64.*one row of floating-point numbers"),
    "fewer": (lambda x: x[:1], "one row of floating-point numbers"),
}


@pytest.mark.parametrize(
    "strategy",
    [
        qs.strategies.PrototypicalNetwork,
        qs.strategies.MAML,
        qs.strategies.ANIL,
        qs.strategies.CAVIA,
    ],
)
def test_an_encoder_that_returns_a_pair_is_refused(strategy):
    with pytest.raises(ValueError, match=r"encoder Own returns a tuple .*vectors \[B, D\]"):
        fit(strategy(Own(WRONG["pair"][0])), vectors(), tasks=2)


@pytest.mark.parametrize("call", ["fit", "evaluate", "embed", "classifier"])
@pytest.mark.parametrize("name", WRONG)
def test_features_that_are_no_vectors_are_refused(call, name):
    gives, said = WRONG[name]
    data = vectors()
    acts = {
        "fit": lambda: fit(qs.strategies.PrototypicalNetwork(Own(gives)), data),
        "evaluate": lambda: qs.evaluate(
            qs.strategies.PrototypicalNetwork(Own(gives)), data, queries=3, episodes=2
        ),
        "embed": lambda: data.embed(Own(gives)),
        "classifier": lambda: qs.FewShotClassifier(Own(gives)).fit(torch.eye(16)[:4], list("aabb")),
    }
    with pytest.raises(ValueError, match=f"encoder Own returns.*{said.removeprefix('returns')}"):
        acts[call]()


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="returns NaN or infinity for input 0"):
        vectors().embed(Own(lambda x: x / 0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "strategy", [qs.strategies.PrototypicalNetwork, qs.strategies.R2D2, qs.strategies.MAML]
)
def test_an_encoder_reads_in_its_own_type(dtype, strategy):
    encoder = Own().to(dtype)
    made = strategy(encoder)
    fit(made, vectors(), tasks=2)
    assert qs.evaluate(made, vectors(), queries=3, episodes=4).accuracy.mean > 0.2
    assert encoded(encoder, torch.zeros(3, 16)).dtype == torch.float32


def test_inputs_that_an_encoder_cannot_read_are_said_without_the_words_of_torch():
    said = r"MLP cannot read float32 inputs \[B, \*\[16\]\]; it reads inputs of shape \[4\]"
    with pytest.raises(ValueError, match=said) as found:
        fit(qs.strategies.PrototypicalNetwork(qs.encoders.MLP((4,))), vectors())
    assert "mat1" not in str(found.value)
    with pytest.raises(ValueError, match="Linear cannot read int64 inputs"):
        encoded(nn.Linear(16, 2), torch.zeros(3, 16, dtype=torch.int64))


def test_an_encoder_on_another_device_is_said():
    with pytest.raises(ValueError, match="Linear is on meta and its inputs are on cpu"):
        encoded(nn.Linear(16, 2, device="meta"), torch.zeros(3, 16))


@pytest.mark.parametrize(
    "strategy",
    [
        qs.strategies.PrototypicalNetwork,
        qs.strategies.MAML,
        qs.strategies.R2D2,
        qs.strategies.SNAIL,
    ],
)
@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (qs.encoders.MLP, "the class MLP; give an instance"),
        ("resnet18", "'resnet18', a name; give the network"),
        (None, "None; give a torch module"),
        (FeatureInputs(16), "a FeatureInputs; give a torch module"),
    ],
    ids=["class", "name", "none", "inputs"],
)
def test_what_is_no_network_is_no_encoder(strategy, encoder, said):
    with pytest.raises(ValueError, match=f"encoder of .* is {said}"):
        strategy(encoder)


def test_a_strategy_is_no_encoder():
    with pytest.raises(ValueError, match="a PrototypicalNetwork, which is a strategy"):
        qs.strategies.PrototypicalNetwork(qs.strategies.PrototypicalNetwork(qs.encoders.MLP((16,))))


def test_batches_are_encoded_in_evaluation_mode_which_ends_between_them():
    encoder = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.9)).train()
    inputs = torch.randn(5, 3)
    for part, (found, seconds) in zip(
        inputs.split(2), encode_batches(encoder, inputs.split(2)), strict=True
    ):
        assert encoder.training
        assert torch.is_grad_enabled()
        assert not found.requires_grad
        assert torch.equal(found, encoder[0](part))
        assert seconds >= 0
