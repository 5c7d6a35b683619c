"""What modules of others print is not part of the answer on standard output."""

import csv
import io
import json
import subprocess
import sys

import pytest

from quickstudy import FewShotClassifier

ENCODER = """
import os
import quickstudy as qs
from torch import nn

print("imported")

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        print("made")
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.inputs = qs.inputs.ImageInputs(12)

    def forward(self, x):
        print("called")
        os.write(1, b"below Python")
        return self.net(x)
"""


@pytest.fixture
def talking(pictures, tmp_path, monkeypatch):
    """A folder with a classifier whose encoder prints whenever it can, and one picture."""
    (tmp_path / "talking_net.py").write_text(ENCODER)
    monkeypatch.syspath_prepend(str(tmp_path))
    files = [path for path in sorted(pictures.rglob("*.png")) if path.parent.name < "thing02"]
    net = __import__("talking_net").Net()
    made = FewShotClassifier(encoder=net, calibrate=False)
    made.fit(files, [path.parent.name for path in files]).save(tmp_path / "a.qs")
    yield tmp_path / "a.qs", files[0]
    del sys.modules["talking_net"]


def test_json_on_stdout_is_nothing_but_json(talking, tmp_path):
    file, picture = talking
    words = ["predict", file, picture, "--json", "--trust", "talking_net.Net"]
    done = subprocess.run(
        [sys.executable, "-m", "quickstudy", *map(str, words)],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)[0]["label"] in ("thing00", "thing01")
    for said in ("imported", "made", "called", "below Python"):
        assert said in done.stderr


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_the_answer_of_this_process_is_all_there_is_too(talking, quickstudy, capsys, form):
    file, picture = talking
    capsys.readouterr()
    code, printed, said = quickstudy("predict", file, picture, form, "--trust", "talking_net.Net")
    assert code == 0
    if form == "--json":
        assert len(json.loads(printed)) == 1
    else:
        assert [row["input"] for row in csv.DictReader(io.StringIO(printed))] == [str(picture)]
    assert "made" in said
