"""A neural process knows what it does not know: waves seen at 1, 5 and 10 points, with a band.

    python examples/uncertainty.py [--steps 2000] [--out uncertainty.png]

An attentive neural process learns sine waves from 1 to 10 points each. The picture shows a wave
that it never saw, its mean and two standard deviations to both sides; the table how far off it is,
and how often the truth lies inside the band. Takes a minute or less on a laptop.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

import quickstudy as qs
from quickstudy.episodes import Episode, Sinusoids
from quickstudy.inputs import FeatureInputs

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=2000, help="of meta-training")
parser.add_argument("--episodes", type=int, default=500, help="new waves to be judged on")
parser.add_argument("--out", default="uncertainty.png", help="the picture")
options = parser.parse_args()

TASKS = 16
SHOWN = (1, 5, 10)


class WavesOfFewPoints:
    """Tasks may come from anything that has these three attributes and an ``episode``."""

    def __init__(self) -> None:
        self.inputs, self.ways, self.tasks = FeatureInputs(1), 1, TASKS
        self.of_points = [Sinusoids(points, 20, TASKS) for points in range(1, 11)]

    def episode(self, index: int, tasks: slice | None = None) -> Episode:
        """Waves of one point, next waves of two, up to ten and again."""
        return self.of_points[index % 10].episode(index, tasks)


torch.manual_seed(0)
strategy = qs.strategies.AttentiveNeuralProcess(
    qs.encoders.MLP((1,), (64,)), target_size=1, latent=False, width=64, layers=1
)
qs.fit(
    strategy,
    WavesOfFewPoints(),
    tasks=TASKS,
    steps=options.steps,
    learning_rate=2e-3,
    schedule="cosine",
    log_every=500,
)
strategy.eval()


def predicted(episode: Episode, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation at ``x``, both ``[T, Q, 1]``."""
    with torch.no_grad():
        return strategy.predict_distribution(strategy.adapt(episode.support, 1), x)


print("points   mean squared error   inside two deviations   mean deviation")
for points in SHOWN:
    new = Sinusoids(points, 100, options.episodes, seed=1).episode(0)
    mean, deviation = predicted(new, new.query.inputs)
    off = (new.query.targets - mean).abs()
    inside = (off < 2 * deviation).float().mean()
    squares = off.square().mean()
    print(f"{points:6} {squares:20.3f} {inside:23.1%} {deviation.mean():16.3f}")

figure = Figure(figsize=(12, 3.5), layout="constrained")
FigureCanvasAgg(figure)
x = torch.linspace(-5, 5, 200)[None, :, None]
for axes, points in zip(figure.subplots(1, len(SHOWN), sharey=True), SHOWN, strict=True):
    wave = Sinusoids(points, 500, 1, seed=4).episode(0)  # the same one, seen at more points
    mean, deviation = (each[0, :, 0] for each in predicted(wave, x))
    truth = wave.query.inputs[0, :, 0].sort()
    axes.plot(truth.values, wave.query.targets[0, truth.indices, 0], "--", color="#777777")
    axes.fill_between(x[0, :, 0], mean - 2 * deviation, mean + 2 * deviation, alpha=0.25)
    axes.plot(x[0, :, 0], mean)
    axes.plot(wave.support.inputs[0, :, 0], wave.support.targets[0, :, 0], "o", color="black")
    axes.set_title(f"{points} point{'s' * (points > 1)}")
Path(options.out).parent.mkdir(parents=True, exist_ok=True)
figure.savefig(options.out, dpi=130)
print(f"The picture is {options.out}.")
