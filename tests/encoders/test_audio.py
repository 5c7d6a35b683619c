"""AudioCNN and AudioGRU: sounds of any length to vectors, and what they learn."""

import json
import math

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.encoders import AudioCNN, AudioGRU, Conv4, LogMel, feature_maps, map_shape
from quickstudy.encoders.audio import SpecAugment
from quickstudy.encoders.sequences import mean_and_maximum
from quickstudy.episodes import Episode, Examples
from quickstudy.inputs import AudioInputs
from quickstudy.saving.description import build, describe
from quickstudy.strategies import CNAPS, MAML, PrototypicalNetwork

from .conftest import lively

KINDS = [AudioCNN, AudioGRU]
# Sums of float64 in another order.
SAME = {"rtol": 1e-9, "atol": 1e-9}

each_kind = pytest.mark.parametrize("kind", KINDS)


def small(kind, **arguments):
    torch.manual_seed(0)
    size = {"channels": 4, "blocks": 2} if kind is AudioCNN else {"width": 8, "layers": 1}
    settings = {"input_shape": (1600,), "rate": 4000, "mels": 12, "hop_seconds": 0.02}
    return kind(**(settings | {"window_seconds": 0.03} | size | arguments))


def sounds(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(*shape, generator=generator, dtype=torch.float64)


def chirps(count, rising, generator, samples=1600):
    """Tones that go up or down by an octave, from anywhere, in some noise."""
    time = torch.linspace(0, 1, samples)
    start = 300 * torch.exp2(torch.rand(count, 1, generator=generator))
    bend = time**2 / 2 if rising else time - time**2 / 2
    phase = 2 * math.pi * 0.4 * start * (time + bend)
    return torch.sin(phase) + 0.05 * torch.randn(count, samples, generator=generator)


# --- vectors ---


@each_kind
@pytest.mark.parametrize("samples", [1, 100, 1600, 5000])
def test_vectors_are_as_long_as_stated_whatever_the_length_of_a_sound(kind, samples):
    encoder = lively(small(kind))
    vectors = encoder(sounds(3, samples))
    assert encoder.input_shape == (1600,)
    assert vectors.shape == (3, encoder.out_features)
    assert vectors.isfinite().all()
    assert (samples == 1) or (vectors.std(0) > 0).any()


def test_the_sizes_of_the_standard_networks():
    cnn, gru = AudioCNN(), AudioGRU()
    assert cnn.out_features == 2 * 64 * 4  # mean and maximum; 64 bands are halved four times
    assert gru.out_features == 2 * 128
    assert cnn(torch.zeros(1, 32000)).shape == (1, 512)
    assert gru(torch.zeros(1, 32000)).shape == (1, 256)


def test_the_cnn_is_conv4_on_log_mels_and_their_mean_and_maximum_over_time():
    encoder, x = lively(small(AudioCNN)), sounds(3, 1600)
    conv4 = Conv4((1, 12, 19), 4, blocks=2).double().eval()
    conv4.load_state_dict(encoder.network.state_dict())
    maps = conv4.maps(LogMel(4000, 0.03, 0.02, 12).double()(x))
    assert maps.shape == (3, 4, 3, 4)
    expected = torch.cat([maps.mean(3).flatten(1), maps.amax(3).flatten(1)], 1)
    torch.testing.assert_close(encoder(x), expected, **SAME)
    torch.testing.assert_close(feature_maps(encoder, x), maps, **SAME)
    assert map_shape(encoder) == (4, 3, 4)


def test_the_gru_reads_a_few_frames_at_once_and_keeps_mean_and_maximum():
    encoder, x = lively(small(AudioGRU)), sounds(3, 1600)
    bands = F.pad(encoder.log_mel(x)[:, 0].mT, (0, 0, 0, 1))  # 19 frames, by fours
    steps = torch.stack([bands[:, i : i + 4].mT.reshape(3, 48) for i in range(0, 20, 4)], 1)
    read, present = encoder.reading(steps), torch.ones(3, 5, dtype=torch.bool)
    states = encoder.norm(encoder.recurrent[0](read, present[..., None]))
    torch.testing.assert_close(encoder(x), mean_and_maximum(states, present), **SAME)


@each_kind
def test_neither_loudness_nor_other_sounds_change_a_vector(kind):
    encoder, x = lively(small(kind)), sounds(4, 1600)
    together = encoder(x)
    torch.testing.assert_close(encoder(x[2:3])[0], together[2], **SAME)
    # But for what stands for the rounding to 16 bits.
    torch.testing.assert_close(encoder(x / 10), together, rtol=1e-3, atol=1e-3)


@each_kind
def test_how_much_silence_stands_behind_a_sound_changes_nothing(kind):
    encoder, x = lively(small(kind)), sounds(2, 1000)
    # Beyond what the convolutions of the CNN see of the silence.
    one, two = encoder(F.pad(x, (0, 1500))), encoder(F.pad(x, (0, 4000)))
    torch.testing.assert_close(one, two, **SAME)
    assert not torch.allclose(one[0], one[1], atol=0.1)


@each_kind
def test_digital_silence_is_a_vector_of_finite_numbers(kind):
    encoder = lively(small(kind))
    vectors = encoder(torch.zeros(2, 1600, dtype=torch.float64))
    vectors.sum().backward()
    assert (vectors == 0).all()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@each_kind
def test_in_bfloat16_vectors_are_about_the_same(kind):
    encoder, x = lively(small(kind)).float(), sounds(4, 1600).float()
    exact = encoder(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(x).float()
    # bfloat16 keeps 8 bits; a few layers add up some of them.
    assert (rounded - exact).abs().max() < 0.05 * exact.abs().max()


# --- learning ---


@pytest.fixture
def episode():
    """Two tasks of two classes: tones that rise, and tones that fall."""
    generator = torch.Generator().manual_seed(0)

    def examples():
        x = torch.stack([chirps(8, rising, generator) for rising in (False, True)])
        x = x.view(2, 2, 4, -1).transpose(0, 1).flatten(1, 2)
        return Examples(x, torch.arange(2).repeat_interleave(4).expand(2, -1))

    return Episode(examples(), examples(), ways=2)


def strategies(kind):
    yield PrototypicalNetwork(small(kind))
    yield MAML(small(kind), ways=2, inner_steps=2, inner_learning_rate=0.1)
    if kind is AudioCNN:
        yield CNAPS(small(kind))


@each_kind
def test_strategies_learn_with_it(kind, episode):
    for strategy in strategies(kind):
        optimizer = torch.optim.Adam(strategy.parameters(), 0.003)
        losses = []
        for _ in range(6):
            optimizer.zero_grad()
            loss = strategy.loss(episode)[0]
            loss.backward()
            losses.append(loss.item())
            optimizer.step()
        for name, parameter in strategy.named_parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), name
        assert losses[-1] < losses[0]


@each_kind
def test_it_learns_whether_a_tone_rises(kind):
    """Which the mean over time of a spectrum does not tell."""
    encoder = small(kind, **({"channels": 8} if kind is AudioCNN else {"width": 16}))
    head = nn.Linear(encoder.out_features, 2)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 0.01)
    generator = torch.Generator().manual_seed(0)

    def batch(count):
        x = torch.cat([chirps(count, rising, generator) for rising in (False, True)])
        return x, torch.arange(2).repeat_interleave(count)

    for _ in range(25):
        x, targets = batch(16)
        optimizer.zero_grad()
        F.cross_entropy(head(encoder(x)), targets).backward()
        optimizer.step()
    x, targets = batch(100)
    right = (head(encoder.eval()(x)).argmax(-1) == targets).float().mean()
    assert right > 0.9  # half are right by chance


