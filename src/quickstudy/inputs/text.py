"""Texts of any language and length to rows of subword numbers."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from quickstudy.deprecated import RenamedAttribute
from quickstudy.errors import InputError
from quickstudy.inputs.unreadable import EmptyError, UnreadableError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PADDING = 0
"""The number that fills the rest of a row after its text. Subwords count from 1."""

BYTES = 256
"""Every string is a row of these, so no text lacks a subword."""

LONGEST = 2**20
"""Subwords that are read of a text at most."""

LONGEST_SUBWORD = 16
"""In bytes, of subwords that are learned."""

CHARACTERS_A_SUBWORD = 256
"""No more of a text is looked at for each subword wanted, so that a whole book is no work."""


@dataclass(frozen=True)
class TextInputs:
    """Texts as int32 ``[length]`` of subword numbers, read by networks as int64.

    A text that has more subwords is cut at its end; behind one that has fewer stands 0. The number
    of a subword is one more than its number in the tokenizer, so 0 is never part of a text.

    Args:
        tokenizer: the JSON in which the library `tokenizers` writes one (``Tokenizer.to_str``);
            :meth:`learned` makes it from texts. Padding and truncation in it are ignored.
        length: number of subwords that are read from a text.

    Raises:
        ValueError: when ``tokenizer`` is no tokenizer, or ``length`` is not from 1 to 2**20.

    Example:
        >>> from quickstudy.inputs import TextInputs
        >>> inputs = TextInputs.learned(["where is my card", "where is it"], length=4)
        >>> inputs.decode("where is my").shape
        torch.Size([4])
        >>> bool((inputs.decode("WHERE  is") == inputs.decode("where is")).all())
        True
    """

    modality: ClassVar[str] = "text"
    kind = RenamedAttribute("modality")

    tokenizer: str = field(repr=False)
    length: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.length <= LONGEST:
            raise InputError(
                f"Texts of {self.length} subwords were asked for; 1 to {LONGEST} may be read."
            )
        _ = self._parsed  # what is no tokenizer is better found now than at the first text

    @classmethod
    def learned(
        cls,
        texts: Iterable[str | bytes],
        vocabulary: int = 8192,
        length: int = 64,
        lowercase: bool = True,
    ) -> Self:
        """Subwords learned from texts by byte-pair encoding, the same for the same texts.

        Characters are brought to Unicode's form NFKC and white space to single spaces. Pieces of
        bytes that stand together at least twice become subwords, the most frequent first; single
        bytes always are subwords, so that any string can be read. Sennrich, Haddow, Birch, "Neural
        Machine Translation of Rare Words with Subword Units", ACL 2016; over bytes as Radford et
        al., "Language Models are Unsupervised Multitask Learners", 2019.

        Args:
            texts: strings or UTF-8; read once and not kept. Blank ones are passed over.
            vocabulary: how many numbers there are at most, padding among them; at least 257.
            length: number of subwords that are read from a text.
            lowercase: read all letters as small ones.

        Raises:
            UnreadableError: when one of the texts is not a string.
            ValueError: when there is no text, or ``vocabulary`` has no room for the bytes.
        """
        from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

        if vocabulary <= BYTES:
            raise InputError(
                f"A vocabulary of {vocabulary} was asked for; it needs at least {BYTES + 1}: "
                "each byte and the padding."
            )
        steps: list[Any] = [normalizers.NFKC()]
        steps += [normalizers.Lowercase()] if lowercase else []
        steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary - 1,
            min_frequency=2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            max_token_length=LONGEST_SUBWORD,
            show_progress=False,
        )
        tokenizer.train_from_iterator(_some(texts), trainer)
        return cls(tokenizer.to_str(), length)

    @cached_property
    def vocabulary(self) -> int:
        """How many numbers there are, padding among them: all are below it."""
        return max(self._parsed.get_vocab().values(), default=-1) + 2

    def decode(self, raw: Any) -> Tensor:
        """One text as int32 ``[length]``.

        Args:
            raw: a string, or bytes in UTF-8.

        Raises:
            UnreadableError: when it is neither, or is empty or blank.
        """
        text = readable(raw).strip()[: CHARACTERS_A_SUBWORD * self.length]
        numbers = self._parsed.encode(text, add_special_tokens=False).ids[: self.length]
        if not numbers:
            raise EmptyError(f"The tokenizer finds no subword in the text {_excerpt(raw)}.")
        return padded(numbers, self.length)

    def prepare(self, stored: Tensor) -> Tensor:
        """Int64 ``[B, length]`` from int32 of the same shape."""
        return stored.long()

    def unread(self, stored: Tensor) -> Tensor:
        """A mask ``[N]`` of the texts ``[N, length]`` without a word that the tokenizer knows."""
        return self._unknown.rows(stored)

    def to_dict(self) -> dict[str, Any]:
        """Everything needed to make this object again, as JSON-ready values."""
        return {"kind": self.modality} | asdict(self)

    @cached_property
    def _parsed(self) -> Tokenizer:
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(self.tokenizer)
        except Exception as error:  # the library raises nothing narrower
            raise InputError(
                f"A string of {len(self.tokenizer)} characters was given as tokenizer, but it is "
                f"not the JSON that Tokenizer.to_str of the library `tokenizers` writes: {error}."
            ) from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def _unknown(self) -> UnknownTexts:
        return UnknownTexts(self._parsed)

    def __getstate__(self) -> dict[str, Any]:
        return asdict(self)  # without what is cached


class UnknownTexts:
    """Finds texts without a word that a tokenizer knows: all unknown words get the same token.

    Args:
        tokenizer: a tokenizer of the library `tokenizers`.
        prompt: the text put before each text.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: str = "") -> None:
        self.tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.special = {number for number, each in added.items() if each.special}
        self.unknown = self._unknown_number()
        self.prompt = tokenizer.encode(prompt, add_special_tokens=False).ids if prompt else []

    def rows(self, stored: Tensor) -> Tensor:
        """A mask ``[N]`` of the texts ``[N, length]`` of which nothing is known."""
        found = torch.zeros(len(stored), dtype=torch.bool)
        numbers = stored.long() - 1
        special = torch.tensor([-1, *self.special])
        unknown = torch.zeros_like(numbers, dtype=torch.bool)
        if self.unknown is not None:
            unknown = numbers == self.unknown
        known = (~unknown & ~torch.isin(numbers, special)).sum(1)
        for row in (unknown.any(1) | (known <= len(self.prompt))).nonzero()[:, 0].tolist():
            found[row] = self._nothing_known([each for each in numbers[row].tolist() if each >= 0])
        return found

    def _nothing_known(self, numbers: list[int]) -> bool:
        known = [each for each in numbers if each != self.unknown and each not in self.special]
        for each in self.prompt:
            if each in known:
                known.remove(each)
        # Marks alone are a text, but not what is left of one.
        return not known or (self.unknown in numbers and not any(map(self._is_word, known)))

    def _is_word(self, number: int) -> bool:
        return any(map(str.isalnum, self.tokenizer.id_to_token(number) or ""))

    def _unknown_number(self) -> int | None:
        model = self.tokenizer.model
        token = getattr(model, "unk_token", None)
        if token is None and type(model).__name__ == "Unigram":
            number = json.loads(self.tokenizer.to_str())["model"].get("unk_id")
            return None if number is None else int(number)
        return None if token is None else self.tokenizer.token_to_id(token)


