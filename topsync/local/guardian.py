"""The process that ends all of a starter's children, however the starter itself ends.

The guardian is the leader of its own process group, and every other child joins that group at its birth. The
guardian's standard input is a pipe whose other end only the starter has. So end-of-file there means that the
starter is gone: ended in order, killed with SIGKILL, or crashed. Then the guardian asks the group to stop
(SIGTERM) and, after a bounded grace time, kills it (SIGKILL).

It runs as a script (`python -I -S guardian.py <grace_seconds>`) with the standard library only: it must start
in milliseconds and must not depend on anything that it has to outlive.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

POLL_SECONDS = 0.02
STARTERS_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that are meant for the starter or for the group; the guardian must survive them."""


def main() -> None:
    """Wait for the starter's end, then end the group; `sys.argv[1]` is the grace in seconds."""
    for number in STARTERS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    grace_seconds = float(sys.argv[1])
    while os.read(sys.stdin.fileno(), 4096):
        pass
    _end_group(os.getpgrp(), grace_seconds)


def _end_group(group: int, grace_seconds: float) -> None:
    # A process cannot see whether its own group is otherwise empty, nor kill the group without itself. So a
    # fork goes on in a session of its own, and the leader leaves.
    if os.fork():
        os._exit(0)
    os.setsid()
    deadline = time.monotonic() + grace_seconds
    # No member left: ProcessLookupError. Only the exiting leader left: macOS raises PermissionError.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(POLL_SECONDS)
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
