"""What is loaded is what was saved; what is damaged, or foreign, is refused."""

import copy
import pickle
import struct
import warnings
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import quickstudy as qs
from quickstudy import FewShotClassifier
from quickstudy.classifier.file import FORMAT
from quickstudy.inputs import ImageInputs
from quickstudy.saving import tensor_file
from quickstudy.saving.trust import check_trusted
from quickstudy.strategies import PrototypicalNetwork

from .. import own_encoders as own


class Halves(nn.Module):
    """An encoder of somebody's own, which can be described."""

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.size = size
        self.linear = nn.Linear(size, 2)

    def forward(self, x):
        return self.linear(x)


@pytest.fixture
def saved(blobs, tmp_path):
    path = tmp_path / "blobs.qs"
    FewShotClassifier().fit(*blobs).save(path)
    return path


def test_vectors_predict_the_same_in_every_way(blobs, tmp_path):
    X, y = blobs
    one = FewShotClassifier().fit(X, y)
    one.save(tmp_path / "a.qs")
    other = FewShotClassifier.load(tmp_path / "a.qs")
    assert np.array_equal(one.predict_proba(X), other.predict_proba(X))
    assert np.array_equal(one.decision_function(X), other.decision_function(X))
    assert (one.predict(X, keep=0.7) == other.predict(X, keep=0.7)).all()
    assert all(map(np.array_equal, one.predict_set(X), other.predict_set(X)))
    assert np.array_equal(one.suggest(X, 3), other.suggest(X, 3))
    assert one.explain(X[0]) == other.explain(X[0])
    assert other.n_features_in_ == 6
    with pytest.raises(ValueError, match="features"):
        other.predict(X[:, :5])


@pytest.mark.filterwarnings("ignore:This R2D2 has")
@pytest.mark.parametrize("strategy", ["PrototypicalNetwork", "NearestNeighbor", "R2D2", "BDCSPN"])
def test_strategies_are_saved(blobs, tmp_path, strategy):
    X, y = blobs
    one = FewShotClassifier(strategy=strategy).fit(X, y)
    one.save(tmp_path / "a.qs")
    other = FewShotClassifier.load(tmp_path / "a.qs")
    assert np.array_equal(one.predict_proba(X), other.predict_proba(X))
    new = X[:4] + 30
    one.partial_fit(new, ["dog"] * 4)
    other.partial_fit(new, ["dog"] * 4)
    assert np.array_equal(one.predict_proba(X), other.predict_proba(X))


@pytest.mark.parametrize("as_strategy", [False, True])
def test_an_encoder_trained_here_is_in_the_file(split_jpegs, run, tmp_path, as_strategy):
    (paths, labels), (asked, _) = split_jpegs
    loaded = qs.load(run)
    given = {"strategy": loaded} if as_strategy else {"encoder": run}
    one = FewShotClassifier(**given).fit(paths, labels)
    one.save(tmp_path / "a.qs")
    other = FewShotClassifier.load(tmp_path / "a.qs")
    assert np.array_equal(one.predict_proba(asked), other.predict_proba(asked))
    assert other.model_.support.pictures.shape == (50, 3, 32, 32)
    for each in (one, other):
        each.partial_fit(asked[:5], ["new"] * 5)
    assert np.array_equal(one.predict_proba(asked), other.predict_proba(asked))
    assert len(other.classes_) == 11


def test_a_strategy_without_a_fixed_encoder_is_saved(split_jpegs, maml_run, tmp_path):
    (paths, labels), (asked, _) = split_jpegs
    one = FewShotClassifier(strategy=maml_run).fit(paths[:25], labels[:25])
    one.save(tmp_path / "a.qs")
    other = FewShotClassifier.load(tmp_path / "a.qs")
    assert np.array_equal(one.predict_proba(asked), other.predict_proba(asked))
    for each in (one, other):
        each.partial_fit(paths[:25], labels[:25])
    assert np.array_equal(one.predict_proba(asked), other.predict_proba(asked))


