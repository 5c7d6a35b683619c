"""Small runs and classifiers of many kinds, made from seeds alone.

``python tests/compatibility/builders.py FOLDER`` writes them with the code at hand, each beside the
answers that this code gives. ``stored/`` holds what version 0.1.0 wrote; it is never written anew,
so that the tests show whether the files of that version are still understood.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from quickstudy import FewShotClassifier
from quickstudy import strategies as package
from quickstudy.datasets import ClassDataset
from quickstudy.encoders import MLP, AudioCNN, Conv4, ResNet12, TextEncoder
from quickstudy.episodes import Episode, Examples
from quickstudy.inputs import AudioInputs, FeatureInputs, ImageInputs, TextInputs
from quickstudy.training import Trainer

HALF, STEPS, WAYS, CLASSES, EACH = 3, 6, 3, 12, 8
SETTINGS = {
    "ways": WAYS,
    "queries": 2,
    "tasks": 2,
    "batch_size": 12,
    "steps": STEPS,
    "learning_rate": 3e-3,
    "validate_every": 3,
    "validation_episodes": 4,
    "validation_queries": 2,
    "accelerator": "cpu",
    "show_progress": False,
}
TEXTS = ["the card has not come", "which rate is it", "I lost my phone", "how do I pay"]


def conv4():
    return Conv4((1, 8, 8), channels=4, blocks=2)


def text_encoder():
    return TextEncoder((6,), 300, width=8)


STRATEGIES = {
    "prototypes": ("images", lambda: package.PrototypicalNetwork(conv4()), {"ema": 0.8}),
    "resnet12": (
        "images",
        lambda: package.PrototypicalNetwork(ResNet12((1, 8, 8), (4, 4, 4), drop_rate=0.3)),
        {},
    ),
    "maml": (
        "images",
        lambda: package.MAML(conv4(), ways=WAYS, inner_steps=2),
        {"optimizer": "sgd"},
    ),
    "maml_plus_plus": ("images", lambda: package.MAMLPlusPlus(conv4(), ways=WAYS), {}),
    "proto_maml": ("images", lambda: package.ProtoMAML(conv4()), {}),
    "meta_sgd_vectors": ("vectors", lambda: package.MetaSGD(MLP((16,), (8,)), ways=WAYS), {}),
    "cavia": ("images", lambda: package.CAVIA(conv4(), ways=WAYS), {}),
    "versa": ("images", lambda: package.VERSA(conv4(), width=8), {}),
    "hypernetwork": ("vectors", lambda: package.Hypernetwork(MLP((16,), (8,)), width=8), {}),
    "baseline": ("images", lambda: package.Baseline(conv4(), CLASSES * 6 // 10), {}),
    "texts": ("texts", lambda: package.R2D2(text_encoder()), {}),
    "sounds": (
        "sounds",
        lambda: package.PrototypicalNetwork(AudioCNN((1600,), 8000, 4, 2, mels=12)),
        {},
    ),
}
"""By name: the kind of data, the strategy, and what its training sets beside ``SETTINGS``."""

CLASSIFIERS = {
    "vectors": ("vectors", lambda runs: {}),
    "images": ("images", lambda runs: {"strategy": str(runs / "prototypes")}),
    "images_maml": ("images", lambda runs: {"strategy": str(runs / "maml")}),
    "texts": ("texts", lambda runs: {"strategy": str(runs / "texts")}),
}
"""By name: the kind of data, and the arguments of the classifier, given the folder of runs."""


def dataset(kind: str) -> ClassDataset:
    """Twelve classes of eight examples around means of their own."""
    draw = torch.Generator().manual_seed(0)
    names = [f"class{number:02}" for number in range(CLASSES)]

    def noisy(mean: torch.Tensor, spread: int) -> torch.Tensor:
        shape = CLASSES, EACH, *mean.shape[2:]
        return (mean + torch.randint(-spread, spread + 1, shape, generator=draw)).flatten(0, 1)

    if kind == "images":
        means = torch.randint(40, 216, (CLASSES, 1, 1, 8, 8), generator=draw)
        examples = noisy(means, 40).clamp(0, 255).to(torch.uint8)
        inputs = ImageInputs(8, 1)
    elif kind == "texts":
        examples = torch.randint(1, 257, (CLASSES * EACH, 6), generator=draw, dtype=torch.int32)
        inputs = TextInputs.learned(TEXTS, 300, length=6)
    elif kind == "sounds":
        means = torch.randint(-6000, 6000, (CLASSES, 1, 1600), generator=draw)
        examples, inputs = noisy(means, 3000).to(torch.int16), AudioInputs(rate=8000, seconds=0.2)
    else:
        means = torch.randn(CLASSES, 1, 16, generator=draw)
        noise = torch.randn(CLASSES, EACH, 16, generator=draw)
        examples, inputs = (means + noise).flatten(0, 1), FeatureInputs(16)
    return ClassDataset.contiguous(examples, [EACH] * CLASSES, names, inputs, kind)


def strategy_of(name: str):
    torch.manual_seed(5)
    return STRATEGIES[name][1]()


def train(name: str, out: Path, until: int | None = None, resume: bool = False):
    """Trains a strategy by name, or goes on with it."""
    parts = dataset(STRATEGIES[name][0]).split((0.6, 0.4))
    trainer = Trainer(**SETTINGS | STRATEGIES[name][2])
    first, second = list(parts.values())
    return trainer.fit(strategy_of(name), first, second, out=out, resume=resume, until=until)


def task(kind: str) -> Episode:
    """One task of the last classes, two examples of support and two queries per class."""
    data = dataset(kind)
    classes = torch.arange(CLASSES - WAYS, CLASSES).repeat_interleave(2)
    support, query = (
        Examples(
            data.gather(classes, positions)[None], torch.arange(WAYS).repeat_interleave(2)[None]
        )
        for positions in (torch.arange(2).repeat(WAYS), torch.arange(2, 4).repeat(WAYS))
    )
    return Episode(support, query, WAYS)


def logits(run) -> torch.Tensor:
    """What a run answers to :func:`task`."""
    kind = {"image": "images", "text": "texts", "audio": "sounds"}.get(
        run.inputs.modality, "vectors"
    )
    episode = task(kind)
    theta = run.strategy.eval().adapt(episode.support, episode.ways)
    return run.strategy.predict(theta, episode.query.inputs).detach()


def raw(kind: str) -> tuple[list, list[str], list]:
    """Raw examples with their labels, and raw queries, for a classifier."""
    draw = np.random.default_rng(1)
    labels = [name for name in "abc" for _ in range(5)]
    if kind == "texts":
        words = ["card", "rate", "phone"]
        said = [f"{words[i // 5]} {number}" for i, number in enumerate(draw.integers(0, 99, 15))]
        return said, labels, [f"{word} now" for word in [*words, "joke"]]
    shape = (8, 8) if kind == "images" else (16,)
    means = draw.normal(size=(3, 1, *shape)) * (60 if kind == "images" else 2)
    near = means + draw.normal(size=(3, 7, *shape)) * (25 if kind == "images" else 1)
    if kind == "images":
        near = (near + 128).clip(0, 255).astype(np.uint8)
    else:
        near = near.astype(np.float32)
    return list(near[:, :5].reshape(-1, *shape)), labels, list(near[:, 5:].reshape(-1, *shape))


def classifier(name: str, runs: Path) -> FewShotClassifier:
    """Fits a classifier by name."""
    kind, arguments = CLASSIFIERS[name]
    examples, labels, _ = raw(kind)
    given = np.stack(examples) if kind == "vectors" else examples
    return FewShotClassifier(**arguments(runs)).fit(given, labels)


def answers(made: FewShotClassifier, kind: str) -> dict:
    """What a classifier answers to the queries of :func:`raw`."""
    queries = raw(kind)[2]
    queries = np.stack(queries) if kind == "vectors" else queries
    return {
        "classes": made.classes_.tolist(),
        "labels": made.predict(queries).tolist(),
        "probabilities": made.predict_proba(queries).tolist(),
        "sets": [sorted(map(str, each)) for each in made.predict_set(queries, coverage=0.8)],
        "kept": made.predict(queries, keep=True).tolist(),
    }


def write(folder: Path) -> None:
    """Writes every run, stopped half-way, and every classifier, with their answers."""
    runs = folder / "trained"
    for name in STRATEGIES:
        half = train(name, runs / name, until=HALF)
        tensors = {"half": logits(half).contiguous()}
        whole = train(name, folder / "whole" / name)
        tensors["whole"] = logits(whole).contiguous()
        save_file(tensors, runs / name / "answers.safetensors")
        for left in [*(runs / name).glob("events*"), *(runs / name).glob("*.lock")]:
            left.unlink()
    for name, (kind, _) in CLASSIFIERS.items():
        made = classifier(name, runs)
        made.save(folder / f"{name}.qs")
        (folder / f"{name}.json").write_text(json.dumps(answers(made, kind), indent=1) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
