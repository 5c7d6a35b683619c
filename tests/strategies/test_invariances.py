"""What every strategy of the package keeps to, whatever its method."""

import copy
import inspect

import pytest
import torch

import quickstudy.strategies as package
from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import EmbeddingStrategy, Strategy

from .cases import amortized, closed_form, finetune, gradient, metric, recurrent, transductive
from .cases.case import SHAPE, WAYS, Case

CASES: dict[str, dict[str, Case]] = {
    **amortized.CASES,
    **closed_form.CASES,
    **finetune.CASES,
    **gradient.CASES,
    **metric.CASES,
    **recurrent.CASES,
    **transductive.CASES,
}


def strategies_of_the_package() -> list[str]:
    """Names of the strategies that can be made: concrete classes in the package's ``__all__``."""
    public = ((name, getattr(package, name)) for name in package.__all__)
    return [
        name
        for name, thing in public
        if inspect.isclass(thing) and issubclass(thing, Strategy) and not inspect.isabstract(thing)
    ]


@pytest.mark.parametrize("name", strategies_of_the_package())
def test_every_strategy_has_a_case_here(name):
    if not CASES.get(name):
        pytest.fail(
            f"{name} has no entry in the tables CASES beside {__file__}: say in cases/, in the "
            "file of its family, how to make it, and all tests of this module will cover it.",
            pytrace=False,
        )


each_strategy = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{name}: {variant}")
        for name, variants in CASES.items()
        for variant, case in variants.items()
    ],
)


def made(case: Case, seed: int = 0) -> Strategy:
    """The strategy in float64, no number at a special value (0 or 1) that it may start with."""
    torch.manual_seed(seed)
    strategy = case.make().double()
    with torch.no_grad():
        for parameter in strategy.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for name, buffer in strategy.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand_like(buffer))
    return strategy.eval()


def logits(strategy: Strategy, support: Examples, queries: torch.Tensor) -> torch.Tensor:
    return strategy.predict(strategy.adapt(support, WAYS), queries).detach()


@pytest.fixture
def episode(make_episode) -> Episode:
    """Two tasks of unequal shots."""
    return make_episode(SHAPE, ways=WAYS, tasks=2, shots=[1, 3, 2])


# --- symmetries ---


@each_strategy
def test_renaming_the_classes_renames_the_predictions(case, episode):
    strategy, support = made(case), episode.support
    expected = logits(strategy, support, episode.query.inputs)
    renaming = torch.tensor([2, 0, 1])  # class k becomes renaming[k]
    renamed = Examples(support.inputs, renaming[support.targets])
    if case.parameters_of_classes:
        unmoved = logits(strategy, renamed, episode.query.inputs)
        # Else the exception is none, and its entry should go.
        assert not torch.allclose(unmoved[..., renaming], expected, rtol=1e-3)
        parameters = dict(strategy.named_parameters())
        with torch.no_grad():
            for name in case.parameters_of_classes:
                moved = parameters[name].clone()
                if moved.shape == (WAYS, WAYS):  # from classes to classes
                    moved[:, renaming] = moved.clone()
                parameters[name][renaming] = moved
    got = logits(strategy, renamed, episode.query.inputs)
    torch.testing.assert_close(got[..., renaming], expected, **case.same_rounding)


@each_strategy
def test_the_order_of_the_support_does_not_matter(case, episode):
    strategy, support = made(case), episode.support
    orders = torch.stack([torch.tensor([3, 5, 0, 1, 4, 2]), torch.tensor([5, 4, 3, 2, 1, 0])])
    tasks = torch.arange(2)[:, None]
    shuffled = Examples(support.inputs[tasks, orders], support.targets[tasks, orders])
    expected = logits(strategy, support, episode.query.inputs)
    got = logits(strategy, shuffled, episode.query.inputs)
    if case.reads_in_order:
        assert not torch.allclose(got, expected, rtol=1e-3)  # else the exception should go
    else:
        torch.testing.assert_close(got, expected, **case.same_rounding)


@each_strategy
def test_a_task_is_solved_the_same_alone_and_beside_others(case, episode):
    strategy = made(case)
    together = logits(strategy, episode.support, episode.query.inputs)
    for task in range(2):
        one = episode[task : task + 1]
        alone = logits(strategy, one.support, one.query.inputs)
        torch.testing.assert_close(alone[0], together[task], **case.same_rounding)


@each_strategy
def test_a_prediction_depends_on_the_other_queries_only_where_the_strategy_says_so(case, episode):
    strategy = made(case)
    theta = strategy.adapt(episode.support, WAYS)
    queries = episode.query.inputs
    expected = strategy.predict(theta, queries)[:, :1]
    alone = strategy.predict(theta, queries[:, :1])
    changed = torch.cat([queries[:, :1], 3 * queries[:, 1:] + 1], dim=1)
    among_others = strategy.predict(theta, changed)[:, :1]
    if strategy.transductive:
        assert not torch.allclose(alone, expected, rtol=1e-3)
        assert not torch.allclose(among_others, expected, rtol=1e-3)
    else:
        torch.testing.assert_close(alone, expected, **case.same_rounding)
        torch.testing.assert_close(among_others, expected, **case.same_rounding)


