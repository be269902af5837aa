"""How long a test lets pass, on a machine that may be slow or busy.

Tests state short times as an idle machine needs them. `TOPSYNC_TEST_SLOWNESS` is the factor on all of them;
raise it where the machine is slower than those that this project usually runs on.
"""

from __future__ import annotations

import os

SLOWNESS = float(os.environ.get("TOPSYNC_TEST_SLOWNESS", "3"))


def seconds(on_an_idle_machine: float) -> float:
    """A bound that chance must not reach, or a time in which something must have happened."""
    return on_an_idle_machine * SLOWNESS


AT_ONCE_SECONDS = seconds(5.0)
"""What must not wait is given so long, in tests in which waiting would take far longer."""
