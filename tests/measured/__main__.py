"""`python -m tests.measured`: the suite under coverage.py, and whether each uncovered part has a reason.

Services and commands that the tests start are measured as well (`patch = subprocess` in pyproject.toml). A
process that is killed writes no data: what only such a process runs counts as not covered.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

from tests.measured import uncovered
from topsync.local import paths

FOLDER: Final = paths.LOCAL / "coverage"
"""Where `data_file` of pyproject.toml lies."""

REASONS: Final = paths.CHECKOUT / "tests" / "uncovered.toml"
PAGE: Final = paths.CHECKOUT / "docs" / "reference" / "coverage.md"

COVERAGE: Final = (sys.executable, "-m", "coverage")
SUITE: Final = ("-m", "pytest", "--numprocesses=2", "--no-loadscope-reorder", "-o", "timeout=600")

SLOWNESS: Final = {"TOPSYNC_TEST_SLOWNESS": "9"}
"""Measured code takes up to three times as long, so the tests allow three times as much, too."""


def main() -> int:
    """Measure and report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make coverage", description=__doc__)
    parser.add_argument(
        "--again", action="store_true", help="do not run the suite, but report the last run again"
    )
    arguments = parser.parse_args()
    status = 0 if arguments.again else _measure()
    report = uncovered.read_report(json.loads((FOLDER / "report.json").read_text()))
    reasons = uncovered.read_reasons(tomllib.loads(REASONS.read_text("utf-8")))
    sys.stdout.write(uncovered.table(report, reasons))
    if status:
        sys.stdout.write("\ncoverage: the suite failed, so more may be covered than this says\n")
        return status
    if problems := uncovered.problems(report, reasons):
        sys.stdout.write("\n".join(["", *problems, f"Each reason is in {_shown(REASONS)}.", ""]))
        return 1
    PAGE.write_text(uncovered.page(report, reasons), "utf-8")
    sys.stdout.write(f"\ncoverage: {report.summary}; every place has a reason: {_shown(PAGE)}\n")
    return 0


def _measure() -> int:
    """Run the suite and put together what its processes measured; the suite's exit status."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    status = _run(*COVERAGE, "run", *SUITE)
    for step in (("combine", "--quiet"), ("json", "--quiet", "-o", str(FOLDER / "report.json"))):
        if failed := _run(*COVERAGE, *step):
            return failed
    return status


def _run(*command: str) -> int:
    return subprocess.run(command, cwd=paths.CHECKOUT, env={**os.environ, **SLOWNESS}, check=False).returncode


def _shown(path: Path) -> str:
    return str(path.relative_to(paths.CHECKOUT))


if __name__ == "__main__":
    sys.exit(main())
