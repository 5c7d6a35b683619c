"""AudioInputs: sounds of any kind to waveforms of one shape."""

import io
import json
import struct

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from scipy.signal import resample_poly

from quickstudy.inputs import AudioInputs, Inputs, UnreadableError, inputs_from_dict

FORMATS = ["WAV", "FLAC", "OGG", "MP3"]
INPUTS = AudioInputs(8000, 0.5)
LEVEL = 2.0**15


def encoded(wave, rate=8000, form="WAV", **options):
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, format=form, **options)
    return stream.getvalue()


def tone(hertz, rate=8000, seconds=0.5, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(-(2**15), 2**15, shape, dtype=np.int16)


def melody(rate, seconds):
    """A sound that is different everywhere and that MP3 and Ogg keep well."""
    time = np.arange(round(rate * seconds)) / rate
    return 0.4 * np.sin(2 * np.pi * (300 * time + 60 * time**2)) * (1 + 0.5 * np.sin(9 * time))


# --- from whatever it is given ---


@pytest.mark.parametrize("form", ["WAV", "FLAC"])
def test_a_path_bytes_arrays_and_tensors_are_the_same_sound(form, tmp_path):
    wave = noise(4000)
    path = tmp_path / f"sound.{form.lower()}"
    path.write_bytes(encoded(wave, form=form))
    floats = wave / LEVEL
    raws = [path, str(path), path.read_bytes(), wave, wave[None], (wave, 8000)]
    raws += [torch.from_numpy(wave), floats, floats.astype(np.float32), torch.from_numpy(floats)]
    raws += [wave.astype(np.int32) * 2**16, np.stack([wave, wave])]
    for raw in raws:
        stored = INPUTS.decode(raw)
        assert stored.dtype == torch.int16
        assert np.array_equal(stored.numpy(), wave)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("rate", [8000, 44100])
def test_every_format_is_read(form, rate):
    wave = melody(rate, 0.5)
    read = INPUTS.decode(encoded(wave, rate, form)).numpy() / LEVEL
    # Up to what Ogg and MP3 leave out, 16 bits and the filter: a few thousandths of this sound.
    assert np.corrcoef(read, melody(8000, 0.5))[0, 1] > 0.999
    assert np.abs(read).max() == pytest.approx(np.abs(wave).max(), rel=0.05)


def test_channels_are_averaged():
    left, right = noise(4000), noise(4000, seed=1)
    mean = np.rint((left / LEVEL + right / LEVEL) / 2 * LEVEL)
    for raw in (np.stack([left, right]), encoded(np.stack([left, right], 1))):
        assert np.array_equal(INPUTS.decode(raw).numpy(), mean)


def test_of_a_longer_sound_the_centre_is_kept_and_behind_a_shorter_one_is_silence():
    wave = noise(5001)
    assert np.array_equal(INPUTS.decode(wave).numpy(), wave[500:4500])
    assert np.array_equal(INPUTS.decode(encoded(wave)).numpy(), wave[500:4500])
    short = INPUTS.decode(wave[:700]).numpy()
    assert np.array_equal(short[:700], wave[:700])
    assert not short[700:].any()
    assert INPUTS.decode(wave[:1])[0] == wave[0]


def test_floats_that_are_a_little_too_loud_are_clipped():
    wave = np.array([0.0, 1.0, 1.5, -1.0, -1.5, -100.0])
    stored = INPUTS.decode(wave)[:6].tolist()
    assert stored == [0, 2**15 - 1, 2**15 - 1, -(2**15), -(2**15), -(2**15)]


def test_prepare_gives_floats_from_minus_one_to_one():
    stored = torch.tensor([[-(2**15), 0, 2**14, 2**15 - 1]], dtype=torch.int16)
    waves = INPUTS.prepare(stored)
    assert waves.dtype == torch.float32
    assert waves.tolist() == [[-1.0, 0.0, 0.5, 1 - 2.0**-15]]


# --- rates ---


@pytest.mark.parametrize("rate", [11025, 16000, 44100, 48000])
def test_resampling_keeps_a_tone_below_half_the_new_rate_and_removes_one_above(rate):
    def heard(hertz):
        middle = INPUTS.decode((tone(hertz, rate), rate)).double()[200:-200] / LEVEL
        return torch.fft.rfft(middle).abs() / (len(middle) / 2)  # amplitudes, every 8000 / 3600 Hz

    kept = heard(1000)
    assert kept.argmax() == 450
    # The filter lets pass all but a thousandth, and half a 16-bit step.
    assert kept[450] == pytest.approx(0.5, abs=1e-3)
    gone = heard(5000)  # it would come back as 3000 Hz
    assert gone.max() < 0.5 * 3e-3  # the filter's stop band, 50 dB down


def test_a_lower_rate_is_filled_up_without_new_frequencies():
    middle = INPUTS.decode((tone(900, 4000), 4000)).double()[400:-400] / LEVEL
    expected = torch.from_numpy(tone(900))[400:-400]
    # The mirror image at 3100 Hz is 50 dB down.
    assert (middle - expected).abs().max() < 3e-3


@pytest.mark.parametrize("rate", [8000, 4000, 11025, 44100, 96001])
@pytest.mark.parametrize("frames", [3000, 44_101, 200_003])
def test_the_centre_is_that_of_the_whole_sound_resampled(rate, frames):
    wave = noise(frames)
    ratio = INPUTS._window(rate, frames).ratio
    whole = resample_poly(wave / LEVEL, ratio.numerator, ratio.denominator)
    first = max(0, (len(whole) - 4000) // 2)
    expected = np.clip(whole[first : first + 4000] * LEVEL, -LEVEL, LEVEL - 1)
    expected = np.pad(expected, (0, 4000 - len(expected)))
    for raw in ((wave, rate), encoded(wave, rate)):
        # Rounded to whole numbers, from float32.
        assert np.abs(INPUTS.decode(raw).numpy() - expected).max() < 0.52


@pytest.mark.parametrize("form", FORMATS)
def test_of_a_long_file_only_the_centre_is_decoded(form, monkeypatch):
    file, frames = encoded(melody(16000, 20.0), 16000, form), []
    read = soundfile.SoundFile.read

    def counted(self, *arguments, **options):
        block = read(self, *arguments, **options)
        frames.append(len(block))
        return block

    whole, rate = soundfile.read(io.BytesIO(file))
    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    centre = INPUTS.decode(file).numpy()
    lead = 11520 if form == "MP3" else 0  # its blocks need those before them
    assert 8000 <= sum(frames) < 8100 + lead  # with the filter's reach
    # A decoder that began elsewhere may round otherwise.
    assert np.abs(centre - INPUTS.decode((whole, rate)).numpy()).max() <= 1


# --- what cannot be read ---


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(UnreadableError, match=r"'nowhere/a\.wav' cannot be read: .*No such file"):
        INPUTS.decode("nowhere/a.wav")
    with pytest.raises(UnreadableError, match="cannot be read"):
        INPUTS.decode(tmp_path)
    with pytest.raises(UnreadableError, match=r"'-' cannot be read: .*No such file"):
        INPUTS.decode("-")  # which libsndfile would take from the terminal


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no sound, but words" * 99, bytes(5000)])
def test_files_that_are_no_sounds_are_named(content, tmp_path):
    path = tmp_path / "strange.wav"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=r"strange\.wav' cannot be read: it is damaged or no"):
        INPUTS.decode(path)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (None, "not NoneType"),
        ([0.1, 0.2], "not list"),
        ((8000, np.zeros(9)), "not int"),
        (np.zeros((2, 2, 2)), r"its shape is \[2, 2, 2\]"),
        (np.zeros((1, 0)), r"its shape is \[1, 0\]"),
        (np.zeros((4000, 65)), "4000 channels of 65 samples; at most 64 .* channels come first"),
        (np.array([0.1, np.nan]), "not finite"),
        (np.array([0.1, np.inf]), "not finite"),
        (np.array([[np.inf], [-np.inf]]), "not finite"),
        (np.array([1e300]), "not finite"),
        (np.array([3.0, -20000.0]), "reach 20000, but floats must lie between -1 and 1"),
        (np.zeros(9, bool), "values are bool"),
        (np.zeros(9, np.uint8), "values are uint8"),
        (np.zeros(9, complex), "values are complex"),
        ((np.zeros(9), 0), "its rate is 0"),
        ((np.zeros(9), 8000.5), "its rate is 8000.5"),
        ((np.zeros(9), float("nan")), "its rate is nan"),
        ((np.zeros(9), "8000"), "given as tuple cannot be read"),
    ],
    ids=str,
)
def test_what_is_no_sound_is_refused(raw, message):
    with pytest.raises(UnreadableError, match=message):
        INPUTS.decode(raw)


