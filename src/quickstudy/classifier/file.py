"""The ``.qs`` file: a classifier as tensors and JSON (see ``tensor_file.py``).

Modules are written as descriptions, which name their classes, and weights. A file can name only
classes of this package's encoders and strategies, unless whoever reads it trusts others: reading
must not run code that the file's author chose.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quickstudy.classifier.calibration import Calibration
from quickstudy.classifier.embedded_encoder import (
    GROUP,
    check_same,
    embedded_identity,
    folders_of,
    is_unpacked,
    packed,
    renamed,
    unpacked,
)
from quickstudy.classifier.learner import Learner, seeded
from quickstudy.classifier.model import Model, Settings
from quickstudy.classifier.out_of_distribution import OutOfDistributionScore
from quickstudy.classifier.parts import Parts, named_reader
from quickstudy.classifier.reader import Reader
from quickstudy.classifier.support import Support
from quickstudy.compute.devices import usable_device
from quickstudy.compute.evaluation_mode import evaluating
from quickstudy.datasets.spelling import Labels
from quickstudy.deprecated import once_positional
from quickstudy.encoders.feature_cache import encoder_identity
from quickstudy.episodes import Examples
from quickstudy.errors import InputError, MissingFileError
from quickstudy.inputs import described_inputs, inputs_from_dict
from quickstudy.messages import warn_caller
from quickstudy.runs.verifying import verified
from quickstudy.saving.rebuilding import frozen_names, rebuilt
from quickstudy.saving.tensor_file import Format, read, write
from quickstudy.saving.trust import check_trusted
from quickstudy.strategies import Strategy

SUFFIX = ".qs"
FORMAT = Format("quickstudy classifier", 1, "classifier", "Take another copy, or learn it again.")

_PARTS = ("inputs", "encoder", "strategy")
"""The parts that a file describes by names of classes and models."""

UNDO = "undo"
"""The entry of the header and the group of tensors that remember changes (``history.py``)."""

MOST_SHOWN = 200
"""Number of examples used to check that a saved strategy loads unchanged."""


def save_model(model: Model, path: Path, embed_encoder: bool = False) -> None:
    """Writes a model to a file, in one piece.

    Args:
        model: what is written.
        path: path of the file.
        embed_encoder: also write the folder of a pretrained encoder. A folder that was unpacked
            from a file is always written.

    Raises:
        FileNotFoundError: when a folder that is to be embedded is not there any more.
        ValueError: when a module or the inputs could not be loaded unchanged, or the labels are
            neither strings, whole numbers nor booleans; or a folder cannot be embedded.
    """
    write(path, FORMAT, *contents(model, path, embed_encoder))


def contents(
    model: Model, path: Path, embed_encoder: bool = False
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors of a model's file; arguments and errors as :func:`save_model`."""
    reader, learner, support = model.parts.reader, model.learner, model.support
    folders = folders_of(reader.inputs, reader.encoder, learner.strategy)
    embedded = {k: each for k, each in folders.items() if embed_encoder or is_unpacked(k)}
    for name, folder in folders.items():
        if folder.revision is None and name not in embedded:
            warn_caller(
                f"{path} names its encoder by the folder {name} and does not hold it: on "
                "another machine it works only if that folder is in the same place. To put it "
                "into the file, save with embed_encoder=True, or learn with --embed-encoder. "
                "A model named by its id on the Hugging Face hub is found anywhere."
            )
    files, placeholders = packed(embedded)
    if reader.encoder is not None and reader.name in embedded:
        check_same(reader.encoder, files, placeholders[reader.name])
    described = {
        "inputs": described_inputs(reader.inputs) if reader.inputs is not None else None,
        "encoder": _described_encoder(reader, reader.name in embedded),
        "strategy": _described_strategy(model),
    }
    measured = learner.calibration
    header = {
        "classes": _described_labels(model.classes),
        **{part: renamed(each, placeholders) for part, each in described.items()},
        "frozen": {
            "encoder": frozen_names(reader.encoder) if reader.encoder and not reader.name else [],
            "strategy": frozen_names(learner.strategy),
        },
        "settings": vars(model.settings),
        "on_vectors": learner.on_vectors,
        "cached": reader.cache is not None,
        "names": support.names,
        "temperature": measured.temperature if measured else None,
        "advance": measured.advance if measured else None,
        "extra": model.extra,
    }
    groups = {
        "encoder": reader.encoder.state_dict() if reader.encoder and not reader.name else {},
        "strategy": learner.strategy.state_dict(),
        "theta": learner.theta,
        "support": {
            "kept": support.kept,
            "targets": model.targets,
            "contents": support.contents,
            **({} if support.pictures is None else {"pictures": support.pictures}),
        },
        **_calibration_tensors(measured),
        "named": {} if learner.named is None else {"prepared": learner.named},
        GROUP: files,
    }
    tensors = {f"{group}.{name}": t for group, some in groups.items() for name, t in some.items()}
    return header, tensors


