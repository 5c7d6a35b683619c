"""Everything that reads what others have written, valid files for it, and ways to damage them."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import safetensors.torch
import yaml

from quickstudy.classifier import FewShotClassifier, load_model
from quickstudy.classifier.file import FORMAT as CLASSIFIER
from quickstudy.cli.options import build_strategy
from quickstudy.cli.parsing import parsed
from quickstudy.cli.reading import read
from quickstudy.cli.usage.training import TRAIN
from quickstudy.datasets import load_dataset
from quickstudy.datasets.sources.class_splits import check_class_splits, read_class_splits
from quickstudy.inputs import AudioInputs, ImageInputs, TextInputs
from quickstudy.inputs.text import read_text_file
from quickstudy.runs import Checkpoint, load
from quickstudy.saving import tensor_file
from quickstudy.saving.description import describe
from quickstudy.strategies import PrototypicalNetwork

from . import mutations

MOST_SECONDS = 20
"""Of processor time that one file may take; whatever takes more hangs."""

ROWS = [("where is my card", "card"), ("my card is lost", "card"), ("a pound", "money"), ("é", "x")]
TEXTS = TextInputs.learned([text for text, _ in ROWS], vocabulary=300)


class Found(AssertionError):
    """A file ended in something else than a result or a plain error of the package."""


@dataclass(frozen=True)
class Loader:
    """Something that reads files.

    Args:
        name: of it.
        ending: of its files.
        seeds: writes valid files into an empty folder.
        read: reads a file, in an empty folder of its own.
        damage: changes a valid file's content.
    """

    name: str
    ending: str
    seeds: Callable[[Path], None]
    read: Callable[[Path], object]
    damage: Callable[[Random, bytes], bytes] = mutations.damaged

    def try_one(self, path: Path) -> str:
        """Reads a file; returns "read", or "refused" for a plain error.

        Raises:
            Found: it ended otherwise.
        """
        try:
            with warnings.catch_warnings(), _within_time():
                warnings.simplefilter("ignore")
                self.read(path)
        except (ValueError, FileNotFoundError) as error:
            if not (str(error).strip() and _is_own(error)):
                raise Found(f"{self.name}: {type(error).__name__} of a library: {error}") from error
            return "refused"
        except Exception as error:
            raise Found(f"{self.name}: {type(error).__name__}: {error}") from error
        return "read"


@contextmanager
def _within_time() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TimeoutError(f"it takes more than {MOST_SECONDS} seconds of the processor")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _is_own(error: BaseException) -> bool:
    """Whether the package itself raised it, in its own words."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and "quickstudy" in Path(trace.tb_frame.f_code.co_filename).parts


def _images(folder: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 4), dtype=np.uint8)
    for ending in ("png", "gif", "tiff", "webp", "bmp", "ppm", "tga", "jpg", "jp2"):
        shown = pixels[:, :, :3] if ending in ("jpg", "ppm", "bmp", "jp2") else pixels
        image = Image.fromarray(shown)
        exif = image.getexif()
        exif[0x112] = 6
        image.save(folder / f"a.{ending}", **({"exif": exif} if ending in ("jpg", "png") else {}))
    Image.fromarray(pixels[:, :, 0]).convert("P").save(folder / "palette.png")
    Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 99).save(folder / "deep.png")
    Image.fromarray(pixels[:, :, :3]).save(folder / "packed.tif", compression="tiff_lzw")
    Image.fromarray(pixels[:, :, :3]).save(folder / "progressive.jpg", progressive=True)


def _sounds(folder: Path) -> None:
    import soundfile

    wave = np.sin(np.arange(3000) / 9)[:, None] * [0.4, 0.2]
    for name, subtype in (
        *(("a.wav", "PCM_16"), ("b.wav", "FLOAT"), ("c.wav", "PCM_24"), ("d.wav", "IMA_ADPCM")),
        *(("a.flac", None), ("a.ogg", None), ("a.mp3", None), ("a.aiff", None), ("a.au", None)),
    ):
        soundfile.write(folder / name, wave, 8000, subtype)


def _texts(folder: Path) -> None:
    (folder / "a.txt").write_text("a plain text\nof two lines", encoding="utf-8-sig")
    (folder / "b.txt").write_text("読み書き \U0001f600 é\u200b\u0000")


