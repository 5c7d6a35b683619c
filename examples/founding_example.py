"""A network reads ten points of a wave and emits all parameters of another, which knows the wave.

    python examples/founding_example.py [--steps 2000]

Strategy network and learner have dense layers of 128 and 64 units; the strategy network learns by
Adam at a rate of 0.01, to make the learner's mean squared error on other points of the same wave
small. On waves that are new to both, the emitted learner is compared with one that is trained on
the ten points from scratch, by Adam at the same rate. Takes about two minutes on a laptop.
"""

import argparse
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

import quickstudy as qs
from quickstudy.episodes import Episode, Sinusoids

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=2000, help="of meta-training")
parser.add_argument("--episodes", type=int, default=200, help="new waves to be judged on")
parser.add_argument("--scratch_steps", type=int, default=1000, help="of training from scratch")
options = parser.parse_args()

POINTS = 10
UNITS = (128, 64)
LEARNING_RATE = 0.01


def from_scratch(episode: Episode) -> Tensor:
    """Predictions ``[T, Q, 1]`` of learners that are trained on one wave's ten points each."""
    widths = [1, *UNITS, 1]
    layers = [[torch.nn.Linear(a, b) for _ in range(episode.tasks)] for a, b in pairwise(widths)]
    weights = [torch.stack([one.weight.detach() for one in layer]) for layer in layers]
    biases = [torch.stack([one.bias.detach() for one in layer]) for layer in layers]
    parameters = [each.requires_grad_() for each in (*weights, *biases)]

    def outputs(x: Tensor) -> Tensor:
        for weight, bias in zip(weights, biases, strict=True):
            x = x if weight is weights[0] else x.relu()
            x = torch.baddbmm(bias[:, None], x, weight.mT)
        return x

    optimizer = torch.optim.Adam(parameters, LEARNING_RATE)
    for _ in range(options.scratch_steps):
        optimizer.zero_grad()
        errors = F.mse_loss(outputs(episode.support.inputs), episode.support.targets)
        (episode.tasks * errors).backward()  # each learner by its own mean
        optimizer.step()
    return outputs(episode.query.inputs).detach()


torch.manual_seed(0)
strategy = qs.strategies.WholeHypernetwork(
    encoder=qs.encoders.MLP((1,), UNITS),  # the strategy network reads the ten points through this
    learner=qs.encoders.MLP((1,), UNITS),  # whose parameters are emitted, those of a last layer too
    target_size=1,
    width=UNITS[1],
)
qs.fit(
    strategy,
    Sinusoids(shots=POINTS, queries=50, tasks=16),
    tasks=16,
    steps=options.steps,
    optimizer="adam",
    learning_rate=LEARNING_RATE,
    # What a rate of 0.01 asks of a network with attention: to begin and to end gently.
    warmup_steps=options.steps // 10,
    schedule="cosine",
    clip_norm=1.0,
    log_every=250,
)

new = Sinusoids(shots=POINTS, queries=100, tasks=options.episodes, seed=1).episode(0)
strategy.eval()
with torch.no_grad():
    emitted = F.mse_loss(strategy(new), new.query.targets)
scratch = F.mse_loss(from_scratch(new), new.query.targets)
print(f"Mean squared error on {new.tasks} new waves, each seen at {POINTS} points:")
print(f"  learner trained on the points from scratch  {float(scratch):.4f}")
print(f"  learner emitted by the strategy network     {float(emitted):.4f}")
