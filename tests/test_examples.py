"""The examples run as they stand, with fewer steps."""

import os
import re
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


def test_python_of_the_readme(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    script = tmp_path / "readme.py"
    script.write_text(code.replace("steps=300", "steps=3").replace("episodes=500", "episodes=5"))
    done = run_script(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "5-way 1-shot" in done.stdout
    assert (tmp_path / "letters.json").exists()
