"""The examples run as they stand, with fewer steps."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_script(*words, cwd):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_example(name, tmp_path):
    script = ROOT / "examples" / name
    done = run_script(script, "--steps", 3, "--episodes", 5, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout


def test_a_strategy_in_a_file_of_ones_own_trains_at_the_command_line(tmp_path):
    shutil.copy(ROOT / "examples" / "write_a_strategy.py", tmp_path / "my_module.py")
    words = ["train", "--strategy", "my_module.RidgeRegression", "--steps", 2, "--out", "run"]
    done = run_script("-m", "quickstudy", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run_script("-m", "quickstudy", "evaluate", "run", "--episodes", 5, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "RidgeRegression" in done.stdout


def test_python_of_the_readme(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    script = tmp_path / "readme.py"
    script.write_text(code.replace("steps=300", "steps=3").replace("episodes=500", "episodes=5"))
    done = run_script(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "5-way 1-shot" in done.stdout
    assert (tmp_path / "letters.json").exists()
