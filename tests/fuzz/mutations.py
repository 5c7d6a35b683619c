"""Ways to damage valid files, a random number generator choosing among them."""

from __future__ import annotations

import json
import struct
import zlib
from random import Random
from typing import Any

NUMBERS = (0, 1, 2, 3, 127, 128, 255, 256, 32767, 32768, 65535, 2**20, 2**31 - 1, 2**31, 2**32 - 1)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, 1e308, float("nan"), float("inf"), 2**31, 2**63, -(2**63)),
    *(
        "",
        " ",
        "a",
        "\x00",
        "\ud7ff",
        "é" * 300,
        "../../etc/passwd",
        "os.system",
        "a.b.C",
        "'",
        '"',
    ),
    *([], {}, [[]], [None], {"": None}, {"class_path": "os.system"}, [1, "a"], "9" * 400),
)


def damaged(random: Random, content: bytes) -> bytes:
    """Bytes changed in one to four places, without knowing what they mean."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        size = len(changed)
        at = random.randrange(min(size, 64) if random.random() < 0.5 else size) if size else 0
        length = random.choice((1, 2, 4, 16, 200))
        kind = random.randrange(8)
        if kind == 0 and size:
            changed[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length]
        elif kind == 4:
            changed[at:at] = random.randbytes(length)
        elif kind == 5:
            changed[at : at + length] = bytes([random.choice((0, 255))]) * length
        else:
            form = random.choice(("<H", ">H", "<I", ">I"))
            number = random.choice(NUMBERS) % 256 ** struct.calcsize(form)
            changed[at : at + struct.calcsize(form)] = struct.pack(form, number)
    return bytes(changed)


def damaged_png(random: Random, content: bytes) -> bytes:
    """A PNG file whose chunks are changed, lost or doubled, with checksums that fit again."""
    if not content.startswith(b"\x89PNG"):
        return damaged(random, content)
    chunks, at = [], 8
    while at + 8 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    number = random.randrange(len(chunks))
    kind, data = chunks[number]
    choice = random.randrange(4)
    if choice == 0:
        del chunks[number]
    elif choice == 1:
        chunks.insert(number, chunks[number])
    elif kind == b"IHDR":
        width, height = random.choice(NUMBERS), random.choice(NUMBERS)
        chunks[number] = (kind, struct.pack(">II", width, height) + data[8:])
    else:
        chunks[number] = (kind, damaged(random, data))
    parts = [content[:8]]
    for kind, data in chunks:
        parts += [struct.pack(">I", len(data)), kind, data]
        parts.append(struct.pack(">I", zlib.crc32(kind + data)))
    return b"".join(parts)


def changed_value(random: Random, value: Any) -> Any:
    """JSON-ready data with one thing in them replaced, lost, doubled, or put one level deeper."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        choice = random.randrange(10)
        if choice == 0:
            return {k: v for k, v in value.items() if k != key}
        if choice == 1:
            return value | {random.choice(("", "class_path", "init_args", "x")): value[key]}
        return value | {key: changed_value(random, value[key])}
    if isinstance(value, list) and value and random.random() < 0.85:
        at = random.randrange(len(value))
        choice = random.randrange(10)
        if choice == 0:
            return value[:at] + value[at + 1 :]
        if choice == 1:
            return value[: at + 1] + value[at:]
        return [*value[:at], changed_value(random, value[at]), *value[at + 1 :]]
    choice = random.randrange(8)
    if choice == 0:
        return [value]
    if choice == 1:
        return {"x": value}
    if choice == 2 and isinstance(value, int | float):
        return random.choice((-value, value * 2, value * 1000, value + 1, str(value)))
    if choice == 3:
        deep: Any = value
        for _ in range(random.choice((10, 3000))):
            deep = [deep]
        return deep
    return random.choice(VALUES)


TAGS = (
    *("!!bool x", "!!int ''", "!!float ''", "!!int 0x", "!!timestamp x", "!!binary é", "!!set x"),
    *("!!omap [1]", "!!pairs x", "!!null x", "!!python/name:os.system", "2001-99-99", "1:99:99"),
    *("*a", "&a [*a]", "!!merge x", "<<: 1", "{<<: [1]}", "!x y", "|\n  x", "- - -", "? x"),
)
"""YAML that looks like values, some of which none is."""


def tagged(random: Random, content: bytes) -> bytes:
    """A YAML file of which one value is such a thing."""
    lines = content.decode().splitlines()
    at = random.choice([number for number, line in enumerate(lines) if ":" in line])
    key = lines[at].partition(":")[0]
    lines[at] = f"{key}: {random.choice(TAGS)}"
    return ("\n".join(lines) + "\n").encode()


def naming_a_class(
    random: Random, value: dict[str, Any], class_path: str, options: tuple[str, ...]
) -> dict[str, Any]:
    """A configuration that gives one of these options a class, written in one of many ways."""
    named: Any = {"class_path": class_path, "init_args": {}}
    for _ in range(random.randrange(3)):
        named = random.choice(
            (
                json.dumps(named),
                json.dumps(named).replace("_", "\\u005f"),
                f"{{class_path: {class_path}}}",
                class_path,
                repr(class_path),
                [named],
            )
        )
    option = random.choice(options)
    if random.random() < 0.3 and isinstance(value.get(option), dict):
        arguments = {"x": named, "encoder": named, "learner": named}
        return value | {option: value[option] | {"init_args": arguments}}
    return value | {option: named}


def as_json(value: Any) -> bytes:
    """JSON of nested lists however deep, which the library refuses to write."""
    depth, inner = 0, value
    while isinstance(inner, list) and len(inner) == 1:
        depth, inner = depth + 1, inner[0]
    if depth > 500:
        return b"[" * depth + as_json(inner) + b"]" * depth
    try:
        return json.dumps(value).encode()
    except RecursionError:
        return b"[" * 3000 + b"]" * 3000


def damaged_json(random: Random, content: bytes) -> bytes:
    """JSON with changed values, or changed bytes."""
    if random.random() < 0.3:
        return damaged(random, content)
    return as_json(changed_value(random, json.loads(content)))


def damaged_lines(random: Random, content: bytes) -> bytes:
    """JSON lines of which one is changed."""
    lines = content.splitlines()
    at = random.randrange(len(lines))
    lines[at] = damaged_json(random, lines[at])
    return b"\n".join(lines) + b"\n"


def damaged_separated(random: Random, content: bytes) -> bytes:
    """CSV or TSV of which cells are changed."""
    if random.random() < 0.3:
        return damaged(random, content)
    separator = b"\t" if b"\t" in content else b","
    rows = [line.split(separator) for line in content.splitlines()]
    cells = (b"", b'"', b'"a', b"'", b"\x00", b"\xff", b"a\rb", b"9" * 400, b",,,", b"\t", b"label")
    for _ in range(random.choice((1, 2, 5))):
        row = random.choice(rows)
        if not row or random.random() < 0.2:
            row.append(random.choice(cells))
        elif random.random() < 0.1:
            row.pop()
        else:
            row[random.randrange(len(row))] = random.choice(cells)
    return random.choice((b"\n", b"\r\n", b"\r")).join(separator.join(row) for row in rows)
