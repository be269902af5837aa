"""What processes use, as Linux reports it: processor time and resident memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


def processor_seconds(process: int) -> float:
    """User and system time of a process, of its children, and of children that it had and waited for.

    Raises:
        FileNotFoundError: the process is gone.
    """
    times = _stat(process)[11:15]
    own = sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
    return own + sum(processor_seconds(child) for child in children(process))


def wakes(process: int) -> int:
    """How often the main thread of a process has gone to sleep, so far, and so was woken."""
    return _status(process, "voluntary_ctxt_switches")


def resident_megabytes(process: int) -> float:
    """Resident memory of a process now, without its children."""
    return _status(process, "VmRSS") / 1024


def peak_megabytes(process: int) -> float:
    """The most resident memory that a process has had, without its children."""
    return _status(process, "VmHWM") / 1024


def children(process: int) -> list[int]:
    """The children of a process, whichever thread of it has started them."""
    found: list[int] = []
    for thread in Path(f"/proc/{process}/task").glob("*/children"):
        found += map(int, thread.read_text().split())
    return found


@dataclass(slots=True)
class Peak:
    """The most resident memory of a process that may end before it is asked for the last time."""

    process: int
    megabytes: float = 0.0

    def look(self) -> None:
        """Read it; what has ended keeps the value of the last look."""
        try:
            self.megabytes = peak_megabytes(self.process)
        except (FileNotFoundError, ProcessLookupError, StopIteration):
            return  # a zombie has no memory, and no line about it


def has_ended(process: int) -> bool:
    """Whether a process is a zombie, whose times can still be read, or gone."""
    try:
        return _stat(process)[0] == "Z"
    except FileNotFoundError:
        return True


def _stat(process: int) -> list[str]:
    """The fields of `/proc/PID/stat` after the name; the first is the state."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _status(process: int, name: str) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
