"""What tests of strategies share: small episodes, in float64 so that tolerances mean something."""

import pytest
import torch

from quickstudy.episodes import Episode, Examples


@pytest.fixture
def make_episode():
    """A function that makes an episode of random numbers, the same for the same arguments."""

    def make(shape, ways=3, tasks=2, shots=None, queries=2, seed=0):
        """``shots[k]`` examples for class k, or two for each; their order is shuffled."""
        generator = torch.Generator().manual_seed(seed)
        shots = [2] * ways if shots is None else shots

        def examples(each):
            targets = torch.arange(ways).repeat_interleave(torch.tensor(each))
            targets = torch.stack(
                [targets[torch.randperm(len(targets), generator=generator)] for _ in range(tasks)]
            )
            noise = torch.randn(*targets.shape, *shape, generator=generator, dtype=torch.float64)
            centres = torch.randn(tasks, ways, *shape, generator=generator, dtype=torch.float64)
            of_own = torch.stack([centres[t, targets[t]] for t in range(tasks)])
            return Examples(noise + of_own, targets)

        return Episode(examples(shots), examples([queries] * ways), ways)

    return make
