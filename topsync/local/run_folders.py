"""Folders that live as long as a run of the embedded servers, and are removed after a crash.

A folder is in use while some process holds the lock on its `.lock` file. The operating system releases the
lock when the last holder ends, however it ends. So we can distinguish what a crashed run left behind from
what a running run needs.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from topsync.base.errors import OperatorError
from topsync.local import locks, paths

LOCK_NAME = ".lock"
LEFT_OVERS_PER_START = 20
"""How many old folders a start removes, so that it stays quick; later starts remove the rest."""

OUTSIDE_PREFIX = "topsync-outside-"
"""Marks the folders made by `outside`, so that no other link is ever followed and removed."""


class FolderInUseError(OperatorError):
    """Another process works in this folder; choose another folder, or end that process."""


def create(parent: Path = paths.RUNS) -> Path:
    """Make a folder under `parent`, and remove what ended runs have left there.

    The last run's folder therefore stays, with its logs, until the next run starts.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_left_overs(parent)
    folder = Path(tempfile.mkdtemp(dir=parent))
    folder.chmod(0o755)
    return folder


def lock(folder: Path) -> int:
    """Mark `folder` as in use, and create it if needed. Returns the file descriptor that holds the lock.

    Children that inherit the descriptor hold the lock as well.

    Raises:
        FolderInUseError: another process holds it.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not locks.try_lock(descriptor):
            os.close(descriptor)
            raise FolderInUseError(f"{folder} is in use by another process")
        if _is_still_at(folder / LOCK_NAME, descriptor):
            return descriptor
        os.close(descriptor)


def is_in_use(folder: Path) -> bool:
    """Whether some process holds the lock of `folder`."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not locks.try_lock(descriptor)
    finally:
        os.close(descriptor)


def outside(link: Path) -> Path:
    """A new folder in the system's temporary folder, reachable as `link` and removed along with it."""
    target = Path(tempfile.mkdtemp(prefix=OUTSIDE_PREFIX))
    link.symlink_to(target)
    return target


def _remove_left_overs(parent: Path) -> None:
    lock_files = sorted(parent.glob(f"*/{LOCK_NAME}"))
    for lock_file in lock_files[:LEFT_OVERS_PER_START]:
        try:
            descriptor = os.open(lock_file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # another start removes the same folder
            continue
        try:
            if locks.try_lock(descriptor):
                _remove(lock_file.parent)
        finally:
            os.close(descriptor)


def _remove(folder: Path) -> None:
    # What cannot be removed now must not hinder this start; the next start tries again.
    for link in folder.iterdir():
        if link.is_symlink() and _is_from_outside(link.readlink()):
            shutil.rmtree(link.readlink(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _is_from_outside(target: Path) -> bool:
    return target.parent == Path(tempfile.gettempdir()) and target.name.startswith(OUTSIDE_PREFIX)


def _is_still_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
