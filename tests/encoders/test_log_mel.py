"""LogMel and its filters: against plain loops, by hand, and in all precisions."""

import math

import numpy as np
import pytest
import torch

from quickstudy.encoders import LogMel
from quickstudy.encoders.log_mel import mel_filters


def sounds(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(*shape, generator=generator, dtype=dtype)


def tone(hertz, rate=16000, samples=8000):
    place = torch.arange(samples, dtype=torch.float64)
    return torch.sin(2 * math.pi * hertz * place / rate)[None]


def mel(hertz):
    return 2595 * math.log10(1 + hertz / 700)


def plain_filters(rate, points, mels, lowest, highest):
    edges = [mel(lowest) + i * (mel(highest) - mel(lowest)) / (mels + 1) for i in range(mels + 2)]
    filters = np.zeros((points // 2 + 1, mels))
    for k in range(points // 2 + 1):
        at = mel(k * rate / points)
        for m in range(mels):
            left, middle, right = edges[m : m + 3]
            if left < at <= middle:
                filters[k, m] = (at - left) / (middle - left)
            elif middle < at < right:
                filters[k, m] = (right - at) / (right - middle)
    return filters


def plain_log_mel(x, rate, window, hop, points, filters, floor):
    """The equations of the docstring, one number at a time."""
    taper = [0.5 - 0.5 * math.cos(2 * math.pi * n / window) for n in range(window)]
    energy = sum(w * w for w in taper)
    powers = []
    for start in range(0, len(x) - window + 1, hop):
        row = []
        for k in range(points // 2 + 1):
            angle = 2 * math.pi * k / points
            real = sum(taper[n] * x[start + n] * math.cos(angle * n) for n in range(window))
            imaginary = sum(taper[n] * x[start + n] * math.sin(angle * n) for n in range(window))
            row.append((real**2 + imaginary**2) / energy)
        powers.append([float(np.dot(row, filters[:, m])) for m in range(filters.shape[1])])
    powers = np.array(powers)
    levels = np.log(powers + floor * powers.mean() + 1e-10)
    return ((levels - levels.mean()) / np.sqrt(levels.var() + 1e-5)).T


# --- filters ---


@pytest.mark.parametrize(
    "settings", [(16000, 512, 40, 0.0, 8000.0), (8000, 256, 20, 100.0, 3500.0)]
)
def test_filters_are_triangles_on_the_mel_scale(settings):
    # Both in float64; the sums are of few numbers.
    np.testing.assert_allclose(mel_filters(*settings), plain_filters(*settings), atol=1e-12)


def test_a_filter_computed_by_hand():
    """Two filters from 0 to 700 Hz: 1000 Hz apart in mel would be log₁₀2 · 2595 = 781.17."""
    filters = mel_filters(1400, 14, 2, 0.0, 700.0)  # bins at 0, 100, ..., 700 Hz
    third = mel(700) / 3
    assert filters.shape == (8, 2)
    assert filters[0].tolist() == [0, 0]
    assert filters[1, 0] == pytest.approx(mel(100) / third)  # on the way up to 182 Hz
    assert filters[2, 0] == pytest.approx(2 - mel(200) / third)  # behind it
    assert filters[2, 1] == pytest.approx(mel(200) / third - 1)
    assert filters[7].sum() == pytest.approx(0, abs=1e-12)  # rounding


def test_neighbours_share_what_lies_between_their_middles():
    filters = mel_filters(16000, 512, 64, 20.0)
    total, peaks = filters.sum(1), filters.argmax(0)
    between = total[peaks[0] + 1 : peaks[-1]]
    torch.testing.assert_close(between, torch.ones_like(between), rtol=0, atol=1e-12)  # rounding
    assert ((filters > 0).sum(1) <= 2).all()
    assert (filters >= 0).all()
    assert (filters.sum(0) > 0).all()
    assert (peaks.diff() >= 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((16000, 128, 80), "so narrow that some hold none of the 65 frequencies"),
        ((16000, 512, 0), "0 bands"),
        ((16000, 512, 40, 100.0, 9000.0), "at most 8000"),
        ((16000, 512, 40, 500.0, 400.0), "from 500.0 to 400.0 Hz"),
    ],
)
def test_filters_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        mel_filters(*settings)


# --- the front end ---


def test_it_is_what_its_equations_say():
    front = LogMel(1000, 0.028, 0.01, 6, lowest=30.0, highest=450.0, floor=0.01).double()
    x = sounds(2, 97)
    filters = plain_filters(1000, 32, 6, 30.0, 450.0)
    expected = [plain_log_mel(row.tolist(), 1000, 28, 10, 32, filters, 0.01) for row in x]
    maps = front(x)
    assert maps.shape == (2, 1, 6, 7)
    # Filters and window are kept in float32.
    np.testing.assert_allclose(maps[:, 0], np.stack(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("hertz", [150, 440, 1000, 3000, 7000])
def test_a_tone_is_loudest_in_the_band_around_it(hertz):
    maps = LogMel().double()(tone(hertz))[0, 0]
    width = (mel(8000) - mel(20)) / 65
    band = round((mel(hertz) - mel(20)) / width) - 1  # whose middle is nearest
    assert (maps.argmax(0) == band).all()


def test_the_power_of_a_tone_and_of_noise_is_as_computed_by_hand():
    """A sine of amplitude a has |X|² = (a Σw / 2)² at its bin: with Hann, a² N / 6 of the power."""
    front = LogMel(16000, 0.032, mels=1, lowest=0.0).double()
    front.filters = torch.zeros_like(front.filters)
    front.filters[32] = 1  # the bin at 1000 Hz
    powers = front.powers(0.5 * tone(1000))
    torch.testing.assert_close(powers, torch.full_like(powers, 0.25 * 512 / 6), rtol=1e-6, atol=0)
    noise = front.powers(sounds(200, 16000))
    # 20,000 squares of normal numbers, half of them of neighbours: about 1 % of deviation.
    assert noise.mean() == pytest.approx(0.01, rel=0.05)


def test_frames_cover_what_fits_and_a_short_sound_makes_one():
    front = LogMel(16000)
    for samples, frames in ((1, 1), (399, 1), (400, 1), (559, 1), (560, 2), (20480, 126)):
        assert front.frames(samples) == frames
        maps = front(sounds(1, samples, dtype=torch.float32) + 0.01)
        assert maps.shape == (1, 1, 64, frames)
        assert maps.isfinite().all()


def test_maps_have_mean_zero_and_deviation_one_and_do_not_tell_how_loud_a_sound_is():
    front, x = LogMel().double(), sounds(3, 8000)
    maps = front(x)
    for each in maps:
        assert each.mean() == pytest.approx(0, abs=1e-9)
        assert each.std() == pytest.approx(1, abs=1e-3)
    # But for what stands for the rounding to 16 bits.
    torch.testing.assert_close(front(x / 30), maps, rtol=0, atol=1e-3)
    assert not torch.allclose(maps[0], maps[1], atol=0.1)


def test_silence_is_finite_and_silence_behind_a_sound_changes_nothing():
    front, x = LogMel().double(), sounds(2, 4000)
    x[1, 2400:] = 0
    silence = torch.zeros(1, 4000, dtype=torch.float64, requires_grad=True)
    maps, present = front.normalized(silence)
    assert (maps == 0).all()
    assert not present.any()
    maps.sum().backward()
    assert silence.grad.isfinite().all()

    alone, longer = front(x), front(torch.nn.functional.pad(x, (0, 4000)))
    frames = alone.shape[3]
    # The last frames of the first sound reach into the silence that was not there.
    torch.testing.assert_close(longer[1, :, :, :frames], alone[1], rtol=1e-9, atol=1e-9)
    present = front.normalized(torch.nn.functional.pad(x, (0, 4000)))[1]
    assert present.sum(1).tolist() == [25, 15]  # one for each 160 samples in which one begins
    assert (longer[:, 0].mT[~present] == 0).all()
    assert (longer[:, 0].mT[present] != 0).all()


def test_silence_inside_a_sound_is_part_of_it():
    x = sounds(1, 4000)
    x[0, 1000:2500] = 0
    maps, present = LogMel().double().normalized(x)
    assert present.all()
    assert maps[0, 0, :, 10].mean() < -1


def test_nothing_is_kept_for_a_gradient_that_is_not_asked_for():
    front = LogMel()
    assert not front(sounds(1, 800, dtype=torch.float32)).requires_grad
    assert list(front.parameters()) == []
    assert front.state_dict() == {}  # made again from the arguments


def test_derivatives_agree_with_finite_differences():
    front = LogMel(100, 0.08, 0.05, 2, lowest=0.0).double()
    x = sounds(2, 22).requires_grad_()
    torch.autograd.gradcheck(front, x)
    torch.autograd.gradgradcheck(front, x)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_it_runs_under_the_transformations_of_torch_func():
    front, x = LogMel(mels=20).double(), sounds(3, 2, 1200)
    together = torch.func.vmap(front)(x)
    # Rounding only: sums may be in another order.
    torch.testing.assert_close(
        together, torch.stack([front(each) for each in x]), rtol=1e-9, atol=1e-9
    )

    def loudest(each):
        return front(each).square().amax()

    gradient = torch.func.vmap(torch.func.grad(loudest))(x)
    own = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(sum(map(loudest, own)), own)
    torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-9)  # steep logarithms
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_touch_it(dtype):
    front, x = LogMel(), sounds(2, 3000, dtype=torch.float32)
    expected = front(x)
    with torch.autocast("cpu", dtype):
        maps = front(x)
        assert front(x.to(dtype)).dtype == torch.float32
    assert maps.dtype == torch.float32
    assert torch.equal(maps, expected)


def test_float32_is_close_to_float64():
    x = sounds(2, 8000)
    # Logarithms of powers that float32 knows to a part in 10⁵.
    exact = LogMel().double()(x)
    torch.testing.assert_close(LogMel()(x.float()).double(), exact, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_seconds": 0.00001}, "a frame needs 2 samples"),
        ({"hop_seconds": 0.0}, "every 0.0 s"),
        ({"floor": -1.0}, "must not be below 0"),
        ({"mels": 300}, "take fewer bands"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LogMel(**settings)


@pytest.mark.parametrize(
    "x", [torch.zeros(800), torch.zeros(2, 1, 800), torch.zeros(2, 0), torch.zeros(2, 800).long()]
)
def test_what_is_no_waveform_is_refused(x):
    with pytest.raises(ValueError, match=r"Waveforms \[B, samples\] of floats were expected"):
        LogMel()(x)
