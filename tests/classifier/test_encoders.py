"""load_encoder: runs and pretrained models by name, and a sentence for anything else."""

import shutil
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

import quickstudy as qs
from quickstudy.classifier.encoders import load_encoder
from quickstudy.datasets import ClassDataset
from quickstudy.inputs import AudioInputs, ImageInputs
from quickstudy.saving import model_files

from ..builders import write_pictures

TINY = {"ways": 2, "shots": 1, "queries": 1, "tasks": 1, "steps": 1}


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 1, 8, 8), generator=generator).to(torch.uint8)
    return ClassDataset.contiguous(images, [6] * 4, list("abcd"), ImageInputs(8, 1))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    strategy = qs.strategies.PrototypicalNetwork(qs.encoders.MLP((1, 8, 8), (5,)))
    qs.fit(strategy, data, None, out=path, **TINY)
    return path


def test_a_run_gives_its_encoder_and_inputs(run, data):
    encoder, inputs = load_encoder(run)
    assert isinstance(encoder, qs.encoders.MLP)
    assert not encoder.training
    assert inputs == ImageInputs(8, 1)
    trained = qs.load(run).strategy.encoder
    x = inputs.prepare(data.examples)
    assert torch.equal(encoder(x), trained(x))
    checkpoint, _ = load_encoder(run / "checkpoints" / "last.safetensors")
    assert torch.equal(checkpoint(x), trained(x))
    assert isinstance(load_encoder(str(run), modality="image")[0], qs.encoders.MLP)
    with pytest.raises(ValueError, match="of modality 'image', not 'text'"):
        load_encoder(run, modality="text")


def test_a_run_without_an_encoder(data, tmp_path):
    network = qs.encoders.MLP((1, 8, 8), (5,))
    qs.fit(qs.strategies.MAML(network, ways=2), data, None, out=tmp_path / "maml", **TINY)
    strategy = qs.load(tmp_path / "maml").strategy
    if hasattr(strategy, "encoder"):
        assert load_encoder(tmp_path / "maml")[0] is not None
    else:
        with pytest.raises(ValueError, match="MAML, has no encoder"):
            load_encoder(tmp_path / "maml")


def test_what_is_neither_a_run_nor_a_model(run, tmp_path):
    with pytest.raises(ValueError, match="neither a run"):
        load_encoder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_encoder(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match="not a checkpoint"):
        load_encoder(tmp_path / "notes.txt")
    (tmp_path / "x.safetensors").write_text("hello")
    with pytest.raises(ValueError, match="damaged"):
        load_encoder(tmp_path / "x.safetensors")
    empty = tmp_path / "empty"
    (empty / "checkpoints").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="not a run"):
        load_encoder(empty)
    with pytest.raises(ValueError, match="choose image, text, audio"):
        load_encoder(run, modality="smell")


