"""The kills and outages of the tests, at length: minutes where the tests take seconds, and every point."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

TESTS: Final = ("tests/system/test_fleet.py", "tests/system/test_kills.py")
LONGEST_TEST_SECONDS: Final = 900


def run() -> int:
    """Run them; status 0 when all hold."""
    command = ["-m", "pytest", *TESTS, "--at-length", f"--timeout={LONGEST_TEST_SECONDS}", "--durations=0"]
    return subprocess.run([sys.executable, *command], check=False).returncode
