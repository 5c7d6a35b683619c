"""The audit of the dependencies, with a program in the place of pip-audit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[2] / "tools" / "audit.py"
SAFE = {"name": "safe", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found"}


def audit(folder, printed, code=0):
    """What tools/audit.py says when pip-audit prints this."""
    fake = f"import sys\nsys.stdout.write({printed!r})\nsys.exit({code})\n"
    (folder / "pip_audit.py").write_text(fake)
    done = subprocess.run(
        [sys.executable, AUDIT, "constraints.txt"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert not done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("packages", "code", "words"),
    [
        ([SAFE, UNKNOWN], 0, "1 packages of constraints.txt have 0 known vulnerabilities"),
        ([SAFE, BAD], 1, "bad 2 has CVE-1, mended in 3"),
        ([UNKNOWN, UNKNOWN], 0, "nothing was audited"),
    ],
)
def test_what_is_found_is_an_error_and_what_is_unknown_is_said(tmp_path, packages, code, words):
    found, printed = audit(tmp_path, json.dumps({"dependencies": packages}), code)
    assert found == code
    assert words in printed


def test_without_an_answer_nothing_was_audited_and_nothing_fails(tmp_path):
    found, printed = audit(tmp_path, "", 1)
    assert found == 0
    assert "could not be looked up" in printed
