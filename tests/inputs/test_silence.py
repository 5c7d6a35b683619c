"""Sounds that would be silent though they are not, and those that are."""

import io
import warnings

import numpy as np
import pytest
import soundfile

from quickstudy import FewShotClassifier
from quickstudy.encoders import MLP
from quickstudy.inputs import AudioInputs

INPUTS = AudioInputs(8000, 0.5)


def tone(seconds, rate=8000, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)


def silence(seconds, rate=8000):
    return np.zeros(round(rate * seconds))


def encoded(wave, rate=8000, form="WAV", **options):
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, format=form, **options)
    return stream.getvalue()


def decoded(raw, inputs=INPUTS):
    """What is stored on the scale -1 to 1, and what was warned of."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        return inputs.decode(raw).numpy() / 2**15, [str(each.message) for each in seen]


@pytest.mark.parametrize("remainder", [0, 0.01])
def test_stereo_of_opposite_phase_is_the_louder_channel(remainder):
    left = tone(0.5)
    both = np.stack([left, -(1 - remainder) * left])
    for raw in (both, encoded(both.T), (both, 8000)):
        stored, said = decoded(raw)
        assert np.abs(stored - left).max() < 2**-14
        assert len(said) == 1
        assert "channels cancel each other out" in said[0]


def test_channels_that_do_not_cancel_are_averaged_as_before():
    left, other = tone(0.5), np.random.default_rng(0).normal(0, 0.1, 4000)
    one_of_eight = np.concatenate([left[None], np.zeros((7, 4000))])
    for channels in (np.stack([left, other]), np.stack([left, 0 * left]), one_of_eight):
        stored, said = decoded(channels)
        assert np.abs(stored - channels.mean(0)).max() < 2**-14
        assert not said


@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize("form", ["WAV", "FLAC", "MP3"])
def test_of_a_sound_with_a_silent_centre_the_loudest_part_is_read(rate, form):
    wave = np.concatenate([silence(3, rate), tone(0.5, rate), silence(0.2, rate)])
    stored, said = decoded(encoded(wave, rate, form))
    assert np.sqrt(np.mean(stored**2)) > 0.3  # that of the tone is 0.35
    assert len(said) == 1
    assert "its loudest part is read" in said[0]


def test_a_quiet_centre_is_kept_where_nothing_is_much_louder_or_it_is_not_silent():
    quiet = tone(3, amplitude=2**-11)
    stored, said = decoded(quiet)
    assert np.abs(stored - quiet[10000:14000]).max() < 2**-14
    assert not said
    loud = np.concatenate([tone(1), tone(1, amplitude=0.01), tone(1)])
    stored, said = decoded(loud)
    assert np.abs(stored - loud[10000:14000]).max() < 2**-14
    assert not said


def test_a_constant_is_no_sound_and_hides_none():
    wave = np.concatenate([tone(1), silence(3)]) / 2 + 0.1
    stored, said = decoded(wave)
    assert np.ptp(stored) > 0.4
    assert len(said) == 1
    for nothing in (silence(1), silence(1) + 0.25, encoded(silence(0.1), subtype="PCM_U8")):
        _, said = decoded(nothing)
        assert len(said) == 1
        assert "only silence" in said[0]


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_files_of_every_depth_hold_the_same_sound(subtype):
    stored, said = decoded(encoded(tone(0.5), subtype=subtype))
    assert np.abs(stored - tone(0.5)).max() < 2**-7
    assert not said


def test_a_classifier_says_once_how_many_are_silent():
    sounds = [(silence(0.5), 8000)] * 4 + [(tone(0.5), 8000)]
    classifier = FewShotClassifier(MLP((4000,)), inputs=INPUTS)
    with pytest.warns(
        UserWarning, match=r"^4 inputs \(the first is number 0\): it holds only silence"
    ):
        classifier.fit(sounds, ["a", "a", "a", "a", "b"])
