"""Mistakes of the caller are one kind of error, and the usual kinds too."""

import ast
import pickle
from pathlib import Path

import pytest

import quickstudy
from quickstudy.errors import InputError, MissingFileError, UserError

SOURCES = Path(quickstudy.__file__).parent
WRAPS_ANY_ERROR = {"sweeps/executors.py"}


@pytest.mark.parametrize(
    ("kind", "usual"), [(InputError, ValueError), (MissingFileError, FileNotFoundError)]
)
def test_a_mistake_is_caught_as_such_and_as_the_usual_error(kind, usual):
    assert issubclass(kind, usual)
    assert issubclass(kind, UserError)
    again = pickle.loads(pickle.dumps(kind("What to do.")))  # it crosses process borders
    assert type(again) is kind
    assert str(again) == "What to do."


def test_the_library_marks_what_the_caller_did_wrong(tmp_path):
    with pytest.raises(quickstudy.UserError, match="is not a run"):
        quickstudy.load(tmp_path / "nowhere")
    with pytest.raises(quickstudy.UserError, match="learning_rate is -1"):
        quickstudy.Trainer(learning_rate=-1)


def test_every_value_error_of_this_package_is_marked():
    unmarked = [
        f"{path.relative_to(SOURCES)}:{node.lineno}"
        for path in SOURCES.rglob("*.py")
        if path.relative_to(SOURCES).as_posix() not in WRAPS_ANY_ERROR
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("ValueError", "FileNotFoundError")
    ]
    assert not unmarked, "raise quickstudy.errors.InputError or MissingFileError instead"
