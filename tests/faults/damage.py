"""Ways in which a file may be damaged, by a seeded generator."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

TRUNCATED, FLIPPED, ZEROED = 6, 12, 3
"""How many of these a file gets; of the others one each."""

BLOCK = 512


def damages(
    content: bytes, others: Sequence[bytes], another_version: bytes, seed: int
) -> Iterator[tuple[str, bytes]]:
    """What a file may be found as.

    Args:
        content: as it was written.
        others: what files of other kinds hold.
        another_version: how another version of this program may have written it.
        seed: of the places.
    """
    draw = random.Random(seed)
    for _ in range(TRUNCATED):
        length = draw.randrange(1, len(content))
        yield f"truncated to {length} bytes", content[:length]
    for _ in range(FLIPPED):
        place, bit = draw.randrange(len(content)), draw.randrange(8)
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        yield f"bit {bit} of byte {place} flipped", bytes(flipped)
    for _ in range(ZEROED):
        start = draw.randrange(max(1, len(content) - BLOCK))
        zeros = b"\0" * min(BLOCK, len(content) - start)
        yield f"zeros from byte {start}", content[:start] + zeros + content[start + len(zeros) :]
    yield "empty", b""
    yield "with more behind it", content + draw.randbytes(100)
    yield "of another version", another_version
    for number, other in enumerate(others):
        yield f"swapped with another kind ({number})", other
