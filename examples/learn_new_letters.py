"""Meta-train on letters of some scripts, then learn letters of others from one example each.

    python examples/learn_new_letters.py [--steps 300] [--out runs/letters]

Takes a minute or two on a laptop; nothing is downloaded.
"""

import argparse

import quickstudy as qs

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--episodes", type=int, default=500)
parser.add_argument("--out", default="runs/letters")
options = parser.parse_args()

parts = qs.load_dataset("glyphs").split()
strategy = qs.strategies.PrototypicalNetwork(qs.encoders.Conv4(input_shape=(1, 28, 28)))
qs.fit(
    strategy,
    parts["train"],
    parts["validation"],
    ways=20,
    queries=5,
    steps=options.steps,
    out=options.out,
)

run = qs.load(options.out)
report = qs.evaluate(run, parts["test"], ways=5, shots=1, episodes=options.episodes)
print(report)
