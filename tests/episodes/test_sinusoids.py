"""Sinusoids: waves with the paper's ranges, a function of (seed, index)."""

import math

import pytest
import torch

from quickstudy.episodes import Sinusoids


def test_points_lie_on_one_wave_with_amplitude_and_phase_in_range():
    episode = Sinusoids(shots=5, queries=200, tasks=300).episode(0)
    x = torch.cat([episode.support.inputs, episode.query.inputs], 1)[..., 0].double()
    y = torch.cat([episode.support.targets, episode.query.targets], 1)[..., 0].double()
    assert episode.support.inputs.shape == (300, 5, 1)
    assert episode.ways == 1
    assert (x.abs() <= 5).all()
    assert x.min() < -4.9
    assert x.max() > 4.9
    # y = a sin x + b cos x with a = A cos(phase), b = −A sin(phase).
    basis = torch.stack([x.sin(), x.cos()], -1)
    coefficients = torch.linalg.lstsq(basis, y[..., None]).solution
    residual = y - (basis @ coefficients)[..., 0]
    assert residual.abs().max() < 1e-4  # the waves are made in float32
    a, b = coefficients[:, :, 0].T
    amplitude, phase = torch.hypot(a, b), torch.atan2(-b, a)
    assert 0.1 <= amplitude.min() < 0.3
    assert 4.8 < amplitude.max() <= 5.0
    assert phase.min() > -1e-4
    assert phase.max() < math.pi + 1e-4
    assert abs(float(amplitude.mean()) - 2.55) < 0.25  # uniform: its error here is 0.08
    assert abs(float(phase.mean()) - math.pi / 2) < 0.16


def test_an_episode_depends_on_seed_and_index_alone():
    one, other = Sinusoids(tasks=4, seed=1), Sinusoids(tasks=4, seed=1)
    other.episode(0)
    assert torch.equal(one.episode(7).query.targets, other.episode(7).query.targets)
    assert not torch.equal(one.episode(7).query.targets, one.episode(8).query.targets)
    seeded = Sinusoids(tasks=4, seed=2)
    assert not torch.equal(one.episode(7).query.targets, seeded.episode(7).query.targets)


def test_tasks_are_the_same_however_many_an_episode_has():
    four, two = Sinusoids(tasks=4).episode(1), Sinusoids(tasks=2)
    halves = [two.episode(2), two.episode(3)]
    assert torch.equal(four.support.inputs, torch.cat([half.support.inputs for half in halves]))
    share = Sinusoids(tasks=4).episode(1, slice(1, None, 2))
    assert torch.equal(share.query.targets, four.query.targets[1::2])


def test_a_task_of_no_points_is_refused():
    with pytest.raises(ValueError, match="shots is 0"):
        Sinusoids(shots=0)
