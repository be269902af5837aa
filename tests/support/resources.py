"""The resources that a process has used so far, as the system counts them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from topsync.local.processes import ManagedProcess

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Resources:
    """Used since the start; only the memory is the current use."""

    cpu_seconds: float
    memory_bytes: int
    log_lines: int


def of(process: ManagedProcess) -> Resources:
    """The resources that a running process has used."""
    folder = Path("/proc") / str(process.pid)
    # After the name, which is in brackets and may have any characters.
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return Resources(
        cpu_seconds=(int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND,
        memory_bytes=int((folder / "statm").read_text().split()[1]) * PAGE_BYTES,
        log_lines=process.log.read_bytes().count(b"\n"),
    )