@each_kind
def test_inner_loops_run_for_all_tasks_at_once(kind, episode):
    strategy = MAML(lively(small(kind)), ways=2, inner_steps=2, inner_learning_rate=0.1).double()
    inputs, queries = episode.support.inputs.double(), episode.query.inputs.double()

    def outputs(inputs, targets, queries):
        return strategy.answer(strategy.descend(inputs, targets), queries)

    arguments = (inputs, episode.support.targets, queries)
    at_once = torch.func.vmap(outputs)(*arguments)
    one_by_one = torch.stack([outputs(*task) for task in zip(*arguments, strict=True)])
    torch.testing.assert_close(at_once, one_by_one, rtol=1e-7, atol=1e-8)  # two inner steps
    parameters = list(strategy.parameters())
    found = [
        torch.autograd.grad(logits.square().mean(), parameters) for logits in (at_once, one_by_one)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-8)


# --- augmentation ---


def test_spec_augment_hides_a_stretch_of_bands_and_a_stretch_of_frames():
    torch.manual_seed(0)
    augment, x = SpecAugment(3, 5), torch.ones(400, 1, 12, 20)
    hidden = augment(x)[:, 0] == 0
    bands, frames = hidden.all(2), hidden.all(1)
    assert torch.equal(hidden, bands[:, :, None] | frames[:, None, :])
    for masks, widest in ((bands, 3), (frames, 5)):
        widths = masks.sum(1)
        # Uniform: 400 sounds in 4 or 6 equal parts, three deviations.
        counts = widths.bincount(minlength=widest + 1).double()
        assert len(counts) == widest + 1
        expected = 400 / (widest + 1)
        assert (counts - expected).abs().max() < 3 * expected**0.5
        assert (masks.long().diff(dim=1).abs().sum(1) <= 2).all()  # in one piece
        assert masks.any(0).all()  # anywhere
    assert torch.equal(augment.eval()(x), x)