def test_an_encoder_of_a_name_is_written_by_its_name(minilm, texts, tmp_path):
    (X, y), (asked, _) = texts
    one = FewShotClassifier(encoder=minilm).fit(X, y)
    one.save(tmp_path / "a.qs")
    assert (tmp_path / "a.qs").stat().st_size < 500_000
    other = FewShotClassifier.load(tmp_path / "a.qs")
    assert np.array_equal(one.predict_proba(asked), other.predict_proba(asked))
    assert other.explain(asked[0]).examples[0].name in X


def test_an_encoder_that_changed_since_is_warned_of(minilm, texts, tmp_path):
    (X, y), _ = texts
    FewShotClassifier(encoder=minilm).fit(X, y).save(tmp_path / "a.qs")
    header, tensors = tensor_file.read(tmp_path / "a.qs", FORMAT)
    header["encoder"]["identity"] = "another"
    tensor_file.write(tmp_path / "a.qs", FORMAT, header, tensors)
    with pytest.warns(UserWarning, match="not quite the one"):
        FewShotClassifier.load(tmp_path / "a.qs")


def test_a_file_that_was_written_before_advances_were_measured_is_read(blobs, tmp_path):
    X, y = blobs
    one = FewShotClassifier().fit(X, y)
    assert one.model_.learner.calibration.advance > 0
    one.save(tmp_path / "a.qs")
    header, tensors = tensor_file.read(tmp_path / "a.qs", FORMAT)
    del header["advance"], tensors["trust.by_fewer"]
    tensor_file.write(tmp_path / "a.qs", FORMAT, header, tensors)
    other = FewShotClassifier.load(tmp_path / "a.qs")
    assert other.model_.learner.calibration.advance == 0
    learner = one.model_.learner
    learner.calibration = replace(learner.calibration, advance=0.0)
    one.model_ = replace(one.model_)
    assert all(map(np.array_equal, one.predict_set(X, 0.7), other.predict_set(X, 0.7)))


def test_names_and_pictures_can_be_left_out(split_jpegs, run, tmp_path):
    (paths, labels), _ = split_jpegs
    FewShotClassifier(run, keep_examples=False).fit(paths, labels).save(tmp_path / "a.qs")
    content = (tmp_path / "a.qs").read_bytes()
    assert b".jpg" not in content
    assert FewShotClassifier.load(tmp_path / "a.qs").model_.support.pictures is None


@pytest.mark.parametrize("labels", [[0, 1], [True, False], ["ä", "\N{SNOWMAN}"]])
def test_labels_of_every_type(tmp_path, labels):
    X, y = np.eye(4), np.repeat(labels, 2)
    for given in (y, y.astype(object)) if y.dtype.kind == "U" else (y,):
        FewShotClassifier().fit(X, given).save(tmp_path / "a.qs")
        other = FewShotClassifier.load(tmp_path / "a.qs")
        assert other.classes_.dtype == given.dtype
        assert other.predict(X).tolist() == y.tolist()


def test_a_file_is_written_whole_or_not_at_all(saved, blobs, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr("quickstudy.saving.files.os.fsync", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        FewShotClassifier(strategy="NearestNeighbor").fit(*blobs).save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_every_single_change_is_noticed(saved):
    content = saved.read_bytes()
    generator = np.random.default_rng(0)
    header_length = struct.unpack("<Q", content[:8])[0]
    places = [*range(16), *generator.integers(0, len(content), 60)]
    places += [*generator.integers(8, 8 + header_length, 60)]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << int(generator.integers(8))
        saved.write_bytes(changed)
        with pytest.raises(ValueError, match=r"blobs\.qs"):
            FewShotClassifier.load(saved)


def test_every_truncation_is_noticed(saved):
    content = saved.read_bytes()
    generator = np.random.default_rng(0)
    for length in [0, 1, 7, 8, 9, len(content) - 1, *generator.integers(0, len(content), 30)]:
        saved.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"blobs\.qs"):
            FewShotClassifier.load(saved)
    saved.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match="checksum"):
        FewShotClassifier.load(saved)


