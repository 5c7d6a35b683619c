"""Implicit MAML against a dense solve, finite differences, and what autograd holds."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.encoders import MLP, Conv4
from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import IMAML
from quickstudy.strategies.gradient.imaml import conjugate_gradients
from quickstudy.training.task_memory import held_bytes

from ..meta_gradients import errors_of_sine_waves, finite_differences, gradients_of

# Both are solved until rounding is all that is left; conditions are below a hundred.
SOLVED = {"rtol": 1e-7, "atol": 1e-9}


class Smooth(nn.Module):
    """An encoder without corners, so that finite differences are good anywhere."""

    out_features = 3

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x).tanh()


def identity(length):
    encoder = nn.Identity()
    encoder.out_features = length
    return encoder


def made(encoder, ways=3, seed=0, **arguments):
    torch.manual_seed(seed)
    strategy = IMAML(encoder, ways, **arguments).double()
    with torch.no_grad():
        for parameter in strategy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return strategy


def numbers(tasks=2, support=6, query=5, length=4, outputs=2):
    """Regression tasks."""
    torch.manual_seed(3)

    def examples(count):
        return Examples(
            torch.randn(tasks, count, length, dtype=torch.float64),
            torch.randn(tasks, count, outputs, dtype=torch.float64),
        )

    return Episode(examples(support), examples(query), outputs)


# --- the implicit gradient ---


@pytest.mark.parametrize("proximity", [0.5, 2.0])
def test_of_a_quadratic_problem_solution_and_meta_gradient_are_those_of_a_dense_solve(proximity):
    episode = numbers()
    strategy = made(
        identity(4),
        ways=2,
        inner_steps=1000,
        inner_learning_rate=0.2,
        proximity=proximity,
        solver_steps=30,
    )
    phi = torch.cat([p.detach().flatten() for p in strategy.head.parameters()])

    def loss(vector, examples, task):
        x, y = examples.inputs[task], examples.targets[task]
        return F.mse_loss(x @ vector[:8].view(2, 4).T + vector[8:], y)

    theta = strategy.adapt(episode.support, 2)
    expected = torch.zeros_like(phi)
    for task in range(2):
        of_task = [lambda v, task=task: loss(v, episode.support, task)]
        hessian = torch.autograd.functional.hessian(of_task[0], phi)
        slope = torch.autograd.functional.jacobian(of_task[0], phi)
        # ∇L(φ) + H (θ* − φ) + λ (θ* − φ) = 0
        solution = phi - torch.linalg.solve(hessian + proximity * torch.eye(10).double(), slope)
        found = torch.cat([theta[f"head.{kind}"][task].flatten() for kind in ("weight", "bias")])
        torch.testing.assert_close(found, solution, **SOLVED)
        right = torch.autograd.functional.jacobian(
            lambda v, task=task: loss(v, episode.query, task), solution
        )
        expected += torch.linalg.solve(torch.eye(10).double() + hessian / proximity, right) / 2
    _, gradients = gradients_of(strategy, episode)
    got = torch.cat([gradient.flatten() for gradient in gradients.values()])
    torch.testing.assert_close(got, expected, **SOLVED)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (Smooth, {}),
        (lambda: nn.Sequential(Smooth(), nn.BatchNorm1d(3)), {}),
        (lambda: nn.Sequential(Smooth(), nn.BatchNorm1d(3)), {"transductive": True}),
    ],
    ids=["plain", "batch", "transductive"],
)
def test_once_solved_the_meta_gradient_agrees_with_finite_differences(
    make_episode, make, arguments
):
    episode = make_episode((4,), shots=[3, 1, 2], tasks=1)
    encoder = make()
    encoder.out_features = 3
    # Where nothing bends, each step leaves 1 − 0.1 · 4 of the error.
    strategy = made(
        encoder,
        inner_steps=120,
        inner_learning_rate=0.1,
        proximity=4.0,
        solver_steps=60,
        **arguments,
    )
    _, gradients = gradients_of(strategy, episode)
    expected = finite_differences(strategy, episode)
    torch.testing.assert_close(gradients, expected, rtol=1e-5, atol=1e-7)
    assert all(gradient.abs().max() > 1e-4 for gradient in expected.values())


def test_the_meta_gradient_does_not_depend_on_how_the_problem_was_solved(make_episode):
    episode = make_episode((4,), shots=[3, 1, 2])
    slow, fast = (
        gradients_of(
            made(
                Smooth(),
                inner_steps=steps,
                inner_learning_rate=rate,
                proximity=4.0,
                solver_steps=60,
            ),
            episode,
        )
        for steps, rate in ((200, 0.05), (60, 0.15))
    )
    torch.testing.assert_close(slow, fast, **SOLVED)


def test_without_solver_steps_it_is_the_gradient_at_the_solution(make_episode):
    episode = make_episode((4,), shots=[3, 1, 2], tasks=1)
    strategy = made(Smooth(), inner_steps=20, solver_steps=0)
    theta = strategy.adapt(episode.support, 3)
    values = {name: each[0].detach().requires_grad_() for name, each in theta.items()}
    logits = strategy.outputs(values, episode.query.inputs[0], batch_statistics=False)
    found = torch.autograd.grad(
        F.cross_entropy(logits, episode.query.targets[0]), list(values.values())
    )
    _, gradients = gradients_of(strategy, episode)
    torch.testing.assert_close(list(gradients.values()), list(found), rtol=1e-9, atol=1e-12)


def test_more_solver_steps_come_nearer_to_the_exact_meta_gradient():
    episode, exact = numbers(), None
    distances = []
    for steps in (30, 0, 1, 3, 6):
        strategy = made(identity(4), ways=2, proximity=0.2, solver_steps=steps)
        vector = torch.cat([each.flatten() for each in gradients_of(strategy, episode)[1].values()])
        exact = vector if exact is None else exact
        distances.append((vector - exact).norm().item())
    assert distances[1:] == sorted(distances[1:], reverse=True)
    assert distances[-1] < 0.01 * distances[1]


# --- memory and the inner problem ---


def test_memory_does_not_grow_with_the_inner_steps(make_episode):
    episode = make_episode((1, 8, 8), shots=[3, 1, 2])
    few, many = (
        held_bytes(made(Conv4((1, 8, 8), 3, blocks=2), inner_steps=steps), episode)
        for steps in (1, 30)
    )
    assert few == many


def test_the_more_proximity_the_nearer_to_the_start(make_episode):
    support = make_episode((4,), shots=[3, 1, 2]).support
    distances = []
    for proximity in (0.01, 0.1, 1.0, 5.0):
        strategy = made(Smooth(), inner_steps=200, proximity=proximity)
        theta = strategy.adapt(support, 3)
        moved = [theta[n][0] - p for n, p in strategy.start().items()]
        distances.append(sum(each.square().sum().item() for each in moved))
    assert distances == sorted(distances, reverse=True)


def test_it_learns_sine_waves():
    torch.manual_seed(0)
    strategy = IMAML(MLP((1,), (20, 20)), 1, inner_steps=10, inner_learning_rate=0.01)
    before, after = errors_of_sine_waves(strategy)
    assert after < 0.8 * before


# --- conjugate gradients ---


def test_conjugate_gradients_solve_in_as_many_steps_as_there_are_numbers():
    torch.manual_seed(0)
    root = torch.randn(7, 7, dtype=torch.float64)
    matrix, right = root @ root.T + torch.eye(7), torch.randn(7, dtype=torch.float64)
    expected = torch.linalg.solve(matrix, right)
    for steps in (7, 50):
        got = conjugate_gradients(lambda v: matrix @ v, right, steps)
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)


def test_conjugate_gradients_end_before_a_direction_of_negative_curvature():
    matrix = torch.diag(torch.tensor([3.0, 1.0, -1.0]).double())
    right = torch.tensor([1.0, 1.0, 0.1]).double()
    directions = []

    def product(vector):
        directions.append(vector)
        return matrix @ vector

    got = conjugate_gradients(product, right, 10)
    assert all(v @ matrix @ v > 0 for v in directions[:-1])
    assert directions[-1] @ matrix @ directions[-1] <= 0
    torch.testing.assert_close(
        got, conjugate_gradients(lambda v: matrix @ v, right, len(directions) - 1)
    )
    assert torch.equal(conjugate_gradients(lambda v: -v, right, 10), right)


def test_conjugate_gradients_of_nothing_are_nothing():
    nothing = torch.zeros(3, dtype=torch.float64)
    assert not conjugate_gradients(lambda v: 2 * v, nothing, 5).any()


# --- what cannot be ---


@pytest.mark.parametrize("arguments", [{"proximity": 0.0}, {"solver_steps": -1}], ids=str)
def test_no_proximity_and_negative_steps_are_refused(arguments):
    with pytest.raises(ValueError, match="must be more than 0, the second may not be negative"):
        IMAML(identity(4), **arguments)
