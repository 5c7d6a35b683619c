"""Training and evaluating on texts and on sounds at the command line."""

import json

import pytest
import yaml

from quickstudy.runs import Checkpoint, load

pytestmark = pytest.mark.usefixtures("data")


FEW = [
    "--ways", "3", "--queries", "2", "--steps", "4", "--validate_every", "2",
    "--validation_episodes", "3", "--validation_queries", "2",
]  # fmt: skip
"""Options of a training run that takes a few seconds."""
TESTED = ["--ways", "3", "--queries", "2", "--episodes", "3"]


def test_texts_are_trained_on_resumed_and_evaluated(quickstudy, tmp_path):
    run, report = tmp_path / "run", tmp_path / "report.json"
    code, _, err = quickstudy("train", "--data", "banking77", *FEW, "--out", run)
    assert code == 0, err
    trained = load(run)
    encoder = trained.strategy.encoder
    assert type(encoder).__name__ == "TextEncoder"
    assert encoder.vocabulary == trained.inputs.vocabulary
    config = (run / "config.yaml").read_text()
    assert yaml.safe_load(config)["encoder"]["class_path"] == "quickstudy.encoders.TextEncoder"
    assert len(config) < 10_000  # without the tokenizer, which the checkpoint holds
    saved = Checkpoint.load(run / "checkpoints" / "last.safetensors")
    assert saved.inputs == trained.inputs.to_dict()

    code, _, err = quickstudy("train", "--resume", run, "--steps", "6")
    assert code == 0, err
    assert load(run).progress["step"] in (2, 4, 6)  # of the best
    code, out, err = quickstudy("evaluate", run, *TESTED, "--report", report)
    assert code == 0, err
    assert json.loads(report.read_text())["data"] == "banking77/test"
    # Other texts are read with the run's subwords.
    code, out, err = quickstudy("evaluate", run, "--data", "clinc150", *TESTED)
    assert code == 0, err
    assert "clinc150/test" in out


def test_sounds_of_words_and_speakers_never_heard(quickstudy, tmp_path):
    run = tmp_path / "run"
    words = ["--data", "dspspeech20", "--where.speaker", "speakers/train"]
    code, _, err = quickstudy("train", *words, *FEW, "--out", run)
    assert code == 0, err
    trained = load(run)
    encoder = trained.strategy.encoder
    assert type(encoder).__name__ == "AudioCNN"
    assert encoder.rate == trained.inputs.rate == 16000
    assert encoder.input_shape == (20480,)
    assert trained.config["where"] == {"speaker": "speakers/train"}
    code, _, err = quickstudy("train", "--resume", run, "--steps", "5")
    assert code == 0, err
    code, _, err = quickstudy(
        "evaluate", run, "--where", '{"speaker": "speakers/test"}', "--shots", "2", *TESTED
    )
    assert code == 0, err
    code, out, err = quickstudy(
        "evaluate",
        run,
        "--data",
        "fsdd",
        "--data_split",
        "test",
        "--test-split",
        "train+test",
        *TESTED,
    )
    assert code == 0, err
    assert "fsdd/train+test" in out


def test_a_table_of_ones_own(quickstudy, tmp_path):
    lines = [f"what is {word} {n},x,{word}" for word in "abcdefghijkl" for n in range(6)]
    table = tmp_path / "own.csv"
    table.write_text("\n".join(["said,note,which", *lines]))
    words = ["--data", table, "--split", "0.5,0.25,0.25", *FEW, "--out", tmp_path / "run"]
    code, _, err = quickstudy("train", *words)
    assert code == 1
    assert "own.csv" in err
    assert "label_column" in err or "input_column" in err
    named = ["--input_column", "said", "--label_column", "which"]
    code, _, err = quickstudy("train", *words, *named)
    assert code == 0, err
    # What is not said is as it was in training.
    code, _, err = quickstudy("evaluate", tmp_path / "run", *TESTED)
    assert code == 0, err


def test_two_texts_encoders_are_compared(quickstudy, tmp_path):
    code, out, err = quickstudy(
        "compare", "PrototypicalNetwork", "NearestNeighbor", "--data", "banking77", *FEW,
        "--test_shots", "[1]", "--test_queries", "2", "--episodes", "3", "--out", tmp_path,
    )  # fmt: skip
    assert code == 0, err
    assert "3-way 1-shot" in out


def refused(result, *words):
    code, _, err = result
    assert code in (1, 2)
    assert "Traceback" not in err
    for word in words:
        assert word in err, err
    return True


def test_what_does_not_fit_texts_is_refused(quickstudy, tmp_path):
    words = ["train", "--data", "banking77", *FEW, "--out", tmp_path / "run"]
    assert refused(quickstudy(*words, "--augmentation.flip", "true"), "images", "'text'")
    assert refused(quickstudy(*words, "--encoder", "Conv4"), "Conv4 reads images")
    assert refused(quickstudy(*words, "--encoder.width", "3"), "name it too")
    assert refused(quickstudy(*words, "--data_split", "exam"), "'exam'", "train, test")
    assert refused(quickstudy(*words, "--where.speaker", "me"), "class_splits.json")
    assert refused(quickstudy(*words, "--rotations", "true"), "square images")
    assert not (tmp_path / "run").exists()


def test_data_of_another_kind_cannot_be_evaluated(quickstudy, tmp_path):
    run = tmp_path / "run"
    code, _, err = quickstudy("train", "--data", "banking77", *FEW, "--out", run)
    assert code == 0, err
    assert refused(quickstudy("evaluate", run, "--data", "glyphs"), "'image'", "'text'")
    assert refused(quickstudy("train", "--resume", run, "--data", "glyphs"), "'image'", "'text'")
