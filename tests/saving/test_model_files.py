"""Folders of pretrained models: complete ones are found, anything else gets a sentence."""

import json
import shutil

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import save_file

from quickstudy.saving import model_files
from quickstudy.saving.model_files import model_folder, require_pretrained_extra

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path):
    """The least that is a model."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "vit"}')
    save_file({"weight": torch.zeros(1000)}, path / "model.safetensors")
    return path


@pytest.fixture(autouse=True)
def forget():
    model_files._from_hub.cache_clear()
    yield
    model_files._from_hub.cache_clear()


def hub_that_answers(monkeypatch, answer):
    """The hub's library, replaced: the revisions asked for, and the answer or the error."""
    asked = []

    def download(name, *, revision, local_files_only, **options):
        asked.append((name, revision, local_files_only))
        found = answer(local_files_only) if callable(answer) else answer
        if isinstance(found, BaseException):
            raise found
        return str(found)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def refusal(kind):
    """An error as the hub's library raises it, without an answer from a server."""
    return kind.__new__(kind, "no")


def test_a_local_folder_is_a_model(folder, monkeypatch):
    found = model_folder(str(folder))
    assert (found.name, found.revision, found.model_type) == (str(folder), None, "vit")
    assert not found.modular
    monkeypatch.chdir(folder.parent)
    assert model_folder("model").name == str(folder)  # whatever the current folder is later
    with pytest.raises(ValueError, match="has no revisions"):
        model_folder(str(folder), "main")


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c", "", "no where"])
def test_no_such_folder(name):
    with pytest.raises((FileNotFoundError, ValueError), match=r"no folder|no config.json"):
        model_folder(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: (p / "config.json").unlink(), "no config.json"),
        (lambda p: (p / "config.json").write_text("{"), "not readable JSON"),
        (lambda p: (p / "config.json").write_text("[1]"), "holds a list"),
        (lambda p: (p / "config.json").write_text("{}"), "model_type"),
        (lambda p: (p / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda p: (p / "model.safetensors").rename(p / "pytorch_model.bin"), "only as a pickle"),
        (lambda p: (p / "model.safetensors").write_bytes(b"x" * 30), "damaged or cut short"),
        (
            lambda p: (p / "model.safetensors").write_bytes(
                (p / "model.safetensors").read_bytes()[:-100]
            ),
            "damaged or cut short",
        ),
    ],
)
def test_a_folder_that_is_no_whole_model(folder, change, message):
    change(folder)
    with pytest.raises(ValueError, match=message):
        model_folder(str(folder))


def test_all_parts_of_divided_weights_are_needed(folder):
    parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    (folder / "model.safetensors").rename(folder / parts[0])
    index = {"weight_map": {"weight": parts[0], "other": parts[1]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=f"lacks {parts[1]}"):
        model_folder(str(folder))
    shutil.copy(folder / parts[0], folder / parts[1])
    assert model_folder(str(folder)).path == folder


def test_pickles_and_code_in_modules_are_refused(folder):
    def modules(kind):
        entries = [{"type": "sentence_transformers.models.Transformer", "path": ""}, kind]
        (folder / "modules.json").write_text(json.dumps(entries))

    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"")
    modules({"type": "sentence_transformers.models.Dense", "path": "2_Dense"})
    with pytest.raises(ValueError, match=r"only as a pickle.*2_Dense"):
        model_folder(str(folder))
    save_file({"w": torch.zeros(1)}, folder / "2_Dense" / "model.safetensors")
    assert model_folder(str(folder)).modular
    modules({"type": "custom.Module", "path": "2_Dense"})
    with pytest.raises(ValueError, match=r"code of its own \(custom.Module\)"):
        model_folder(str(folder))


def test_a_model_of_the_hub_is_pinned_to_its_commit(folder, monkeypatch):
    snapshot = folder.rename(folder.parent / COMMIT)
    asked = hub_that_answers(monkeypatch, snapshot)
    found = model_folder("owner/name")
    assert (found.name, found.revision, found.path) == ("owner/name", COMMIT, snapshot)
    model_folder("owner/name", COMMIT)  # what a commit holds does not change: no network
    assert asked == [("owner/name", None, False), ("owner/name", COMMIT, True)]


def test_a_commit_that_is_not_there_is_downloaded(folder, monkeypatch):
    missing = errors.LocalEntryNotFoundError("not there")
    asked = hub_that_answers(monkeypatch, lambda local: missing if local else folder)
    assert model_folder("owner/name", COMMIT).path == folder
    assert [local for *_, local in asked] == [True, False]


def test_what_was_downloaded_in_part_is_not_used(folder, monkeypatch):
    """Without network the hub's library may hand out a folder that lacks files."""
    (folder / "model.safetensors").unlink()
    hub_that_answers(monkeypatch, folder)
    with pytest.raises(ValueError, match=r"owner/name has no model.safetensors"):
        model_folder("owner/name")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refusal(errors.GatedRepoError), "accept its terms"),
        (refusal(errors.RepositoryNotFoundError), "no model 'owner/name' that you may read"),
        (refusal(errors.RevisionNotFoundError), "no revision"),
        (errors.LocalEntryNotFoundError("cannot find it"), "cannot be reached.*cannot find it"),
        (ConnectionError("offline"), "cannot be reached.*offline"),
        (RuntimeError("name resolution"), "cannot be reached.*name resolution"),
    ],
)
def test_what_the_hub_refuses(monkeypatch, error, message):
    hub_that_answers(monkeypatch, error)
    with pytest.raises(FileNotFoundError, match=message):
        model_folder("owner/name")
    with pytest.raises(FileNotFoundError):  # and a failure is not remembered as an answer
        model_folder("owner/name")


def test_without_network(monkeypatch, tmp_path):
    """The hub's own library, told that there is no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"cannot be reached.*not downloaded before"):
        model_folder("owner/never-downloaded-before")
    assert [*tmp_path.iterdir()] == []


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(model_files, "find_spec", lambda library: None)
    with pytest.raises(ImportError, match=r"pip install 'quickstudy\[pretrained\]'"):
        require_pretrained_extra()
