"""Asks pip-audit for known vulnerabilities of the exact versions that a file of constraints lists.

    python tools/audit.py constraints.txt

Ends with an error when there are some. Where the database cannot be reached, or does not know the
packages, it says so and does not fail: no network is no vulnerability, and no proof of none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LONGEST_SECONDS = 300


def main() -> int:
    """Audits; returns the exit code."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", sys.argv[1], "--no-deps"]
    command += ["--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=LONGEST_SECONDS
        )
    except subprocess.TimeoutExpired:
        return not_audited(f"no answer in {LONGEST_SECONDS} seconds")
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        lines = done.stderr.strip().splitlines() or ["no answer"]
        return not_audited(lines[-1])
    return report(packages, Path(sys.argv[1]))


def report(packages: list[Mapping[str, Any]], source: Path) -> int:
    """Prints what was found of each package; returns the exit code."""
    skipped = [each["name"] for each in packages if "skip_reason" in each]
    if len(skipped) == len(packages):
        return not_audited("the database knows none of the packages")
    found = [(each, one) for each in packages for one in each.get("vulns", [])]
    for each, one in found:
        fixed = ", ".join(one.get("fix_versions", [])) or "no version"
        print(f"{each['name']} {each['version']} has {one['id']}, mended in {fixed}.")
    known = len(packages) - len(skipped)
    print(f"{known} packages of {source} have {len(found)} known vulnerabilities.")
    if skipped:
        print(f"Not in the database: {', '.join(skipped)}.")
    return 1 if found else 0


def not_audited(why: str) -> int:
    """Says that nothing is known; not an error."""
    print(f"Known vulnerabilities could not be looked up here ({why}); nothing was audited.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