@each_strategy
def test_the_order_of_the_queries_does_not_matter(case, episode):
    """Also where a prediction depends on the other queries: it goes where its query goes."""
    strategy = made(case)
    theta = strategy.adapt(episode.support, WAYS)
    queries = episode.query.inputs
    order = torch.tensor([4, 0, 3, 5, 1, 2])
    expected = strategy.predict(theta, queries)
    got = strategy.predict(theta, queries[:, order])
    torch.testing.assert_close(got, expected[:, order], **case.same_rounding)


# --- θ and predictions ---


@each_strategy
def test_theta_is_a_dict_of_tensors_with_the_task_first_and_predictions_are_finite(case, episode):
    strategy = made(case)
    theta = strategy.adapt(episode.support, WAYS)
    assert type(theta) is dict
    for name, value in theta.items():
        assert isinstance(name, str)
        assert isinstance(value, torch.Tensor)
        assert value.shape[0] == 2, name
    predictions = strategy.predict(theta, episode.query.inputs)
    assert predictions.shape == (2, 2 * WAYS, WAYS)
    assert predictions.isfinite().all()
    assert predictions.std() > 1e-3  # it does say something
    # What is stored and looked at task by task predicts as before.
    swapped = {name: value.detach()[[1, 0]].clone() for name, value in theta.items()}
    got = strategy.predict(swapped, episode.query.inputs[[1, 0]])
    torch.testing.assert_close(got[[1, 0]], predictions, **case.same_rounding)


@each_strategy
def test_an_episode_is_adapting_then_predicting(case, episode):
    strategy = made(case)
    expected = logits(strategy, episode.support, episode.query.inputs)
    torch.testing.assert_close(strategy(episode).detach(), expected, **case.same_rounding)


@each_strategy
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_outer_gradients_are_needed(case, episode, mode):
    strategy = made(case)
    expected = logits(strategy, episode.support, episode.query.inputs)
    with mode():
        theta = strategy.adapt(episode.support, WAYS)
        got = strategy.predict(theta, episode.query.inputs)
    assert not got.requires_grad
    torch.testing.assert_close(got, expected, **case.same_rounding)


# --- φ ---


@each_strategy
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_gradients_of_the_loss_reach_every_parameter(case, episode, training):
    strategy = made(case).train(training)
    if not list(strategy.parameters()):
        pytest.skip("there is nothing to learn")
    if not strategy.episodic:  # it learns from batches of all classes, without support
        nothing = Examples(episode.support.inputs[:, :0], episode.support.targets[:, :0])
        episode = Episode(nothing, episode.query, WAYS)
    loss = strategy.loss(episode)[0]
    assert loss.shape == ()
    loss.backward()
    for name, parameter in strategy.named_parameters():
        if name.startswith(case.frozen):
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A parameter without use would have exactly zero, or rounding (1e-16).
        assert parameter.grad.abs().max() > 1e-10, name


@each_strategy
def test_turns_are_tasks_that_are_embedded_once(case, make_episode, monkeypatch):
    episode = make_episode(SHAPE, ways=WAYS, tasks=2, shots=[1] * WAYS)
    strategy = made(case)
    if not (isinstance(strategy, EmbeddingStrategy) and strategy.episodic):
        pytest.skip("it has no vectors that turns could share")
    if strategy.condition(episode.support, WAYS):
        with pytest.raises(ValueError, match=r"depends on the support\. Use support_rotations=1"):
            strategy.rotated_loss(episode, 3)
        return

    state = torch.get_rng_state()
    expected = strategy.loss(episode.rotated(3))[0]
    torch.set_rng_state(state)
    encode, encoded = strategy.encode, []
    monkeypatch.setattr(strategy, "encode", lambda *a: encoded.append(1) or encode(*a))
    found = strategy.rotated_loss(episode, 3)[0]
    torch.testing.assert_close(found, expected, **case.same_rounding)
    assert len(encoded) == 1


@each_strategy
def test_a_saved_state_predicts_the_same(case, episode, tmp_path):
    strategy, other = made(case), made(case, seed=1)
    expected = logits(strategy, episode.support, episode.query.inputs)
    if strategy.state_dict():
        assert not torch.equal(logits(other, episode.support, episode.query.inputs), expected)
    torch.save(strategy.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(logits(other, episode.support, episode.query.inputs), expected)


@each_strategy
def test_a_copy_is_a_strategy_of_its_own(case, episode):
    strategy = made(case)
    expected = logits(strategy, episode.support, episode.query.inputs)
    other = copy.deepcopy(strategy)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(logits(strategy, episode.support, episode.query.inputs), expected)


@each_strategy
def test_use_changes_neither_the_strategy_nor_its_examples(case, episode):
    strategy = made(case)
    before = {
        name: tensor.detach().clone()
        for name, tensor in [*strategy.named_parameters(), *strategy.named_buffers()]
    }
    given = copy.deepcopy(episode)
    first = logits(strategy, episode.support, episode.query.inputs)
    after = dict([*strategy.named_parameters(), *strategy.named_buffers()])
    assert list(after) == list(before)
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]), name
    for name, parameter in strategy.named_parameters():
        assert parameter.requires_grad != name.startswith(case.frozen), name
    assert all(parameter.grad is None for parameter in strategy.parameters())
    for part, same in ((episode.support, given.support), (episode.query, given.query)):
        assert torch.equal(part.inputs, same.inputs)
        assert torch.equal(part.targets, same.targets)
    assert torch.equal(logits(strategy, episode.support, episode.query.inputs), first)
