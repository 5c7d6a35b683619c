"""``--encoder my_module.Net``: a plain module of one's own, in train and in learn."""

import pytest
import torch

import quickstudy as qs

from .conftest import TINY

MODULE = """
from torch import nn
import quickstudy as qs

class MyConv(nn.Module):
    out_features = 8

    def __init__(self, channels=8):
        super().__init__()
        self.channels = channels
        self.net = nn.Sequential(
            nn.Conv2d(3, channels, 3, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )

    def forward(self, x):
        return self.net(x)

class OnSixteen(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width
        self.net = nn.Linear(3 * 16 * 16, width)
        self.inputs = qs.inputs.ImageInputs(16)

    def forward(self, x):
        return self.net(x.flatten(1))

class Maps(MyConv):
    def forward(self, x):
        return x

class Grey(MyConv):
    def forward(self, x):
        return nn.functional.conv2d(x, x.new_zeros(1, 1, 3, 3))

class Lazy(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.width = self.out_features = width
        self.net = nn.Sequential(nn.Flatten(), nn.LazyLinear(width))

    def forward(self, x):
        return self.net(x)

class OwnStrategy(qs.strategies.PrototypicalNetwork):
    def __init__(self, encoder, scale):
        super().__init__(encoder)
        self.scale = scale

def make():
    return MyConv()

number = 3
made = MyConv()
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The name of a module of one's own in the current folder."""
    name = f"encoders_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def test_train_takes_an_encoder_that_is_a_plain_module(quickstudy, pictures, mine, tmp_path):
    words = ["train", "--data", pictures, *TINY[4:], "--steps", 1, "--out", tmp_path / "run"]
    encoder = f"{mine}.MyConv"
    code, _, err = quickstudy(*words, "--encoder", encoder, "--encoder.channels", 4)
    assert code == 0, err
    found = qs.load(tmp_path / "run", trust=[encoder]).strategy.encoder
    assert (type(found).__name__, found.channels) == ("MyConv", 4)


@pytest.mark.parametrize(
    ("name", "arguments"), [("MyConv", []), ("OnSixteen", ["--encoder.width", "5"])]
)
def test_learn_takes_an_encoder_by_its_import_path(quickstudy, pictures, mine, name, arguments):
    encoder = f"{mine}.{name}"
    words = ["learn", pictures, "-o", "a.qs", "--calibrate", "false"]
    code, _, err = quickstudy(*words, "--encoder", encoder, *arguments)
    assert code == 0, err
    found = qs.FewShotClassifier.load("a.qs", trust=[encoder])
    assert type(found.encoder).__name__ == name
    assert found.inputs.size == (16 if name == "OnSixteen" else 84)
    if arguments:
        assert found.encoder.width == 5


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        (".MyCon", 2, "Did you mean {}.MyConv?"),
        (".make", 2, "class Net(nn.Module):"),
        (".number", 2, "is a int; name the class of a torch module"),
        (".py:MyConv", 2, "as in --encoder {}.MyConv."),
        (".Maps", 1, "it must return vectors [2, D]"),
        (".Grey", 1, "State what it reads in an attribute"),
    ],
)
def test_what_is_no_encoder_is_refused_in_words(quickstudy, pictures, mine, name, code, said):
    found, _, err = quickstudy("learn", pictures, "-o", "a.qs", "--encoder", f"{mine}{name}")
    assert found == code, err
    assert said.format(mine) in err


def test_arguments_need_a_class_and_names_must_be_its_own(quickstudy, pictures, mine):
    words = ["learn", pictures, "-o", "a.qs"]
    code, _, err = quickstudy(*words, "--encoder.channels", 4)
    assert (code, "--encoder.channels sets an argument of an encoder class" in err) == (2, True)
    code, _, err = quickstudy(*words, "--encoder", f"{mine}.MyConv", "--encoder.chanels", 4)
    assert (code, "MyConv has no argument 'chanels'" in err) == (2, True)


def test_layers_that_wait_for_a_first_batch_are_trained(quickstudy, pictures, mine, tmp_path):
    words = ["--encoder", f"{mine}.Lazy", "--encoder.width", 4, *TINY[4:]]
    code, _, err = quickstudy("train", "--data", pictures, *words, "--out", tmp_path / "run")
    assert code == 0, err
    run = qs.load(tmp_path / "run", trust=[f"{mine}.Lazy"])
    assert run.strategy.encoder.width == 4


@pytest.mark.parametrize("command", ["train", "learn"])
@pytest.mark.parametrize("name", ["OnSixteen", "Lazy"])  # without a type, and with one
def test_arguments_without_a_default_are_asked_for(quickstudy, pictures, mine, command, name):
    words = ["--data", pictures, *TINY[4:]] if command == "train" else [pictures, "-o", "a.qs"]
    code, _, err = quickstudy(command, *words, "--encoder", f"{mine}.{name}")
    assert code == 2
    assert f"{name} needs the argument 'width'; say what it is: --encoder.width VALUE." in err


def test_a_strategy_of_ones_own_needs_no_types(quickstudy, pictures, mine, tmp_path):
    words = ["train", "--data", pictures, *TINY, "--out", tmp_path / "run"]
    words += ["--strategy", f"{mine}.OwnStrategy"]
    code, _, err = quickstudy(*words)
    assert code == 2
    assert "OwnStrategy needs the argument 'scale'" in err
    code, _, err = quickstudy(*words, "--strategy.scale", 2)
    assert code == 0, err


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ("maml", "Did you mean 'MAML'?"),
        ("{mine}.OwnStrateg", "Did you mean '{mine}.OwnStrategy'?"),
        ("{mine}x.Own", "cannot be imported"),
    ],
)
def test_learn_knows_strategies_that_are_misspelt(quickstudy, pictures, mine, strategy, said):
    words = ["--encoder", f"{mine}.MyConv", "--strategy", strategy.format(mine=mine)]
    code, _, err = quickstudy("learn", pictures, "-o", "a.qs", *words)
    assert code == 2
    assert said.format(mine=mine) in err


def test_paths_in_the_place_of_a_class_are_told_apart(quickstudy, mine, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "folder").mkdir()
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")
    (tmp_path / "a.qs").write_bytes(b"\x80\xff" * 9)
    for option, value, said in (
        ("encoder", "run", "--start-from run"),
        ("strategy", "run", "--start-from run"),
        ("encoder", "folder", "a folder; the name of a class"),
        ("encoder", "weights.pt", "load_state_dict(torch.load("),
        ("encoder", "a.qs", "the name of a class"),
        ("encoder", "nowhere.pt", "There is no file 'nowhere.pt'"),
        ("strategy", f"{mine}.MyConv", "is not a strategy"),
    ):
        code, _, err = quickstudy("train", f"--{option}", value)
        assert code == 2, err
        assert said in err
        assert "codec" not in err
