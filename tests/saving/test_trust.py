"""Whose code may run: what runs, checkpoints and configurations make the package import."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
import yaml

import quickstudy as qs
from quickstudy.cli.parsing import parsed
from quickstudy.cli.reading import read
from quickstudy.cli.usage import COMMANDS
from quickstudy.datasets.sources.class_splits import read_class_splits
from quickstudy.inputs import inputs_from_dict
from quickstudy.runs import Checkpoint, load
from quickstudy.saving import tensor_file, trust
from quickstudy.saving.description import describe
from quickstudy.saving.rebuilding import build_to_fit
from quickstudy.saving.trust import check_config, check_trusted, is_trusted, trusting

from ..builders import command

MODULE = """
from pathlib import Path
from quickstudy.strategies import PrototypicalNetwork
Path(__file__).with_name("was_run").touch()
class Own(PrototypicalNetwork):
    "A strategy of somebody's own."
"""


@pytest.fixture
def somebodys(tmp_path, monkeypatch):
    """A folder with the module ``somebodys``, which is the current one; whether it was run."""
    (tmp_path / "somebodys.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUICKSTUDY_TRUST", raising=False)
    yield tmp_path / "was_run"
    sys.modules.pop("somebodys", None)


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint from elsewhere that names ``somebodys.Own``."""
    strategy = qs.strategies.PrototypicalNetwork(qs.encoders.MLP((1, 4, 4), hidden=(3,)))
    description = describe(strategy) | {"class_path": "somebodys.Own"}
    inputs = qs.inputs.ImageInputs(size=4, channels=1).to_dict()
    path = tmp_path / "a.safetensors"
    Checkpoint(description, inputs, dict(strategy.state_dict()), progress={"step": 1}).save(path)
    return path


def test_a_checkpoint_from_elsewhere_imports_nothing(somebodys, checkpoint, capsys):
    with pytest.raises(ValueError, match=r"'somebodys\.Own', which is not quickstudy's own"):
        load(checkpoint)
    assert command("evaluate", checkpoint, "--data", "glyphs") == 1
    assert "--trust somebodys.Own" in capsys.readouterr().err
    assert command("train", "--start_from", checkpoint, "--steps", 1, "--resume", "nowhere") == 1
    assert not somebodys.exists()


def test_what_the_user_names_is_imported(somebodys, checkpoint, monkeypatch):
    monkeypatch.syspath_prepend(somebodys.parent)
    run_ = load(checkpoint, trust=["somebodys.Own"])
    assert type(run_.strategy).__name__ == "Own"
    assert somebodys.exists()
    # The program has imported it by now, so naming it again would be no use.
    assert type(load(checkpoint).strategy).__name__ == "Own"


@pytest.mark.parametrize("listed", ["somebodys.Own", "other.X, somebodys.*"])
def test_the_users_list_holds_for_good(somebodys, checkpoint, monkeypatch, listed):
    monkeypatch.syspath_prepend(somebodys.parent)
    monkeypatch.setenv("QUICKSTUDY_TRUST", listed)
    assert type(load(checkpoint).strategy).__name__ == "Own"


def test_on_the_command_line_the_option_is_enough(somebodys, checkpoint, capsys):
    path = list(sys.path)
    words = ["--data", "glyphs", "--ways", 2, "--episodes", 2, "--queries", 1]
    command("evaluate", checkpoint, *words, "--trust", "somebodys.Own")
    assert somebodys.exists()
    assert "not quickstudy's own" not in capsys.readouterr().err
    assert sys.path == path
    assert "QUICKSTUDY_TRUST" not in os.environ


