"""The process that ends everything a starter began, however the starter itself ends.

Started as the leader of a process group of its own; every other child joins that group at its birth. The
guardian's standard input is a pipe whose other end only the starter has, so end-of-file there means that
the starter is gone: closed in order, killed with SIGKILL, or crashed. Then the group is asked to stop
(SIGTERM) and, after a bounded grace, is killed (SIGKILL).

Run as a script (`python -I -S guardian.py <grace_seconds>`) with the standard library only: it must start
in milliseconds and must not depend on anything it is there to outlive.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

POLL_SECONDS = 0.02
STARTERS_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Meant for the starter or for the group; the guardian must still be there afterwards."""


def main() -> None:
    """Wait for the starter's end, then end the group; `sys.argv[1]` is the grace in seconds."""
    for number in STARTERS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    grace_seconds = float(sys.argv[1])
    while os.read(sys.stdin.fileno(), 4096):
        pass
    _end_group(os.getpgrp(), grace_seconds)


def _end_group(group: int, grace_seconds: float) -> None:
    # A process cannot tell whether its own group is otherwise empty, nor kill the group without itself: a
    # fork goes on from a session of its own, and the leader leaves.
    if os.fork():
        os._exit(0)
    os.setsid()
    deadline = time.monotonic() + grace_seconds
    # No member left: ProcessLookupError. Only the exiting leader left: macOS says PermissionError.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(POLL_SECONDS)
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
