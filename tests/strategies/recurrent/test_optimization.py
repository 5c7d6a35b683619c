"""Families of optimisation problems, and truncated backpropagation through their solution."""

import pytest
import torch
import torch.nn.functional as F

from quickstudy.strategies.recurrent.learned_optimizer import CoordinatewiseLSTM
from quickstudy.strategies.recurrent.optimization import (
    Quadratics,
    classifiers,
    optimize,
    quadratics,
    train_optimizer,
    unrolled,
)


def some_quadratics(problems=3, coordinates=4):
    found = quadratics(problems, 0, coordinates)
    return Quadratics(found.start.double(), found.matrices.double(), found.targets.double())


def small_optimizer():
    torch.manual_seed(0)
    return CoordinatewiseLSTM(hidden=5).double()


# --- problems ---


def test_quadratics_and_their_gradients_are_those_of_their_equation():
    problems = quadratics(4, 0)
    theta = torch.randn(4, 10)
    losses, gradients = problems.at(theta, 7)
    for number in range(4):
        w, y = problems.matrices[number], problems.targets[number]
        residual = w @ theta[number] - y
        torch.testing.assert_close(losses[number], residual @ residual)
        torch.testing.assert_close(gradients[number], 2 * w.T @ residual)


def test_quadratics_are_standard_normal_and_the_same_for_a_seed():
    problems = quadratics(200, 3, 20)
    # Means and deviations of 4,000 numbers and more, known to 2 or 3 %.
    assert float(problems.matrices.std()) == pytest.approx(1, abs=0.05)
    assert float(problems.targets.std()) == pytest.approx(1, abs=0.05)
    assert problems.start.abs().max() < 0.1
    assert torch.equal(problems.matrices, quadratics(200, 3, 20).matrices)
    assert not torch.equal(problems.matrices, quadratics(200, 4, 20).matrices)


EXAMPLES = torch.rand(6, 5, 7, generator=torch.Generator().manual_seed(0))


def test_classifiers_are_networks_of_one_sigmoid_layer():
    problems = classifiers(EXAMPLES, 3, 0, ways=4, hidden=5, batch_size=9)
    assert problems.start.shape == (3, 5 * 7 + 5 + 4 * 5 + 4)
    losses, gradients = problems.at(problems.start, 2)
    inputs, targets = problems.batch(2)
    assert inputs.shape == (3, 9, 7)
    for number in range(3):
        theta = problems.start[number].clone().requires_grad_()
        first, second = torch.nn.Linear(7, 5), torch.nn.Linear(5, 4)
        sizes = [35, 5, 20, 4]
        for parameter, piece in zip(
            [first.weight, first.bias, second.weight, second.bias],
            theta.detach().split(sizes),
            strict=True,
        ):
            parameter.data = piece.view_as(parameter).clone()
        loss = F.cross_entropy(second(torch.sigmoid(first(inputs[number]))), targets[number])
        torch.testing.assert_close(losses[number], loss.detach())
        loss.backward()
        expected = torch.cat(
            [each.grad.flatten() for layer in (first, second) for each in layer.parameters()]
        )
        torch.testing.assert_close(gradients[number], expected)


def test_classifiers_begin_as_linear_layers_do():
    start = classifiers(EXAMPLES, 200, 0, ways=4, hidden=5).start
    first, second = start[:, :40], start[:, 40:]
    assert 0.95 * 7**-0.5 < first.abs().max() <= 7**-0.5  # of thousands of uniform numbers
    assert 0.95 * 5**-0.5 < second.abs().max() <= 5**-0.5


def test_the_examples_of_a_problem_are_of_different_classes_of_the_data():
    problems = classifiers(EXAMPLES, 5, 0, ways=4)
    for inputs, targets in zip(problems.inputs, problems.targets, strict=True):
        sources = []
        for way in range(4):
            own = inputs[targets == way]
            (source,) = [n for n, each in enumerate(EXAMPLES) if torch.equal(each, own)]
            sources.append(source)
        assert len(set(sources)) == 4


def test_each_step_sees_other_examples_and_always_the_same():
    problems = classifiers(EXAMPLES, 2, 0, ways=4, batch_size=8)
    assert torch.equal(problems.batch(3)[0], problems.batch(3)[0])
    assert not torch.equal(problems.batch(3)[0], problems.batch(4)[0])
    assert not torch.equal(problems.batch(3)[0][0], problems.batch(3)[0][1])


