"""Bad input ends in a sentence and a non-zero exit code, never in a traceback."""

import shutil

import pytest
import torch
from PIL import Image

from ..builders import command
from .conftest import TINY


@pytest.fixture
def copy(pictures, tmp_path):
    return shutil.copytree(pictures, tmp_path / "copy")


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    assert command("train", "--data", pictures, *TINY, "--out", run) == 0
    return run


def refused(result, *words):
    code, _, err = result
    assert code in (1, 2)
    assert "Traceback" not in err
    for word in words:
        assert word in err, err
    return True


def test_missing_folder(quickstudy, tmp_path):
    missing = tmp_path / "missing"
    assert refused(quickstudy("train", "--data", missing, *TINY), str(missing))


def test_unknown_benchmark(quickstudy):
    assert refused(quickstudy("train", "--data", "omniglott", *TINY), "omniglott", "omniglot")


def test_empty_class(quickstudy, copy, tmp_path):
    (copy / "nothing").mkdir()
    assert refused(quickstudy("train", "--data", copy, *TINY, "--out", tmp_path / "r"), "nothing")


def test_class_too_small(quickstudy, copy, tmp_path):
    result = quickstudy("train", "--data", copy, *TINY, "--shots", 5, "--out", tmp_path / "r")
    assert refused(result, "thing", "6 examples", "5 shots + 2 queries")


def test_more_ways_than_classes(quickstudy, copy, tmp_path):
    result = quickstudy("train", "--data", copy, *TINY, "--ways", 50, "--out", tmp_path / "r")
    assert refused(result, "50 ways", "8 classes")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_unreadable_image(quickstudy, copy, tmp_path, content):
    (copy / "thing03" / "bad.png").write_bytes(content)
    words = ["train", "--data", copy, *TINY, "--out", tmp_path / "r"]
    assert refused(quickstudy(*words), "bad.png", "skip")
    with pytest.warns(UserWarning, match=r"bad\.png"):
        code, _, err = quickstudy(*words, "--unreadable", "skip")
    assert code == 0, err


def test_truncated_image(quickstudy, copy, tmp_path):
    path = copy / "thing03" / "cut.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    result = quickstudy("train", "--data", copy, *TINY, "--out", tmp_path / "r")
    assert refused(result, "cut.png")