def flac_of_length(frames):
    """A FLAC file that says that it has so many frames; 0 stands for not known."""
    file = bytearray(encoded(noise(4000), form="FLAC"))
    place = 8 + 13  # behind "fLaC" and the head of STREAMINFO: 36 bits, the first 4 in one byte
    (word,) = struct.unpack_from(">Q", file, place - 3)
    struct.pack_into(">Q", file, place - 3, (word >> 36 << 36) | frames)
    return bytes(file)


def test_headers_that_promise_the_absurd_are_refused():
    with pytest.raises(UnreadableError, match="or none as in streamed FLAC"):
        INPUTS.decode(flac_of_length(0))
    with pytest.raises(UnreadableError, match="names 68719476735 samples, more than a week"):
        INPUTS.decode(flac_of_length(2**36 - 1))
    with pytest.raises(UnreadableError, match="damaged"):
        INPUTS.decode(flac_of_length(2**31))
    fast, wide = bytearray(encoded(noise(4000))), bytearray(encoded(noise(4000)))
    fast[24:28] = struct.pack("<I", 2**31 - 1)
    with pytest.raises(UnreadableError, match="its rate is 2147483647"):
        INPUTS.decode(bytes(fast))
    wide[22:24] = struct.pack("<H", 1000)
    with pytest.raises(UnreadableError, match="1000 channels"):
        INPUTS.decode(bytes(wide))


