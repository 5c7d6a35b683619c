"""An inner loop in plain loops, by which tests judge strategies of gradient steps."""

import torch
import torch.nn.functional as F

from quickstudy.encoders import Conv4


def network_by_hand(p, x, blocks, statistics=None):
    """Logits, and the batch's mean and biased variance at each normalisation."""
    seen = []
    for block in range(blocks):
        x = F.conv2d(x, p[f"encoder.convolutions.{block}.weight"], padding=1)
        seen.append((x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)))
        mean, var = seen[-1] if statistics is None else statistics[block]
        x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        scale, shift = p[f"encoder.norms.{block}.weight"], p[f"encoder.norms.{block}.bias"]
        x = F.max_pool2d(F.relu(x * scale[:, None, None] + shift[:, None, None]), 2)
    return x.flatten(1) @ p["head.weight"].T + p["head.bias"], seen


def shaken(make, seed=0, ways=3, side=8, channels=3, blocks=2, keep=("rates",), **arguments):
    """A strategy in float64 whose numbers are all away from the special values they start at."""
    torch.manual_seed(seed)
    encoder = Conv4((1, side, side), channels, blocks=blocks)
    strategy = make(encoder, ways=ways, **arguments).double()
    with torch.no_grad():
        for name, parameter in strategy.named_parameters():
            if not name.startswith(keep):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return strategy


def leaves(strategy):
    """φ by name, as tensors of their own."""
    return {n: p.detach().clone().requires_grad_() for n, p in strategy.named_parameters()}


def theta_by_hand(phi, inputs, targets, steps, rate_of, *, second_order=True):
    """θ_S of one task. ``rate_of(name, step)`` is the step size of a tensor; phi names all."""
    theta = dict(phi)
    for step in range(steps):
        logits, _ = network_by_hand(theta, inputs, blocks=2)
        loss = F.cross_entropy(logits, targets)
        found = torch.autograd.grad(loss, list(theta.values()), create_graph=second_order)
        theta = {
            name: theta[name] - rate_of(name, step) * gradient
            for name, gradient in zip(theta, found, strict=True)
        }
    return theta


def query_loss_by_hand(theta, episode, task, *, transductive=False):
    statistics = None
    if not transductive:
        _, statistics = network_by_hand(theta, episode.support.inputs[task], blocks=2)
    logits, _ = network_by_hand(theta, episode.query.inputs[task], 2, statistics)
    return F.cross_entropy(logits, episode.query.targets[task])


def meta_gradient_by_hand(
    phi, episode, steps, rate_of, *, learner=None, second_order=True, transductive=False
):
    """The loss, and its gradient by all of ``phi``; ``learner`` names what θ is (all of phi)."""
    learner = list(phi) if learner is None else learner
    losses = []
    for task in range(episode.tasks):
        theta = theta_by_hand(
            {name: phi[name] for name in learner},
            episode.support.inputs[task],
            episode.support.targets[task],
            steps,
            rate_of,
            second_order=second_order,
        )
        losses.append(query_loss_by_hand(theta, episode, task, transductive=transductive))
    loss = torch.stack(losses).mean()
    return loss.detach(), dict(zip(phi, torch.autograd.grad(loss, list(phi.values())), strict=True))