def _tables(ending: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        columns = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
        rows = [dict(zip(columns, row, strict=True)) for row in ROWS]
        path = folder / f"a{ending}"
        if ending == ".parquet":
            parquet.write_table(pa.table(columns), path, row_group_size=2)
            coded = pa.table({"text": columns["text"], "label": [0, 1, 1, None]})
            parquet.write_table(coded, folder / "b.parquet", compression="zstd")
        elif ending in (".csv", ".tsv"):
            separator = "," if ending == ".csv" else "\t"
            lines = [separator.join(columns), *(separator.join(row) for row in ROWS)]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        elif ending == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            path.write_text(json.dumps(rows))

    return write


def _read_table(path: Path) -> object:
    return load_dataset(path, inputs=TEXTS, unreadable="skip")


def _splits(folder: Path) -> None:
    splits = {"mine": {"train": ["a", "b"], "test": ["c"]}, "other": {"train": ["a"]}}
    (folder / "a.json").write_text(json.dumps(splits))


def _read_splits(path: Path) -> None:
    named = path.rename(path.with_name("class_splits.json"))
    check_class_splits(path.parent, read_class_splits(named.parent), ["a", "b", "c"], False)


CONFIG = {
    "data": "glyphs",
    "ways": 5,
    "tasks": 4,
    "learning_rate": 0.001,
    "split": [0.6, 0.2, 0.2],
    "where": {"speaker": ["1", "2"]},
    "strategy": {
        "class_path": "quickstudy.strategies.MAML",
        "init_args": {"inner_steps": 2, "inner_learning_rate": 0.1},
    },
    "encoder": {"class_path": "quickstudy.encoders.MLP", "init_args": {"hidden": [8, 8]}},
    "augmentation": {"degrees": 3.0, "flip": True},
}


NOBODYS = "this"
"""A module that nothing imports, which configurations name."""


def _configs(folder: Path) -> None:
    (folder / "a.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))


def _damaged_config(random: Random, content: bytes) -> bytes:
    kind = random.random()
    if kind < 0.3:
        return mutations.damaged(random, content)
    if kind < 0.45:
        return mutations.tagged(random, content)
    value = yaml.safe_load(content)
    if kind < 0.6:
        value = mutations.naming_a_class(random, value, f"{NOBODYS}.X", ("strategy", "encoder"))
    changed = mutations.changed_value(random, value)
    try:
        return yaml.safe_dump(changed, sort_keys=False).encode()
    except RecursionError:
        return mutations.as_json(changed)


def _read_config(path: Path) -> object:
    try:
        return parsed(read(TRAIN, ["--config", str(path)]))
    finally:
        if sys.modules.pop(NOBODYS, None):
            raise Found("a module that nobody trusts was imported")


def _classifiers(folder: Path) -> None:
    features = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    FewShotClassifier().fit(features, ["a", "b", "c"] * 4).save(folder / "a.qs")
    pictures = np.random.default_rng(0).integers(0, 256, (8, 6, 6), dtype=np.uint8)
    words = ["--strategy", "PrototypicalNetwork", "--encoder", "MLP", "--encoder.hidden", "[4]"]
    strategy = build_strategy(parsed(read(TRAIN, words)), (1, 6, 6), 2, 2)
    inputs = ImageInputs(size=6, channels=1)
    own = FewShotClassifier(strategy=strategy, inputs=inputs)
    own.fit(pictures, [0, 1] * 4).save(folder / "b.qs")


def _damaged_container(form: tensor_file.Format) -> Callable[[Random, bytes], bytes]:
    """Changes what a file says, and sets its checksum right again, as its author could."""

    def damage(random: Random, content: bytes) -> bytes:
        if random.random() < 0.25:
            return mutations.damaged(random, content)
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["quickstudy"])
        if random.random() < 0.2:
            name = random.choice(list(tensors))
            other = random.choice(list(tensors.values()))
            tensors[name] = random.choice(
                (other, tensors[name].flatten()[:-1], tensors[name].half())
            )
        else:
            header = mutations.changed_value(random, header)
        return _container(form, header, tensors)

    return damage


def _container(form: tensor_file.Format, header: Any, tensors: dict[str, Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        try:
            tensor_file.write(path, form, header, tensors)
        except (RecursionError, ValueError, TypeError):  # what was put in cannot be written
            return b""
        return path.read_bytes()


def _checkpoints(folder: Path) -> None:
    from quickstudy.encoders import MLP

    strategy = PrototypicalNetwork(MLP((1, 6, 6), hidden=(4,)))
    about = {"step": 3, "best_step": 3, "best_accuracy": None, "seconds": 1.0, "finished": False}
    Checkpoint(
        describe(strategy),
        ImageInputs(size=6, channels=1).to_dict(),
        dict(strategy.state_dict()),
        progress=about,
        classes={"train": ["a", "b"]},
    ).save(folder / "a.safetensors")


def _checkpoint_form() -> tensor_file.Format:
    from quickstudy.runs import checkpoint

    return next(v for v in vars(checkpoint).values() if isinstance(v, tensor_file.Format))


def _decoding(inputs: Any) -> Callable[[Path], object]:
    return lambda path: inputs.decode(path.read_bytes())


LOADERS = (
    Loader("images", "", _images, _decoding(ImageInputs(size=16)), mutations.damaged_png),
    Loader("sounds", "", _sounds, _decoding(AudioInputs(rate=4000, seconds=0.5))),
    Loader("texts", ".txt", _texts, lambda path: TEXTS.decode(read_text_file(path))),
    Loader("CSV", ".csv", _tables(".csv"), _read_table, mutations.damaged_separated),
    Loader("TSV", ".tsv", _tables(".tsv"), _read_table, mutations.damaged_separated),
    Loader("JSON lines", ".jsonl", _tables(".jsonl"), _read_table, mutations.damaged_lines),
    Loader("JSON", ".json", _tables(".json"), _read_table, mutations.damaged_json),
    Loader("parquet", ".parquet", _tables(".parquet"), _read_table),
    Loader("class splits", ".json", _splits, _read_splits, mutations.damaged_json),
    Loader("configurations", ".yaml", _configs, _read_config, _damaged_config),
    Loader("classifiers", ".qs", _classifiers, load_model, _damaged_container(CLASSIFIER)),
    Loader(
        *("checkpoints", ".safetensors", _checkpoints, load),
        _damaged_container(_checkpoint_form()),
    ),
)