@pytest.mark.parametrize("damage", ["truncate", "garbage", "empty"])
def test_corrupt_checkpoint(quickstudy, trained, tmp_path, damage):
    run = shutil.copytree(trained, tmp_path / "run")
    for path in (run / "checkpoints").iterdir():
        content = path.read_bytes()
        new = {"truncate": content[: len(content) // 2], "garbage": b"x" * 500, "empty": b""}
        path.write_bytes(new[damage])
    assert refused(quickstudy("evaluate", run, "--episodes", 5, "--queries", 3), "safetensors")
    assert refused(quickstudy("train", "--resume", run), "safetensors")


def test_run_of_another_strategy(quickstudy, trained):
    result = quickstudy("train", "--resume", trained, "--strategy", "MAML")
    assert refused(result, "another strategy", "MAML", "PrototypicalNetwork")


def test_directory_that_holds_a_run(quickstudy, trained, pictures):
    result = quickstudy("train", "--data", pictures, *TINY, "--out", trained)
    assert refused(result, "already holds a run")


def test_not_a_run(quickstudy, tmp_path):
    assert refused(quickstudy("evaluate", tmp_path), "not a run")
    assert refused(quickstudy("train", "--resume", tmp_path), "no run to resume")


def test_config_with_an_unknown_key(quickstudy, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("data: glyphs\nlearning_rat: 0.1\n")
    assert refused(quickstudy("train", "--config", config), "learning_rat")
    config.write_text("strategy:\n  class_path: MAML\n  init_args:\n    inner_stepz: 3\n")
    assert refused(quickstudy("train", "--config", config), "inner_stepz")
    config.write_text("data: [unclosed\n")
    assert refused(quickstudy("train", "--config", config), "config.yaml")


def test_missing_config(quickstudy, tmp_path):
    assert refused(quickstudy("train", "--config", tmp_path / "none.yaml"), "none.yaml")


def test_unknown_command_and_strategy(quickstudy):
    assert refused(quickstudy("trian"), "trian", "train")
    assert refused(quickstudy("train", "--strategy", "MAMLL"), "MAMLL")


def test_wrong_ways_for_a_maml(quickstudy, pictures, tmp_path):
    run = tmp_path / "maml"
    words = ["train", "--data", pictures, *TINY, "--strategy", "MAML", "--out", run]
    code, _, err = quickstudy(*words)
    assert code == 0, err
    result = quickstudy("evaluate", run, "--ways", 4, "--queries", 3, "--episodes", 5)
    assert refused(result, "3 ways", "4 ways")


def test_unknown_split_and_part(quickstudy, pictures, trained, tmp_path):
    words = ["train", "--data", pictures, *TINY, "--out", tmp_path / "r"]
    assert refused(quickstudy(*words, "--split", "vinyals"), "vinyals")
    assert refused(quickstudy("evaluate", trained, "--test-split", "exam"), "exam", "test")


def test_unwritable_json(quickstudy, trained, tmp_path):
    target = tmp_path / "file"
    target.write_text("in the way")
    result = quickstudy(
        "evaluate", trained, "--episodes", 5, "--queries", 3, "--report", target / "r.json"
    )
    assert refused(result, "file")


def test_resume_with_other_data(quickstudy, trained):
    result = quickstudy("train", "--resume", trained, "--split_seed", 3)
    assert refused(result, "other train classes")
    assert refused(quickstudy("train", "--resume", trained, "--out", trained), "--out")
    assert refused(quickstudy("train", "--resum", trained), "--resum")


def test_validation_on_training_classes(quickstudy, pictures, tmp_path):
    words = ["train", "--data", pictures, *TINY, "--out", tmp_path / "r"]
    assert refused(
        quickstudy(*words, "--train-split", "train+validation"), "--validation-split null"
    )
    assert refused(quickstudy(*words, "--train-split", "train+train"), "share classes")
    options = ["--train-split", "train+validation", "--validation-split", "null"]
    code, _, err = quickstudy(*words, *options)
    assert code == 0, err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("clip_norm", -1),
        ("ema", 1),
        ("warmup_steps", -5),
        ("validation_episodes", 0),
        ("max_minutes", 0),
        ("patience", 0),
        ("validation_ways", 0),
        ("ways", 1),
        ("shots", 0),
        ("learning_rate", "nan"),
        ("split", "0.5,nan"),
        ("split", "0.5,abc"),
        ("devices", 0),
        ("accelerator", "tpuu"),
        ("augmentation.degrees", -3),
    ],
)
def test_settings_out_of_range(quickstudy, pictures, tmp_path, option, value):
    words = ["train", "--data", pictures, *TINY, f"--{option}", value, "--out", tmp_path / "r"]
    code, _, err = quickstudy(*words)
    assert refused((code, "", err.replace("-", "_")), option.partition(".")[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--ways", "five"],
            "--ways is 'five'; it must be a whole number or a range such as [5,20].",
        ),
        (["--clip_norm", "x"], "--clip-norm is 'x'; it must be a number or null."),
        (["--schedule", "x"], "--schedule is 'x'; it must be one of 'constant', 'cosine', 'lin"),
        (
            ["--strategy.inner_steps", "x"],
            "--strategy.inner-steps is 'x'; it must be a whole number.",
        ),
        (["--strategy.test_inner_steps", "x"], "it must be a whole number or null."),
        (
            ["--strategy.inner_stepz", "3"],
            "MAML has no argument 'inner_stepz'. Did you mean inner_steps?",
        ),
        (["--encoder", "Conv4", "--encoder.pooling", "x"], "it must be one of 'max', 'stride'."),
        (["--encoder", "Conv4", "--encoder.channels", "x"], "--encoder.channels is 'x'; it must"),
        (
            ["--encoder", "Conv5"],
            "--encoder is 'Conv5', and there is no such encoder. Did you mean",
        ),
        (
            ["--encoder", "my_module.Conv5"],
            "cannot be imported: No module named 'my_module'.",
        ),
        (["--strategy", "MAMLL"], "there is no such strategy. Did you mean MAML"),
        (["--strategy", "quickstudy.Nope"], "module 'quickstudy' has no attribute 'Nope'."),
        (["--strategy", "WholeHypernetwork", "--strategy.learner", "Nope"], "no such encoder"),
        (["--shot=3"], "There is no option --shot. Did you mean --shots?"),
        (["--augmentation.degree", "3"], "Did you mean --augmentation.degrees?"),
    ],
)
def test_values_that_do_not_fit(quickstudy, pictures, options, said):
    words = ["train", "--data", pictures, "--strategy", "MAML", *options]
    assert refused(quickstudy(*words), said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["learn", "", "-o", "a.qs"], "The source is empty"),
        (["learn", "pictures", "-o", ""], "-o is empty"),
        (["learn", "pictures", "--out="], "--out is empty"),
        (["learn", "pictures", "-o", "a.qs", "--encoder", ""], "--encoder is empty"),
        (["train", "--data", ""], "--data is empty"),
        (["evaluate", ""], "The run is empty"),
        (["inspect", ""], "The file is empty"),
        (["add", "a.qs", "", "text"], "The label is empty"),
    ],
)
def test_values_that_are_empty(quickstudy, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    code, _, err = quickstudy(*words)
    assert code == 2
    assert said in err


@pytest.mark.parametrize("place", [".", "/"])
def test_a_folder_that_has_no_parent_in_the_place_of_a_file(quickstudy, pictures, place):
    code, _, err = quickstudy("learn", pictures, "-o", place)
    assert code == 1
    assert f"{place} is a folder; give the name of a file" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--episodes", 0], "--episodes is 0; it must be a whole number of at least 2"),
        (["--shots", 0], "--shots is 0"),
        (["--ways", "[5,2]"], "--ways is (5, 2)"),
        (["--queries", -1], "--queries is -1"),
        (["--checkpoint", "latest"], "one of 'best', 'last'"),
    ],
)
def test_evaluation_out_of_range_is_wrong_usage(quickstudy, trained, words, said):
    code, _, err = quickstudy("evaluate", trained, *words)
    assert code == 2
    assert said in err


