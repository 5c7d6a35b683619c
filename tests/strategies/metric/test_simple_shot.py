"""SimpleShot on cases solved by hand, and the mean feature that it learns."""

import pytest
import torch
from torch import nn

from quickstudy.encoders import MLP
from quickstudy.episodes import BatchSampler, Episode, Examples
from quickstudy.runs import load
from quickstudy.strategies import SimpleShot
from quickstudy.training import Trainer
from quickstudy.training.tasks import MetaGradient

from ...builders import Raw, make_blobs

SUPPORT = Examples(torch.tensor([[[4.0, 5.0], [1.0, 2.0], [9.0, 1.0]]]), torch.tensor([[0, 1, 0]]))
QUERY = torch.tensor([[[1.0, 6.0], [4.0, 1.0]]])
MEAN = torch.tensor([1.0, 1.0])


def plain(transformation, mean=MEAN, **arguments):
    strategy = SimpleShot(Raw(2), transformation=transformation, **arguments)
    strategy.running_mean.copy_(mean)
    return strategy.eval()


def test_centred_features_of_length_one_are_compared_with_their_class_means():
    strategy = plain("CL2N", scale=1.0)
    theta = strategy.adapt(SUPPORT, ways=2)
    # Less the mean: (3, 4), (0, 1), (8, 0); of length one: (0.6, 0.8), (0, 1), (1, 0).
    torch.testing.assert_close(theta, {"centroids": torch.tensor([[[0.8, 0.4], [0.0, 1.0]]])})
    logits = strategy.predict(theta, QUERY)  # the queries become (0, 1) and (1, 0)
    expected = -torch.tensor([[[0.64 + 0.36, 0.0], [0.04 + 0.16, 2.0]]])
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)  # float32 rounding


def test_the_three_transformations_do_what_their_names_say(make_episode):
    episode = make_episode((2,), shots=[1, 3, 2])
    for transformation in ("UN", "L2N", "CL2N"):
        strategy = plain(transformation, scale=2.0).double()

        def z(x, transformation=transformation):
            x = x - MEAN.double() if transformation == "CL2N" else x
            return x if transformation == "UN" else x / x.norm()

        logits = strategy(episode)
        for t in range(2):
            inputs, targets = episode.support.inputs[t], episode.support.targets[t]
            for q, x in enumerate(episode.query.inputs[t]):
                for k in range(3):
                    members = [z(each) for each, y in zip(inputs, targets, strict=True) if y == k]
                    distance = (z(x) - sum(members) / len(members)).norm()
                    torch.testing.assert_close(logits[t, q, k], -2 * distance**2)


def test_the_scale_changes_confidence_and_no_prediction(make_episode):
    episode = make_episode((2,))
    expected = plain("CL2N", scale=1.0).double()(episode)
    torch.testing.assert_close(plain("CL2N", scale=7.0).double()(episode), 7 * expected)


def batches(count, size, seed=0):
    inputs = torch.randn(count, size, 2, generator=torch.Generator().manual_seed(seed)) + 3
    targets = torch.arange(size).remainder(3).expand(count, size)
    return [
        Episode(Examples(x[None, :0], y[None, :0]), Examples(x[None], y[None]), ways=3)
        for x, y in zip(inputs, targets, strict=True)
    ]


def test_training_keeps_the_mean_feature_of_all_batches():
    strategy = SimpleShot(Raw(2), classes=3).train()
    strategy.running_mean.fill_(1e3)  # what it starts with must not matter
    seen = batches(5, 6)
    for batch in seen:
        strategy.loss(batch)
    expected = torch.cat([batch.query.inputs for batch in seen], 1).mean((0, 1))
    torch.testing.assert_close(strategy.running_mean, expected, rtol=1e-4, atol=1e-4)


def test_the_mean_feature_forgets_an_encoder_of_long_ago():
    strategy = SimpleShot(Raw(2), classes=3).train()
    for batch in batches(100, 6):
        strategy.loss(batch)
    before = strategy.running_mean.clone()
    last = batches(1, 6, seed=1)[0]
    strategy.loss(last)
    expected = 0.99 * before + 0.01 * last.query.inputs.mean((0, 1))
    torch.testing.assert_close(strategy.running_mean, expected)


def test_neither_evaluation_nor_a_task_changes_the_mean_feature(make_episode):
    strategy = SimpleShot(Raw(2), classes=3)
    batch = batches(1, 6)[0]
    strategy.train().loss(batch)
    before = strategy.running_mean.clone()
    strategy.eval().loss(batches(1, 6, seed=1)[0])
    strategy.train().double()(make_episode((2,)))
    assert torch.equal(strategy.running_mean, before.double())


@pytest.mark.parametrize("at_once", [1, 2])
def test_the_batches_of_a_step_count_as_one_larger_batch(at_once):
    strategy = SimpleShot(Raw(2), classes=3).train()
    for batch in batches(3, 6):
        strategy.loss(batch)
    before = strategy.running_mean.clone()
    step = batches(4, 6, seed=1)
    compute = MetaGradient(strategy, at_once=at_once)
    try:
        sums = compute.sums(Episode.joined(step), 1 / 4)
    finally:
        compute.close()
    [total] = sums.averages  # the trainer writes their mean into the buffers
    of_step = torch.cat([batch.query.inputs for batch in step], 1).mean((0, 1))
    torch.testing.assert_close(total.float() / 4, 0.75 * before + 0.25 * of_step)
    assert int(strategy.batches) == 4


def test_a_run_saves_the_mean_feature_of_its_training_data(tmp_path):
    data = make_blobs()
    torch.manual_seed(0)
    strategy = SimpleShot(MLP((1, 8, 8), [5]), classes=len(data.class_names))
    settings = Trainer(batch_size=8, tasks=2, steps=30, learning_rate=1e-12, show_progress=False)
    settings.fit(strategy, data, out=tmp_path / "run")
    loaded = load(tmp_path / "run").strategy
    assert torch.equal(loaded.running_mean, strategy.running_mean)
    # The encoder stood still, so the mean over 30 steps is that over their batches.
    sampler = BatchSampler(data, size=8, tasks=2)
    inputs = torch.cat([sampler.episode(step).query.inputs for step in range(30)])
    expected = loaded.encoder(inputs.flatten(0, 1)).mean(0)
    torch.testing.assert_close(loaded.running_mean, expected, rtol=1e-4, atol=1e-5)


def test_a_batch_of_other_classes_is_refused():
    with pytest.raises(ValueError, match="classes=3"):
        SimpleShot(Raw(2), classes=4).loss(batches(1, 6)[0])


def test_unknown_transformations_and_bad_scales_are_refused():
    with pytest.raises(ValueError, match="choose UN, L2N or CL2N"):
        SimpleShot(Raw(2), transformation="centred")
    with pytest.raises(ValueError, match="give more than 0"):
        SimpleShot(Raw(2), scale=0.0)
    with pytest.raises(ValueError, match="out_features"):
        SimpleShot(nn.Flatten())
