"""Hundreds of damaged files: each is a plain error or a recovery with the right result.

Never another kind of error, which a command would show as a traceback, and never a wrong result.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy import FewShotClassifier, load_dataset
from quickstudy.classifier.file import FORMAT as CLASSIFIER
from quickstudy.cli.main import sentence
from quickstudy.cli.options import choose_part
from quickstudy.datasets.sources.notes import remembered
from quickstudy.encoders import MLP
from quickstudy.encoders.feature_cache import FeatureCache
from quickstudy.runs import load
from quickstudy.runs.checkpoint import FORMAT as CHECKPOINT
from quickstudy.runs.run import RunDirectory
from quickstudy.saving import tensor_file
from quickstudy.strategies import PrototypicalNetwork
from quickstudy.training import Trainer

from ..builders import command, write_pictures
from .damage import damages

STEPS, LONGER = 4, 6
PLAIN = (ValueError, OSError)  # FileNotFoundError is an OSError


@dataclass(frozen=True)
class Target:
    """A file that something reads.

    Args:
        file: inside its folder; may have wildcards.
        read: reads it, given the folder; may write there.
        another_version: how another version may have written the file.
        may_differ: whether other content can be right: what people write has no checksum.
    """

    file: str
    read: Callable[[Path], Any]
    another_version: Callable[[bytes], bytes]
    may_differ: bool = False


# -- what reads ----------------------------------------------------------------------------------


def fit(parts, out, steps, resume=False):
    torch.manual_seed(0)
    settings = {"ways": 3, "queries": 2, "tasks": 2, "checkpoint_every": 2, "log_every": 1}
    more = {"validate_every": 2, "validation_episodes": 3, "validation_queries": 2}
    trainer = Trainer(steps=steps, **settings, **more, accelerator="cpu", show_progress=False)
    strategy = PrototypicalNetwork(MLP((1, 8, 8), (4,)))
    return trainer.fit(strategy, parts["train"], parts["validation"], out=out, resume=resume)


def plain_model(model):
    return {name: tensor.tolist() for name, tensor in sorted(model.items())}


def resumed(parts, folder):
    fit(parts, folder / "run", LONGER, resume=True)
    directory = RunDirectory(folder / "run")
    newest = directory.newest()
    history = [{**row, "seconds": None} for row in newest.history]
    text = directory.metrics.read_text()
    steps = [line.partition(",")[0] for line in text.splitlines()]
    return plain_model(newest.model), plain_model(directory.read_best().model), history, steps


def loaded(checkpoint):
    def read(folder):
        run = load(folder / "run", checkpoint)
        history = [{**row, "seconds": None} for row in run.history]
        return plain_model(run.strategy.state_dict()), run.config, history

    return read


def output(capsys, *words):
    """What a command prints; an exit with an error is a ValueError of what it said."""
    code = command(*words)
    printed = capsys.readouterr()
    if code:
        raise ValueError(printed.err)
    return printed.out


def resumed_by_command(capsys, folder):
    output(capsys, "train", "--resume", folder / "run")
    directory = RunDirectory(folder / "run")
    return plain_model(directory.newest().model), directory.config.read_text()


def printed(capsys, folder):
    return output(capsys, "train", "--config", folder / "mine.yaml", "--print_config")


def examples_of(pictures, monkeypatch):
    def read(folder):
        monkeypatch.setenv("QUICKSTUDY_CACHE", str(folder))
        data = load_dataset(pictures)
        names = list(data.class_names)
        return data.examples.flatten().tolist(), names, data.sizes.tolist()

    return read


def division_of(folder):
    parts = load_dataset(folder / "pictures").split("mine")
    return {name: list(choose_part(parts, name).class_names) for name in ("train", "test")}


def note(monkeypatch, folder):
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(folder))
    return remembered({"about": "this"}, lambda: {"found": [1, 2, 3]})


STORED = torch.arange(60.0).view(20, 3)
VECTORS = torch.arange(100.0).view(20, 5) / 7


def features(folder):
    """Each vector, or its true value where it is not kept: it is computed again."""
    found = FeatureCache("encoder", folder).get(STORED)
    pairs = zip(found, VECTORS, strict=True)
    return [(kept if kept is not None else true).tolist() for kept, true in pairs]


def predictions(folder):
    return FewShotClassifier.load(folder / "blobs.qs").predict_proba(*_blobs()[:1]).tolist()


def _blobs():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(12, 4)) + 3 * np.repeat(np.eye(3, 4), 4, axis=0)
    return vectors, np.repeat(["cat", "dog", "owl"], 4)


# -- the files -----------------------------------------------------------------------------------


def make_pictures(folder):
    write_pictures(folder, classes=8, each=4, side=6)
    names = [f"thing{number:02}" for number in range(8)]
    splits = {"mine": {"train": names[:5], "test": names[5:]}}
    (folder / "class_splits.json").write_text(json.dumps(splits))


@pytest.fixture(scope="module")
def made(parts, tmp_path_factory):
    """A folder of each kind of file, as it was written."""
    root = tmp_path_factory.mktemp("made")
    make_pictures(root / "pictures")
    make_pictures(root / "splits" / "pictures")
    with pytest.MonkeyPatch.context() as patch:
        fit(parts, root / "run" / "run", STEPS)
        patch.setenv("QUICKSTUDY_CACHE", str(root / "other"))
        words = [
            "train", "--data", root / "pictures", "--encoder", "MLP", "--encoder.hidden", "[4]",
            "--split", "0.5,0.5", "--ways", 3, "--queries", 2, "--steps", STEPS, "--out",
            root / "command" / "run", "--validation-split", "null",
        ]  # fmt: skip
        assert command(*words) == 0
        examples_of(root / "pictures", patch)(root / "cache")
        note(patch, root / "note")
    FeatureCache("encoder", root / "features").put(STORED, VECTORS)
    (root / "classifier").mkdir()
    FewShotClassifier().fit(*_blobs()).save(root / "classifier" / "blobs.qs")
    (root / "config").mkdir()
    shutil.copy(root / "command" / "run" / "config.yaml", root / "config" / "mine.yaml")
    return root


def next_version(form):
    """The same file, as the next version of the package would write it."""

    def write(content):
        path = Path(f"{form.noun}.tmp-version")
        path.write_bytes(content)
        try:
            header, tensors = tensor_file.read(path, form)
            tensor_file.write(path, replace(form, version=form.version + 1), header, tensors)
            return path.read_bytes()
        finally:
            path.unlink()

    return write


def replacing(old, new):
    return lambda content: content.replace(old.encode(), new.encode())


def other_table(_):
    """A database whose table has other columns."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE features (number INTEGER, vectors BLOB)")
    return connection.serialize()


