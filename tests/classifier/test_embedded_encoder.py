"""A classifier's file that holds its encoder is all that is needed; what is damaged is refused."""

import json
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import quickstudy
from quickstudy import FewShotClassifier
from quickstudy.classifier.embedded_encoder import is_unpacked
from quickstudy.classifier.file import FORMAT
from quickstudy.encoders import PretrainedTextEncoder
from quickstudy.saving import tensor_file

TEXTS = ["open an account", "how do i open an account", "the cat sleeps", "a cat on the sofa"]
Y = ["bank", "bank", "cat", "cat"]


def examples(modality):
    draw = np.random.default_rng(0)
    if modality == "text":
        return TEXTS
    if modality == "image":
        return list(draw.integers(0, 256, (4, 20, 20, 3), dtype=np.uint8))
    return [(draw.normal(size=4000).astype("f4") / 9, 8000) for _ in range(4)]


@pytest.fixture
def bert(folders, tmp_path):
    """A folder of a text encoder that can be deleted."""
    return Path(shutil.copytree(folders["bert"], tmp_path / "my model"))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The cache of another machine."""
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path / "other cache"))
    return tmp_path / "other cache"


@pytest.fixture
def embedded(bert, elsewhere, tmp_path):
    """A file with its encoder, whose folder is gone."""
    FewShotClassifier(encoder=bert).fit(TEXTS, Y).save(tmp_path / "a.qs", embed_encoder=True)
    shutil.rmtree(bert)
    return tmp_path / "a.qs"


def loaded(path):
    """What a file holds; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return FewShotClassifier.load(path)


def changed(path, change):
    """Changes what a file holds, as its author could."""
    header, tensors = tensor_file.read(path, FORMAT)
    change(header, tensors)
    tensor_file.write(path, FORMAT, header, tensors)


def as_bytes(text):
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("name", "modality"),
    [("vit", "image"), ("bert", "text"), ("clip", "image"), ("clip", "text"), ("whisper", "audio")],
)
def test_the_file_is_all_that_is_needed(folders, tmp_path, elsewhere, name, modality):
    folder = shutil.copytree(folders[name], tmp_path / "model")
    X = examples(modality)
    one = FewShotClassifier(encoder=folder).fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one.save(tmp_path / "a.qs", embed_encoder=True)
    shutil.rmtree(folder)
    assert str(tmp_path).encode() not in (tmp_path / "a.qs").read_bytes()
    other = loaded(tmp_path / "a.qs")
    assert np.array_equal(one.predict_proba(X), other.predict_proba(X))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.fit(X, Y).save(tmp_path / "b.qs")  # the encoder stays in what is saved again
    shutil.rmtree(elsewhere)
    again = loaded(tmp_path / "b.qs")
    assert np.array_equal(other.predict_proba(X), again.predict_proba(X))


def test_a_real_sentence_encoder(minilm, texts, tmp_path, elsewhere):
    (X, y), (asked, _) = texts
    folder = shutil.copytree(minilm, tmp_path / "minilm")
    one = FewShotClassifier(encoder=folder).fit(X, y)
    one.save(tmp_path / "a.qs", embed_encoder=True)
    shutil.rmtree(folder)
    other = loaded(tmp_path / "a.qs")
    assert np.array_equal(one.predict_proba(asked), other.predict_proba(asked))


def test_an_encoder_that_was_given_as_a_module(bert, tmp_path, elsewhere):
    encoder = PretrainedTextEncoder(str(bert), pooling="max", length=9)
    one = FewShotClassifier(encoder=encoder).fit(TEXTS, Y)
    with pytest.warns(UserWarning, match=r"names its encoder by the folder.*embed_encoder=True"):
        one.save(tmp_path / "plain.qs")
    one.save(tmp_path / "a.qs", embed_encoder=True)
    shutil.rmtree(bert)
    other = loaded(tmp_path / "a.qs")
    assert (other.encoder.pooling, other.encoder.length) == ("max", 9)
    assert np.array_equal(one.predict_proba(TEXTS), other.predict_proba(TEXTS))


