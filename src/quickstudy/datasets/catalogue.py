"""The named benchmarks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quickstudy.datasets.columns import Columns
from quickstudy.datasets.decoding import Splits
from quickstudy.inputs import ImageInputs, Inputs

DATA_VARIABLE = "QUICKSTUDY_DATA"
"""The environment variable that names the folder in which benchmarks lie."""

PHOTOGRAPHS = ImageInputs(
    size=84, channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
"""How images are read where nothing else is known: with the channel statistics of ImageNet."""

_INK_ON_PAPER = ImageInputs(size=28, channels=1, invert=True)


@dataclass(frozen=True)
class Benchmark:
    """A data set that is known by name.

    Args:
        name: what ``load_dataset`` takes.
        description: one line on what it is.
        inputs: how its raw things become tensors, unless told otherwise.
        classes: the number of classes, before rotation.
        examples_per_class: the number of examples of each class.
        splits: its published divisions of the classes, by name; the first is the default.
        citation: whom to cite.
        rotations: whether its protocol makes four classes of each by rotation.
        repository: the hub's repository, if there is one.
        columns: where images and labels are, in that repository and in a local folder.
        class_splits: the divisions that the hub's repository lacks.
        built_in: drawn by this package, with no file at all.
    """

    name: str
    description: str
    inputs: Inputs
    classes: int
    examples_per_class: int
    splits: tuple[str, ...]
    citation: str
    rotations: bool = False
    repository: str | None = None
    columns: Columns = field(default_factory=Columns)
    class_splits: Splits = field(default_factory=dict)
    built_in: bool = False

    @property
    def kind(self) -> str:
        """The kind of input: "image"."""
        return self.inputs.kind

    def local_folder(self) -> Path | None:
        """Its folder in ``$QUICKSTUDY_DATA``; None where there is none."""
        data = os.environ.get(DATA_VARIABLE)
        folder = Path(data).expanduser() / self.name if data else None
        return folder if folder and folder.is_dir() else None


@dataclass(frozen=True)
class Availability:
    """Where a benchmark would be loaded from.

    Args:
        benchmark: which one.
        found: whether it can be loaded without network.
        place: where from, or what to do to have it, in words.
    """

    benchmark: Benchmark
    found: bool
    place: str


def available_datasets() -> tuple[Availability, ...]:
    """All named benchmarks and where each would be loaded from. Nothing is downloaded or read."""
    return tuple(_availability(benchmark) for benchmark in BENCHMARKS.values())


def _availability(benchmark: Benchmark) -> Availability:
    if benchmark.built_in:
        return Availability(benchmark, True, "built in")
    folder = benchmark.local_folder()
    if folder:
        return Availability(benchmark, True, f"folder {folder}")
    if benchmark.repository:
        place = f"to be downloaded from the Hugging Face hub ({benchmark.repository})"
        return Availability(benchmark, False, place)
    return Availability(benchmark, False, f"to be put in ${DATA_VARIABLE}/{benchmark.name}")


def _words(**parts: str) -> dict[str, tuple[str, ...]]:
    return {part: tuple(words.split()) for part, words in parts.items()}


CIFAR_FS = _words(
    train="""
        apple aquarium_fish bear bee bottle bowl boy bridge bus can castle caterpillar chair clock
        cloud cockroach couch cup dinosaur dolphin elephant forest girl hamster house kangaroo
        keyboard lawn_mower lion lizard lobster mountain mouse mushroom oak_tree orange orchid
        palm_tree pear pine_tree plate porcupine possum rabbit raccoon ray road seal shrew skunk
        skyscraper snake spider squirrel streetcar sunflower tank tiger train trout tulip turtle
        willow_tree wolf
    """,
    validation="""
        beaver beetle butterfly camel cattle crab crocodile flatfish lamp maple_tree motorcycle
        otter sea shark television tractor
    """,
    test="""
        baby bed bicycle chimpanzee fox leopard man pickup_truck plain poppy rocket rose snail
        sweet_pepper table telephone wardrobe whale woman worm
    """,
)
"""CIFAR-FS, drawn at random by Bertinetto et al. 2019."""

FC100 = _words(
    train="""
        apple aquarium_fish bed bicycle bottle bowl bridge bus can castle chair clock cloud couch
        crocodile cup dinosaur flatfish forest house keyboard lamp lawn_mower lizard maple_tree
        motorcycle mountain mushroom oak_tree orange orchid palm_tree pear pickup_truck pine_tree
        plain plate poppy ray road rocket rose sea shark skyscraper snake streetcar sunflower
        sweet_pepper table tank telephone television tractor train trout tulip turtle wardrobe
        willow_tree
    """,
    validation="""
        bear camel cattle chimpanzee crab elephant hamster kangaroo leopard lion lobster mouse
        rabbit shrew snail spider squirrel tiger wolf worm
    """,
    test="""
        baby beaver bee beetle boy butterfly caterpillar cockroach dolphin fox girl man otter
        porcupine possum raccoon seal skunk whale woman
    """,
)
"""FC100, divided along superclasses by Oreshkin et al. 2018."""

BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="glyphs",
            description="letters of 15 scripts drawn in many hands from fonts",
            inputs=_INK_ON_PAPER,
            classes=680,
            examples_per_class=20,
            splits=("scripts",),
            citation="Drawn by quickstudy from the fonts that matplotlib ships.",
            built_in=True,
        ),
        Benchmark(
            name="omniglot",
            description="handwritten characters of 50 alphabets",
            inputs=_INK_ON_PAPER,
            classes=1623,
            examples_per_class=20,
            splits=("vinyals", "random", "lake"),
            citation=(
                "Lake, Salakhutdinov, Tenenbaum, Human-level concept learning through "
                "probabilistic program induction, Science 350, 2015."
            ),
            rotations=True,
            columns=Columns(image="image", label="character"),
        ),
        Benchmark(
            name="cifar100",
            description="colour photographs of 100 kinds of things",
            inputs=ImageInputs(
                size=32,
                channels=3,
                mean=(129.30 / 255, 124.07 / 255, 112.43 / 255),
                std=(68.17 / 255, 65.39 / 255, 70.42 / 255),
            ),
            classes=100,
            examples_per_class=600,
            splits=("cifar-fs", "fc100"),
            citation=(
                "Krizhevsky, Learning multiple layers of features from tiny images, 2009. CIFAR-FS"
                ": Bertinetto et al., Meta-learning with differentiable closed-form solvers, ICLR "
                "2019. FC100: Oreshkin et al., TADAM, NeurIPS 2018."
            ),
            repository="uoft-cs/cifar100",
            columns=Columns(image="img", label="fine_label"),
            class_splits={"cifar-fs": CIFAR_FS, "fc100": FC100},
        ),
    )
}

ALIASES: Mapping[str, tuple[str, str]] = {
    "cifar-fs": ("cifar100", "cifar-fs"),
    "fc100": ("cifar100", "fc100"),
}
"""Names of a benchmark with one of its published splits as the default."""
