"""remove, relabel and undo on a classifier's file, by command."""

import json
import subprocess
import sys

import pytest
import torch

from quickstudy import FewShotClassifier
from quickstudy.encoders import Conv4
from quickstudy.inputs import ImageInputs
from quickstudy.saving.file_lock import changing


def learned_from(pictures, classes, each=4, skip=()):
    paths = [
        path
        for folder in sorted(pictures.iterdir())[:classes]
        for path in sorted(folder.iterdir())[:each]
        if f"{folder.name}/{path.name}" not in skip
    ]
    torch.manual_seed(0)
    encoder = Conv4((3, 12, 12), channels=8, blocks=2)
    inputs = ImageInputs(size=12, mean=(0.5,), std=(0.25,))
    return FewShotClassifier(encoder, inputs=inputs).fit(paths, [p.parent.name for p in paths])


@pytest.fixture
def file(pictures, tmp_path):
    learned_from(pictures, 4).save(tmp_path / "things.qs")
    return tmp_path / "things.qs"


def answers(file, pictures):
    paths = sorted(pictures.rglob("5.png"))
    return FewShotClassifier.load(file).predict_proba(paths).tolist()


def test_remove_relabel_and_undo(quickstudy, file, pictures):
    states = [answers(file, pictures)]
    for words, said in (
        (("remove", "thing03"), "Removed the class 'thing03'; 12 examples of 3 classes are left."),
        (("remove", "--examples", "0,10-11"), "Removed 3 examples ('"),
        (("relabel", "thing01", "somewhere"), "Renamed the class 'thing01' to 'somewhere'"),
        (("relabel", "thing00", "--examples", "3"), "Relabelled the example '"),
        (("relabel", "somewhere", "thing02"), "Joined the class 'somewhere' with the class"),
        (("add", "dog", pictures / "thing09"), "Added 6 examples of the new class 'dog'"),
    ):
        code, out, err = quickstudy(words[0], file, *words[1:])
        assert code == 0, err
        assert said in out
        states.append(answers(file, pictures))
    code, out, _ = quickstudy("undo", file, "--json")
    assert code == 0
    assert [each["step"] for each in json.loads(out)] == [1, 2, 3, 4, 5, 6]
    for answered in reversed(states[:-1]):
        code, out, err = quickstudy("undo", file)
        assert code == 0, err
        assert answers(file, pictures) == answered
    code, _, err = quickstudy("undo", file)
    assert code == 1
    assert "no change that could be undone" in err


def test_removing_is_as_if_it_had_never_been_learned(quickstudy, file, pictures):
    _, out, _ = quickstudy("inspect", file, "--examples")
    numbers = [
        line.split("\t")[0]
        for line in out.splitlines()
        if line.endswith(("thing00/2.png", "thing02/0.png"))
    ]
    assert quickstudy("remove", file, "--examples", ",".join(numbers))[0] == 0
    other = learned_from(pictures, 4, skip=("thing00/2.png", "thing02/0.png"))
    paths = sorted(pictures.rglob("5.png"))
    assert answers(file, pictures) == other.predict_proba(paths).tolist()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("remove", "thing77"), 1, "no class 'thing77' in the classifier. Did you mean"),
        (("remove", "--examples", "16"), 1, "the 16 examples have the numbers 0 to 15"),
        (("remove", "--examples", "three"), 2, "numbers and ranges"),
        (("remove", "--examples", "5-3"), 2, "numbers and ranges"),
        (("remove",), 2, "Name the classes to remove"),
        (("remove", "thing00", "--examples", "3"), 2, "not both"),
        (("remove", "thing00", "thing01", "thing02"), 1, "only the class 'thing03' would be left"),
        (("relabel", "thing00"), 2, "relabel FILE OLD NEW"),
        (("relabel", "thing00", "thing00"), 2, "is called 'thing00' already"),
        (("relabel", "thing77", "x"), 1, "no class 'thing77'"),
        (("relabel", "x", "--examples", "0-15"), 1, "only the class 'x' would be left"),
        (("relabel", "thing00", "  "), 1, "name of the class is empty"),
    ],
)
def test_what_is_refused_leaves_the_file(quickstudy, file, words, code, said):
    before = file.read_bytes()
    result = quickstudy(words[0], file, *words[1:])
    assert result[0] == code
    assert said in result[2]
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("words", [("remove", "a"), ("relabel", "a", "b"), ("undo",)])
def test_there_must_be_a_file(quickstudy, tmp_path, words):
    code, _, err = quickstudy(words[0], tmp_path / "none.qs", *words[1:])
    assert code == 1
    assert "There is no classifier" in err


def test_what_is_forgotten_cannot_be_undone(quickstudy, file):
    assert quickstudy("remove", file, "thing03")[0] == 0
    assert quickstudy("remove", file, "--examples", "1", "--forget")[0] == 0
    assert quickstudy("undo", file)[0] == 1


def test_changes_wait_for_each_other(file):
    command = [sys.executable, "-m", "quickstudy", "remove", file, "thing03"]
    with changing(file):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        before = file.read_bytes()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(8)
        assert file.read_bytes() == before
    out, _ = process.communicate()
    assert "Removed the class 'thing03'" in out