def test_a_module_without_a_folder_needs_no_embedding(blobs, tmp_path):
    one = FewShotClassifier().fit(*blobs)
    one.save(tmp_path / "a.qs", embed_encoder=True)
    assert not any(
        name.startswith("folder.") for name in tensor_file.read(tmp_path / "a.qs", FORMAT)[1]
    )
    assert np.array_equal(loaded(tmp_path / "a.qs").predict(blobs[0]), one.predict(blobs[0]))


def test_a_folder_that_is_gone(bert, tmp_path):
    one = FewShotClassifier(encoder=bert).fit(TEXTS, Y)
    with pytest.warns(
        UserWarning, match=r"save with embed_encoder=True, or learn with --embed-enc"
    ):
        one.save(tmp_path / "a.qs")
    bert.rename(tmp_path / "moved")
    changed(tmp_path / "a.qs", lambda header, _: header["inputs"].update(pretrained="/no/where"))
    with pytest.raises(FileNotFoundError, match=r"no folder '/no/where'.*a\.qs needs it.*embed_en"):
        FewShotClassifier.load(tmp_path / "a.qs")
    with pytest.raises(FileNotFoundError, match=r"my model is not there any more"):
        one.save(tmp_path / "b.qs", embed_encoder=True)
    assert not (tmp_path / "b.qs").exists()


def test_only_what_the_loader_reads_is_in_the_file(bert, tmp_path):
    for name in ("modeling.py", "pytorch_model.bin", "trainer_state.json", "notes.txt"):
        (bert / name).write_text("private")
    (bert / "checkpoint-3").mkdir()
    (bert / "checkpoint-3" / "config.json").write_text("{}")
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps(config | {"_name_or_path": str(bert)}))
    FewShotClassifier(encoder=bert).fit(TEXTS, Y).save(tmp_path / "a.qs", embed_encoder=True)
    _, tensors = tensor_file.read(tmp_path / "a.qs", FORMAT)
    names = {name for name in tensors if name.startswith("folder.")}
    files = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    assert names == {f"folder.my-model/{file}" for file in files}
    assert str(tmp_path).encode() not in (tmp_path / "a.qs").read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "folder.m/../../config.json",
        "folder./etc/config.json",
        "folder.m/.hidden/config.json",
        "folder.m/a\\b/config.json",
        "folder.m/modeling.py",
        "folder.m/pytorch_model.bin",
        "folder.config.json",
        "folder.m/1/2/3/4/config.json",
    ],
)
def test_a_file_that_leads_elsewhere_or_is_not_needed_is_refused(embedded, elsewhere, name):
    changed(embedded, lambda _, tensors: tensors.update({name: as_bytes("{}")}))
    with pytest.raises(ValueError, match="is no part of an encoder"):
        FewShotClassifier.load(embedded)
    assert not list(elsewhere.rglob("config.json"))


def drop(name):
    return lambda _, tensors: tensors.pop(f"folder.my-model/{name}")


def put(name, content):
    return lambda _, tensors: tensors.update({f"folder.my-model/{name}": content})


def cut(_, tensors):
    name = "folder.my-model/model.safetensors"
    tensors[name] = tensors[name][:-100].clone()


@pytest.mark.parametrize(
    "damage",
    [
        drop("config.json"),
        drop("model.safetensors"),
        drop("tokenizer.json"),
        cut,
        put("config.json", as_bytes("{")),
        put("config.json", as_bytes('{"model_type": "bert", "hidden_size": "x"}')),
        put("config.json", as_bytes('{"model_type": "bert", "hidden_size": 24}')),
        put("config.json", as_bytes('{"model_type": "vit"}')),
        put("config.json", torch.zeros(3)),
        put("config.json", torch.zeros((3, 2), dtype=torch.uint8)),
        put("modules.json", as_bytes("[1]")),
        put("modules.json", as_bytes('[{"type": "os.system", "path": ""}]')),
        put("tokenizer.json", as_bytes('{"version": 7}')),
        lambda header, _: header["encoder"].update(name=["embedded:my-model"]),
        lambda header, _: header["encoder"].update(name="embedded:other"),
    ],
)
def test_a_damaged_encoder_is_refused_in_a_sentence(embedded, elsewhere, damage):
    changed(embedded, damage)
    with pytest.raises((ValueError, FileNotFoundError), match=r"a\.qs|[Ee]mbedded") as refused:
        FewShotClassifier.load(embedded)
    assert Path(refused.traceback[-1].path).is_relative_to(Path(quickstudy.__file__).parent)
    assert str(elsewhere) not in str(refused.value)