@pytest.mark.parametrize(
    "config",
    [
        {"strategy": {"class_path": "somebodys.Own"}},
        {"strategy": "somebodys.Own"},
        {"strategy.class_path": "somebodys.Own"},
        {"encoder": {"class_path": "somebodys.Own", "init_args": {}}},
        {
            "strategy": {
                "class_path": "quickstudy.strategies.FEAT",
                "init_args": {"x": "somebodys.Own"},
            }
        },
        {"strategy": {"class_path": "FEAT", "init_args": {"x": [{"class_path": "somebodys.Own"}]}}},
        {"augmentation": {"class_path": "somebodys.Own"}},
        {"optimizer": "somebodys.Own"},
        {"trust": ["somebodys.Own"], "strategy": "somebodys.Own"},
        # Of a string in the place of a class the parser reads the YAML in it.
        {"strategy": '{"class_path": "somebodys.Own"}'},
        {"strategy": "class_path: somebodys.Own"},
        {"strategy": "'somebodys.Own'"},
        {"strategy": "'{class_path: somebodys.Own}'"},
        {"encoder": '{"class\\u005fpath": "somebodys.Own"}'},
        {
            "strategy": {
                "class_path": "WholeHypernetwork",
                "init_args": {"learner": '{"class_path": "somebodys.Own"}'},
            }
        },
    ],
)
def test_a_configuration_from_elsewhere_imports_nothing(somebodys, config, capsys):
    (somebodys.parent / "a.yaml").write_text(yaml.safe_dump(config))
    assert command("train", "--config", "a.yaml", "--out", "out") == 1
    assert "'somebodys.Own', which is not quickstudy's own" in capsys.readouterr().err
    assert not somebodys.exists()
    assert not (somebodys.parent / "out").exists()


@pytest.mark.parametrize("value", ["somebodys.Own", '{"class_path": "somebodys.Own"}'])
def test_a_sweep_from_elsewhere_imports_nothing(somebodys, value, capsys):
    (somebodys.parent / "a.yaml").write_text(yaml.safe_dump({"sweep": {"strategy": [value]}}))
    assert command("sweep", "--config", "a.yaml", "--data", "glyphs", "--out", "out") == 1
    assert "'somebodys.Own', which is not quickstudy's own" in capsys.readouterr().err
    assert not somebodys.exists()


def test_a_configuration_may_not_lead_to_another_one(somebodys, capsys):
    (somebodys.parent / "b.yaml").write_text("class_path: somebodys.Own\n")
    for named in ("b.yaml", "./b.yaml"):
        (somebodys.parent / "a.yaml").write_text(f"strategy: {named}\n")
        assert command("train", "--config", "a.yaml", "--out", "out") == 1
    assert not somebodys.exists()


def test_what_was_typed_before_the_configuration_is_trusted_in_it(somebodys, monkeypatch):
    monkeypatch.syspath_prepend(somebodys.parent)
    (somebodys.parent / "a.yaml").write_text("strategy: somebodys.Own\n")
    given = read(COMMANDS["train"], ["--config", "a.yaml", "--trust", "somebodys.Own"])
    with trusting(given.classes):
        options = parsed(given)
    assert options.strategy["class_path"] == "somebodys.Own"


def test_the_configurations_of_the_repository_pass():
    for path in sorted((Path(__file__).parents[2] / "configs").glob("*/*.yaml")):
        check_config(path.name, yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "--strategy", "a.B", "--encoder=c.D"], ["a.B", "c.D"]),
        (["evaluate", "evil.run", "--trust", '["a.B", "c.*"]'], ["a.B", "c.*"]),
        (["train", "--strategy.x", "a.B", "--data", "e.F", "--out", "g.H"], ["a.B"]),
        (["compare", "MAML", "a.B", "--data", "e.F"], ["a.B"]),
        (["predict", "x.qs", "a.text"], []),
        (["train", "--config", "evil.yaml"], []),
    ],
)
def test_only_options_that_name_classes_are_trusted(words, expected):
    given = read(COMMANDS[words[0]], words[1:])
    assert sorted(trust.import_paths(given.classes)) == expected


def test_names_that_look_like_the_packages_own():
    for own in ("Conv4", "encoders.Conv4", "strategies.metric.feat.FEAT"):
        assert is_trusted(f"quickstudy.{own}")
    for other in (
        "quickstudyx.Conv4",
        "quickstudy.cli.main.main",
        "quickstudy.saving.trust.Any",
        "os.A",
    ):
        assert not is_trusted(other)