def test_foreign_files(tmp_path):
    path = tmp_path / "other.qs"
    safetensors.torch.save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="weights saved by another program"):
        FewShotClassifier.load(path)
    path.write_bytes(pickle.dumps({"classes": ["a", "b"]}))
    with pytest.raises(ValueError, match="a pickle, which can run any code"):
        FewShotClassifier.load(path)
    with pytest.raises(FileNotFoundError, match=r"none\.qs"):
        FewShotClassifier.load(tmp_path / "none.qs")


def test_another_version(saved, monkeypatch):
    monkeypatch.setattr("quickstudy.classifier.file.FORMAT", replace(FORMAT, version=2))
    with pytest.raises(ValueError, match=r"version 1.*reads version 2"):
        FewShotClassifier.load(saved)


def test_a_file_imports_only_what_is_trusted(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "somebodys.py").write_text(
        "from pathlib import Path\nimport torch\n"
        "Path(__file__).with_name('was_run').touch()\n"
        "class Encoder(torch.nn.Linear):\n"
        "    def __init__(self, size=6):\n"
        "        super().__init__(size, 3)\n"
        "        self.size = size\n"
    )
    import sys

    import somebodys

    X = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    one = FewShotClassifier(encoder=somebodys.Encoder()).fit(X, [0, 1] * 4)
    one.save(tmp_path / "a.qs")
    del sys.modules["somebodys"]
    (tmp_path / "was_run").unlink()
    with pytest.raises(ValueError, match=r"'somebodys\.Encoder'.*trust=\['somebodys\.Encoder'\]"):
        FewShotClassifier.load(tmp_path / "a.qs")
    assert not (tmp_path / "was_run").exists()
    other = FewShotClassifier.load(tmp_path / "a.qs", trust=["somebodys.Encoder"])
    assert np.array_equal(one.predict_proba(X), other.predict_proba(X))


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "torch.nn.Linear",
        "quickstudy.cli.main.main",
        "quickstudy.encoders..Conv4",
        "quickstudy.encodersX.Conv4",
        "xquickstudy.encoders.Conv4",
    ],
)
def test_classes_that_are_not_the_packages_own(name):
    nested = {
        "class_path": "quickstudy.strategies.FEAT",
        "init_args": {"a": [{"class_path": name}]},
    }
    with pytest.raises(ValueError, match="not quickstudy's own"):
        check_trusted(nested, ())