def test_an_unknown_architecture(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text('{"model_type": "detr"}')
    save_file({"w": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="type 'detr', in which no encoder is known"):
        load_encoder(tmp_path)


# -- pretrained models -------------------------------------------------------------------------

needs_transformers = pytest.mark.skipif(
    find_spec("transformers") is None, reason="needs the extra quickstudy[pretrained]"
)


@needs_transformers
@pytest.mark.parametrize(
    ("name", "modality", "expected"),
    [
        ("vit", None, "PretrainedImageEncoder"),
        ("vit", "image", "PretrainedImageEncoder"),
        ("bert", None, "PretrainedTextEncoder"),
        ("whisper", None, "PretrainedAudioEncoder"),
        ("clip", "image", "PretrainedImageEncoder"),
        ("clip", "text", "PretrainedTextEncoder"),
        ("clap", "audio", "PretrainedAudioEncoder"),
        ("clap", "text", "PretrainedTextEncoder"),
    ],
)
def test_the_kind_of_a_model_is_found_out(folders, name, modality, expected):
    encoder, inputs = load_encoder(folders[name], modality=modality)
    assert type(encoder).__name__ == expected
    assert inputs is encoder.inputs
    assert expected.lower() == f"pretrained{inputs.modality}encoder"


@needs_transformers
def test_a_model_of_two_kinds_needs_to_be_told(folders):
    with pytest.raises(ValueError, match="modalities image and text; choose one"):
        load_encoder(folders["clip"])
    with pytest.raises(ValueError, match="of modality image, not 'audio'"):
        load_encoder(folders["vit"], modality="audio")


@needs_transformers
def test_weights_of_which_some_are_missing(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders["vit"], tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in weights if "layernorm.weight" in key)
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 of ViTModel's parameters.*layernorm.weight"):
        load_encoder(folder)


@needs_transformers
@pytest.mark.parametrize(("name", "file"), [("vit", "preprocessor_config.json")])
def test_settings_that_are_missing(folders, tmp_path, name, file):
    folder = shutil.copytree(folders[name], tmp_path / "model")
    (folder / file).unlink()
    with pytest.raises(ValueError, match="does not say how"):
        load_encoder(folder)


@needs_transformers
def test_the_missing_extra_is_named(folders, monkeypatch):
    monkeypatch.setattr(model_files, "find_spec", lambda library: None)
    with pytest.raises(ImportError, match=r"pip install 'quickstudy\[pretrained\]'"):
        load_encoder(folders["vit"])


@needs_transformers
def test_a_folder_of_images_is_read_and_learned_from(folders, tmp_path):
    """Data made by the encoder's inputs, a strategy trained on it, and its encoder by name."""
    write_pictures(tmp_path / "data", classes=4, each=4)
    encoder, inputs = load_encoder(folders["vit"])
    before = encoder.network.embeddings.cls_token.clone()
    data = qs.load_dataset(tmp_path / "data", inputs=inputs)
    assert data.shape == encoder.input_shape
    qs.fit(qs.strategies.PrototypicalNetwork(encoder), data, None, out=tmp_path / "run", **TINY)
    again, own = load_encoder(tmp_path / "run")
    assert own == inputs
    assert torch.equal(again.network.embeddings.cls_token, encoder.network.embeddings.cls_token)
    assert not torch.equal(again.network.embeddings.cls_token, before)


@needs_transformers
def test_the_command_line_makes_a_pretrained_encoder(folders):
    from quickstudy.cli.options import build_strategy
    from quickstudy.cli.parsing import parsed
    from quickstudy.cli.reading import read
    from quickstudy.cli.usage.training import TRAIN

    words = ["--encoder", "PretrainedTextEncoder", "--encoder.name", str(folders["bert"])]
    words += ["--encoder.pooling", "max"]
    options = parsed(read(TRAIN, words))
    strategy = build_strategy(options, (16,), ways=2, classes=4)
    assert isinstance(strategy.encoder, qs.encoders.PretrainedTextEncoder)
    assert strategy.encoder.pooling == "max"


class Spectrum(nn.Module):
    """Loudness in bands of a sound's spectrum."""

    inputs = AudioInputs(rate=8000, seconds=0.25)

    def forward(self, x):
        return torch.fft.rfft(x).abs()[:, :1000].reshape(len(x), 20, -1).mean(-1)


def test_sounds_as_dictionaries_of_hugging_face_are_sounds():
    moments = np.arange(2000) / 8000
    pitches = [200, 220, 240, 260, 1200, 1220, 1240, 1260]
    waves = [(0.5 * np.sin(2 * np.pi * pitch * moments)).astype("f4") for pitch in pitches]
    labels = ["low"] * 4 + ["high"] * 4
    pairs = qs.FewShotClassifier(encoder=Spectrum()).fit([(wave, 8000) for wave in waves], labels)
    sounds = [{"array": wave, "sampling_rate": 8000} for wave in waves]
    found = qs.FewShotClassifier(encoder=Spectrum()).fit(sounds, labels)
    right = pairs.predict_proba([(waves[0], 8000)])
    np.testing.assert_allclose(found.predict_proba(sounds[:1]), right)
    with pytest.raises(ValueError, match=r"Input 0 cannot be used.*keys array"):
        found.predict([{"array": waves[0]}])


class ByItsBatch(nn.Module):
    """Centres by hand, or as a layer without running averages does."""

    def __init__(self, by_hand):
        super().__init__()
        self.linear, self.by_hand = nn.Linear(6, 6), by_hand
        self.norm = nn.BatchNorm1d(6, track_running_stats=False)

    def forward(self, x):
        x = self.linear(x)
        return x - x.mean(0) if self.by_hand else self.norm(x)


@pytest.mark.parametrize("by_hand", [True, False])
@pytest.mark.parametrize("inside", [False, True])
def test_an_encoder_whose_vectors_depend_on_the_batch_is_refused(by_hand, inside):
    encoder = ByItsBatch(by_hand)
    given = (
        {"strategy": qs.strategies.PrototypicalNetwork(encoder)} if inside else {"encoder": encoder}
    )
    X = np.random.default_rng(0).normal(size=(8, 6)).astype("f4")
    with pytest.raises(ValueError, match="ByItsBatch gives an input another vector when other"):
        qs.FewShotClassifier(**given).fit(X, list("aabbccdd"))
