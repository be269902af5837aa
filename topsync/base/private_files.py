"""Files that hold buyers' data or secrets: only their owner can read them, and no link is followed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600

_OTHERS: Final = 0o077


def make_folder(path: Path) -> None:
    """Make a folder that no other user can enter. Missing parents are made with the usual rights. Idempotent.

    Raises:
        OSError: it cannot be made, is no folder, or belongs to another user.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=FOLDER_MODE)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise
        if found.st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to another user") from None
        if stat.S_IMODE(found.st_mode) & _OTHERS:
            path.chmod(FOLDER_MODE)


def create(path: Path) -> BinaryIO:
    """Open a new file to write. An older file of that name is removed.

    Raises:
        OSError: the file cannot be made.
    """
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, FILE_MODE), "wb")
