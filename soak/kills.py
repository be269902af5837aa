"""Whole-system tests at length: minutes where the suite has seconds, every fail point, the long stories."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

TESTS: Final = (
    *("test_fleet", "test_kills", "test_backlog", "test_erase", "test_refunds"),
    *("test_dying_services", "test_dying_commands"),
)
LONGEST_TEST_SECONDS: Final = 900


def run() -> int:
    """Run them; status 0 when all hold."""
    files = [f"tests/system/{name}.py" for name in TESTS]
    command = ["-m", "pytest", *files, "--at-length", f"--timeout={LONGEST_TEST_SECONDS}", "--durations=0"]
    return subprocess.run([sys.executable, *command], check=False).returncode