def readable(raw: Any) -> str:
    """The text of a string or of bytes in UTF-8.

    Raises:
        UnreadableError: when it is neither, or is empty or blank.
    """
    text = _string(raw)
    if not _says_something(text):
        raise EmptyError(
            f"The text {_excerpt(raw)} is empty or blank; one with at least a word is needed."
        )
    return text


def padded(numbers: Sequence[int], length: int) -> Tensor:
    """A row int32 ``[length]`` of a tokenizer's numbers, each one more, and padding behind them."""
    row = torch.full((length,), PADDING, dtype=torch.int32)
    row[: len(numbers)] = torch.tensor(numbers, dtype=torch.int32) + 1
    return row


def _string(raw: Any) -> str:
    if isinstance(raw, bytes):
        try:
            return raw.decode("utf-8-sig")  # editors may write a mark at the start of a file
        except UnicodeDecodeError as error:
            raise UnreadableError(
                f"The bytes {_excerpt(raw)} are not text in UTF-8: {error}. Convert them first."
            ) from error
    if not isinstance(raw, str):
        raise UnreadableError(
            f"A text given as {type(raw).__name__} cannot be read; a string or UTF-8 bytes are "
            "needed."
        )
    try:
        raw.encode()
    except UnicodeEncodeError as error:
        raise UnreadableError(
            f"The text {_excerpt(raw)} holds half of a character: {error}."
        ) from error
    return raw


def _says_something(text: str) -> bool:
    """Whether any character can be seen; white space and marks of no width cannot."""
    return any(each.isprintable() and not each.isspace() for each in text)


def _excerpt(raw: str | bytes) -> str:
    return repr(raw) if len(raw) <= 40 else f"{raw[:40]!r}..."


def _some(texts: Iterable[str | bytes]) -> Iterator[str]:
    """The texts that are not blank, of which there must be one."""
    found = False
    for text in map(_string, texts):
        if _says_something(text):
            found = True
            yield text
    if not found:
        raise InputError("There are no texts to learn subwords from, or all of them are blank.")


_LONGEST_TEXT_BYTES = 2**24


def read_text_file(path: Path) -> str:
    """The text in a file.

    Raises:
        UnreadableError: it cannot be read, is neither UTF-8 nor UTF-16 with a byte-order mark, or
            is longer than 16 MiB.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_TEXT_BYTES + 1)
        if len(content) <= _LONGEST_TEXT_BYTES:
            marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            # Some editors write a byte-order mark at the start of a file.
            return content.decode("utf-16" if marked else "utf-8-sig")
        problem = f"it is longer than {_LONGEST_TEXT_BYTES} bytes"
    except OSError as error:
        problem = str(error.strerror or error)
    except UnicodeDecodeError as error:
        problem = f"it is not in UTF-8 ({error}); save it in UTF-8"
    raise UnreadableError(f"The text file {str(path)!r} cannot be read: {problem}.")