def test_what_was_changed_in_the_cache_is_not_used(embedded, elsewhere):
    one = loaded(embedded)
    place = Path(one.encoder)
    assert is_unpacked(str(place))
    assert place.is_relative_to(elsewhere)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    (place / "config.json").write_text("{}")
    (place / "adapter_config.json").write_text("{}")
    loaded(embedded)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    assert [each.name for each in place.parent.parent.iterdir()] == [place.parent.name]


def test_many_load_at_the_same_time(embedded):
    with ThreadPoolExecutor(4) as pool:
        several = [*pool.map(FewShotClassifier.load, [embedded] * 4)]
    assert len({each.encoder for each in several}) == 1
    answers = [each.predict_proba(TEXTS) for each in several]
    assert all(np.array_equal(answers[0], each) for each in answers)


class Hub:
    """Stands for the hub's API; keeps what is uploaded."""

    def __init__(self, token=None):
        pass

    def create_repo(self, *_, **__):
        pass

    def upload_folder(self, repo_id, folder_path, commit_message):
        Hub.pushed = {file.name: file.read_bytes() for file in Path(folder_path).iterdir()}
        return repo_id


def test_what_is_uploaded_names_no_place_on_this_machine(
    bert, tmp_path, elsewhere, monkeypatch, recwarn
):
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    files = [tmp_path / f"{number}.txt" for number in range(4)]
    for file, text in zip(files, TEXTS, strict=True):
        file.write_text(text)
    one = FewShotClassifier(encoder=bert).fit([*files, "/help how do i open"], [*Y, "bank"])
    with pytest.warns(UserWarning, match=r"folder my model is uploaded .* MiB in all"):
        one.push_to_hub("me/mine")
    assert set(Hub.pushed) == {"README.md", "classifier.qs"}
    for content in Hub.pushed.values():
        assert str(tmp_path).encode() not in content
    (tmp_path / "b.qs").write_bytes(Hub.pushed["classifier.qs"])
    assert one.model_.support.names[0] == str(files[0])  # what is here stays
    shutil.rmtree(bert)
    other = loaded(tmp_path / "b.qs")
    assert np.array_equal(one.predict_proba(TEXTS), other.predict_proba(TEXTS))
    names = ["0.txt", "1.txt", "2.txt", "3.txt", "/help how do i open"]
    assert other.model_.support.names == names
    recwarn.clear()
    other.push_to_hub("me/mine")
    assert not recwarn.list
    assert b"- Encoder: my-model\n" in Hub.pushed["README.md"]


def test_learn_embeds_and_add_keeps_the_encoder(bert, tmp_path, elsewhere, quickstudy):
    lines = [f"{text},{label}" for text, label in zip(TEXTS, Y, strict=True)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *lines]))

    def run(*words):
        code, out, err = quickstudy(*words)
        assert code == 0, err
        assert "warning" not in err
        return out

    path = tmp_path / "a.qs"
    run("learn", tmp_path / "texts.csv", "--embed_encoder", "-o", path, "--encoder", bert)
    shutil.rmtree(bert)
    run("add", path, "money", "open the account")
    shutil.rmtree(elsewhere)
    assert f"\n{TEXTS[2]}\tcat\t" in run("predict", path, TEXTS[2])
    assert "my-model, in the file" in run("inspect", path, "--json")