def test_descriptions_of_any_depth_and_size_are_refused_in_bounded_time():
    deep = inner = {}
    for _ in range(100_000):
        inner["x"] = inner = {}
    with pytest.raises(ValueError, match="too large"):
        check_trusted(deep)
    wide = [0]
    for _ in range(60):  # as aliases in YAML do: 2**60 values in a hundred bytes
        wide = [wide, wide]
    with pytest.raises(ValueError, match="too large"):
        check_config("It", {"x": wide})


@pytest.mark.parametrize("size", [{"hidden": [2**19, 2**19]}, {"hidden": [2] * 5000}])
def test_a_description_cannot_ask_for_more_memory_than_its_weights_take(size):
    encoder = qs.encoders.MLP((1, 4, 4), hidden=(3,))
    description = describe(encoder)
    assert build_to_fit(description, encoder.state_dict()).hidden == (3,)
    description["init_args"] |= size  # a terabyte, and ten thousand parameters
    with pytest.raises(ValueError, match=r"do not fit|more than \d+ parameters"):
        build_to_fit(description, encoder.state_dict())


@pytest.mark.parametrize(
    "description",
    [
        3.5,
        {"class_path": 3},
        {"class_path": "quickstudy.encoders.MLP", "init_args": "hidden"},
        {
            "class_path": "quickstudy.encoders.MLP",
            "init_args": {"input_shape": [1], "hidden": [[], {}]},
        },
        {"class_path": "quickstudy.encoders.MLP", "init_args": {"input_shape": {}, "hidden": "ab"}},
    ],
)
def test_descriptions_that_make_no_sense_are_refused_in_a_sentence(description):
    with pytest.raises(ValueError, match=r"description of a module|cannot be made from"):
        build_to_fit(description, {})


@pytest.mark.parametrize("inputs", [[], {"kind": "image", "x": 1}, {"kind": "image", "mean": 3}])
def test_inputs_that_make_no_sense_are_refused_in_a_sentence(inputs):
    with pytest.raises(ValueError, match=r"description of inputs|cannot be made from"):
        inputs_from_dict(inputs)


@pytest.mark.parametrize("strides", [[2**40, 1], [0, 0], ["a", "b"], [1, 2], [3], 7])
def test_a_layout_with_gaps_in_a_file_takes_no_memory(tmp_path, monkeypatch, strides):
    form = tensor_file.Format("some", 1, "file", "Try again.")
    kept, path = torch.arange(6.0).view(2, 3), tmp_path / "a"
    # As its author could write it, with a checksum that fits.
    dumps = json.dumps
    with monkeypatch.context() as patch:
        other = {"strides": {"x": strides}}
        patch.setattr(tensor_file.json, "dumps", lambda value: dumps(value | other))
        tensor_file.write(path, form, {}, {"x": kept})
    try:
        found = tensor_file.read(path, form)[1]["x"]
    except ValueError as error:
        assert "does not fit them" in str(error)  # noqa: PT017 - or it is read, as below
    else:
        assert torch.equal(found, kept)
        assert found.untyped_storage().nbytes() == 24


@pytest.mark.parametrize(
    "text",
    [
        "steps: 2001-99-99",
        "steps: " + "[" * 5000,
        "steps: !!python/object/apply:os.system [touch was_run]",
        "steps: 1\nsteps: *unknown",
        "steps: !!bool x",
        "steps: !!int ''",
        "\x00",
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)),
        "- steps",
    ],
)
def test_configurations_that_make_no_sense_are_refused_by_name(somebodys, text, capsys):
    (somebodys.parent / "a.yaml").write_text(text)
    assert command("train", "--config", "a.yaml", "--out", "out") == 1
    assert "configuration file a.yaml" in capsys.readouterr().err
    assert not somebodys.exists()


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a": ' * 100_000, "[]", '{"a": {"train": 3}}']
)
def test_class_splits_that_make_no_sense_are_refused_by_name(tmp_path, content):
    (tmp_path / "class_splits.json").write_text(content)
    with pytest.raises(ValueError, match=r"class_splits\.json"):
        read_class_splits(tmp_path)
