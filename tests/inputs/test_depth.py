"""Images of more than 8 bits per value: nothing turns black without a word."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from quickstudy.datasets import load_dataset
from quickstudy.inputs import ImageInputs

GREY, COLOUR = ImageInputs(8, 1), ImageInputs(8, 3)


def ramp(highest, channels=1):
    """Values from 0 to ``highest``, ``[8, 8, channels]``."""
    values = np.linspace(0, highest, 64).astype(np.uint16).reshape(8, 8, 1)
    return np.repeat(values, channels, 2)


def png(values):
    """A PNG of 16 bits per value; Pillow writes grey ones only."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(values, **options):
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "TIFF", **options)
    return stream.getvalue()


def decoded(raw, inputs=GREY):
    """What is stored, and what was warned of."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        return inputs.decode(raw).numpy(), [str(each.message) for each in seen]


def test_twelve_bits_in_a_png_of_sixteen_are_not_black(tmp_path):
    values = np.tile(np.linspace(0, 4095, 32).astype(np.uint16), (32, 1))
    Image.fromarray(values).save(tmp_path / "grey.png")
    stored, said = decoded(tmp_path / "grey.png")
    assert stored.max() > 200
    assert len(said) == 1
    assert "grey.png" in said[0]
    assert "only 12 bits, so 4095 is read as white" in said[0]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_an_image_is_scaled_by_the_depth_that_holds_its_values(bits):
    white = 2**bits - 1
    expected = np.rint(ramp(white)[:, :, 0] / white * 255)
    for raw in (
        png(ramp(white)),
        tiff(ramp(white)[:, :, 0]),
        Image.fromarray(ramp(white)[:, :, 0]),
    ):
        stored, said = decoded(raw)
        assert np.abs(stored[0] - expected).max() <= 0.5 + 1e-9
        assert len(said) == (bits < 16)
    # The same depth, the same scale: half as bright an image stays half as bright.
    half, _ = decoded(png(ramp(white * 6 // 10)))
    assert half.max() == pytest.approx(153, abs=1)


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_which_the_lower_byte_alone_is_used_are_read(channels):
    values = ramp(4095, channels)
    values[..., 3:] = 65535
    stored, said = decoded(png(values), COLOUR)
    assert np.abs(stored[0] - ramp(4095)[:, :, 0] / 4095 * 255).max() <= 0.5 + 1e-9
    assert len(said) == 1
    stored, said = decoded(
        png(ramp(65535, channels) | (65535 * (np.arange(channels) == 3))), COLOUR
    )
    assert stored.max() == 255
    assert not said


def test_grey_with_alpha_is_at_least_said():
    values = ramp(4095, 2)
    values[..., 1] = 65535
    _, said = decoded(png(values))
    assert "nearly black" in said[0]


def test_floats_from_0_to_1_and_whole_numbers_of_32_bits():
    floats = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    assert np.array_equal(decoded(tiff(floats))[0][0], np.rint(floats * 255))
    whole = ramp(65535)[:, :, 0].astype(np.int32)
    assert np.array_equal(decoded(tiff(whole))[0], decoded(png(ramp(65535)))[0])


def test_black_is_black_and_white_on_nothing_is_said():
    assert decoded(png(ramp(0))) == (pytest.approx(np.zeros((1, 8, 8))), [])
    drawing = np.full((8, 8, 4), 255, np.uint8)
    drawing[:4, :, 3] = 0
    stored, said = decoded(drawing)
    assert stored.min() == 255
    assert "shows nothing on white" in said[0]


def test_a_data_set_says_it_once_and_again_from_its_cache(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(40):
            Image.fromarray(ramp(4095)[:, :, 0]).save(tmp_path / name / f"{number}.png")
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"^80 inputs of .*a/0\.png.* only 12 bits") as said:
            assert load_dataset(tmp_path, inputs=GREY).examples.max() == 255
        assert len(said) == 1


@pytest.mark.parametrize("as_file", [True, False])
def test_masks_of_zeros_and_ones_are_said_to_be_black(tmp_path, as_file):
    mask = np.eye(16, dtype=np.uint8)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    with pytest.warns(UserWarning, match="largest value is 1 of 255, so that it is black"):
        ImageInputs(16, 1).decode(tmp_path / "mask.png" if as_file else mask)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert int(ImageInputs(16, 1).decode(mask.astype(bool)).max()) == 255
        assert int(ImageInputs(16, 1).decode(mask * 0).max()) == 0