@once_positional("trust", "device")
def load_model(
    path: Path, *, trust: Collection[str] = (), device: torch.device | str | None = None
) -> Model:
    """Reads a model from a file.

    Args:
        path: path of the file.
        trust: import paths of classes outside this package that it may use.
        device: where to compute; the CPU by default.

    Raises:
        FileNotFoundError: when there is none, or its encoder is not to be found.
        ValueError: when it is damaged, of another version, or names other classes, or there is no
            such device.
    """
    header, tensors = read(path, FORMAT)
    place = usable_device(device or "cpu")
    places: dict[str, str] = {}
    try:
        groups: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            group, _, rest = name.partition(".")
            groups.setdefault(group, {})[rest] = (
                tensor if group in (GROUP, UNDO) else tensor.to(place)
            )
        places = unpacked(groups.pop(GROUP, {}))
        header |= {part: renamed(header[part], places) for part in _PARTS}
        frozen = dict(header.get("frozen", {}))  # which files of before lack
        weights = groups.get("encoder", {})
        reader = _reader(header, weights, trust, place, frozen.get("encoder"))
        strategy = _module(
            header["strategy"], groups.get("strategy", {}), trust, place, frozen.get("strategy")
        )
        if not isinstance(strategy, Strategy):
            raise InputError(f"{path} holds a {type(strategy).__name__}, which is not a strategy.")
        classes = _labels(header["classes"])
        support = groups["support"]
        learner = Learner(
            strategy,
            groups["theta"],
            len(classes),
            header["on_vectors"],
            header["settings"]["seed"],
            _calibration(header, groups),
            groups.get("named", {}).get("prepared"),
        )
        examples = Support(
            support["kept"],
            classes[support["targets"].cpu().numpy()],
            support["contents"].cpu(),
            list(header["names"]),
            support.get("pictures"),
        )
        settings = Settings(**header["settings"])
        parts = Parts(reader, strategy)
        return Model(parts, settings, examples, classes, learner, dict(header["extra"]))
    except FileNotFoundError as error:
        raise MissingFileError(
            f"{error} The classifier {path} needs it. On a machine that has it, save the "
            "classifier together with it: save(..., embed_encoder=True) in Python, learn "
            "--embed-encoder on the command line."
        ) from error
    except (KeyError, TypeError, IndexError, OverflowError) as error:
        raise InputError(
            f"{path} is not as this version of quickstudy writes classifiers ({error!r})."
        ) from error
    except (ValueError, RuntimeError, AttributeError) as error:
        if not places:
            raise
        # Those who gave the file know nothing of the cache.
        text = " ".join(str(error).split()) or repr(error)
        for unpacked_at in places.values():
            text = text.replace(unpacked_at, f"the encoder {Path(unpacked_at).name} in {path}")
        raise InputError(f"{path} holds an encoder that cannot be loaded: {text}") from error


def _reader(
    header: Mapping[str, Any],
    weights: dict[str, Tensor],
    trust: Collection[str],
    place: torch.device,
    frozen: list[str] | None,
) -> Reader:
    described, encoder = header["inputs"], header["encoder"]
    inputs = inputs_from_dict(described) if described is not None else None
    if encoder is None:
        return Reader(inputs, device=place)
    if "name" in encoder:
        name, revision = encoder["name"], encoder["revision"]
        modality = inputs.modality if inputs is not None else None
        reader = named_reader(name, revision, modality, place, header["cached"], inputs)
        found = reader.encoder
        identity = embedded_identity if is_unpacked(reader.name or "") else encoder_identity
        if found is None or identity(found) != encoder["identity"]:
            warn_caller(
                f"The encoder {name} is not quite the one that the classifier learned with: its "
                "weights, or the library that runs it, have changed. Learn again to be sure."
            )
        return reader
    return Reader(inputs, _module(encoder, weights, trust, place, frozen), device=place)


