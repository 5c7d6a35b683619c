"""ImageInputs: images of any kind to tensors of one shape."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy.inputs import ImageInputs, UnreadableError, inputs_from_dict

GREY = ImageInputs(size=8, channels=1)
COLOUR = ImageInputs(size=8, channels=3)


def encoded(image, form="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_a_path_bytes_an_image_an_array_and_a_tensor_are_the_same_image(tmp_path):
    array = noise(20, 14, 3)
    image = Image.fromarray(array)
    path = tmp_path / "image.png"
    image.save(path)
    expected = COLOUR.decode(image)
    assert expected.shape == (3, 8, 8)
    assert expected.dtype == torch.uint8
    raws = [path, str(path), path.read_bytes(), array, np.moveaxis(array, 2, 0)]
    raws += [torch.from_numpy(array).permute(2, 0, 1), array.astype(np.int64)]
    for raw in raws:
        assert torch.equal(COLOUR.decode(raw), expected)


def test_an_array_of_the_right_size_is_kept_to_the_bit():
    grey, colour = noise(8, 8), noise(8, 8, 3)
    assert np.array_equal(GREY.decode(grey)[0].numpy(), grey)
    assert np.array_equal(GREY.decode(grey[:, :, None])[0].numpy(), grey)
    assert np.array_equal(GREY.decode(grey[None])[0].numpy(), grey)
    assert np.array_equal(COLOUR.decode(colour).permute(1, 2, 0).numpy(), colour)
    assert np.array_equal(GREY.decode(grey.astype(np.float32) / 255)[0].numpy(), grey)
    assert np.array_equal(GREY.decode(grey > 127)[0].numpy(), (grey > 127) * np.uint8(255))


def test_the_orientation_that_a_camera_noted_is_applied():
    array = noise(8, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    file = encoded(Image.fromarray(array), exif=exif.tobytes())
    turned = torch.from_numpy(np.rot90(array, -1).copy()).permute(2, 0, 1)
    assert torch.equal(COLOUR.decode(file), turned)
    assert torch.equal(COLOUR.decode(Image.open(io.BytesIO(file))), turned)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_becomes_white(mode):
    clear = Image.new(mode, (8, 8), 0)
    assert (COLOUR.decode(encoded(clear)) == 255).all()
    assert (GREY.decode(clear) == 255).all()


def test_a_transparent_colour_of_a_palette_becomes_white():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    assert COLOUR.decode(encoded(image))[:, 0, 0].tolist() == [255, 0, 0]
    assert (COLOUR.decode(encoded(image, transparency=1)) == 255).all()


def test_one_bit_and_cmyk_and_grey_images():
    ink = Image.fromarray(noise(8, 8) > 127)
    assert set(GREY.decode(encoded(ink)).unique().tolist()) == {0, 255}
    assert COLOUR.decode(encoded(Image.new("CMYK", (8, 8)), "TIFF")).min() == 255
    colour = COLOUR.decode(encoded(Image.new("L", (8, 8), 7)))
    assert (colour == 7).all()


def test_sixteen_bits_keep_their_greys():
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    read = GREY.decode(encoded(Image.fromarray(values)))[0].numpy()
    # The nearest 8-bit grey is at most half a grey away.
    assert np.abs(read - values / 257).max() <= 0.5


def test_a_large_photograph_is_read_in_reduced_size_with_the_same_look():
    small = Image.fromarray(noise(4, 4, 3)).resize((1024, 1024), Image.Resampling.BICUBIC)
    read = COLOUR.decode(encoded(small, "JPEG", quality=95, subsampling=0)).float()
    exact = COLOUR.decode(np.asarray(small)).float()
    # JPEG's own loss and its reduction: a few of 255 greys.
    assert (read - exact).abs().max() < 6


def test_a_long_image_is_scaled_by_its_short_side_and_cropped_at_the_centre():
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 200
    assert (GREY.decode(wide) == 200).all()


def test_prepare_normalises_each_channel():
    inputs = ImageInputs(2, 3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0), invert=True)
    stored = torch.full((5, 3, 2, 2), 51, dtype=torch.uint8)  # 0.2, inverted 0.8
    expected = torch.tensor([0.7 / 0.5, 0.6 / 0.25, 0.5])[None, :, None, None].expand(5, 3, 2, 2)
    # A few roundings of float32.
    torch.testing.assert_close(inputs.prepare(stored), expected, rtol=1e-6, atol=1e-6)


def test_prepare_leaves_what_is_stored_alone():
    stored = torch.full((1, 1, 8, 8), 255.0)
    ImageInputs(8, 1, invert=True).prepare(stored)
    assert (stored == 255).all()


def test_settings_survive_json():
    inputs = ImageInputs(28, 1, mean=[0.5], std=[2.0], invert=True)
    assert inputs_from_dict(inputs.to_dict()) == inputs
    assert hash(inputs) == hash(inputs_from_dict(inputs.to_dict()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size must be from 1"),
        ({"channels": 2}, "1 .grey. or 3 .RGB."),
        ({"mean": (0.1, 0.2)}, "mean has 2 values for 3 channels"),
        ({"std": (0.0,)}, "must be above 0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ImageInputs(**settings)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"not an image", "given as bytes cannot be read"),
        ("film.mp4", "Videos are not read"),
        ("scan.pdf", "Documents are not read"),
        ("nowhere/image.png", "'nowhere/image.png' cannot be read"),
        (None, "not NoneType"),
        (np.zeros((2, 2, 2, 2), np.uint8), r"its shape is \[2, 2, 2, 2\]"),
        (np.zeros((0, 3), np.uint8), r"its shape is \[0, 3\]"),
        (np.full((4, 4), 7.0), "go from 7.0 to 7.0"),
        (np.full((4, 4), np.nan), "go from nan"),
        (np.full((4, 4), -1), "go from -1"),
        (np.full((4, 4), "x"), "integers or floats are needed"),
        (Image.new("F", (4, 4)), "32-bit numbers"),
        (Image.new("F", (4, 4), 7.0), "from 0 to 7, .* floats between 0 and 1"),
        (Image.new("I", (4, 4), -1), "from -1 to .* whole numbers between 0 and 65535"),
        (Image.new("I", (4, 4), 65536), "32-bit numbers from .* to 65536"),
    ],
)
def test_what_is_no_image_is_refused(raw, message):
    with pytest.raises(UnreadableError, match=message):
        COLOUR.decode(raw)


def test_a_truncated_file_is_refused():
    file = encoded(Image.fromarray(noise(64, 64, 3)))
    for length in (10, 40, len(file) // 2):
        with pytest.raises(UnreadableError):
            COLOUR.decode(file[:length])
