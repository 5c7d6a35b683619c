"""The named benchmarks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quickstudy.datasets.decoded.decoding import ClassSplits
from quickstudy.datasets.sources.columns import Columns
from quickstudy.inputs import AudioInputs, ImageInputs, Inputs

DATA_VARIABLE = "QUICKSTUDY_DATA"
"""The environment variable that names the folder in which benchmarks lie."""

_INK_ON_PAPER = ImageInputs(size=28, channels=1, invert=True)


@dataclass(frozen=True)
class Benchmark:
    """A data set that is known by name.

    Args:
        name: what ``load_dataset`` takes.
        description: one line on what it is.
        modality: "image", "text" or "audio".
        classes: the number of classes, before rotation.
        examples_per_class: the number of examples of each class, or the least and the most; None
            where this depends on the release.
        splits: names of its class splits; the first is the default. They are published ones unless
            the citation states otherwise.
        citation: whom to cite.
        inputs: how its raw items become tensors by default; None for texts, whose subwords are
            learned from them.
        rotations: whether its protocol turns each class into four by rotation.
        repository: the hub's repository, if there is one.
        columns: where inputs and labels are, in that repository and in a local folder.
        configurations: the same for its other configurations.
        class_splits: class splits that the hub's repository lacks.
        built_in: whether this package draws the data itself, without any file.
    """

    name: str
    description: str
    modality: str
    classes: int
    examples_per_class: int | tuple[int, int] | None
    splits: tuple[str, ...]
    citation: str
    inputs: Inputs | None = None
    rotations: bool = False
    repository: str | None = None
    columns: Columns = field(default_factory=Columns)
    configurations: Mapping[str, Columns] = field(default_factory=dict)
    class_splits: ClassSplits = field(default_factory=dict)
    built_in: bool = False

    def local_folder(self) -> Path | None:
        """Its folder in ``$QUICKSTUDY_DATA``, if there is one."""
        data = os.environ.get(DATA_VARIABLE)
        folder = Path(data).expanduser() / self.name if data else None
        return folder if folder and folder.is_dir() else None


@dataclass(frozen=True)
class Availability:
    """Where a benchmark would be loaded from.

    Args:
        benchmark: the benchmark.
        found: whether it can be loaded without a network connection.
        place: where it is loaded from, or how to get it, in words.
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

PROTAUGMENT = tuple(f"protaugment-{number:02}" for number in range(1, 6))
"""The five divisions of the intents by Dopierre et al. 2021."""

_PROTAUGMENT_CITATION = (
    "Class splits: Dopierre, Gravier, Logerais, ProtAugment: Unsupervised diverse short-texts "
    "paraphrasing for intent detection meta-learning, ACL 2021."
)

DIGITS_UNHEARD = _words(
    train="""
        backward bed bird cat dog down follow forward go happy house learn left marvin no off on
        right sheila stop
    """,
    validation="tree up visual wow yes",
    test="zero one two three four five six seven eight nine",
)
"""Speech Commands' words, divided by quickstudy: the digits are the words never heard."""

SPOKEN_HALVES = _words(train="zero one two three four", test="five six seven eight nine")
"""The Free Spoken Digit Dataset's digits, divided by quickstudy."""

SOUND_FAMILIES = _words(
    train="""
        airplane can_opening car_horn chainsaw chirping_birds church_bells clock_alarm clock_tick
        crackling_fire crickets door_wood_creaks door_wood_knock engine fireworks glass_breaking
        hand_saw helicopter keyboard_typing mouse_click pouring_water rain sea_waves siren
        thunderstorm toilet_flush train vacuum_cleaner washing_machine water_drops wind
    """,
    validation="""
        breathing brushing_teeth clapping coughing crying_baby drinking_sipping footsteps laughing
        sneezing snoring
    """,
    test="cat cow crow dog frog hen insects pig rooster sheep",
)
"""ESC-50's classes, divided by quickstudy along its five families: people and animals are new."""

BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="glyphs",
            description="letters of 15 scripts drawn in many hands from fonts",
            modality="image",
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
            modality="image",
            inputs=_INK_ON_PAPER,
            classes=1623,
            examples_per_class=20,
            splits=("vinyals", "random", "lake"),
            citation=(
                "Lake, Salakhutdinov, Tenenbaum, Human-level concept learning through "
                "probabilistic program induction, Science 350, 2015."
            ),
            rotations=True,
            columns=Columns(input="image", label="character"),
        ),
        Benchmark(
            name="cifar100",
            description="colour photographs of 100 kinds of things",
            modality="image",
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
            columns=Columns(input="img", label="fine_label"),
            class_splits={"cifar-fs": CIFAR_FS, "fc100": FC100},
        ),
        Benchmark(
            name="clinc150",
            description="what people ask an assistant for, in 10 domains; configuration "
            "out_of_scope holds questions of no intent",
            modality="text",
            classes=150,
            examples_per_class=150,
            splits=PROTAUGMENT,
            citation=(
                "Larson et al., An evaluation dataset for intent classification and out-of-scope "
                f"prediction, EMNLP 2019. {_PROTAUGMENT_CITATION}"
            ),
            columns=Columns(input="text", label="intent"),
            configurations={"out_of_scope": Columns(input="text", label="part")},
        ),
        Benchmark(
            name="banking77",
            description="what customers ask a bank",
            modality="text",
            classes=77,
            examples_per_class=(75, 227),
            splits=PROTAUGMENT,
            citation=(
                "Casanueva et al., Efficient intent detection with dual sentence encoders, NLP for "
                f"ConvAI 2020. {_PROTAUGMENT_CITATION}"
            ),
            columns=Columns(input="text", label="label"),
        ),
        Benchmark(
            name="fsdd",
            description="English digits spoken by 6 people",
            modality="audio",
            classes=10,
            examples_per_class=300,
            splits=("halves",),
            citation=(
                "Jackson et al., Free Spoken Digit Dataset, doi:10.5281/zenodo.1342401. The split "
                "is quickstudy's."
            ),
            inputs=AudioInputs(rate=16000, seconds=1.0),
            columns=Columns(input="audio", label="digit"),
            class_splits={"halves": SPOKEN_HALVES},
        ),
        Benchmark(
            name="dspspeech20",
            description="Mandarin and English words, each spoken by 34 people",
            modality="audio",
            classes=20,
            examples_per_class=68,
            splits=("words",),
            citation=(
                "Chen, DSPSpeech-20, 2019. The splits (of words and, with where or with speaker as "
                "label_column, of speakers) are fixed random draws."
            ),
            inputs=AudioInputs(rate=16000, seconds=1.28),
            columns=Columns(input="audio", label="word"),
        ),
        Benchmark(
            name="speech_commands",
            description="English words spoken by many people, and silence",
            modality="audio",
            classes=36,
            examples_per_class=None,
            splits=("digits",),
            citation=(
                "Warden, Speech Commands: A dataset for limited-vocabulary speech recognition, "
                "2018. The split is quickstudy's."
            ),
            inputs=AudioInputs(rate=16000, seconds=1.0),
            repository="google/speech_commands",
            columns=Columns(input="audio", label="label", configuration="v0.02"),
            class_splits={"digits": DIGITS_UNHEARD},
        ),
        Benchmark(
            name="esc50",
            description="sounds of nature, animals, people, homes and cities",
            modality="audio",
            classes=50,
            examples_per_class=40,
            splits=("families",),
            citation=(
                "Piczak, ESC: Dataset for environmental sound classification, ACM Multimedia 2015. "
                "The split is quickstudy's."
            ),
            inputs=AudioInputs(rate=16000, seconds=5.0),
            repository="ashraq/esc50",
            columns=Columns(input="audio", label="category"),
            class_splits={"families": SOUND_FAMILIES},
        ),
    )
}

ALIASES: Mapping[str, tuple[str, str]] = {
    "cifar-fs": ("cifar100", "cifar-fs"),
    "fc100": ("cifar100", "fc100"),
}
"""Names of a benchmark with one of its published splits as the default."""
