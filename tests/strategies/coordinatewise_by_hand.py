"""Descent by an LSTM over coordinates in plain loops, by which tests judge such strategies."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from .inner_loops_by_hand import network_by_hand, query_loss_by_hand


def preprocessed_by_hand(numbers):
    """``[n, 2]``, number by number."""
    pairs = []
    for x in numbers.flatten().tolist():
        if abs(x) >= math.exp(-10):
            pairs.append((math.log(abs(x)) / 10, math.copysign(1, x)))
        else:
            pairs.append((-1.0, math.exp(10) * x))
    return torch.tensor(pairs, dtype=torch.float64)


def zeros_by_hand(layers, coordinates, hidden):
    return [(torch.zeros(coordinates, hidden).double(),) * 2 for _ in range(layers)]


def lstm_by_hand(phi, name, x, state):
    """torch's own cell for each layer, coordinates for a batch: x ``[n, inputs]``."""
    after = []
    for layer, memory in enumerate(state):
        weight, bias = phi[f"{name}.weights.{layer}"], phi[f"{name}.biases.{layer}"][:, 0]
        hidden, inputs = len(weight) // 4, x.shape[1]
        # Rows here belong to i, f, o and g, torch's to i, f, g and o.
        order = torch.cat([torch.arange(4 * hidden).view(4, hidden)[n] for n in (0, 1, 3, 2)])
        weight, bias = weight[order], bias[order]
        parameters = {
            "weight_ih": weight[:, :inputs],
            "weight_hh": weight[:, inputs:],
            "bias_ih": bias,
            "bias_hh": torch.zeros_like(bias),
        }
        cell = nn.LSTMCell(inputs, hidden).double()
        after.append(functional_call(cell, parameters, (x, memory)))
        x = after[-1][0]
    return x, after


def meta_gradient_by_hand(phi, episode, steps, remember, move, *, transductive=False):
    """The loss, and its gradient by all of ``phi``.

    ``remember(n)`` is the memory of the n coordinates of a tensor before the first step;
    ``move(theta, gradient, loss, memory)`` gives their new values and memory.
    """
    losses = []
    for task in range(episode.tasks):
        x, y = episode.support.inputs[task], episode.support.targets[task]
        theta = {n: p for n, p in phi.items() if n.startswith(("encoder.", "head."))}
        memory = {name: remember(each.numel()) for name, each in theta.items()}
        for _ in range(steps):
            logits, _ = network_by_hand(theta, x, blocks=2)
            loss = F.cross_entropy(logits, y)
            gradients = torch.autograd.grad(loss, list(theta.values()))
            for name, gradient in zip(list(theta), gradients, strict=True):
                moved, memory[name] = move(
                    theta[name].flatten(), gradient.flatten(), loss.detach(), memory[name]
                )
                theta[name] = moved.view_as(theta[name])
        losses.append(query_loss_by_hand(theta, episode, task, transductive=transductive))
    loss = torch.stack(losses).mean()
    return loss.detach(), dict(zip(phi, torch.autograd.grad(loss, list(phi.values())), strict=True))
