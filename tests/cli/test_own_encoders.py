"""``--encoder my_module.Net``: a plain module of one's own, in train and in learn."""

import pytest

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
        self.inputs = qs.ImageInputs(16)

    def forward(self, x):
        return self.net(x.flatten(1))

class Maps(MyConv):
    def forward(self, x):
        return x

class Grey(MyConv):
    def forward(self, x):
        return nn.functional.conv2d(x, x.new_zeros(1, 1, 3, 3))

def make():
    return MyConv()

number = 3
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
