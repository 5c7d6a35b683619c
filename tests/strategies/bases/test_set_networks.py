"""Networks that read a labelled set: what they may depend on, and what not."""

import pytest
import torch

from quickstudy.strategies.bases.set_networks import SetNetwork, reading_order

KINDS = ["cnn", "rnn", "transformer"]
# Reordering a set changes the order of sums, so only the last of 16 digits.
ROUNDING = {"rtol": 1e-9, "atol": 1e-9}


def network(kind, width=8, layers=2):
    """In double precision, with no weight at a special value that would hide a dependence."""
    torch.manual_seed(0)
    net = SetNetwork(kind, features=5, width=width, layers=layers).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def shuffled(support, seed=5):
    generator = torch.Generator().manual_seed(seed)
    each = support.targets.shape[1]
    order = torch.stack([torch.randperm(each, generator=generator) for _ in range(support.tasks)])
    features = support.inputs.gather(1, order[:, :, None].expand_as(support.inputs))
    return features, support.targets.gather(1, order), order


@pytest.mark.parametrize("shots", [[1, 1, 1], [3, 1, 2]])
def test_the_reading_order_depends_on_the_examples_and_not_on_their_list(make_episode, shots):
    support = make_episode((5,), shots=shots, tasks=4).support
    each = support.targets.shape[1]
    order = reading_order(support.inputs, support.targets, 3)
    assert order.sort(-1).values.tolist() == [list(range(each))] * 4
    features, targets, shuffle = shuffled(support)
    assert torch.equal(shuffle.gather(1, reading_order(features, targets, 3)), order)
    renaming = torch.tensor([2, 0, 1])
    assert torch.equal(reading_order(support.inputs, renaming[support.targets], 3), order)


def test_the_reading_order_goes_class_by_class(make_episode):
    support = make_episode((5,), shots=[3, 1, 2], tasks=4).support
    read = support.targets.gather(1, reading_order(support.inputs, support.targets, 3))
    changes = (read[:, 1:] != read[:, :-1]).sum(-1)
    assert changes.tolist() == [2] * 4


def test_the_reading_order_of_a_case_by_hand():
    features = torch.tensor([[[9.0, 1.0], [0.0, 0.0], [2.0, 2.0], [3.0, 3.0]]])
    # Means of the entries: 5, 0, 2, 3; class 0 has 3.5, class 1 has 1.5.
    assert reading_order(features, torch.tensor([[0, 1, 0, 1]]), 2).tolist() == [[1, 3, 2, 0]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ways", [1, 2, 5])
def test_one_code_for_each_class_and_one_for_the_task(make_episode, kind, ways):
    support = make_episode((5,), ways=ways).support
    classes, task = network(kind)(support.inputs, support.targets, ways)
    assert classes.shape == (2, ways, 8)
    assert task.shape == (2, 8)
    torch.testing.assert_close(task, classes.mean(1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_examples_does_not_matter(make_episode, kind):
    support = make_episode((5,), shots=[3, 1, 2]).support
    net = network(kind)
    features, targets, _ = shuffled(support)
    expected = net(support.inputs, support.targets, 3)
    torch.testing.assert_close(net(features, targets, 3), expected, **ROUNDING)


@pytest.mark.parametrize("kind", KINDS)
def test_renaming_classes_renames_their_codes_and_nothing_else(make_episode, kind):
    support = make_episode((5,), shots=[3, 1, 2]).support
    net = network(kind)
    renaming = torch.tensor([2, 0, 1])
    classes, task = net(support.inputs, support.targets, 3)
    renamed, same_task = net(support.inputs, renaming[support.targets], 3)
    torch.testing.assert_close(renamed[:, renaming], classes, **ROUNDING)
    torch.testing.assert_close(same_task, task, **ROUNDING)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_and_other_examples_are_read(make_episode, kind):
    """A code depends on which examples share a class, and on those of the other classes."""
    support = make_episode((5,), tasks=1).support
    net = network(kind)
    classes, _ = net(support.inputs, support.targets, 3)
    of_class = [(support.targets[0] == way).nonzero().flatten() for way in range(3)]
    changed = support.inputs.clone()
    changed[0, of_class[1]] *= 1.1  # small, so that the reading order stays
    others, _ = net(changed, support.targets, 3)
    assert not torch.allclose(others[0, 0], classes[0, 0], rtol=1e-6, atol=1e-6)
    swapped = support.targets.clone()
    swapped[0, of_class[0][0]], swapped[0, of_class[1][0]] = 1, 0
    relabelled, _ = net(support.inputs, swapped, 3)
    assert not torch.allclose(relabelled[0, 2], classes[0, 2], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_are_read_by_themselves(make_episode, kind):
    support = make_episode((5,), tasks=3).support
    net = network(kind)
    together = net(support.inputs, support.targets, 3)
    for task in range(3):
        one = support[task : task + 1]
        alone = net(one.inputs, one.targets, 3)
        torch.testing.assert_close(alone[0][0], together[0][task], **ROUNDING)
        torch.testing.assert_close(alone[1][0], together[1][task], **ROUNDING)


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ValueError, match="strategy network 'gru' is unknown; choose cnn, rnn or"):
        SetNetwork("gru", 5, 8, 1)
