"""A model of another program is recognised where a run, an encoder or a classifier is expected."""

import pickle

import numpy as np
import pytest
import safetensors.torch
import torch

import quickstudy as qs
from quickstudy.classifier import load_encoder
from quickstudy.inputs.modalities import MODALITIES
from quickstudy.saving.foreign_files import explanation


def weights(path):
    state = torch.nn.Linear(2, 2).state_dict()
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    elif path.suffix == ".pkl":
        path.write_bytes(pickle.dumps({"a": np.zeros(2)}))
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize(
    "name", ["net.pt", "net.ckpt", "net.weights", "net.pkl", "net.safetensors"]
)
def test_weights_are_recognised_and_the_way_in_is_shown(tmp_path, name):
    path = weights(tmp_path / name)
    for opened in (qs.load, load_encoder, qs.FewShotClassifier.load):
        with pytest.raises(ValueError, match=r"net.load_state_dict\(.*load") as refused:
            opened(path)
        assert str(path) in str(refused.value)


def test_the_way_that_is_shown_works(tmp_path):
    path = weights(tmp_path / "net.pt")
    net = torch.nn.Linear(2, 2)
    net.load_state_dict(torch.load(path, weights_only=True))
    X = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    qs.FewShotClassifier(encoder=net).fit(X, list("aabbcc")).predict(X)


@pytest.mark.parametrize("name", ["model.onnx", "model.h5", "model.keras"])
def test_other_formats_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(ValueError, match="cannot be read here"):
        qs.FewShotClassifier.load(tmp_path / name)


def test_what_is_damaged_or_nothing_known_is_not_called_foreign(tmp_path):
    for name, content in (("a.qs", b"x" * 100), ("b.txt", b"hello"), ("c.qs", b"")):
        (tmp_path / name).write_bytes(content)
        assert explanation(tmp_path / name) is None


def test_pickles_are_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return exec, ("raise SystemExit('it ran')",)

    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="can run any code"):
        qs.load(tmp_path / "bomb.pt")


@pytest.mark.parametrize("modality", ["image", "text", "audio"])
def test_without_a_network_the_way_to_an_encoder_is_shown(modality):
    said = MODALITIES[modality].how_to_get_model
    assert f"hf download {MODALITIES[modality].model}" in said
    assert "PyPI" in said
    assert "--encoder" in said
