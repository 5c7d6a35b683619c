"""From what somebody names to an encoder and a strategy."""

from __future__ import annotations

import copy
import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

import quickstudy.strategies
from quickstudy.classifier.encoders import load_encoder
from quickstudy.classifier.learner import seeded
from quickstudy.classifier.raw import is_array, is_guess, items, modality_of
from quickstudy.classifier.reader import Reader
from quickstudy.compute.devices import device_of, usable_device
from quickstudy.compute.evaluation_mode import in_use
from quickstudy.encoders.feature_cache import FeatureCache, encoder_identity
from quickstudy.encoders.pretrained.encoder import PretrainedEncoder
from quickstudy.encoders.task_normalization import check_keeps_statistics
from quickstudy.encoders.vectors import Vectors
from quickstudy.errors import InputError, MissingFileError
from quickstudy.evaluation.observing import same_features
from quickstudy.inputs import FeatureInputs, Inputs
from quickstudy.inputs.inputs import check_inputs
from quickstudy.inputs.modalities import MODALITIES
from quickstudy.messages import UsageError, did_you_mean, warn_caller
from quickstudy.runs.run import Run, load
from quickstudy.strategies import LogisticRegression, Strategy


@dataclass
class Parts:
    """The parts of a classifier before it has seen an example.

    Args:
        reader: how inputs are read.
        strategy: a strategy, or the class of one that is made when its inputs are known; None for
            the default.
        outside: the part of the strategy that the reader has taken over.
    """

    reader: Reader
    strategy: Strategy | type[Strategy] | None
    outside: nn.Module | None = None

    def strategy_for(self, prepared: Tensor, ways: int, seed: int) -> Strategy:
        """The strategy in evaluation mode; a given object is not changed.

        Args:
            prepared: the examples as it reads them, ``[N, *shape]``.
            ways: the number of classes.
            seed: random seed of the parameters of a new strategy.

        Raises:
            ValueError: when it is made for another number of classes, or cannot be made.
        """
        if isinstance(self.strategy, Strategy):
            self.strategy.check_ways(ways)
            taken: dict[int, Any] = {}
            if self.outside is not None:
                taken[id(self.outside)] = Vectors(prepared.shape[1:])
            strategy = copy.deepcopy(self.strategy, taken)
        else:
            with seeded(seed):
                strategy = self._made(prepared, ways)
        strategy.eval().to(self.reader.device)
        if prepared.dtype == torch.float64:
            strategy.double()
        return strategy

    def _made(self, prepared: Tensor, ways: int) -> Strategy:
        if prepared.ndim != 2 or not self.reader.gives_vectors:
            raise InputError(
                "A strategy that is made here reads vectors, and these inputs have the shape "
                f"{list(prepared.shape)}: give an encoder, or a trained run as the strategy."
            )
        vectors = Vectors(prepared.shape[1:])
        if self.strategy is None:
            # The lengths of somebody's own columns of numbers mean something.
            encoded = self.reader.encoder is not None
            return LogisticRegression(vectors, penalty=None, normalize=encoded, balanced=True)
        assert isinstance(self.strategy, type)
        accepted = inspect.signature(self.strategy).parameters
        arguments: dict[str, Any] = {"encoder": vectors, "ways": ways}
        arguments = {name: value for name, value in arguments.items() if name in accepted}
        try:
            made = self.strategy(**arguments)
        except TypeError as error:
            raise InputError(
                f"{self.strategy.__name__} cannot be made from its name alone ({error}); give the "
                "object, or a run that was trained with it."
            ) from error
        untrained = sum(parameter.numel() for parameter in made.parameters())
        if untrained and made.episodic:
            warn_caller(
                f"This {self.strategy.__name__} has {untrained} parameters that no training has "
                "set, so it will not do well: give a run of `quickstudy train` as the strategy."
            )
        return made


def assembled(
    encoder: str | Path | nn.Module | None,
    strategy: Any,
    inputs: Inputs | None,
    raw: Any,
    device: torch.device | str | None,
    cached: bool,
) -> Parts:
    """The parts that somebody named.

    Args:
        encoder: a name, a module, or None (see ``FewShotClassifier``).
        strategy: a name, a class, an object, a run or its directory, or None.
        inputs: how raw inputs become the encoder's inputs; its own by default.
        raw: the first inputs, for a default that suits them.
        device: where to compute; by default where the encoder is.
        cached: whether features are kept on the disk.

    Raises:
        ValueError: when they do not go together.
        FileNotFoundError: when there is nothing of a name.
    """
    if inputs is not None:
        check_inputs(inputs)
    chosen = _chosen_strategy(strategy)
    if isinstance(chosen, Run):
        if encoder is None:
            return _of_strategy(chosen.strategy, inputs or chosen.inputs, device)
        if chosen.inputs.modality != FeatureInputs.modality:
            raise InputError(
                f"The run {chosen.path or ''} was trained with an encoder of its own, on inputs of "
                f"modality {chosen.inputs.modality!r}: leave `encoder` out."
            )
        chosen = chosen.strategy
    if encoder is None and isinstance(chosen, Strategy):
        return _of_strategy(chosen, inputs or _inputs_of(chosen), device)
    modality, guessed = None, False
    by_modality = encoder is None and inputs is None
    if (by_modality or isinstance(encoder, str | Path)) and not _are_vectors(raw):
        single = items(raw)
        modality, guessed = modality_of(single), is_guess(single)
        encoder = MODALITIES[modality].model if by_modality else encoder
    try:
        return Parts(_reader(encoder, inputs, device, cached, modality, guessed), chosen)
    except FileNotFoundError as error:
        if not by_modality:
            raise
        raise MissingFileError(f"{error} {MODALITIES[str(modality)].how_to_get_model}") from error