def test_a_module_that_cannot_be_described_is_not_saved(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    classifier = FewShotClassifier(encoder, inputs=ImageInputs(8)).fit(images, [0, 1] * 3)
    with pytest.raises(ValueError, match="Sequential cannot be saved"):
        classifier.save(tmp_path / "a.qs")
    assert not list(tmp_path.iterdir())


class Hub:
    """Stands for the hub's API."""

    pushed: ClassVar[dict] = {}

    def __init__(self, token=None):
        self.token = token

    def create_repo(self, repo_id, private=None, exist_ok=False):
        assert exist_ok
        Hub.pushed["repository"] = (repo_id, private, self.token)

    def upload_folder(self, repo_id, folder_path, commit_message):
        from pathlib import Path

        Hub.pushed["files"] = {f.name: f.read_bytes() for f in Path(folder_path).iterdir()}
        return f"https://example.org/{repo_id}"


def test_pushed_and_loaded_by_its_name(blobs, tmp_path, monkeypatch):
    X, y = blobs
    classifier = FewShotClassifier().fit(X, y)
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert classifier.push_to_hub("me/blobs", private=True, token="t") == (
        "https://example.org/me/blobs"
    )
    assert Hub.pushed["repository"] == ("me/blobs", True, "t")
    card = Hub.pushed["files"]["README.md"].decode()
    assert "library_name: quickstudy" in card
    assert "| ant | 8 |" in card

    def download(repo_id, filename, revision=None):
        assert (repo_id, revision) == ("me/blobs", "v1")
        (tmp_path / filename).write_bytes(Hub.pushed["files"][filename])
        return str(tmp_path / filename)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    other = FewShotClassifier.load("me/blobs", revision="v1")
    assert np.array_equal(classifier.predict_proba(X), other.predict_proba(X))


def test_a_hub_that_cannot_be_reached():
    with pytest.raises(FileNotFoundError, match=r"'nobody/nothing'.*cannot be reached"):
        FewShotClassifier.load("nobody/nothing")


@pytest.mark.parametrize(
    "make", [lambda: own.WithOptions(scale=-3.0), own.WithDropout, own.replaced]
)
def test_a_classifier_is_loaded_with_the_encoder_it_was_saved_with(make, tmp_path):
    X = np.random.default_rng(0).normal(size=(24, 16)).astype("f4")
    classifier = FewShotClassifier(encoder=make()).fit(X, np.repeat(list("abcd"), 6))
    with pytest.raises(ValueError, match=f"{type(classifier.encoder).__name__} cannot be saved"):
        classifier.save(tmp_path / "a.qs")
    assert not list(tmp_path.iterdir())


def test_a_classifiers_encoder_is_left_as_it_was_and_its_frozen_layers_frozen(tmp_path):
    X = np.random.default_rng(0).normal(size=(24, 16)).astype("f4")
    encoder = own.OfParts([own.frozen(), own.Normalising()]).train()
    classifier = FewShotClassifier(encoder=encoder).fit(X, np.repeat(list("abcd"), 6))
    state, drawn = copy.deepcopy(encoder.state_dict()), torch.get_rng_state()
    classifier.save(tmp_path / "a.qs")
    assert encoder.training
    assert torch.equal(drawn, torch.get_rng_state())
    assert all(torch.equal(state[name], each) for name, each in encoder.state_dict().items())
    loaded = FewShotClassifier.load(tmp_path / "a.qs", trust=[f"{own.__name__}.*"])
    assert np.array_equal(classifier.predict_proba(X), loaded.predict_proba(X))
    assert not loaded.encoder.parts[0].net[0].weight.requires_grad
    loaded.save(tmp_path / "b.qs")


def test_a_strategy_that_was_changed_by_hand_is_not_saved(blobs, tmp_path):
    strategy = PrototypicalNetwork(nn.Identity())
    strategy.predict_features = lambda theta, features: -features[..., :3]
    classifier = FewShotClassifier(strategy=strategy).fit(*blobs)
    with pytest.raises(ValueError, match="PrototypicalNetwork or Identity cannot be saved"):
        classifier.save(tmp_path / "a.qs")


def test_inputs_of_ones_own_are_not_saved(tmp_path):
    class Darker(ImageInputs):
        def prepare(self, stored):
            return super().prepare(stored) / 2

    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    classifier = FewShotClassifier(nn.Flatten(), inputs=Darker(8)).fit(images, [0, 1] * 3)
    with pytest.raises(ValueError, match="inputs are a Darker"):
        classifier.save(tmp_path / "a.qs")


def test_a_module_of_ones_own_is_loaded_quietly_and_made_once(tmp_path, monkeypatch, capfd):
    X = np.random.default_rng(0).normal(size=(24, 16)).astype("f4")
    FewShotClassifier(encoder=own.TwoLayers(8)).fit(X, [0, 1] * 12).save(tmp_path / "a.qs")
    made, init = [], own.TwoLayers.__init__
    monkeypatch.setattr(
        own.TwoLayers, "__init__", lambda self, hidden: (made.append(hidden), init(self, hidden))[1]
    )
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FewShotClassifier.load(tmp_path / "a.qs", trust=[f"{own.__name__}.*"])
    assert made == [8]
    assert capfd.readouterr() == ("", "")