def test_more_classes_than_there_are_are_refused():
    with pytest.raises(ValueError, match="Problems of 7 classes were asked for, but there are 6"):
        classifiers(EXAMPLES, 1, 0, ways=7)


# --- learning from them ---


def windows_by_hand(optimizer, problems, steps, window):
    """For each window its loss and gradient, by autograd through everything but the gradients."""
    theta, memory = problems.start, optimizer.init(problems.start)
    found = []
    for first in range(0, steps, window):
        losses = []
        for step in range(first, min(first + window, steps)):
            leaf = theta.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(problems.losses(leaf, step).sum(), leaf)
            move, memory = optimizer.step(gradient, memory)
            theta = theta + move
            losses.append(problems.losses(theta, step + 1).mean())
        loss = sum(losses) / len(losses)
        found.append((loss.detach(), torch.autograd.grad(loss, list(optimizer.parameters()))))
        theta, memory = theta.detach(), tuple((h.detach(), c.detach()) for h, c in memory)
    return found


@pytest.mark.parametrize(("steps", "window"), [(6, 3), (5, 2), (4, 4), (3, 20), (3, 1)])
def test_truncated_gradients_are_those_of_autograd(steps, window):
    optimizer, problems = small_optimizer(), some_quadratics()
    expected = windows_by_hand(optimizer, problems, steps, window)
    found = [
        (loss.detach(), torch.autograd.grad(loss, list(optimizer.parameters())))
        for loss in unrolled(optimizer, problems, steps, window)
    ]
    torch.testing.assert_close(found, expected)
    assert all(each.abs().max() > 1e-6 for each in found[-1][1])  # something to see


def test_truncated_gradients_of_classifiers_are_those_of_autograd():
    optimizer, problems = small_optimizer().float(), classifiers(EXAMPLES, 2, 0, 4, hidden=3)
    expected = windows_by_hand(optimizer, problems, 4, 2)
    found = [
        (loss.detach(), torch.autograd.grad(loss, list(optimizer.parameters())))
        for loss in unrolled(optimizer, problems, 4, 2)
    ]
    torch.testing.assert_close(found, expected)


def test_the_losses_on_the_way_are_those_that_training_sees():
    optimizer, problems = small_optimizer(), some_quadratics()
    path = optimize(optimizer, problems, 6)
    assert path.shape == (7, 3)
    torch.testing.assert_close(path[0], problems.losses(problems.start, 0))
    seen = torch.stack([loss.detach() for loss in unrolled(optimizer, problems, 6, 2)])
    torch.testing.assert_close(path[1:].view(3, 2, 3).mean((1, 2)), seen)


def test_problems_are_solved_the_same_alone_and_beside_others():
    optimizer, problems = small_optimizer(), some_quadratics()
    path = optimize(optimizer, problems, 5)
    for number in range(3):
        own = slice(number, number + 1)
        alone = Quadratics(problems.start[own], problems.matrices[own], problems.targets[own])
        torch.testing.assert_close(optimize(optimizer, alone, 5)[:, 0], path[:, number])


def test_an_optimiser_learns_to_solve_problems_it_never_saw():
    torch.manual_seed(0)
    optimizer, unseen = CoordinatewiseLSTM(hidden=8), quadratics(32, 10**6, 3)
    before = optimize(optimizer, unseen, 20)[-1].mean()
    adam = torch.optim.Adam(optimizer.parameters(), 0.02)
    found = train_optimizer(
        optimizer,
        lambda problems, seed: quadratics(problems, seed, 3),
        adam,
        range(40),
        problems=16,
        steps=20,
        window=10,
    )
    assert len(found) == 40
    after = optimize(optimizer, unseen, 20)[-1].mean()
    assert after < 0.5 * before
    assert after < 0.7 * unseen.losses(unseen.start, 0).mean()


def test_training_that_is_cut_in_two_is_the_same():
    found = []
    for parts in ([range(4)], [range(2), range(2, 4)]):
        optimizer = small_optimizer().float()
        adam = torch.optim.Adam(optimizer.parameters(), 0.01)
        for part in parts:
            train_optimizer(optimizer, quadratics, adam, part, problems=2, steps=6, window=3)
        found.append([each.detach().clone() for each in optimizer.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize(("steps", "window"), [(0, 5), (5, 0)])
def test_no_steps_are_refused(steps, window):
    with pytest.raises(ValueError, match="both must be at least 1"):
        next(unrolled(small_optimizer(), some_quadratics(), steps, window))