@each_kind
def test_masks_are_drawn_in_training_only_from_torchs_generator(kind):
    encoder, x = small(kind, widest_band=6, longest_gap=10), sounds(3, 1600).float()
    if kind is AudioCNN:
        encoder.network.eval()  # whose averages would go on

    def drawn(seed):
        torch.manual_seed(seed)
        return encoder(x)

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.allclose(drawn(0), drawn(1), atol=1e-3)
    encoder.eval()
    plain = small(kind).eval()
    assert torch.equal(drawn(0), plain(x))


# --- saved and refused ---


@each_kind
def test_a_description_and_a_state_make_it_again(kind, tmp_path):
    encoder, x = lively(small(kind, widest_band=2, longest_gap=3)), sounds(2, 1600)
    again = build(json.loads(json.dumps(describe(encoder)))).double().eval()
    assert describe(again) == describe(encoder)
    assert not torch.equal(again(x), encoder(x))
    torch.save(encoder.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(again(x), encoder(x))


@each_kind
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"input_shape": (1, 28, 28)}, r"reads waveforms \[samples\]"),
        ({"input_shape": (0,)}, r"reads waveforms \[samples\]"),
        ({"mels": 0}, "0 bands"),
        ({"widest_band": -1}, "up to -1 bands"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_refused(kind, arguments, why):
    with pytest.raises(ValueError, match=why):
        small(kind, **arguments)


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="each must be at least 1"):
        small(AudioGRU, frames_at_once=0)
    with pytest.raises(ValueError, match="must be even"):
        small(AudioGRU, width=7)
    with pytest.raises(ValueError, match="too small to be halved"):
        small(AudioCNN, mels=3)


# --- real recordings ---


def recorded_words(folder, speakers):
    """Waveforms ``[speakers, takes, words, samples]``."""
    inputs = AudioInputs(16000, 1.28)
    rows = pq.read_table(folder / "train.parquet").to_pylist()
    chosen = sorted({row["speaker"] for row in rows})[:speakers]
    rows = [row for row in rows if row["speaker"] in chosen]
    rows.sort(key=lambda row: (row["speaker"], row["take"], row["word"]))
    stored = torch.stack([inputs.decode(row["audio"]["bytes"]) for row in rows])
    return inputs.prepare(stored).view(speakers, 2, 20, -1)


@each_kind
def test_even_untrained_it_tells_the_words_of_a_speaker_apart(kind, data_root):
    """A recording is nearer to the other one of the same word than to those of 19 others."""
    folder = data_root / "dspspeech20"
    if not folder.is_dir():
        pytest.skip(f"dspspeech20 is not in {data_root}.")
    x = recorded_words(folder, speakers=4)
    torch.manual_seed(0)
    encoder = kind((20480,)).eval()
    with torch.no_grad():
        vectors = encoder(x.flatten(0, 2)).view(4, 2, 20, -1)
    nearest = torch.cdist(vectors[:, 0], vectors[:, 1]).argmin(2)
    right = (nearest == torch.arange(20)).float().mean()
    assert right > 0.25  # a twentieth is right by chance
