"""MAML++ against plain loops with rates, normalisation weights and losses for each step."""

import pytest
import torch
import torch.nn.functional as F

from quickstudy.strategies import MAML, MAMLPlusPlus
from quickstudy.training import fit
from quickstudy.training.tasks import MetaGradient

from ...builders import make_blobs
from ..inner_loops_by_hand import leaves, network_by_hand, shaken
from ..meta_gradients import SAME, gradients_of

NOTHING_MORE = {
    "multi_step_passes": 0,
    "first_order_passes": 0,
    "learn_inner_rates": False,
    "step_weights": False,
    "step_statistics": False,
}
NORMS = ("encoder.norms.0", "encoder.norms.1")


def plus_plus(passes=0, **arguments):
    """One in the middle of its training, with rates and averages that differ from step to step."""
    settings = {"inner_steps": 3, "inner_learning_rate": 0.2} | arguments
    strategy = shaken(MAMLPlusPlus, **settings)
    strategy.passes = passes
    with torch.no_grad():
        if strategy.rates is not None:
            strategy.rates.mul_(1 + torch.rand_like(strategy.rates))
        for name, buffer in strategy.named_buffers():
            if name.startswith("step_norms"):
                buffer.add_(torch.rand_like(buffer))
    return strategy


def weights_by_hand(phi, step):
    """The normalisation weights of a step, by the names that ``network_by_hand`` reads."""
    return {
        f"{name}.{kind}": phi[f"step_norms.{number}.{kind}"][step]
        for number, name in enumerate(NORMS)
        for kind in ("weight", "bias")
    }


def path_by_hand(phi, inputs, targets, steps, *, second_order=True, statistics=None):
    """θ_0 .. θ_S with the weights of their steps; ``statistics[s]`` normalises step s, if given."""
    learner = [n for n in phi if not n.startswith(("rates", "step_norms"))]
    theta = {name: phi[name] for name in learner}
    path = [theta | weights_by_hand(phi, 0)]
    for step in range(steps):
        given = None if statistics is None else statistics[step]
        logits, _ = network_by_hand(theta | weights_by_hand(phi, step), inputs, 2, given)
        found = torch.autograd.grad(
            F.cross_entropy(logits, targets), list(theta.values()), create_graph=second_order
        )
        theta = {
            name: theta[name] - phi["rates"][step, number] * gradient
            for number, (name, gradient) in enumerate(zip(learner, found, strict=True))
        }
        path.append(theta | weights_by_hand(phi, step + 1))
    return path


# --- the loss ---


@pytest.mark.parametrize("transductive", [False, True], ids=["inductive", "transductive"])
def test_with_nothing_switched_on_it_is_maml(make_episode, transductive):
    episode = make_episode((1, 8, 8))
    arguments = {"inner_steps": 2, "transductive": transductive}
    expected = gradients_of(shaken(MAML, inner_learning_rate=0.1, **arguments), episode)
    strategy = shaken(MAMLPlusPlus, **NOTHING_MORE, **arguments)
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)


@pytest.mark.parametrize("passes", [0, 6, 10])
@pytest.mark.parametrize("second_order", [True, False], ids=["second order", "first order"])
@pytest.mark.parametrize("kind", ["running", "support", "transductive"])
def test_all_of_it_at_once_is_what_plain_loops_give(make_episode, passes, second_order, kind):
    episode = make_episode((1, 8, 8), shots=[3, 2, 1])
    strategy = plus_plus(
        passes,
        multi_step_passes=10,
        first_order_passes=0 if second_order else 100,
        step_statistics=kind == "running",
        transductive=kind == "transductive",
    )
    share = 1 - passes / 10
    weights = [share / 3, share / 3, share / 3 + 1 - share]
    phi = leaves(strategy)
    total = 0
    for task in range(2):
        inputs, targets = episode.support.inputs[task], episode.support.targets[task]
        path = path_by_hand(phi, inputs, targets, 3, second_order=second_order)
        for weight, theta in zip(weights, path[1:], strict=True):
            _, statistics = network_by_hand(theta, inputs, 2)
            queries = episode.query.inputs[task]
            logits, _ = network_by_hand(
                theta, queries, 2, statistics if kind == "support" else None
            )
            total = total + weight * F.cross_entropy(logits, episode.query.targets[task]) / 2
    gradients = torch.autograd.grad(total, list(phi.values()))
    expected = total.detach(), dict(zip(phi, gradients, strict=True))
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)


def test_the_loss_moves_from_all_steps_to_the_last():
    strategy = plus_plus(inner_steps=4, multi_step_passes=8)
    expected = {0: [1 / 4] * 4, 4: [1 / 8, 1 / 8, 1 / 8, 5 / 8], 8: [0, 0, 0, 1], 99: [0, 0, 0, 1]}
    for passes, weights in expected.items():
        strategy.passes = passes
        assert strategy.loss_weights() == pytest.approx(weights)
    assert plus_plus(multi_step_passes=0).loss_weights() == [0, 0, 1]


def test_every_improvement_changes_the_gradient(make_episode):
    """So that each can be switched off by itself."""
    episode = make_episode((1, 8, 8))

    def gradient(**arguments):
        return gradients_of(plus_plus(**arguments), episode)[1]["encoder.convolutions.0.weight"]

    everything = gradient()
    for switch in (
        {"multi_step_passes": 0},
        {"first_order_passes": 0},
        {"learn_inner_rates": False},
        {"step_weights": False},
        {"step_statistics": False},
    ):
        assert (gradient(**switch) - everything).norm() > 1e-3 * everything.norm(), switch


# --- use ---


