"""Long tests of the whole system: minutes where the suite has seconds, every fail point, long stories."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

LONGEST_TEST_SECONDS: Final = 900


def run() -> int:
    """Run them; status 0 when all pass."""
    command = ["-m", "pytest", "--at-length", f"--timeout={LONGEST_TEST_SECONDS}", "--durations=0"]
    return subprocess.run([sys.executable, *command], check=False).returncode
