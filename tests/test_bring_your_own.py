"""What docs/bring-your-own.md shows works as it stands there, in its order."""

import importlib.util
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quickstudy.cli.main import main

PAGE = Path(__file__).parents[1] / "docs" / "bring-your-own.md"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 200)}
COLOURS |= {"grey": (120, 120, 120), "white": (230, 230, 230), "black": (20, 20, 20)}
COLOURS |= {"yellow": (220, 210, 40), "pink": (230, 130, 180)}


def needed(code):
    """The package that a block says it needs."""
    found = re.match(r"# needs (\w+)", code)
    return found and found[1]


def write_pictures(folder, each=4):
    """A folder of noisy pictures for each colour."""
    draw = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            noise = draw.integers(-20, 21, (40, 40, 3))
            pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """A folder with the pictures that the page speaks of, from which modules are imported."""
    write_pictures(tmp_path / "photos")
    for part in ("train", "test"):
        shutil.copytree(tmp_path / "photos", tmp_path / "photos_in_parts" / part)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def run_python(code, names, folder):
    """Runs a block, or writes it to the file that its first line names."""
    file = re.match(r"# (my_\w+\.py)\n", code)
    if file:
        (folder / file[1]).write_text(code)
    else:
        exec(compile(code, str(PAGE), "exec"), names)


@pytest.mark.filterwarnings("ignore")  # what is warned of has tests of its own
def test_the_code_of_the_page_runs(at_home, capsys):
    names, ran, left = {"__name__": "page"}, 0, set()
    for language, code in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        package = needed(code)
        if package and importlib.util.find_spec(package) is None:
            left.add(package)
            continue
        if language == "python":
            run_python(code, names, at_home)
            ran += 1
            continue
        for line in code.splitlines():
            if not line.startswith("#"):
                command, *words = shlex.split(line)
                assert command == "quickstudy"
                with pytest.raises(SystemExit) as ended:
                    main(words)
                assert ended.value.code == 0, (line, capsys.readouterr().err)
                ran += 1
    assert left <= {"torchvision", "timm"}, "this environment lacks a package of the tests"
    assert ran > 20
    assert names["classifier"].classes_.tolist() == [0, 1, 2]
    assert (at_home / "efficientnet.qs").is_file()
