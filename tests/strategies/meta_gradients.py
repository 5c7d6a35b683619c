"""The gradient of a strategy's loss, by autograd and by finite differences, and its use."""

import torch

from quickstudy.episodes import Sinusoids

# In float64 two ways to write one computation differ by rounding only; a few thousand operations
# and the division by small batch variances leave ten good digits and more.
SAME = {"rtol": 1e-8, "atol": 1e-11}


def gradients_of(strategy, episode):
    """The loss, and its gradient by each parameter."""
    names, parameters = zip(*strategy.named_parameters(), strict=True)
    loss = strategy.loss(episode)[0]
    return loss.detach(), dict(
        zip(names, torch.autograd.grad(loss, parameters, materialize_grads=True), strict=True)
    )


def finite_differences(strategy, episode, step=1e-5):
    """The gradient by central differences.

    They err by about step² (third derivatives) and by rounding / step: 1e-10 each in float64.
    """
    gradients = {}
    for name, parameter in strategy.named_parameters():
        flat, differences = parameter.detach().view(-1), []
        for i in range(len(flat)):
            value, sides = flat[i].item(), []
            for side in (value + step, value - step):
                flat[i] = side
                with torch.no_grad():
                    sides.append(float(strategy.loss(episode)[0]))
            flat[i] = value
            differences.append((sides[0] - sides[1]) / (2 * step))
        gradients[name] = torch.tensor(differences, dtype=torch.float64).view_as(parameter)
    return gradients


def as_on_a_gpu(monkeypatch):
    """Lets tasks be mapped by vmap, as they are on a GPU."""
    monkeypatch.setattr("quickstudy.strategies.functional.is_small", lambda tensor: True)


def errors_of_sine_waves(strategy, steps=80):
    """The mean squared error on 40 waves, before and after a little training on others."""
    unseen, waves = (Sinusoids(tasks=tasks, seed=tasks) for tasks in (40, 4))
    optimizer = torch.optim.Adam(strategy.parameters(), 0.01)
    before = strategy.loss(unseen.episode(0))[0].item()
    for step in range(steps):
        optimizer.zero_grad()
        strategy.loss(waves.episode(step))[0].backward()
        optimizer.step()
    return before, strategy.loss(unseen.episode(0))[0].item()