def _module(
    description: Mapping[str, Any],
    weights: dict[str, Tensor],
    trust: Collection[str],
    place: torch.device,
    frozen: list[str] | None,
) -> nn.Module:
    """The module that is described, with its weights; in evaluation mode."""
    check_trusted(description, trust)
    with seeded(0):
        module = rebuilt(description, weights, frozen)
    return module.to(place).eval()


def _described_encoder(reader: Reader, embedded: bool) -> dict[str, Any] | None:
    """The encoder's name, or its description.

    Args:
        reader: has the encoder.
        embedded: whether the folder of that name is written too.

    Raises:
        ValueError: when the encoder could not be rebuilt from its description.
    """
    encoder, sample = reader.encoder, reader.sample
    if encoder is None:
        return None
    if reader.name is not None:
        identity = embedded_identity(encoder) if embedded else encoder_identity(encoder)
        return {"name": reader.name, "revision": reader.revision, "identity": identity}

    def vectors(module: nn.Module) -> list[Tensor]:
        if sample is None:  # the encoder was loaded from a file and has read nothing since
            return []
        with evaluating(module):
            return [module(sample)]

    return verified(encoder, vectors)


def _described_strategy(model: Model) -> dict[str, Any]:
    """The strategy's description; refused (ValueError) if it could not be rebuilt from it."""
    learner, targets = model.learner, model.targets
    order = targets.argsort(stable=True)
    is_first = torch.ones(len(order), dtype=torch.bool)  # otherwise second of its class
    is_first[2:] = targets[order][2:] != targets[order][:-2]
    firsts = order[is_first]
    some = model.support.kept[firsts[:MOST_SHOWN]]
    queries = model.parts.reader.prepare(some)[None]
    support = Examples(queries, targets[firsts[:MOST_SHOWN]].to(queries.device)[None])

    def logits(module: nn.Module) -> list[Tensor]:
        assert isinstance(module, Strategy)
        with evaluating(module):
            answers = [module.predict(learner.theta, queries)]
            if len(firsts) <= MOST_SHOWN:
                theta = module.adapt(support, learner.ways)
                answers += [*theta.values(), module.predict(theta, queries)]
        return answers

    return verified(learner.strategy, logits)


def _calibration_tensors(calibration: Calibration | None) -> dict[str, dict[str, Tensor]]:
    """A calibration as groups of tensors, under the names that version 1 of the format has."""
    if calibration is None:
        return {}
    score = calibration.out_of_distribution
    return {
        "trust": {"held_out": calibration.out_of_fold, "by_fewer": calibration.by_fewer},
        "known": {
            "means": torch.from_numpy(score.means),
            "of_known": torch.from_numpy(score.of_known),
        },
    }


def _calibration(
    header: Mapping[str, Any], groups: Mapping[str, dict[str, Tensor]]
) -> Calibration | None:
    if header["temperature"] is None:
        return None
    out_of_fold, known = groups["trust"]["held_out"], groups["known"]
    return Calibration(
        out_of_fold,
        float(header["temperature"]),
        OutOfDistributionScore(known["means"].cpu().numpy(), known["of_known"].cpu().numpy()),
        # Files written before these were measured have neither; an advance of 0 makes no use of it.
        groups["trust"].get("by_fewer", out_of_fold),
        float(header.get("advance", 0)),
    )


def _described_labels(labels: Labels) -> dict[str, Any]:
    plain = labels.tolist()
    if not all(isinstance(label, str | int | bool | float) for label in plain):
        raise InputError(
            f"Labels like {plain[0]!r} cannot be written to a file; use strings or numbers."
        )
    return {"type": "O" if labels.dtype.kind == "O" else labels.dtype.str, "labels": plain}


def _labels(described: Mapping[str, Any]) -> Labels:
    name = described["type"]
    if not re.fullmatch(r"O|[<>|=]?[Ubiuf]\d+", name):
        raise InputError(f"Labels of type {name!r} are unknown.")
    return np.array(described["labels"], dtype=np.dtype(name))
