"""Examples grouped by class."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from quickstudy.counts import whole_number
from quickstudy.datasets.decoded.features import embed_examples, every_example
from quickstudy.datasets.in_memory import as_stored, read_examples
from quickstudy.datasets.labels import read_labels
from quickstudy.datasets.splitting import by_fractions, members, published
from quickstudy.deprecated import RenamedAttribute, renamed_arguments
from quickstudy.errors import InputError
from quickstudy.inputs import FeatureInputs, Inputs
from quickstudy.inputs.inputs import check_inputs

QUARTER_TURN_DEGREES = 90


@dataclass(frozen=True, eq=False)
class ClassDataset:
    """Examples grouped by class: one tensor, and for each class where its examples lie in it.

    Selecting, splitting and rotating make views: the examples themselves are never copied. As a
    data set of torch it has ``len(dataset)`` examples, and ``dataset[i]`` is an example with its
    class number.

    Args:
        examples: ``[N, *shape]`` all examples, class after class (uint8 images, integer tokens,
            waveforms or features); can be memory-mapped.
        starts: ``[C]`` int64, the row of each class's first example.
        sizes: ``[C]`` int64, the number of examples of each class.
        class_names: C different names.
        inputs: how raw inputs became these tensors, and how the tensors become a network's input.
        name: what messages and reports call the data.
        published_splits: class splits by name, each ``{split: class names}``.
        rotations: ``[C]`` int64, the quarter turns (anti-clockwise) by which a class's images are
            rotated (or were, before they became features); zeros by default.

    Example:
        >>> import torch
        >>> from quickstudy import ClassDataset
        >>> from quickstudy.inputs import FeatureInputs
        >>> data = ClassDataset.from_arrays(
        ...     torch.arange(12.0).view(4, 3), ["b", "a", "b", "b"], FeatureInputs(3), name="tiny"
        ... )
        >>> data
        ClassDataset(tiny: 2 classes, 1 to 3 examples each, 3)
        >>> len(data), data.class_names
        (4, ('a', 'b'))
        >>> data[0]
        (tensor([3., 4., 5.]), 0)
        >>> inputs, labels = data[-2:]
        >>> labels
        tensor([1, 1])
        >>> data.select(["b"]).sizes
        tensor([3])
    """

    examples: Tensor
    starts: Tensor
    sizes: Tensor
    class_names: tuple[str, ...]
    inputs: Inputs
    name: str = "data"
    published_splits: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    rotations: Tensor | None = None

    @classmethod
    def from_arrays(
        cls, examples: Any, labels: Any, inputs: Inputs, name: str = "data"
    ) -> ClassDataset:
        """A data set from N examples and their N labels, in any order.

        Args:
            examples: an array or tensor ``[N, *shape]`` of examples as ``inputs`` store them or as
                ``inputs.decode`` takes them; or single examples (PIL images, arrays, paths, bytes,
                texts, sounds with their rates) in a list, a column of a table, or a data set of
                torch or of the Hugging Face library ``datasets``.
            labels: strings, whole numbers or booleans, in a list, an array, a tensor or a column;
                None if the examples are a data set of pairs of an example and its label, or have a
                column of labels.
            inputs: converts examples to tensors, and tensors to a network's input.
            name: what messages and reports call the data.

        Raises:
            ValueError: when examples or labels cannot be read; the message states what to give.
            UnreadableError: when an example cannot be decoded (a ValueError too).
        """
        stored, labels = read_examples(examples, labels, inputs)
        names, codes = read_labels(labels)
        if len(stored) != len(codes):
            raise InputError(
                f"There are {len(stored)} examples and {len(codes)} labels; each example needs "
                "one label."
            )
        order = torch.from_numpy(np.argsort(codes, kind="stable")).to(stored.device)
        sizes = torch.from_numpy(np.bincount(codes, minlength=len(names)))
        return cls.contiguous(stored[order], sizes, names, inputs, name)

    @classmethod
    def contiguous(
        cls,
        examples: Tensor,
        sizes: Sequence[int] | Tensor,
        class_names: Sequence[str],
        inputs: Inputs,
        name: str = "data",
        published_splits: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    ) -> ClassDataset:
        """A data set from examples that already lie class after class.

        Args:
            examples: ``[N, *shape]``, as ``inputs`` store them. Images can be floats from 0 to 1 or
                have their channels last; they are converted to the stored form.
            sizes: the number of examples of each class.
            class_names: C different names.
            inputs: how raw inputs became these tensors.
            name: what messages and reports call the data.
            published_splits: class splits by name, each ``{split: class names}``.

        Raises:
            ValueError: if they do not fit together; the message states what to give.
        """
        check_inputs(inputs)
        examples = as_stored(examples, inputs)
        sizes = torch.as_tensor(sizes, dtype=torch.int64)
        if isinstance(class_names, str) or not all(isinstance(n, str) for n in class_names):
            raise InputError(
                f"The class names of {name} are {str(class_names)[:60]}; a list with one string "
                "for each class is needed."
            )
        if len(sizes) != len(class_names) or len(set(class_names)) != len(class_names):
            raise InputError(
                f"{name} has {len(sizes)} class sizes and {len(set(class_names))} different names "
                f"in {len(class_names)}; each class needs one size and a name of its own."
            )
        if int(sizes.sum()) != len(examples):
            raise InputError(
                f"The class sizes of {name} sum to {int(sizes.sum())}, but there are "
                f"{len(examples)} examples."
            )
        empty = [class_names[i] for i in (sizes == 0).nonzero().flatten().tolist()]
        if empty:
            raise InputError(
                f"Class {empty[0]!r} of {name} is empty ({len(empty)} empty of {len(sizes)}). "
                "Give it examples or remove it."
            )
        starts = torch.cumsum(sizes, 0) - sizes
        splits = published_splits or {}
        return cls(examples, starts, sizes, tuple(class_names), inputs, name, splits)

    @classmethod
    @renamed_arguments(parts="splits")
    def union(cls, splits: Sequence[ClassDataset], name: str) -> ClassDataset:
        """The classes of several splits of one data set, as one view.

        Raises:
            ValueError: when the splits do not share their examples.
        """
        first = splits[0]
        names = [name for split in splits for name in split.class_names]
        if len(set(names)) < len(names):
            raise InputError(f"The splits {name!r} share classes; name each split once.")
        if any(split.examples is not first.examples for split in splits):
            raise InputError("Only splits of one data set can be put together.")
        rotations = None
        if first.rotations is not None:
            rotations = torch.cat(
                [split.rotations for split in splits if split.rotations is not None]
            )
        return dataclasses.replace(
            first,
            starts=torch.cat([split.starts for split in splits]),
            sizes=torch.cat([split.sizes for split in splits]),
            class_names=tuple(names),
            rotations=rotations,
            name=f"{first.name.rpartition('/')[0] or first.name}/{name}",
        )

    def __len__(self) -> int:
        """The number of examples."""
        return int(self.sizes.sum())

    @overload
    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> tuple[Tensor, Tensor]: ...
    def __getitem__(
        self, index: int | slice | Sequence[int] | Tensor
    ) -> tuple[Tensor, int] | tuple[Tensor, Tensor]:
        """Examples with their class numbers; examples are counted class after class.

        Args:
            index: a number (negative ones count from the end), a slice, or a list or tensor of
                numbers.

        Returns:
            For a number, the example ``[*shape]`` as a network takes it, and its class number; for
            several, ``[N, *shape]`` and int64 ``[N]``.

        Raises:
            IndexError: if there is no such example.
        """
        if isinstance(index, slice):
            numbers = torch.arange(len(self))[index.start : index.stop : index.step]
        elif isinstance(index, Sequence) or (isinstance(index, Tensor) and index.ndim):
            numbers = torch.as_tensor(index, dtype=torch.int64, device="cpu")
        else:
            inputs, labels = self[[operator.index(index)]]
            return inputs[0], int(labels[0])
        outside = numbers[(numbers < -len(self)) | (numbers >= len(self))]
        if len(outside):
            raise IndexError(
                f"{self.name} has {len(self)} examples, so there is no example {int(outside[0])}."
            )
        numbers = numbers % len(self)
        ends = torch.cumsum(self.sizes, 0)
        classes = torch.searchsorted(ends, numbers, right=True)
        return self.gather(classes, numbers - (ends - self.sizes)[classes]), classes

    turns = RenamedAttribute("rotations")

    def __repr__(self) -> str:
        smallest, largest = int(self.sizes.min()), int(self.sizes.max())
        each = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
        shape = "x".join(map(str, self.shape))
        return f"ClassDataset({self.name}: {self.classes} classes, {each} examples each, {shape})"

    @property
    def classes(self) -> int:
        """The number of classes C."""
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.examples.shape[1:])

    @property
    def groups(self) -> tuple[str, ...]:
        """For each class its name before rotation: the rotations of one class are one group."""
        if self.rotations is None:
            return self.class_names
        return tuple(
            name.rpartition("@")[0] if quarter else name
            for name, quarter in zip(self.class_names, self.rotations.tolist(), strict=True)
        )

    def gather(self, classes: Tensor, positions: Tensor) -> Tensor:
        """Reads examples as a network takes them.

        Args:
            classes: ``[*batch]`` int64, class numbers.
            positions: ``[*batch]`` int64, positions inside the class.

        Returns:
            ``[*batch, *shape]``, as ``inputs.prepare`` makes it (float32 for images).
        """
        rows = (self.starts[classes] + positions).flatten()
        raw = self.examples.index_select(0, rows.to(self.examples.device))
        if (
            self.rotations is not None and raw.ndim > 2
        ):  # the features already come from rotated images
            rotations = self.rotations[classes].flatten().to(raw.device)
            for quarter in (1, 2, 3):
                rotated = rotations == quarter
                raw[rotated] = torch.rot90(raw[rotated], quarter, dims=(-2, -1))
        prepared = self.inputs.prepare(raw)
        return prepared.view(*classes.shape, *prepared.shape[1:])

    def select(
        self, classes: Iterable[int] | Iterable[str], name: str | None = None
    ) -> ClassDataset:
        """The data of some classes only, by number or by name, in the order given."""
        wanted: list[Any] = [classes] if isinstance(classes, str) else list(classes)
        if any(isinstance(entry, str) for entry in wanted):
            number = {each: i for i, each in enumerate(self.class_names)}
            missing = [entry for entry in wanted if entry not in number]
            if missing:
                raise InputError(
                    f"{self.name} has no class {missing[0]!r} ({len(missing)} of {len(wanted)} "
                    f"names are unknown). Its classes are named like {self.class_names[0]!r}."
                )
            wanted = [number[str(entry)] for entry in wanted]
        if not wanted:
            raise InputError(f"No classes of {self.name} were selected; name at least one.")
        if len(set(wanted)) < len(wanted) or not all(0 <= int(n) < self.classes for n in wanted):
            raise InputError(
                f"The selection of {len(wanted)} classes repeats one or names one outside "
                f"0..{self.classes - 1}; name each of {self.name}'s classes once at most."
            )
        index = torch.tensor([int(n) for n in wanted], dtype=torch.int64)
        return dataclasses.replace(
            self,
            starts=self.starts[index],
            sizes=self.sizes[index],
            class_names=tuple(self.class_names[i] for i in index.tolist()),
            rotations=None if self.rotations is None else self.rotations[index],
            name=name or self.name,
        )

    def with_at_least(self, examples: int) -> ClassDataset:
        """The data of the classes that have ``examples`` examples or more."""
        examples = whole_number(examples, "examples")
        return self.select((self.sizes >= examples).nonzero().flatten().tolist())

    def expand(self, rotations: int = 4) -> ClassDataset:
        """Makes each class ``rotations`` classes: its images turned by 0, 90, 180, 270 degrees.

        Santoro et al. 2016 do this to Omniglot. The classes are named like ``"alpha@90"``;
        splits keep all rotations of a class together.
        """
        if not 1 <= rotations <= 4:
            raise InputError(f"rotations is {rotations}; it must be 1, 2, 3 or 4 quarter turns.")
        if len(self.shape) != 3 or self.shape[-1] != self.shape[-2]:
            raise InputError(
                f"Only square images can be rotated; {self.name} has examples of {self.shape}."
            )
        if self.rotations is not None:
            raise InputError(f"{self.name} already has rotations as classes.")
        names = [
            name if quarter == 0 else f"{name}@{quarter * QUARTER_TURN_DEGREES}"
            for name in self.class_names
            for quarter in range(rotations)
        ]
        return dataclasses.replace(
            self,
            starts=self.starts.repeat_interleave(rotations),
            sizes=self.sizes.repeat_interleave(rotations),
            class_names=tuple(names),
            rotations=torch.arange(rotations).repeat(self.classes),
        )

    def embed(self, encoder: nn.Module, device: torch.device | str | None = None) -> ClassDataset:
        """The features of all examples: a data set of the same classes, splits and groups.

        Each image is encoded once, in evaluation mode; rotated images are encoded as rotated. The
        features need 4 D bytes per example.

        Args:
            encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; left as it was.
            device: device of the encoder and of the features; by default where the encoder's
                parameters are.
        """
        if device is None:
            device = next((p.device for p in encoder.parameters()), self.examples.device)
        classes, positions = every_example(self.sizes)
        starts = torch.cumsum(self.sizes, 0) - self.sizes
        embedding = embed_examples(encoder, self, classes, positions, device)
        features = embedding.features.float()
        return dataclasses.replace(
            self, examples=features, starts=starts, inputs=FeatureInputs(features.shape[1])
        )

    @renamed_arguments(division="class_splits")
    def split(
        self, class_splits: str | Sequence[float] | None = None, seed: int = 0
    ) -> dict[str, ClassDataset]:
        """Divides the classes, never the examples of a class.

        Args:
            class_splits: the name of published class splits (``"vinyals"``), or fractions of the
                classes for train, validation and test (``(0.6, 0.2, 0.2)``; two fractions make
                train and test). By default the only or first published class splits, else
                0.6, 0.2, 0.2.
            seed: random seed of a division by fractions.

        Returns:
            The splits by name, e.g. ``{"train": ..., "validation": ..., "test": ...}``. Rotations
            of one class are never divided.
        """
        if class_splits is None:
            class_splits = next(iter(self.published_splits), (0.6, 0.2, 0.2))
        if isinstance(class_splits, str):
            splits = published(class_splits, self.published_splits, self.name)
        else:
            splits = by_fractions(sorted({*self.groups}), class_splits, seed, self.name)
        return {
            split: self.select(numbers, name=f"{self.name}/{split}")
            for split, numbers in members(self.groups, splits, class_splits, self.name).items()
        }
