"""A terminal that runs a command, as a user sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support import measuring

WITHIN_SECONDS = 60.0
CTRL_C = b"\x03"
CTRL_D = b"\x04"


@dataclass
class Terminal:
    """The user's side. The other side stays open after the command has ended, as with a shell."""

    master: int
    slave: int
    process: subprocess.Popen[bytes]
    seen: bytes = field(default=b"")

    def shows(self, text: str) -> str:
        """Wait until a text is on the screen; returns the whole screen."""
        deadline = time.monotonic() + WITHIN_SECONDS
        while text not in (screen := self.seen.decode("utf-8", "replace")):
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} did not come: {screen!r}"
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 65536)
        return screen

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def ended(self) -> int:
        """Wait for the command's end; returns its status."""
        return self.process.wait(WITHIN_SECONDS)

    def next_line(self) -> bytes:
        """The line that the next command at this terminal reads; empty when there is no complete line."""
        return os.read(self.slave, 65536) if select.select([self.slave], [], [], WITHIN_SECONDS)[0] else b""


@contextmanager
def terminal(*arguments: str, environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Run `topsync` at a new terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "topsync", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={
            "PATH": os.environ["PATH"],
            "TERM": "xterm",
            "LANG": "C.UTF-8",
            **measuring.VARIABLES,
            **environment,
        },
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    try:
        yield Terminal(master, slave, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)
