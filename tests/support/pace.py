"""How long a test waits, on a machine that may be slow or busy.

Tests give short times, for an idle machine. `TOPSYNC_TEST_SLOWNESS` multiplies all of them; raise it if your
machine is slower than the machines that usually run this project.
"""

from __future__ import annotations

import os

SLOWNESS = float(os.environ.get("TOPSYNC_TEST_SLOWNESS", "3"))


def seconds(on_an_idle_machine: float) -> float:
    """A bound that a busy machine must not reach, or a time in which something must have happened."""
    return on_an_idle_machine * SLOWNESS


AT_ONCE_SECONDS = seconds(5.0)
"""The bound for things that must not wait, in tests in which waiting would take far longer."""
