"""Commands beside other commands, links, pipes, code pages and full disks; their exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy import FewShotClassifier
from quickstudy.cli.reading import read
from quickstudy.cli.usage import COMMANDS
from quickstudy.encoders import Conv4
from quickstudy.inputs import ImageInputs
from quickstudy.messages import UsageError

FULL = Path("/dev/full")


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def classifier_file(path, names=("bar", "disk")):
    """A classifier of small pictures, whose encoder is of the package."""
    files = [
        picture(path.parent / "seen" / name / f"{number}.png", [number, *map(ord, name)])
        for name in names
        for number in range(3)
    ]
    torch.manual_seed(0)
    made = FewShotClassifier(Conv4((3, 16, 16), channels=4), inputs=ImageInputs(16))
    made.set_params(calibrate=False).fit(files, [file.parent.name for file in files]).save(path)
    return path


def in_a_process(*words, stdout=subprocess.PIPE, folder=None, **environment):
    return subprocess.run(
        [sys.executable, "-m", "quickstudy", *map(str, words)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


def test_adding_at_the_same_time_loses_nothing(tmp_path):
    file, started = classifier_file(tmp_path / "a.qs"), {}
    for number in range(4):
        image = picture(tmp_path / f"{number}.png", 100 + number)
        started[f"new{number}"] = subprocess.Popen(
            [sys.executable, "-m", "quickstudy", "add", file, f"new{number}", image],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
    assert [each.wait() for each in started.values()] == [0] * 4
    assert set(FewShotClassifier.load(file).classes_) == {"bar", "disk", *started}
    assert not list(tmp_path.glob(".*"))  # no lock and no temporary file is left


def test_adding_through_a_link_writes_what_it_points_to(quickstudy, tmp_path):
    (tmp_path / "store").mkdir()
    file = classifier_file(tmp_path / "store" / "a.qs")
    file.chmod(0o640)
    (tmp_path / "link.qs").symlink_to("store/a.qs")
    code, out, err = quickstudy("add", tmp_path / "link.qs", "new", picture(tmp_path / "n.png", 9))
    assert code == 0, err
    assert "Written to" in out
    assert (tmp_path / "link.qs").is_symlink()
    assert "new" in FewShotClassifier.load(file).classes_
    assert file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("form", ["--csv", "--json"])
def test_classes_that_a_terminal_cannot_show_are_written_all_the_same(form, tmp_path):
    classifier_file(tmp_path / "a.qs", ["😀", "😡"])
    image = "seen/😀/0.png"
    done = in_a_process(
        "predict", "a.qs", image, form, folder=tmp_path, PYTHONIOENCODING="cp1252", PYTHONUTF8="0"
    )
    assert done.returncode == 0, done.stderr
    assert "0.png" in done.stdout
    if form == "--json":
        assert set(json.loads(done.stdout)[0]["probabilities"]) == {"😀", "😡"}


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["-h"], ["strategies"]])
def test_help_that_nobody_reads_to_the_end_is_no_error(words, unbuffered):
    read, write = os.pipe()
    os.close(read)
    done = in_a_process(*words, stdout=write, PYTHONUNBUFFERED=unbuffered)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_output_to_a_full_disk_is_a_failure_that_is_explained():
    if not FULL.exists():
        pytest.skip("there is no /dev/full")
    with FULL.open("w") as full:
        done = in_a_process("-h", stdout=full)
    assert done.returncode == 1
    said = "quickstudy: standard output cannot be written: the disk is full; make room.\n"
    assert done.stderr == said


def test_what_was_saved_is_said_even_if_printing_fails(tmp_path):
    if not FULL.exists():
        pytest.skip("there is no /dev/full")
    file = classifier_file(tmp_path / "a.qs")
    with FULL.open("w") as full:
        done = in_a_process("add", file, "new", picture(tmp_path / "n.png", 9), stdout=full)
    assert done.returncode == 0
    assert f"Written to {file}." in done.stderr
    assert "new" in FewShotClassifier.load(file).classes_


def test_standard_input_may_be_closed_or_begin_with_a_byte_order_mark(
    quickstudy, tmp_path, monkeypatch
):
    import io

    file = classifier_file(tmp_path / "a.qs")
    image = tmp_path / "seen" / "bar" / "0.png"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"\ufeff{image}\r\n"))
    code, out, err = quickstudy("predict", file, "-")
    assert code == 0, err
    assert out.splitlines()[1].startswith(str(image))
    monkeypatch.setattr("sys.stdin", None)
    code, _, err = quickstudy("predict", file, "-")
    assert (code, err) == (1, "quickstudy: There is nothing to classify: no inputs were given.\n")


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--no_such_option", "1"],
        ["predict"],
        ["train", "--steps", "many"],
        ["train", "--steps", "-1"],
        ["train", "--strategy", "MAMLL"],
        ["train", "--encoder.channels", "4"],
        ["predict", "a.qs", "b.png", "--json", "--csv"],
        ["train", "--resume", "a", "--out", "b"],
        ["compare"],
        ["nosuch"],
        ["sweep", "shots"],
        ["datasets", "more"],
    ],
)
def test_wrong_usage_exits_with_2(quickstudy, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if words[:2] == ["train", "--resume"]:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "config.yaml").write_text("data: glyphs\n")
    code, out, err = quickstudy(*words)
    assert (code, out) == (2, ""), err
    assert err.startswith("quickstudy: ")


@pytest.mark.parametrize(
    "words",
    [["predict", "nosuch.qs", "a.png"], ["evaluate", "nosuch"], ["train", "--data", "./nosuch"]],
)
def test_failures_exit_with_1(quickstudy, words):
    code, _, err = quickstudy(*words)
    assert code == 1
    assert "nosuch" in err


def test_options_may_be_written_with_dashes(quickstudy):
    words = [
        "--query-balance", "dirichlet", "--where.speaker-id", "a-b", "--report=my-file", "my-run",
        "--", "--a-b",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="'--a-b' is one word too many"):
        read(COMMANDS["evaluate"], words)
    given = read(COMMANDS["evaluate"], words[:-1])
    assert given.arguments == ("my-run",)
    assert dict(given.options) == {
        "query_balance": "dirichlet", "where.speaker-id": "a-b", "report": "my-file",
    }  # fmt: skip
    written = [
        quickstudy("train", "--strategy", "MAML", f"--strategy.inner{_}steps", "3",
                   f"--learning{_}rate=0.5", f"--print{_}config")
        for _ in "_-"
    ]  # fmt: skip
    assert written[0] == written[1]
    assert "inner_steps: 3" in written[0][1]


def test_a_config_may_be_written_with_dashes_and_a_byte_order_mark(quickstudy, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        "learning-rate: 0.5\nstrategy:\n  class_path: MAML\n  init_args:\n    inner-steps: 3\n",
        encoding="utf-8-sig",
    )
    code, out, err = quickstudy("train", "--config", config, "--print_config")
    assert code == 0, err
    assert "learning_rate: 0.5" in out
    assert "inner_steps: 3" in out


@pytest.mark.parametrize("name", ["d/bar/0.png", "d", "link.png"])
def test_what_is_learned_from_is_not_overwritten(quickstudy, tmp_path, name):
    classifier_file(tmp_path / "a.qs")
    (tmp_path / "seen").rename(tmp_path / "d")
    (tmp_path / "link.png").symlink_to(tmp_path / "d" / "bar" / "0.png")
    code, _, err = quickstudy("learn", tmp_path / "d", "-o", tmp_path / name, "--encoder", "x")
    assert code == 1
    assert "choose another name" in err or "give the name of a file" in err
