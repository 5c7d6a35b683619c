"""What the catalogue says of strategies and their arguments."""

import pytest

from quickstudy.strategies.catalogue import arguments, strategies


@pytest.mark.parametrize("name", [entry.name for entry in strategies()])
def test_every_argument_is_explained(name):
    for argument in arguments(name):
        assert argument.help, argument.name
        assert "**" not in argument.help


def test_arguments_that_strategies_share_are_explained_once():
    shared = {each.name: each.help for each in arguments("MAML")}
    assert shared["inner_steps"] == "gradient steps S in meta-training."
    own = {each.name: each.help for each in arguments("IMAML")}
    assert "enough that" in own["inner_steps"]