@pytest.fixture
def targets(made, parts, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    newer, run = next_version(CHECKPOINT), "run/checkpoints/{}.safetensors"
    resume = partial(resumed, parts)
    pictures = examples_of(made / "pictures", monkeypatch)
    return {
        "run, best, loaded": Target(run.format("best"), loaded("best"), newer),
        "run, last, loaded": Target(run.format("last"), loaded("last"), newer),
        "run, best, resumed": Target(run.format("best"), resume, newer),
        "run, last, resumed": Target(run.format("last"), resume, newer),
        "run, previous, resumed": Target(run.format("previous"), resume, newer),
        "run, metrics, resumed": Target("run/metrics.csv", resume, replacing("loss", "nats")),
        "run, metrics, loaded": Target("run/metrics.csv", loaded("last"), replacing("loss", "l")),
        "command, config, resumed": Target(
            "run/config.yaml", partial(resumed_by_command, capsys), replacing("ways", "manner")
        ),
        "config, given": Target(
            "mine.yaml", partial(printed, capsys), replacing("ways", "manner"), may_differ=True
        ),
        "cache, examples": Target(
            "datasets/pictures-*", pictures, replacing('"format": "2"', '"format": "1"')
        ),
        "note, kept": Target(
            "datasets/note-*", partial(note, monkeypatch), replacing("digest", "sha256")
        ),
        "features, kept": Target("features-*", features, other_table),
        "splits, read": Target(
            "pictures/class_splits.json", division_of, lambda content: b"[" + content + b"]"
        ),
        "classifier, loaded": Target("*.qs", predictions, next_version(CLASSIFIER)),
    }


NAMES = [
    "run, best, loaded", "run, last, loaded", "run, best, resumed", "run, last, resumed",
    "run, previous, resumed", "run, metrics, resumed", "run, metrics, loaded",
    "command, config, resumed", "config, given", "cache, examples", "note, kept",
    "features, kept", "splits, read", "classifier, loaded",
]  # fmt: skip
SWAPPED = [
    "run/run/checkpoints/last.safetensors", "run/run/metrics.csv", "command/run/config.yaml",
    "classifier/blobs.qs", "splits/pictures/class_splits.json",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_a_plain_error_or_gives_the_right_result(
    made, targets, tmp_path, monkeypatch, name
):
    target = targets[name]
    (file,) = (made / name.partition(",")[0]).glob(target.file)
    content = file.read_bytes()
    others = [other for path in SWAPPED if (other := (made / path).read_bytes()) != content]

    def read(damaged):
        folder = tmp_path / "work"
        shutil.copytree(made / name.partition(",")[0], folder)
        (folder / file.relative_to(made / name.partition(",")[0])).write_bytes(damaged)
        try:
            return target.read(folder)
        finally:
            shutil.rmtree(folder)

    expected = read(content)
    assert target.another_version(content) != content
    ended: Counter[str] = Counter()
    for what, damaged in damages(content, others, target.another_version(content), seed=len(name)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # recoveries say what they do
            try:
                found = read(damaged)
            except PLAIN as error:
                said = sentence(error)
                assert said.strip(), what
                assert "Traceback" not in said, (what, said)
                ended["error"] += 1
                continue
            except Exception as error:
                pytest.fail(f"{what}: {type(error).__name__}: {error}")
        assert target.may_differ or found == expected, what
        ended["right"] += 1
    assert sum(ended.values()) >= 27
    print(name, dict(ended))


def test_there_are_three_hundred():
    assert len(NAMES) * 27 >= 300