def test_a_file_without_a_sample_and_one_with_nan_are_refused():
    with pytest.raises(UnreadableError, match="it is empty"):
        INPUTS.decode(encoded(noise(0)))
    with pytest.raises(UnreadableError, match="not finite"):
        INPUTS.decode(encoded(np.array([0.1, np.nan]), subtype="FLOAT"))


def damaged(file, seed):
    """The file cut somewhere, or with some of its bits turned, half of the time in the header."""
    random = np.random.default_rng(seed)
    if seed % 3 == 0:
        return file[: random.integers(len(file))]
    content = bytearray(file)
    for _ in range(random.integers(1, 20)):
        place = random.integers(min(len(file), 200 if seed % 3 == 1 else len(file)))
        content[place] ^= 1 << int(random.integers(8))
    return bytes(content)


@pytest.mark.parametrize("form", FORMATS)
def test_damaged_files_are_refused_or_read(form):
    file = encoded(melody(16000, 2.0) + noise(32000) / 2**17, 16000, form)
    refused = 0
    for seed in range(60):
        try:
            stored = INPUTS.decode(damaged(file, seed))
        except UnreadableError:
            refused += 1
        else:
            assert stored.shape == (4000,)
            assert stored.dtype == torch.int16
    assert 0 < refused < 60


@pytest.mark.parametrize("form", ["FLAC", "MP3"])
def test_a_file_whose_centre_is_cut_off_is_refused(form):
    file = encoded(melody(16000, 4.0), 16000, form)
    with pytest.raises(UnreadableError):
        INPUTS.decode(file[: len(file) // 4])


# --- settings ---


def test_settings_survive_json():
    inputs = AudioInputs(22050, 1.28)
    assert isinstance(inputs, Inputs)
    again = inputs_from_dict(json.loads(json.dumps(inputs.to_dict())))
    assert again == inputs
    assert hash(again) == hash(inputs)
    assert again.decode(np.zeros(5)).shape == (again.samples,) == (28224,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 10}, "a rate of 10"),
        ({"rate": 8000.5}, "a rate of 8000.5"),
        ({"seconds": 0}, "0 seconds"),
        ({"seconds": 1e-6}, "at least a sample"),
        ({"seconds": 1e6}, "at most 3600 seconds"),
        ({"seconds": float("nan")}, "nan seconds"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AudioInputs(**settings)


# --- real recordings ---


@pytest.mark.parametrize(("name", "rate"), [("dspspeech20", 16000), ("fsdd", 8000)])
def test_real_recordings_are_read_at_any_rate(name, rate, data_root):
    path = data_root / name / "train.parquet"
    if not path.exists():
        pytest.skip(f"{name} is not in {data_root}.")
    table = pq.read_table(path, columns=["audio"]).slice(0, 20)
    for row in table["audio"].to_pylist():
        wave, own_rate = soundfile.read(io.BytesIO(row["bytes"]), dtype="int16")
        assert own_rate == rate
        exact = AudioInputs(rate, 1.0).decode(row["bytes"])
        first = max(0, (len(wave) - rate) // 2)
        kept = wave[first : first + rate]
        assert np.array_equal(exact[: len(kept)].numpy(), kept)
        other = AudioInputs(24000, 1.0).decode(row["bytes"]).double()
        ratio = other.square().sum() / exact.double().square().sum()
        # As loud, for its more samples; the filter takes some of what is close to half the rate.
        assert ratio * rate / 24000 == pytest.approx(1, abs=0.02)


def test_channels_may_come_last_as_soundfile_reads_them():
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 800)).astype(np.float32)
    inputs = AudioInputs(rate=8000, seconds=0.1)
    assert torch.equal(inputs.decode((wave.T, 8000)), inputs.decode((wave, 8000)))