def test_in_use_support_and_query_are_normalised_by_the_running_averages_of_their_step(
    make_episode,
):
    episode = make_episode((1, 8, 8), shots=[3, 2, 1])
    strategy = plus_plus().eval()
    phi, buffers = leaves(strategy), dict(strategy.named_buffers())
    statistics = [
        [(buffers[f"step_norms.{n}.mean"][s], buffers[f"step_norms.{n}.var"][s]) for n in (0, 1)]
        for s in range(4)
    ]
    logits = strategy(episode)
    for task in range(2):
        inputs, targets = episode.support.inputs[task], episode.support.targets[task]
        theta = path_by_hand(phi, inputs, targets, 3, statistics=statistics)[-1]
        expected, _ = network_by_hand(theta, episode.query.inputs[task], 2, statistics[3])
        torch.testing.assert_close(logits[task], expected, **SAME)


def test_more_steps_in_use_go_on_with_what_belongs_to_the_last(make_episode):
    support = make_episode((1, 8, 8)).support
    longer = plus_plus(test_inner_steps=4).eval()
    by_hand = plus_plus(inner_steps=4).eval()
    with torch.no_grad():
        by_hand.rates.copy_(longer.rates[[0, 1, 2, 2]])
        for name, tensor in [*by_hand.named_parameters(), *by_hand.named_buffers()]:
            if name != "rates":
                given = (
                    longer.get_parameter(name)
                    if name in dict(longer.named_parameters())
                    else (longer.get_buffer(name))
                )
                steps = name.startswith("step_norms")
                tensor.copy_(given[[0, 1, 2, 3, 3]] if steps else given)
    torch.testing.assert_close(longer.adapt(support, 3), by_hand.adapt(support, 3))


# --- what training counts and averages ---


def test_a_training_pass_takes_the_supports_statistics_at_every_step_into_the_averages(
    make_episode,
):
    episode = make_episode((1, 8, 8), shots=[3, 2, 1])
    strategy = plus_plus()
    before = {name: buffer.clone() for name, buffer in strategy.named_buffers()}
    phi = leaves(strategy)
    strategy.loss(episode)
    found = []  # [task][step][norm] -> mean, variance
    for task in range(2):
        inputs, targets = episode.support.inputs[task], episode.support.targets[task]
        path = path_by_hand(phi, inputs, targets, 3)
        found.append([network_by_hand(theta, inputs, 2)[1] for theta in path])
    for number in (0, 1):
        for which, kind in enumerate(("mean", "var")):
            name = f"step_norms.{number}.{kind}"
            of_tasks = [
                torch.stack([of_step[number][which] for of_step in task]).detach() for task in found
            ]
            expected = 0.9 * before[name] + 0.1 * (of_tasks[0] + of_tasks[1]) / 2
            torch.testing.assert_close(strategy.get_buffer(name), expected, **SAME)


def test_passes_are_counted_in_training_only(make_episode):
    episode = make_episode((1, 8, 8))
    strategy = plus_plus()
    strategy.loss(episode)
    strategy.loss(episode)
    assert strategy.passes == 2
    strategy.eval().loss(episode)
    strategy(episode)
    assert strategy.passes == 2


def test_first_order_ends_after_its_passes(make_episode):
    episode = make_episode((1, 8, 8))
    arguments = {"multi_step_passes": 0, "first_order_passes": 2}
    strategy = plus_plus(**arguments)
    found = [gradients_of(strategy, episode)[1] for _ in range(3)]
    first, second = (
        gradients_of(plus_plus(multi_step_passes=0, first_order_passes=passes), episode)[1]
        for passes in (100, 0)
    )
    for got, expected in zip(found, (first, first, second), strict=True):
        torch.testing.assert_close(got, expected, **SAME)


@pytest.mark.parametrize("way", ["side by side", "in one call"])
def test_it_does_not_matter_how_the_tasks_of_a_step_are_computed(make_episode, monkeypatch, way):
    tasks = make_episode((1, 8, 8), tasks=5)
    if way == "in one call":
        monkeypatch.setattr(MetaGradient, "_side_by_side", MetaGradient._together)
    results = []
    for at_once in (1, 3):
        strategy = plus_plus(multi_step_passes=4, first_order_passes=2).train()
        compute = MetaGradient(strategy, at_once=at_once)
        for _ in range(3):  # into the second order
            sums = compute.sums(tasks, 1 / 5)
            for buffer, total in zip(strategy.buffers(), sums.averages, strict=True):
                buffer.copy_(total / 5)
        compute.close()
        assert strategy.passes == 3
        results.append({n: p.grad for n, p in strategy.named_parameters()})
        results[-1] |= dict(strategy.named_buffers())
    torch.testing.assert_close(*results, **SAME)


def test_a_run_that_was_resumed_is_the_run_without_a_break(tmp_path):
    def run(out, steps, resume=False):
        torch.manual_seed(0)
        strategy = MAMLPlusPlus(
            shaken(MAML).float().encoder,
            ways=3,
            inner_steps=2,
            multi_step_passes=6,
            first_order_passes=3,
        )
        data = make_blobs()
        settings = {"ways": 3, "queries": 2, "tasks": 2, "show_progress": False}
        fit(strategy, data, out=out, resume=resume, steps=steps, **settings)
        return strategy

    whole = run(tmp_path / "whole", 5)
    run(tmp_path / "parts", 2)
    resumed = run(tmp_path / "parts", 5, resume=True)
    assert whole.passes == resumed.passes == 5
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


# --- what cannot be ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"multi_step_passes": -1}, "neither may be negative"),
        ({"first_order_passes": -1}, "neither may be negative"),
        ({"inner_steps": -1}, "neither may be negative"),
        ({"transductive": True}, "set step_statistics to false"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        shaken(MAMLPlusPlus, **arguments)
