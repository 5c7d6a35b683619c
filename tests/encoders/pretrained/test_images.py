"""Pretrained image encoders: each model's own preprocessing and its own summary of an image."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from quickstudy.encoders import PretrainedImageEncoder
from quickstudy.inputs import (
    ImageInputs,
    PretrainedImageInputs,
    UnreadableError,
    inputs_from_dict,
)
from quickstudy.saving.description import build, describe

from . import tiny_models
from .tiny_models import seeded

pytest.importorskip("transformers", reason="needs the extra quickstudy[pretrained]")

NAMES = ["vit", "dinov2", "clip", "siglip", "convnext", "resnet"]
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}  # float32 through a few layers, sums in another order


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    return {name: seeded(getattr(tiny_models, name), root / name) for name in NAMES}


@pytest.fixture(scope="module")
def encoders(folders):
    return {name: PretrainedImageEncoder(str(folder)) for name, folder in folders.items()}


def picture(height=30, width=44, seed=0):
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def prepared(encoder, *pictures):
    return encoder.inputs.prepare(torch.stack([encoder.inputs.decode(each) for each in pictures]))


def by_the_library(name, folder, x):
    """What the library's own model of the whole checkpoint says."""
    import transformers as hf

    if name == "vit":  # what its classification head reads
        model = hf.ViTForImageClassification.from_pretrained(folder).eval()
        model.classifier = nn.Identity()
        return model(x).logits
    if name in ("clip", "siglip"):  # compared with texts, there scaled to length 1
        model = hf.AutoModel.from_pretrained(folder).eval()
        return model(pixel_values=x, input_ids=torch.tensor([[17, 1, 18]])).image_embeds
    model = hf.AutoModel.from_pretrained(folder).eval()
    return model(x).pooler_output.flatten(1)


@pytest.mark.parametrize("name", NAMES)
def test_the_vector_is_the_models_own_summary(encoders, folders, name):
    encoder = encoders[name]
    x = prepared(encoder, picture(seed=1), picture(64, 20, seed=2))
    with torch.no_grad():
        vectors, expected = encoder(x), by_the_library(name, folders[name], x)
    assert vectors.shape == (2, encoder.out_features)
    if name in ("clip", "siglip"):
        vectors = nn.functional.normalize(vectors)
    torch.testing.assert_close(vectors, expected, **ROUNDING)
    assert (vectors[0] - vectors[1]).abs().max() > 0.01  # it is a function of the image


def test_a_vision_transformers_head_reads_the_vector(encoders, folders):
    from transformers import ViTForImageClassification

    model = ViTForImageClassification.from_pretrained(folders["vit"]).eval()
    x = prepared(encoders["vit"], picture())
    torch.testing.assert_close(model.classifier(encoders["vit"](x)), model(x).logits, **ROUNDING)


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_depends_on_its_own_image_only(encoders, name):
    encoder = encoders[name]
    x = prepared(encoder, *(picture(seed=seed) for seed in range(5)))
    with torch.no_grad():
        together = encoder(x)
        alone = torch.cat([encoder(x[i : i + 1]) for i in range(5)])
        turned = encoder(x.flip(0)).flip(0)
    torch.testing.assert_close(together, alone, **ROUNDING)
    torch.testing.assert_close(together, turned, **ROUNDING)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_equal_the_models_own_processor(encoders, folders, name):
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folders[name], backend="pil")
    for image in (picture(), picture(90, 17), picture(16, 16)):
        expected = torch.from_numpy(processor(images=image)["pixel_values"][0])[None]
        # The same arithmetic but for the order of its roundings.
        torch.testing.assert_close(prepared(encoders[name], image), expected, rtol=1e-5, atol=1e-5)


def by_hand(image, settings):
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    mean, std = torch.tensor(settings["image_mean"]), torch.tensor(settings["image_std"])
    return ((pixels - mean[:, None, None]) / std[:, None, None])[None]