def _of_strategy(
    strategy: Strategy, inputs: Inputs | None, device: torch.device | str | None
) -> Parts:
    if same_features(strategy) and not isinstance(strategy.encoder, Vectors | nn.Identity):
        encoder = strategy.encoder
        place = _place(encoder, device)
        return Parts(Reader(inputs, in_use(encoder), device=place), strategy, encoder)
    return Parts(Reader(inputs, device=_place(strategy, device)), strategy)


def _reader(
    encoder: str | Path | nn.Module | None,
    inputs: Inputs | None,
    device: torch.device | str | None,
    cached: bool,
    modality: str | None,
    guessed: bool,
) -> Reader:
    if encoder is None:
        return Reader(inputs, device=_place(None, device))
    if isinstance(encoder, Strategy):
        raise InputError(
            f"The encoder is a {type(encoder).__name__}, which is a strategy: give it as "
            "strategy=, and its own encoder is used."
        )
    if isinstance(encoder, nn.Module):
        check_keeps_statistics(encoder, f"The {type(encoder).__name__}")
        place = _place(encoder, device)
        return Reader(inputs or _inputs_of(encoder), in_use(encoder), device=place)
    if not isinstance(encoder, str | Path):
        raise InputError(_no_encoder(encoder))
    return named_reader(str(encoder), None, modality, device, cached, inputs, guessed)


def _no_encoder(given: Any) -> str:
    if isinstance(given, type) and issubclass(given, nn.Module):
        return (
            f"The encoder is the class {given.__name__}; give an object of it, such as "
            f"{given.__name__}()."
        )
    if isinstance(given, Run):
        return "The encoder is a run; give its strategy's encoder, run.strategy.encoder."
    if callable(given):
        return (
            f"The encoder is {getattr(given, '__name__', type(given).__name__)!r}, a function; a "
            "torch module is needed, whose method `forward` calls it, or a name."
        )
    return f"The encoder is a {type(given).__name__}; a name, a module or None is needed."


def named_reader(
    name: str,
    revision: str | None,
    modality: str | None,
    device: torch.device | str | None,
    cached: bool,
    inputs: Inputs | None = None,
    guessed: bool = False,
) -> Reader:
    """A reader with the encoder of a name: a run trained here, a folder, or a model of the hub.

    Args:
        name: name of the encoder.
        revision: revision of a model of the hub.
        modality: modality of the inputs, for a model with encoders for two modalities.
        device: where to compute.
        cached: whether the vectors of a model that was not trained here are kept on the disk.
        inputs: what makes raw inputs into its inputs; its own by default.
        guessed: whether the modality is a guess, which the encoder's own modality overrides.
    """
    try:
        encoder, own = load_encoder(name, revision=revision, modality=modality)
    except ValueError:
        if modality is None or not guessed:
            raise
        encoder, own = load_encoder(name, revision=revision)  # texts can look like paths of images
    check_keeps_statistics(encoder, f"The encoder of {name}")
    reader = Reader(inputs or own, encoder, device=_place(encoder, device))
    if isinstance(encoder, PretrainedEncoder):
        reader.name, reader.revision = encoder.name, encoder.revision
        if cached:
            reader.cache = FeatureCache(encoder_identity(encoder, reader.inputs))
    return reader


def _chosen_strategy(strategy: Any) -> Run | Strategy | type[Strategy] | None:
    if isinstance(strategy, str | Path):
        return _strategy_by_name(str(strategy))
    is_class = isinstance(strategy, type) and issubclass(strategy, Strategy)
    if strategy is None or is_class or isinstance(strategy, Strategy | Run):
        return strategy  # type: ignore[no-any-return]
    raise InputError(
        f"The strategy is a {type(strategy).__name__}; a strategy, its class or name, a run or its "
        "directory is needed."
    )


def _strategy_by_name(name: str) -> Run | type[Strategy]:
    if Path(name).exists():
        return load(name)
    module, _, short = name.rpartition(".")
    found = getattr(quickstudy.strategies, name, None)
    known = [each for each in quickstudy.strategies.__all__ if each != "Strategy"]
    if module and "/" not in name:
        try:
            imported = importlib.import_module(module)
        except ImportError as error:
            raise UsageError(f"The strategy {name!r} cannot be imported: {error}.") from error
        found = getattr(imported, short, None)
        known = [
            f"{module}.{own}" for own, each in vars(imported).items() if _is_whole_strategy(each)
        ]
    if _is_whole_strategy(found):
        return found
    by_lower_case = {each.lower(): each for each in known}
    near = by_lower_case.get(name.lower())
    meant = f" Did you mean {near!r}?" if near else did_you_mean(name, known)
    raise UsageError(
        f"There is no strategy and no run {name!r}.{meant} `quickstudy strategies` lists them; one "
        "of your own is named by its import path, such as my_module.MyClass."
    )


def _is_whole_strategy(found: Any) -> TypeGuard[type[Strategy]]:
    is_class = isinstance(found, type) and issubclass(found, Strategy)
    return is_class and not inspect.isabstract(found)


def _inputs_of(module: nn.Module) -> Inputs | None:
    inputs = getattr(module, "inputs", None) or getattr(
        getattr(module, "encoder", None), "inputs", None
    )
    return inputs if isinstance(inputs, Inputs) else None


def _are_vectors(raw: Any) -> bool:
    """Whether ``raw`` are vectors of numbers; images have more axes."""
    return is_array(raw) and getattr(raw, "ndim", 2) < 3


def _place(module: nn.Module | None, device: torch.device | str | None) -> torch.device:
    """Where to compute; ``module`` is moved there."""
    if device is None:
        return torch.device("cpu") if module is None else device_of(module)
    place = usable_device(device)
    if module is not None:
        module.to(place)
    return place
