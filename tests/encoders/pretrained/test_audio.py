"""Pretrained audio encoders: each model's own features and summary; padding is no sound."""

import pytest
import torch
from torch import nn

from quickstudy.encoders import PretrainedAudioEncoder
from quickstudy.inputs.audio import AudioInputs
from quickstudy.saving.description import build, describe

from . import tiny_models
from .tiny_models import seeded

pytest.importorskip("transformers", reason="needs the extra quickstudy[pretrained]")

NAMES = ["wav2vec2", "hubert", "whisper", "ast", "clap"]
ROUNDING = {"rtol": 1e-4, "atol": 2e-5}  # float32 through a few layers, sums in another order


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("audio")
    return {name: seeded(getattr(tiny_models, name), root / name) for name in NAMES}


@pytest.fixture(scope="module")
def encoders(folders):
    few = {"wav2vec2": 1.0, "hubert": 1.0}
    return {
        name: PretrainedAudioEncoder(str(folder), seconds=few.get(name))
        for name, folder in folders.items()
    }


def sounds(encoder, *shares, seed=0):
    """Noise for a share of the window each, then silence: ``[B, samples]``."""
    generator = torch.Generator().manual_seed(seed)
    (samples,) = encoder.input_shape
    x = 0.3 * torch.rand(len(shares), samples, generator=generator) - 0.1
    for row, share in zip(x, shares, strict=True):
        row[round(share * samples) :] = 0
    return x


def by_the_library(name, folder, sound, rate):
    """The vector of one sound, without padding, from the library's model and extractor."""
    import transformers as hf

    extractor = hf.AutoFeatureExtractor.from_pretrained(folder)
    made = extractor(sound.numpy(), sampling_rate=rate, return_tensors="pt")
    model = hf.AutoModel.from_pretrained(folder).eval()
    if name == "clap":
        found = model.get_audio_features(made["input_features"], is_longer=torch.zeros(1, 1) > 0)
        return getattr(found, "pooler_output", found)[0]
    if name == "ast":
        return model(made["input_values"]).pooler_output[0]
    if name == "whisper":  # a frame is 320 samples
        frames = model.encoder(made["input_features"]).last_hidden_state[0]
        return frames[: -(-len(sound) // 320)].mean(0)
    return model(made["input_values"]).last_hidden_state[0].mean(0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_the_vector_is_that_of_the_sound_without_its_padding(encoders, folders, name, share):
    encoder = encoders[name]
    x = sounds(encoder, share)
    with torch.no_grad():
        vector = encoder(x)[0]
        sound = x[0, : round(share * x.shape[1])]
        expected = by_the_library(name, folders[name], sound, encoder.rate)
    assert vector.shape == (encoder.out_features,)
    if name == "clap":  # the library's method scales to length 1
        vector, expected = (nn.functional.normalize(each, dim=0) for each in (vector, expected))
    torch.testing.assert_close(vector, expected, **ROUNDING)


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_depends_on_its_own_sound_only(encoders, name):
    encoder = encoders[name]
    x = sounds(encoder, 1.0, 0.3, 0.55, 0.3, 0.8)
    with torch.no_grad():
        together = encoder(x)
        alone = torch.cat([encoder(x[i : i + 1]) for i in range(5)])
        turned = encoder(x.flip(0)).flip(0)
    torch.testing.assert_close(together, alone, **ROUNDING)
    torch.testing.assert_close(together, turned, **ROUNDING)
    assert (together[1] - together[3]).abs().max() > 1e-3  # it is a function of the sound


@pytest.mark.parametrize("name", NAMES)
def test_silence_and_the_shortest_sound_have_vectors(encoders, name):
    encoder = encoders[name]
    x = torch.zeros(2, *encoder.input_shape)
    x[1, 0] = 0.5
    with torch.no_grad():
        assert encoder(x).isfinite().all()


@pytest.mark.parametrize("name", ["wav2vec2", "hubert"])
def test_padding_more_changes_nothing(folders, name):
    short = PretrainedAudioEncoder(str(folders[name]), seconds=0.5)
    long = PretrainedAudioEncoder(str(folders[name]), seconds=2.0)
    x = sounds(short, 0.9, 0.5)
    with torch.no_grad():
        expected, found = short(x), long(nn.functional.pad(x, (0, 1500)))
    torch.testing.assert_close(found, expected, **ROUNDING)


def test_inputs_are_plain_and_of_the_models_rate(encoders):
    assert encoders["wav2vec2"].inputs == AudioInputs(1000, 1.0)
    assert encoders["whisper"].inputs == AudioInputs(16000, 1.0)
    assert encoders["clap"].inputs == AudioInputs(8000, 1.0)
    assert encoders["ast"].input_shape == (31 * 160 + 400,)
    for encoder in encoders.values():
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(encoder.rate // 2, generator=generator).numpy() - 0.5
        stored = encoder.inputs.decode(noise)
        x = encoder.inputs.prepare(stored[None])
        assert x.shape == (1, *encoder.input_shape)
        assert encoder(x).shape == (1, encoder.out_features)


def test_without_a_window_ten_seconds_are_read(folders):
    assert PretrainedAudioEncoder(str(folders["hubert"])).input_shape == (10_000,)


@pytest.mark.parametrize(("name", "seconds"), [("whisper", 1.5), ("clap", 2), ("hubert", 0)])
def test_seconds_beyond_the_window_are_refused(folders, name, seconds):
    with pytest.raises(ValueError, match="reads more than 0"):
        PretrainedAudioEncoder(str(folders[name]), seconds=seconds)


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_is_made_again_from_its_description(encoders, name):
    encoder = encoders[name]
    assert not encoder.training
    again = build(describe(encoder))
    ours, theirs = encoder.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert again.input_shape == encoder.input_shape


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_can_be_trained(folders, encoders, name):
    encoder = build(describe(encoders[name])).train()
    torch.manual_seed(0)  # layers are dropped at random
    for _ in range(8):
        encoder(sounds(encoder, 1.0, 0.5)).square().sum().backward()
    without = [n for n, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
    # What fuses sounds longer than CLAP's window: here none is.
    assert [n for n in without if "fusion" not in n and "mel_conv2d" not in n] == []