def test_images_are_squeezed_by_hand(encoders):
    squeezed = picture(30, 44).resize((16, 16), Image.Resampling.BILINEAR)
    expected = by_hand(squeezed, tiny_models.SQUEEZED)
    torch.testing.assert_close(prepared(encoders["vit"], picture(30, 44)), expected)


def test_images_are_scaled_by_the_short_side_and_cropped_by_hand(encoders):
    scaled = picture(30, 44).resize((23, 16), Image.Resampling.BICUBIC)  # 16 * 44 / 30
    expected = by_hand(scaled.crop((3, 0, 19, 16)), tiny_models.CROPPED)
    torch.testing.assert_close(prepared(encoders["clip"], picture(30, 44)), expected)


def test_images_are_scaled_beyond_and_cropped_by_hand(encoders):
    # 28 / 0.875 = 32 for the short side, then the middle 28.
    scaled = picture(30, 45).resize((48, 32), Image.Resampling.BICUBIC)
    expected = by_hand(scaled.crop((10, 2, 38, 30)), tiny_models.ENLARGED)
    torch.testing.assert_close(prepared(encoders["convnext"], picture(30, 45)), expected)


def test_plain_image_inputs_would_not_do(encoders):
    plain = ImageInputs(16, 3).decode(picture(30, 44)).int()
    own = encoders["vit"].inputs.decode(picture(30, 44)).int()
    assert (plain - own).abs().max() > 20  # of 255: squeezing is not cropping


def test_inputs_read_anything_that_image_inputs_read(encoders, tmp_path):
    inputs, image = encoders["clip"].inputs, picture()
    path = tmp_path / "picture.png"
    image.save(path)
    expected = inputs.decode(image)
    assert expected.dtype == torch.uint8
    assert expected.shape == encoders["clip"].input_shape
    for raw in (path, str(path), path.read_bytes(), np.array(image)):
        assert torch.equal(inputs.decode(raw), expected)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    stream = io.BytesIO()
    image.save(stream, "PNG", exif=exif.tobytes())
    turned = inputs.decode(image.transpose(Image.Transpose.ROTATE_270))
    assert torch.equal(inputs.decode(stream.getvalue()), turned)
    grey = inputs.decode(Image.new("L", (20, 20), 7))
    assert (grey == 7).all()
    with pytest.raises(UnreadableError, match="cannot be read"):
        inputs.decode(path.read_bytes()[:60])


def test_inputs_survive_json(encoders):
    inputs = encoders["vit"].inputs
    assert isinstance(inputs, PretrainedImageInputs)
    again = inputs_from_dict(inputs.to_dict())
    assert again == inputs
    assert again.modality == "image"
    assert torch.equal(again.decode(picture()), inputs.decode(picture()))


def test_a_processor_that_keeps_sizes_is_refused(tmp_path):
    folder = seeded(tiny_models.resnet, tmp_path / "model")
    settings = tiny_models.normalised("ViTImageProcessor", do_resize=False)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="different sizes"):
        PretrainedImageEncoder(str(folder))


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_is_made_again_from_its_description(encoders, name):
    encoder = encoders[name]
    assert not encoder.training
    again = build(describe(encoder))
    assert isinstance(again, PretrainedImageEncoder)
    ours, theirs = encoder.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_can_be_trained(folders, name):
    encoder = PretrainedImageEncoder(str(folders[name])).train()
    x = prepared(encoder, *(picture(seed=seed) for seed in range(4)))
    encoder(x).square().sum().backward()
    without = [n for n, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
    # The mask token of DINOv2 is for its training without labels.
    assert [n for n in without if "mask_token" not in n] == []


def test_inputs_of_another_shape_are_refused(encoders):
    with pytest.raises(ValueError, match=r"inputs=encoder.inputs"):
        encoders["vit"](torch.zeros(1, 3, 84, 84))
