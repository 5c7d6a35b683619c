"""Meta-Baseline on cases solved by hand."""

import pytest
import torch
from torch import nn

from quickstudy.encoders import Conv4
from quickstudy.episodes import Examples
from quickstudy.strategies import MetaBaseline
from quickstudy.training import Trainer

from ...builders import make_blobs

# The mean of class 0 is (2, 0), that of class 1 is (0, 1).
SUPPORT = Examples(torch.tensor([[[1.0, 3.0], [0.0, 1.0], [3.0, -3.0]]]), torch.tensor([[0, 1, 0]]))


def test_logits_are_ten_times_the_cosine_to_the_mean_of_the_features_as_they_are():
    strategy = MetaBaseline(nn.Flatten())
    query = torch.tensor([[[3.0, 4.0], [-5.0, 0.0]]])
    logits = strategy.predict(strategy.adapt(SUPPORT, ways=2), query)
    torch.testing.assert_close(logits, torch.tensor([[[6.0, 8.0], [-10.0, 0.0]]]))


def test_the_temperature_is_learned_from_where_it_is_said_to_start(make_episode):
    episode = make_episode((4,))
    strategy = MetaBaseline(nn.Flatten(), scale=4.0).double()
    assert [name for name, _ in strategy.named_parameters()] == ["tau"]
    assert strategy.tau.item() == 4.0
    loss = strategy.loss(episode)[0]
    loss.backward()
    # dL/dτ: the mean over queries of the expected cosine less that of the right class.
    logits = strategy(episode).detach()
    cosines, shares = logits / 4, logits.softmax(-1)
    right = cosines.gather(2, episode.query.targets[:, :, None])[..., 0]
    expected = ((shares * cosines).sum(-1) - right).mean()
    torch.testing.assert_close(strategy.tau.grad, expected, rtol=1e-6, atol=1e-9)  # τ is float32


def test_it_starts_from_a_run_that_learned_by_ordinary_classification(tmp_path):
    from quickstudy.strategies import SimpleShot

    data = make_blobs()
    first = SimpleShot(Conv4((1, 8, 8), 4, blocks=2), classes=len(data.class_names))
    settings = {"steps": 2, "show_progress": False}
    Trainer(batch_size=8, **settings).fit(first, data, out=tmp_path / "first")
    second = MetaBaseline(Conv4((1, 8, 8), 4, blocks=2))
    Trainer(
        ways=2, queries=1, learning_rate=1e-12, start_from=str(tmp_path / "first"), **settings
    ).fit(second, data, out=tmp_path / "second")
    for (name, before), after in zip(
        first.encoder.named_parameters(), second.encoder.parameters(), strict=True
    ):
        torch.testing.assert_close(after, before, msg=name)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_turns_near_and_far_around_is_refused(scale):
    with pytest.raises(ValueError, match="give more than 0"):
        MetaBaseline(nn.Flatten(), scale=scale)
