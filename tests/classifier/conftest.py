"""Real images, texts and sounds in small numbers, and a small run trained on images."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy.datasets import ClassDataset
from quickstudy.encoders import Conv4
from quickstudy.inputs import ImageInputs
from quickstudy.strategies import MAML, PrototypicalNetwork

INPUTS = ImageInputs(size=32, mean=(0.5,), std=(0.25,))
TRAINING_CLASSES, CLASSES, EACH = 12, 10, 10
TEXT_CLASSES = ("0", "11", "21", "32", "42")


@pytest.fixture(scope="session", autouse=True)
def without_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


def rows_by_label(table: Path, column: str, label: str, each: int) -> dict[str, list]:
    """The first rows of each class of a parquet file."""
    import pyarrow.parquet

    read = pyarrow.parquet.read_table(table, columns=[column, label])
    labels = np.array([str(each) for each in read[label].to_pylist()])
    chosen = {name: np.flatnonzero(labels == name)[:each] for name in np.unique(labels)}
    return {name: read[column].take(rows).to_pylist() for name, rows in chosen.items()}


@pytest.fixture(scope="session")
def photographs(data_root) -> dict[str, list[bytes]]:
    """Ten encoded images of each of CIFAR-100's test classes."""
    rows = rows_by_label(data_root / "cifar100" / "test.parquet", "img", "fine_label", EACH)
    return {name: [each["bytes"] for each in some] for name, some in rows.items()}


@pytest.fixture(scope="session")
def jpegs(photographs, tmp_path_factory) -> Path:
    """A folder of JPEG files, a sub-folder a class; of classes that no run was trained on."""
    root = tmp_path_factory.mktemp("jpegs") / "pets"
    for name in list(photographs)[TRAINING_CLASSES:][:CLASSES]:
        (root / f"class{name}").mkdir(parents=True)
        for number, encoded in enumerate(photographs[name]):
            path = root / f"class{name}" / f"{number}.jpg"
            Image.open(io.BytesIO(encoded)).convert("RGB").save(path, quality=95)
    return root


@pytest.fixture(scope="session")
def split_jpegs(jpegs):
    """Paths and labels: five of each class to learn from, five to ask about."""
    paths = sorted(jpegs.rglob("*.jpg"))
    learn = [path for path in paths if int(path.stem) < 5]
    ask = [path for path in paths if int(path.stem) >= 5]
    return (learn, [p.parent.name for p in learn]), (ask, [p.parent.name for p in ask])


def trained(strategy, photographs, out):
    from quickstudy.training import fit

    names = list(photographs)[:TRAINING_CLASSES]
    images = [INPUTS.decode(each) for name in names for each in photographs[name]]
    sizes = [len(photographs[name]) for name in names]
    data = ClassDataset.contiguous(torch.stack(images), sizes, names, INPUTS, "photographs")
    torch.manual_seed(0)
    return fit(
        strategy(), data, out=out, ways=5, shots=1, queries=5, steps=20, tasks=2,
        learning_rate=0.003, validate_every=20, log_every=10, checkpoint_every=20,
    )  # fmt: skip


def small_encoder():
    return Conv4((3, 32, 32), channels=16)


@pytest.fixture(scope="session")
def run(photographs, tmp_path_factory) -> Path:
    """The directory of a run of prototypes on Conv4."""
    out = tmp_path_factory.mktemp("runs") / "prototypes"
    trained(lambda: PrototypicalNetwork(small_encoder()), photographs, out)
    return out


@pytest.fixture(scope="session")
def maml_run(photographs, tmp_path_factory) -> Path:
    """The directory of a run of MAML, which is made for five ways."""
    out = tmp_path_factory.mktemp("runs") / "maml"
    trained(lambda: MAML(small_encoder(), ways=5, first_order=True), photographs, out)
    return out


@pytest.fixture(scope="session")
def texts(data_root):
    """Texts and labels of a few of BANKING77's classes: eight to learn from, eight to ask about."""
    rows = rows_by_label(data_root / "banking77" / "train.parquet", "text", "label", 16)
    learn = [text for name in TEXT_CLASSES for text in rows[name][:8]]
    ask = [text for name in TEXT_CLASSES for text in rows[name][8:]]
    return (learn, np.repeat(TEXT_CLASSES, 8)), (ask, np.repeat(TEXT_CLASSES, 8))


@pytest.fixture(scope="session")
def sounds(data_root) -> dict[str, list[bytes]]:
    """Six recordings of each of three spoken digits."""
    rows = rows_by_label(data_root / "fsdd" / "train.parquet", "audio", "digit", 6)
    return {name: [each["bytes"] for each in rows[name]] for name in list(rows)[:3]}


def made_blobs(distance: float):
    generator = np.random.default_rng(0)
    centres = distance * generator.standard_normal((3, 6))
    targets = np.repeat([0, 1, 2], 8)
    vectors = centres[targets] + generator.standard_normal((24, 6))
    return vectors, np.array(["ant", "bee", "cat"])[targets]


@pytest.fixture
def blobs():
    """Vectors ``[24, 6]`` of three classes around far centres, and their labels."""
    return made_blobs(3.0)


@pytest.fixture
def near_blobs():
    """Vectors of three classes that overlap."""
    return made_blobs(0.7)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Folders of tiny pretrained models, by their kind."""
    pytest.importorskip("transformers")
    from ..encoders.pretrained import tiny_models

    root = tmp_path_factory.mktemp("models")
    names = ["vit", "bert", "clip", "clap", "whisper"]
    return {name: tiny_models.seeded(getattr(tiny_models, name), root / name) for name in names}