def test_comparison_out_of_range_is_refused_before_training(quickstudy, pictures, tmp_path):
    words = ["--data", pictures, *TINY, "--episodes", 1, "--out", tmp_path / "both"]
    code, _, err = quickstudy("compare", "PrototypicalNetwork", *words)
    assert code == 2
    assert "--episodes is 1" in err
    assert not (tmp_path / "both").exists()


def test_what_is_missing_is_called_as_it_is_typed(quickstudy, pictures):
    code, _, err = quickstudy("learn", pictures)
    assert code == 2
    assert "quickstudy learn needs -o/--out: file to write" in err


def test_a_run_in_the_place_of_a_classifier(quickstudy, trained):
    code, _, err = quickstudy("predict", trained, "a.png")
    assert code == 1
    assert f"It is a run; `quickstudy learn ... --strategy {trained}` uses it." in err


def test_unusable_device(quickstudy, trained):
    assert refused(quickstudy("evaluate", trained, "--device", "cud"), "'cud' cannot be used")


def test_diverging_training_says_so(quickstudy, pictures, tmp_path):
    run = tmp_path / "r"
    words = ["train", "--data", pictures, *TINY, "--learning_rate", 1e30, "--out", run]
    assert refused(quickstudy(*words), "not finite in step")


def test_compare_with_several_devices(quickstudy, pictures):
    result = quickstudy("compare", "MAML", "--data", pictures, *TINY, "--devices", 2)
    assert refused(result, "one process")


@pytest.mark.parametrize("bytes_", [2**60, None])
def test_memory_that_runs_out(quickstudy, monkeypatch, bytes_):
    def run(given):
        if bytes_ is None:
            raise MemoryError
        torch.empty(bytes_, dtype=torch.uint8)

    monkeypatch.setattr("quickstudy.cli.datasets.run", run)
    code, _, err = quickstudy("datasets")
    assert code == 1
    assert err.startswith("quickstudy: memory ran out (")
    assert "--tasks-at-once" in err


def test_other_errors_of_the_program_keep_their_traceback(quickstudy, monkeypatch):
    def run(given):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("quickstudy.cli.datasets.run", run)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        quickstudy("datasets")
