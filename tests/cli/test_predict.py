"""predict on tables and streams, and jobs that are killed and continued."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import pyarrow
import pyarrow.parquet
import pytest
import torch

from quickstudy import FewShotClassifier
from quickstudy.cli import predict
from quickstudy.encoders import Conv4
from quickstudy.inputs import ImageInputs


@pytest.fixture(scope="module")
def learned(pictures, tmp_path_factory):
    paths = [p for p in sorted(pictures.rglob("*.png")) if int(p.stem) < 3]
    torch.manual_seed(0)
    encoder = Conv4((3, 12, 12), channels=8, blocks=2)
    inputs = ImageInputs(size=12, mean=(0.5,), std=(0.25,))
    classifier = FewShotClassifier(encoder, inputs=inputs)
    path = tmp_path_factory.mktemp("files") / "things.qs"
    classifier.fit(paths, [p.parent.name for p in paths]).save(path)
    return path


@pytest.fixture
def tables(pictures):
    """The same pictures in tables of every form, beside them."""
    names = sorted(str(p.relative_to(pictures)) for p in pictures.rglob("*.png"))
    rows = [{"id": str(number), "image": name} for number, name in enumerate(names)]
    lines = [f"{row['id']},{row['image']}" for row in rows]
    (pictures / "t.csv").write_text("\n".join(["id,image", *lines]))
    tabs = [line.replace(",", "\t") for line in ["id,image", *lines]]
    (pictures / "t.tsv").write_text("\n".join(tabs))
    (pictures / "t.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (pictures / "t.json").write_text(json.dumps(rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), pictures / "t.parquet")
    contents = [{"content": (pictures / name).read_bytes()} for name in names]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(contents), pictures / "bytes.parquet")
    yield pictures
    for table in [*pictures.glob("t.*"), pictures / "bytes.parquet"]:
        table.unlink()


def rows_of(text, delimiter="\t"):
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter, quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_tables_are_answered_as_their_files(quickstudy, learned, tables, ending):
    code, out, err = quickstudy("predict", learned, tables / f"t.{ending}")
    assert code == 0, err
    found = rows_of(out)
    paths = [row["input"] for row in found]
    assert len(found) == 96
    assert paths == [str(each) for each in sorted(tables.rglob("*.png"))]
    assert [row["label"] for row in found] == FewShotClassifier.load(learned).predict(
        paths
    ).tolist()


def test_a_table_of_contents_and_its_column(quickstudy, learned, tables):
    _, out, _ = quickstudy("predict", learned, tables / "t.csv")
    code, contents, err = quickstudy(
        "predict", learned, tables / "bytes.parquet", "--input-column", "content"
    )
    assert code == 0, err
    assert [row["label"] for row in rows_of(contents)] == [row["label"] for row in rows_of(out)]
    assert rows_of(contents)[5]["input"] == f"row 5 of {tables / 'bytes.parquet'}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("t.csv", "--input-column", "imag"), "has no column 'imag'. Did you mean 'image'?"),
        (("thing00", "--input-column", "image"), "none of them is a table"),
        (("t.csv", "--output", "x.txt"), "must end in one of .tsv, .csv"),
        (("t.csv", "--output", "x.csv", "--json"), "the ending of the file's name"),
    ],
)
def test_what_does_not_fit_is_refused(quickstudy, learned, tables, tmp_path, words, said):
    table, *rest = words
    code, out, err = quickstudy("predict", learned, tables / table, *rest)
    assert code in (1, 2)
    assert out == ""
    assert said in err


def test_unclear_columns_are_refused(quickstudy, learned, tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    code, _, err = quickstudy("predict", learned, tmp_path / "t.csv")
    assert code == 1
    assert "It is not clear which column" in err
    assert "--input-column" in err


def test_a_table_may_not_leave_its_folder(quickstudy, learned, tmp_path):
    (tmp_path / "t.csv").write_text("image\n../../etc/passwd.png\n")
    code, _, err = quickstudy("predict", learned, tmp_path / "t.csv")
    assert code == 1
    assert "not inside" in err


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl"])
@pytest.mark.parametrize("torn", [1, 17])
def test_a_job_continues_where_it_was_killed(
    quickstudy, learned, tables, tmp_path, ending, torn, monkeypatch
):
    monkeypatch.setattr(predict, "AT_ONCE", 10)
    out = tmp_path / f"answers.{ending}"
    words = ("predict", learned, tables / "t.csv", "--keep", "0.9", "--coverage", "0.8")
    code, said, err = quickstudy(*words, "--output", out)
    assert code == 0, err
    assert "Answered 96 inputs" in said
    whole = out.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [out.name]

    seen = []
    answers = predict.answers

    def killed(model, group, asked):
        seen.append(len(group))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return answers(model, group, asked)

    out.unlink()
    monkeypatch.setattr(predict, "answers", killed)
    code, _, err = quickstudy(*words, "--output", out)
    assert code == 130
    assert (tmp_path / f".{out.name}.unfinished").exists()
    out.write_bytes(out.read_bytes()[:-torn])  # as if the last row was not written whole
    code, said, err = quickstudy(*words, "--output", out)
    assert code == 0, err
    assert out.read_bytes() == whole
    assert len(seen) == 4 + 8  # of ten groups two were written whole
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def begun(quickstudy, learned, table, out, monkeypatch, *options):
    """A job that was stopped after a group of ten."""
    answers = predict.answers
    with monkeypatch.context() as patch:
        patch.setattr(predict, "AT_ONCE", 10)
        groups = []

        def killed(model, group, asked):
            groups.append(group)
            if len(groups) == 2:
                raise KeyboardInterrupt
            return answers(model, group, asked)

        patch.setattr(predict, "answers", killed)
        words = ("predict", learned, table, "--output", out, *options)
        assert quickstudy(*words)[0] == 130


def test_another_job_is_refused(quickstudy, learned, tables, tmp_path, monkeypatch):
    out = tmp_path / "answers.tsv"
    begun(quickstudy, learned, tables / "t.csv", out, monkeypatch)
    before = out.read_bytes()
    other = tmp_path / "other.qs"
    FewShotClassifier.load(learned).remove(examples=[0]).save(other)
    for words, said in (
        ((other, tables / "t.csv"), "begun with another classifier,"),
        ((learned, tables / "t.tsv"), "begun with another input,"),
        ((learned, tables / "t.csv", "--keep", "0.5"), "--keep or --coverage"),
    ):
        code, _, err = quickstudy("predict", *words, "--output", out)
        assert code == 1
        assert said in err
        assert out.read_bytes() == before
    assert quickstudy("predict", learned, tables / "t.csv", "--output", out)[0] == 0
    code, _, err = quickstudy("predict", learned, tables / "t.csv", "--output", out)
    assert code == 1
    assert "no unfinished job belongs to it" in err


def test_other_lines_are_refused(quickstudy, learned, tables, tmp_path, monkeypatch):
    paths = [str(each) for each in sorted(tables.rglob("*.png"))]
    out = tmp_path / "answers.tsv"
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(paths)))
    begun(quickstudy, learned, "-", out, monkeypatch)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(paths[1:])))
    code, _, err = quickstudy("predict", learned, "-", "--output", out)
    assert code == 1
    assert "not the one that the job began with" in err
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(paths)))
    code, _, err = quickstudy("predict", learned, "-", "--output", out)
    assert code == 0, err
    assert len(out.read_text().splitlines()) == 97


def test_what_was_left_out_is_left_out_again(quickstudy, learned, pictures, tmp_path, monkeypatch):
    lines = [str(each) for each in sorted(pictures.rglob("*.png"))[:30]]
    for number in (0, 8, 9, 15):
        broken = tmp_path / f"broken{number}.png"
        broken.write_bytes(b"no image")
        lines[number] = str(broken)
    out = tmp_path / "answers.tsv"
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    skip = ("--unreadable", "skip")
    with pytest.warns(UserWarning, match="Left out"):
        begun(quickstudy, learned, "-", out, monkeypatch, *skip)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    with pytest.warns(UserWarning, match="Left out"):
        code, _, err = quickstudy("predict", learned, "-", "--output", out, *skip)
    assert code == 0, err
    names = [row["input"] for row in rows_of(out.read_text())]
    assert names == [line for line in lines if "broken" not in line]


def test_an_unreadable_row_is_named(quickstudy, learned, tmp_path):
    table = pyarrow.Table.from_pylist([{"image": b"no image"}])
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    code, _, err = quickstudy("predict", learned, tmp_path / "t.parquet")
    assert code == 1
    assert f"row 0 of {tmp_path / 't.parquet'} cannot be used" in err
    assert "--unreadable skip" in err


def test_lines_are_answered_as_they_come(learned, pictures):
    """The first answer is there before the second input is."""
    command = [sys.executable, "-m", "quickstudy", "predict", str(learned), "-"]
    first, second = sorted(pictures.rglob("*.png"))[:2]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdin.write(f"{first}\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith("input\tlabel")
        assert process.stdout.readline().startswith(f"{first}\t")
        process.stdin.write(f"{second}")
        process.stdin.close()
        assert process.stdout.readline().startswith(f"{second}\t")
        assert process.wait(60) == 0


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a signal of POSIX systems")
def test_after_kill_9_nothing_is_lost_or_twice(learned, pictures, tmp_path):
    """Killed for real, while it writes; a pipe makes it wait for more."""
    paths = [str(each) for each in sorted(pictures.rglob("*.png"))] * 3
    out = tmp_path / "answers.csv"
    words = ["predict", str(learned), "-", "--output", str(out)]
    command = [sys.executable, "-m", "quickstudy", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as process:
        process.stdin.write("\n".join(paths[:150]) + "\n")
        process.stdin.flush()
        for _ in range(600):
            if out.exists() and out.read_bytes().count(b"\n") > 100:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert out.read_bytes().count(b"\n") > 100
    text = "\n".join(paths)
    subprocess.run(command, input=text, text=True, check=True, capture_output=True)
    with out.open(newline="") as file:
        assert [row["input"] for row in csv.DictReader(file)] == paths


def test_a_classifier_is_measured_on_labelled_files(quickstudy, learned, pictures, tmp_path):
    words = ("evaluate", learned, "--data", pictures, "--report", tmp_path / "m.json")
    code, out, err = quickstudy(*words)
    assert code == 0, err
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["examples"] == 96
    assert f"accuracy: {found['accuracy']:.4g}" in err
    assert out.splitlines()[0] == "class\texamples\tanswered\taccuracy\tlow\thigh"
    assert len(rows_of(out)) == 16
    code, _, err = quickstudy("evaluate", learned)
    assert code == 2
    assert "--data FOLDER" in err
