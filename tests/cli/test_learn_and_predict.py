"""From a folder to a classifier's file and its answers, by command."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from quickstudy import FewShotClassifier
from quickstudy.classifier.collecting import labelled, new_inputs

from ..builders import command
from .conftest import TINY

TEXTS = {
    "card": ["where is my card", "my card has not come", "has the card been sent"],
    "cash": ["the machine gave no cash", "cash is missing", "where did my cash go"],
}


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    """A run of a few steps on Conv4; what it answers does not matter, how fast does."""
    path = tmp_path_factory.mktemp("runs") / "run"
    options = [*TINY[4:], "--encoder", "Conv4", "--steps", "2", "--validate_every", "2"]
    assert command("train", "--data", pictures, *options, "--out", path) == 0
    return path


@pytest.fixture(scope="module")
def ten_classes(pictures, tmp_path_factory):
    """Ten classes of five images; the sixth of each is for asking."""
    root = tmp_path_factory.mktemp("ten")
    for folder in sorted(pictures.iterdir())[:10]:
        for number in range(6):
            target = root / ("learn" if number < 5 else "new") / folder.name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / f"{number}.png", target)
    return root


@pytest.fixture(scope="module")
def learned(ten_classes, run, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "things.qs"
    assert command("learn", ten_classes / "learn", "-o", path, "--encoder", run) == 0
    return path


@pytest.fixture
def copied(learned, tmp_path):
    return shutil.copy(learned, tmp_path / "things.qs")


@pytest.fixture(scope="module")
def text_file(tmp_path_factory, minilm):
    root = tmp_path_factory.mktemp("texts")
    lines = [f"{text},{label}" for label, some in TEXTS.items() for text in some]
    (root / "texts.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    words = ["learn", root / "texts.csv", "-o", root / "bank.qs", "--encoder", minilm]
    assert command(*words) == 0
    return root / "bank.qs"


def test_a_folder_of_images(quickstudy, learned, ten_classes):
    new = ten_classes / "new"
    code, out, err = quickstudy("predict", learned, new, "--json")
    assert code == 0, err
    rows = json.loads(out)
    assert len(rows) == 10
    hits = sum(row["label"] in row["input"] for row in rows)
    assert hits > 5  # chance is 1; the classes differ by their pictures, under noise
    for row in rows:
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["probability"] == max(row["probabilities"].values())
    paths = [row["input"] for row in rows]
    classifier = FewShotClassifier.load(learned)
    assert classifier.predict(paths).tolist() == [row["label"] for row in rows]


def test_learn_leaves_the_other_part_alone(quickstudy, ten_classes, run, tmp_path):
    for part, place in (("train", "learn"), ("test", "new")):
        for folder in sorted((ten_classes / place).iterdir())[:2]:
            shutil.copytree(folder, tmp_path / "d" / part / folder.name)
    words = ["learn", tmp_path / "d", "--encoder", run]
    with pytest.warns(UserWarning, match="Only the examples of train in"):
        code, _, err = quickstudy(*words, "-o", tmp_path / "ab.qs")
    assert code == 0, err
    learned = FewShotClassifier.load(tmp_path / "ab.qs")
    assert learned.classes_.tolist() == ["thing00", "thing01"]
    assert sum(learned.model_.sizes.values()) == 10
    code, _, err = quickstudy(*words, "-o", tmp_path / "all.qs", "--data_split", "train+test")
    assert code == 0, err
    assert sum(FewShotClassifier.load(tmp_path / "all.qs").model_.sizes.values()) == 12


def test_csv_and_plain_lines(quickstudy, learned, ten_classes):
    new = ten_classes / "new"
    code, out, _ = quickstudy("predict", learned, new, "--csv", "--coverage", "0.5")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 10
    sets = [json.loads(row["set"]) for row in rows]
    assert any(sets)
    assert all(some[0] == row["label"] for row, some in zip(rows, sets, strict=True) if some)
    _, lines, _ = quickstudy("predict", learned, new)
    assert [line.split("\t")[1] for line in lines.splitlines()[1:]] == [
        row["label"] for row in rows
    ]


def test_what_is_unknown_has_no_class(quickstudy, learned, tmp_path):
    Image.new("RGB", (12, 12), "white").save(tmp_path / "white.png")
    words = ("predict", learned, tmp_path / "white.png")
    code, out, err = quickstudy(*words, "--keep", "0.95", "--json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert row["label"] is None
    assert row["nearest"] == max(row["probabilities"], key=row["probabilities"].get)
    _, out, _ = quickstudy(*words, "--keep", "0.95")
    assert out.splitlines()[1].split("\t")[1:] == ["", str(row["probability"]), row["nearest"]]
    code, former, err = quickstudy(*words, "--reject")
    assert (code, former) == (0, out)
    assert "--reject is now --keep" in err


def test_a_smaller_share_is_kept_when_asked(quickstudy, learned, ten_classes):
    ask = ["predict", learned, ten_classes / "new", "--json"]
    _, out, _ = quickstudy(*ask, "--keep", "0.95")
    usual = [row["label"] for row in json.loads(out)]
    code, out, err = quickstudy(*ask, "--keep", "0.1")
    assert code == 0, err
    rows = json.loads(out)
    less = [row["label"] for row in rows]
    assert less.count(None) > usual.count(None)
    paths = [row["input"] for row in rows]
    assert less == FewShotClassifier.load(learned).predict(paths, keep=0.1).tolist()


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--keep", "2"], "between 0 and 1"), (["--coverage", "0"], "between 0 and 1")],
)
def test_a_share_that_means_nothing_is_refused(quickstudy, learned, ten_classes, options, told):
    code, out, err = quickstudy("predict", learned, ten_classes / "new", *options)
    assert (code, out) == (2, "")
    assert told in err


def test_names_in_the_file_are_those_inside_the_folder(learned, ten_classes):
    names = FewShotClassifier.load(learned).model_.support.names
    assert "thing00/0.png" in names
    assert not any(str(ten_classes) in name for name in names)


def test_inspect_tells_and_draws(quickstudy, learned, tmp_path):
    code, out, err = quickstudy("inspect", learned, "--plot", tmp_path / "space.png")
    assert code == 0, err
    assert out.splitlines()[:2] == ["class\texamples", "thing00\t5"]
    for words in ("Conv4", "LogisticRegression", "calibration", "held-out examples: 50"):
        assert words in err
    assert (tmp_path / "space.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = quickstudy("inspect", learned, "--plot", tmp_path / "space.abc")
    assert code == 1
    assert "space.abc" in err
    assert [path.name for path in tmp_path.iterdir()] == ["space.png"]


def test_inspect_lists_examples_and_prints_json(quickstudy, learned):
    code, out, err = quickstudy("inspect", learned, "--examples")
    assert code == 0, err
    lines = [line.split("\t") for line in out.splitlines()]
    assert lines[0] == ["number", "class", "input"]
    assert lines[1] == ["0", "thing00", "thing00/0.png"]
    assert len(lines) == 51
    _, out, err = quickstudy("inspect", learned, "--json")
    assert err == ""
    found = json.loads(out)
    assert found["classes"][0] == {"class": "thing00", "examples": 5}
    assert found["examples"][49]["input"] == "thing09/4.png"
    assert found["strategy"] == "LogisticRegression"


def test_add_a_class_and_then_more_of_it(quickstudy, copied, pictures):
    new = sorted(pictures.iterdir())[12]
    before = len(FewShotClassifier.load(copied).model_.support)
    code, out, err = quickstudy("add", copied, "newcomer", new / "0.png", new / "1.png")
    assert code == 0, err
    assert "of the new class 'newcomer'" in out
    assert "11 classes" in out
    (few,) = FewShotClassifier.load(copied).predict_proba([new / "5.png"])[:, 0]
    code, out, _ = quickstudy("add", copied, " newcomer ", new)
    assert code == 0
    assert "examples of 'newcomer'" in out
    classifier = FewShotClassifier.load(copied)
    assert classifier.classes_[0] == "newcomer"
    assert len(classifier.model_.support) == before + 8
    assert classifier.predict_proba([new / "5.png"])[0, 0] > few


def test_adding_something_unreadable_leaves_the_file_as_it_was(quickstudy, copied, tmp_path):
    before = copied.read_bytes()
    (tmp_path / "bad.png").write_bytes(b"\x89PNG nothing")
    code, _, err = quickstudy("add", copied, "newcomer", tmp_path / "bad.png")
    assert code == 1
    assert "bad.png" in err
    assert copied.read_bytes() == before


def test_texts_from_a_table_and_from_standard_input(quickstudy, text_file, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("is my card on its way?\n\nno cash came out\n"))
    code, out, err = quickstudy("predict", text_file, "-", "--csv")
    assert code == 0, err
    assert [row["label"] for row in csv.DictReader(io.StringIO(out))] == ["card", "cash"]
    code, out, _ = quickstudy("predict", text_file, "the card did not arrive", "--json")
    assert json.loads(out)[0]["label"] == "card"
    assert quickstudy("predict", text_file, "  ")[0] == 1


def test_a_run_as_the_strategy(quickstudy, ten_classes, run, tmp_path):
    path = tmp_path / "a.qs"
    words = ["learn", ten_classes / "learn", "-o", path, "--strategy", run]
    code, _, err = quickstudy(*words, "--calibrate", "false", "--keep_examples", "false")
    assert code == 0, err
    _, _, err = quickstudy("inspect", path)
    assert "PrototypicalNetwork" in err
    assert "not measured" in err


def refused(result, *words):
    code, _, err = result
    assert code in (1, 2)
    assert "Traceback" not in err
    assert all(word in err for word in words), err
    return True


def test_bad_sources(quickstudy, run, tmp_path):
    out = tmp_path / "a.qs"
    words = ["-o", out, "--encoder", run]
    assert refused(quickstudy("learn", tmp_path / "none", *words), "none")
    (tmp_path / "one" / "only").mkdir(parents=True)
    assert refused(quickstudy("learn", tmp_path / "one", *words), "one")
    Image.new("RGB", (8, 8)).save(tmp_path / "one" / "only" / "a.png")
    assert refused(quickstudy("learn", tmp_path / "one", *words), "only one class", "'only'")
    (tmp_path / "one" / "other").mkdir()
    (tmp_path / "one" / "other" / "b.png").write_bytes(b"\x89PNG nothing")
    assert refused(quickstudy("learn", tmp_path / "one", *words), "b.png")
    assert refused(quickstudy("learn", tmp_path / "one"), "out")
    assert not out.exists()


def test_bad_words_for_predict(quickstudy, learned, ten_classes, tmp_path):
    image = next((ten_classes / "new").rglob("*.png"))
    assert refused(quickstudy("predict", learned, tmp_path / "none.png"), "none.png")
    assert refused(quickstudy("predict", tmp_path / "none.qs", image), "none.qs")
    assert refused(quickstudy("predict", image, image), str(image), "not a classifier")
    assert refused(quickstudy("predict", learned, image, "--json", "--csv"), "--json")
    assert refused(quickstudy("predict", learned, image, "--coverage", "2"), "coverage")
    assert refused(quickstudy("predict", learned, tmp_path), "holds no images")


def test_a_damaged_file(quickstudy, copied, ten_classes):
    content = bytearray(copied.read_bytes())
    content[len(content) // 2] ^= 1
    copied.write_bytes(content)
    image = next((ten_classes / "new").rglob("*.png"))
    assert refused(quickstudy("predict", copied, image), "damaged")
    assert refused(quickstudy("add", copied, "x", image), "damaged")
    assert copied.read_bytes() == content


def test_the_same_image_in_two_classes_is_warned_of(quickstudy, ten_classes, run, tmp_path):
    folder = shutil.copytree(ten_classes / "learn", tmp_path / "twice")
    shutil.copy(folder / "thing00" / "0.png", folder / "thing01" / "again.png")
    with pytest.warns(UserWarning, match=r"thing00/0\.png.*thing01/again\.png"):
        code, _, err = quickstudy("learn", folder, "-o", tmp_path / "a.qs", "--encoder", run)
    assert code == 0, err


def test_predicting_imports_nothing_heavy(learned, ten_classes):
    image = next((ten_classes / "new").rglob("*.png"))
    code = (
        "import sys\nfrom quickstudy.cli.main import main\n"
        f"try:\n    main(['predict', {str(learned)!r}, {str(image)!r}])\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        "heavy = {'sklearn', 'scipy', 'datasets', 'pandas', 'transformers', 'lightning_fabric'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_empty_text_is_not_the_folder_one_is_in(quickstudy, tmp_path, monkeypatch):
    """``Path("")`` is the current folder, whose text files would be read."""
    (tmp_path / "other.txt").write_text("some text")
    monkeypatch.chdir(tmp_path)
    for empty in ("", "  "):
        with pytest.raises(ValueError, match="is empty"):
            new_inputs(["where is my card", empty], "text")


@pytest.mark.parametrize("mistyped", ["nosuch.txt", "a/nosuch.md", "requests.csv", "cat.PNG"])
def test_a_mistyped_file_is_no_text(mistyped):
    with pytest.raises(FileNotFoundError, match=f"There is no file '{mistyped}'"):
        new_inputs([mistyped], "text")


def test_texts_may_resemble_files():
    texts = ["see you at example.com", "e.g.", "example.com", "what is in notes.txt", "long " * 900]
    assert new_inputs(texts, "text").raw == texts
    assert new_inputs(["-"], "text", ["notes.txt\n"]).raw == ["notes.txt"]


def test_a_table_is_not_read_as_one_text(quickstudy, text_file):
    before, table = text_file.read_bytes(), text_file.with_name("texts.csv")
    words = ["add", text_file, "card", table]
    assert refused(quickstudy(*words), f"{table} is a table", "standard input")
    assert text_file.read_bytes() == before


def test_an_empty_text_of_a_table_is_named(tmp_path):
    table = tmp_path / "said.csv"
    table.write_text('text,label\nmy card,card\n"  ",card\nno cash,cash\n,cash\n')
    with pytest.raises(ValueError, match=r"Text 1 of .*said\.csv is empty \(2 in all"):
        labelled(table)
    with pytest.warns(UserWarning, match=r"Left out\. Text 1 of .*said\.csv"):
        found = labelled(table, skip_empty=True)
    assert (found.raw, found.labels) == (["my card", "no cash"], ["card", "cash"])
    assert found.names == found.raw


def test_one_column_cannot_be_both(quickstudy, tmp_path):
    table = tmp_path / "said.csv"
    table.write_text("text,label\nmy card,card\nno cash,cash\n")
    columns = ("--input_column", "text", "--label_column", "text")
    result = quickstudy("learn", table, "-o", tmp_path / "t.qs", *columns)
    assert refused(result, "'text' was named for the inputs and for the classes")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is a folder that nobody may write to")
def test_where_nothing_can_be_written_nothing_is_learned(quickstudy, ten_classes):
    result = quickstudy("learn", ten_classes / "learn", "-o", "/proc/x.qs", "--encoder", "none")
    assert refused(result, "/proc/x.qs cannot be written")
    assert ".tmp" not in result[2]


def test_add_refuses_a_class_without_a_name(quickstudy, learned, ten_classes):
    before = learned.read_bytes()
    image = next((ten_classes / "new").rglob("*.png"))
    code, _, err = quickstudy("add", learned, " ", image)
    assert code == 1
    assert "name of the class is empty" in err
    assert learned.read_bytes() == before


def test_a_device_that_is_not_there(quickstudy, learned, ten_classes):
    image = next((ten_classes / "new").rglob("*.png"))
    code, _, err = quickstudy("predict", learned, image, "--device", "cuda:77")
    assert code == 1
    assert "The device 'cuda:77' cannot be used here" in err


def test_out_may_not_be_a_folder(quickstudy, ten_classes, tmp_path):
    code, _, err = quickstudy("learn", ten_classes / "learn", "-o", tmp_path, "--encoder", "x")
    assert code == 1
    assert f"{tmp_path} is a folder; give the name of a file" in err
    assert not any(tmp_path.iterdir())


def test_an_encoder_of_another_kind_is_named(quickstudy, run, tmp_path):
    table = tmp_path / "said.csv"
    table.write_text("text,label\nwhere is it,card\nno cash,cash\n")
    code, _, err = quickstudy("learn", table, "-o", tmp_path / "t.qs", "--encoder", run)
    assert code == 1
    assert "was trained on inputs of modality 'image', not 'text'" in err


def test_warnings_are_sentences_without_code(ten_classes, run, tmp_path):
    image = next((ten_classes / "learn").rglob("*.png"))
    for label in ("a", "b"):
        (tmp_path / "twice" / label).mkdir(parents=True)
        shutil.copy(image, tmp_path / "twice" / label)
    words = ["learn", tmp_path / "twice", "-o", tmp_path / "t.qs", "--encoder", run]
    done = subprocess.run(
        [sys.executable, "-m", "quickstudy", *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 0
    said = [line for line in done.stderr.splitlines() if not re.search(r": \d+ of \d+$", line)]
    assert said[0].startswith("quickstudy: warning: 1 inputs are given under two classes")
    assert len(said) == 1


def test_unreadable_inputs_are_left_out_where_that_was_asked(
    quickstudy, ten_classes, run, tmp_path
):
    shutil.copytree(ten_classes / "learn", tmp_path / "learn")
    some, other = sorted((tmp_path / "learn").iterdir())[:2]
    damaged, file = some / "0.png", tmp_path / "x.qs"
    damaged.write_bytes(b"no image")
    learn = ("learn", tmp_path / "learn", "-o", file, "--encoder", run)
    code, _, err = quickstudy(*learn)
    assert code == 1
    assert "0.png' cannot be read: it is damaged" in err
    assert not file.exists()

    def skipping(*words):
        with pytest.warns(UserWarning, match=r"Left out\. The image '.*0\.png'"):
            return quickstudy(*words, "--unreadable", "skip")

    code, out, _ = skipping(*learn)
    assert not code
    assert "from 49 examples" in out
    _, out, _ = skipping("predict", file, some)
    kept = [str(some / f"{number}.png") for number in (1, 2, 3, 4)]
    assert [line.split("\t")[0] for line in out.splitlines()[1:]] == kept
    _, out, _ = skipping("add", file, other.name, damaged, other / "0.png")
    assert "Added 1 example of" in out
    code, _, err = skipping("predict", file, damaged)
    assert code == 1
    assert "None of the 1 inputs can be read." in err


def test_unreadable_texts_are_left_out_where_that_was_asked(quickstudy, text_file, tmp_path):
    (tmp_path / "a.txt").write_text("where is my card")
    (tmp_path / "b.txt").write_text("  ")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.warns(UserWarning, match="Left out") as left_out:
        code, out, _ = quickstudy("predict", text_file, tmp_path, "--unreadable", "skip")
    assert not code
    assert [line.split("\t")[0] for line in out.splitlines()[1:]] == [str(tmp_path / "a.txt")]
    said = [str(each.message) for each in left_out]
    assert "is an empty text" in said[0]
    assert "not in UTF-8" in said[1]


def test_output_that_is_no_longer_read(learned, ten_classes):
    """As by ``quickstudy predict ... | head -1``."""
    command = [sys.executable, "-m", "quickstudy", "predict", learned, ten_classes / "new"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def test_another_pipe_that_breaks_is_said():
    code = (
        "import quickstudy.cli.strategies as command, quickstudy.cli.main as main\n"
        "def run(words): raise BrokenPipeError(32, 'Broken pipe')\n"
        "command.run = run\n"
        "main.main(['strategies'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "quickstudy: Broken pipe.\n"
