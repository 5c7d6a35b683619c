import json
import struct

import pytest
import torch

from quickstudy.encoders import MLP
from quickstudy.inputs import ImageInputs
from quickstudy.runs import load
from quickstudy.runs.checkpoint import Checkpoint
from quickstudy.saving.description import build, class_path, describe, differences
from quickstudy.strategies import PrototypicalNetwork
from quickstudy.training.optimizer import optimizer_tensors, restore_optimizer


@pytest.fixture
def saved(tmp_path):
    strategy = PrototypicalNetwork(MLP((1, 8, 8), (8, 4)), distance="cosine", scale=10.0)
    optimizer = torch.optim.Adam(strategy.parameters())
    strategy.encoder(torch.rand(2, 1, 8, 8)).sum().backward()
    optimizer.step()
    checkpoint = Checkpoint(
        describe(strategy),
        ImageInputs(8, 1).to_dict(),
        strategy.state_dict(),
        optimizer_tensors(optimizer),
        {"step": 1},
    )
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path)
    return path, strategy, optimizer


def test_round_trip_of_strategy_and_optimizer(saved):
    path, strategy, optimizer = saved
    loaded = Checkpoint.load(path)
    rebuilt = build(loaded.strategy)
    loaded.restore_model(rebuilt)
    assert rebuilt.distance == "cosine"
    assert rebuilt.encoder.hidden == (8, 4)
    again = torch.optim.Adam(rebuilt.parameters())
    restore_optimizer(again, loaded.optimizer)
    for model in (strategy, rebuilt):
        model.zero_grad()
        model.encoder(torch.ones(2, 1, 8, 8)).sum().backward()
    optimizer.step()
    again.step()
    for a, b in zip(strategy.parameters(), rebuilt.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("keep", [0, 5, 100, -10])
def test_truncated_file_is_a_plain_error(saved, keep):
    path, *_ = saved
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors"):
        load(path)


def test_corrupt_header_is_a_plain_error(saved):
    path, *_ = saved
    content = bytearray(path.read_bytes())
    content[20:60] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        load(path)


def test_other_safetensors_file_is_a_plain_error(tmp_path):
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "other.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    with pytest.raises(ValueError, match="weights saved by another program"):
        load(path)


def test_every_flipped_bit_is_noticed(saved):
    path, *_ = saved
    content = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for place in torch.randint(len(content), (60,), generator=generator).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"checkpoint\.safetensors"):
            Checkpoint.load(path)


def test_parameters_that_do_not_fit_are_a_plain_error(saved):
    path, *_ = saved
    with pytest.raises(ValueError, match="do not fit PrototypicalNetwork"):
        Checkpoint.load(path).restore_model(PrototypicalNetwork(MLP((1, 8, 8), (9,))))


def test_failed_write_leaves_the_old_checkpoint(saved, monkeypatch):
    path, *_ = saved
    before = path.read_bytes()
    checkpoint = Checkpoint.load(path)

    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr("quickstudy.saving.files.os.fsync", fail)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_descriptions():
    assert class_path(PrototypicalNetwork) == "quickstudy.strategies.PrototypicalNetwork"
    with pytest.raises(ValueError, match="cannot be imported"):
        build({"class_path": "nowhere.Nothing"})
    with pytest.raises(ValueError, match="not a torch module"):
        build({"class_path": "json.JSONDecoder"})
    with pytest.raises(ValueError, match="cannot be made"):
        build({"class_path": "torch.nn.Linear", "init_args": {"wide": 3}})
    with pytest.raises(ValueError, match="keep its argument `in_features`"):
        describe(_Forgetful(3))
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}) == ["a.b: 1, not 3"]


class _Forgetful(torch.nn.Module):
    def __init__(self, in_features):
        super().__init__()
