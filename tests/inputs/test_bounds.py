"""Headers that promise more than any memory holds, and files that unpack to it."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import soundfile
from PIL import Image

from quickstudy.inputs import AudioInputs, ImageInputs, TextInputs, UnreadableError
from quickstudy.inputs.images import MOST_PIXELS

HUGE = 100_000


def png(width, height, rows=b""):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [
        b"\x89PNG\r\n\x1a\n",
        chunk(b"IHDR", header),
        chunk(b"IDAT", rows),
        chunk(b"IEND", b""),
    ]
    return b"".join(parts)


def with_size(kind):
    """A small image's file whose header promises 100,000 x 100,000 pixels, or all that it can."""
    file = io.BytesIO()
    Image.new("RGB", (31, 17)).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    content = bytearray(file.getvalue())
    if kind == "JPEG":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">HH", 65535, 65535)
    elif kind == "GIF":
        content[6:10] = struct.pack("<HH", 65535, 65535)
    elif kind == "WEBP":
        at = content.index(b"VP8L") + 9
        size = 16383 | 16383 << 14
        content[at : at + 4] = struct.pack("<I", size)
    elif kind == "TIFF":
        at = struct.unpack("<I", content[4:8])[0] + 2
        for tag in range(2):  # width and height come first
            entry = at + 12 * tag
            content[entry : entry + 12] = struct.pack("<HHII", 256 + tag, 4, 1, HUGE)
    elif kind == "BMP":
        content[18:26] = struct.pack("<ii", HUGE, HUGE)
    return bytes(content)


def peak_of(action):
    tracemalloc.start()
    try:
        return action(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused(inputs, content):
    with pytest.raises(UnreadableError) as error:
        inputs.decode(content)
    return str(error.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["JPEG", "GIF", "WEBP", "TIFF", "BMP", "PNG"])
def test_headers_of_huge_images_are_refused_before_decoding(kind):
    content = png(HUGE, HUGE) if kind == "PNG" else with_size(kind)
    Image.init()  # importing all decoders takes 8 MB once
    words, peak = peak_of(lambda: refused(ImageInputs(size=8), content))
    assert "pixels" in words
    assert peak < 4 * 2**20  # such an image takes 10 GB


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_small_file_that_unpacks_to_a_huge_image_is_refused():
    side = 11_000  # Pillow alone warns of so many pixels, and decodes them
    assert side**2 > MOST_PIXELS
    packed = zlib.compress(bytes((side + 1) * side))
    assert len(packed) < 200_000
    words, peak = peak_of(lambda: refused(ImageInputs(size=8), png(side, side, packed)))
    assert f"{side}x{side} pixels" in words
    assert peak < 2**20


def test_a_large_photograph_is_read_at_a_fraction_of_its_size():
    file = io.BytesIO()
    Image.new("L", (9000, 9000), 200).save(file, "JPEG")
    assert int(ImageInputs(size=8).decode(file.getvalue()).min()) >= 198  # JPEG rounds


def test_formats_that_start_other_programs_are_not_read():
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    assert "none of the formats that are read (AVIF, BMP" in refused(
        ImageInputs(size=8), postscript
    )


def wav(channels=1, rate=8000, frames=100, size=None):
    data = bytes(2 * frames)
    size = len(data) if size is None else size
    form = struct.pack(
        "<HHIIHH", 1, channels, rate, rate * 2 & 0xFFFFFFFF, 2 * channels & 0xFFFF, 16
    )
    chunks = (
        b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size) + data
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@pytest.mark.parametrize(
    "content",
    [
        wav(channels=65535),
        wav(channels=0),
        wav(rate=0),
        wav(rate=2**32 - 1),
        wav(frames=0),
    ],
)
def test_headers_of_impossible_sounds_are_refused(content):
    _, peak = peak_of(lambda: refused(AudioInputs(rate=8000, seconds=1), content))
    assert peak < 2**20


def test_a_sound_whose_header_promises_gigabytes_takes_what_the_file_has():
    decoded, peak = peak_of(lambda: AudioInputs(rate=8000, seconds=1).decode(wav(size=2**31)))
    assert decoded.shape == (8000,)
    assert peak < 8 * 2**20


def test_hours_of_silence_in_a_small_file_take_the_memory_of_a_window():
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 8000, 2, format="FLAC") as sound:
        for _ in range(60):
            sound.write(np.zeros((8000 * 60, 2), np.int16))
    content = file.getvalue()
    assert len(content) < 2**20  # 230 MB when unpacked as float32
    decoded, peak = peak_of(lambda: AudioInputs(rate=8000, seconds=1).decode(content))
    assert decoded.shape == (8000,)
    assert peak < 8 * 2**20


@pytest.mark.parametrize(
    "make",
    [
        lambda: ImageInputs(size=2**31),
        lambda: AudioInputs(rate=1_000_000, seconds=3600),
        lambda: TextInputs(TextInputs.learned(["a b"], vocabulary=300).tokenizer, length=2**31),
    ],
)
def test_inputs_as_a_hostile_file_describes_them_are_refused(make):
    with pytest.raises(ValueError, match="were asked for"):
        make()
