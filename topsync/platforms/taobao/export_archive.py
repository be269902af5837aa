"""Unpacks the zip of an export in constant memory, whatever is in it.

Only stored and deflated entries are read: for other methods Python's reader unpacks everything in one step,
and a kilobyte can become gigabytes. No error of the zip module leaves this module unchanged: which errors a
hostile file can cause is not documented, and changes.
"""

from __future__ import annotations

import errno
import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from topsync.platforms.export_port import ExportFileError

MAX_ENTRIES: Final = 10_000
"""The platform packs one text file, perhaps a few (docs/platform/gateway.md 4.3)."""

MAX_READ_BYTES: Final = 4 * 1024 * 1024
"""The most that the zip module may read from the file at once. Only the table of contents is read as a whole;
in this many bytes it can list more than `MAX_ENTRIES` entries with names of the usual length."""

_METHODS: Final = {
    zipfile.ZIP_STORED: "stored",
    zipfile.ZIP_DEFLATED: "deflate",
    zipfile.ZIP_BZIP2: "bzip2",
    zipfile.ZIP_LZMA: "LZMA",
    9: "deflate64",
    93: "Zstandard",
    95: "xz",
}
_ACCEPTED: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class _Bounded(io.FileIO):
    """A file that is never read in large pieces, whatever lengths it claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and 0 <= size <= MAX_READ_BYTES:
            return super().read(size)
        data = super().read(MAX_READ_BYTES + 1)
        if len(data) > MAX_READ_BYTES:
            raise ExportFileError(f"the zip's table of contents is larger than {MAX_READ_BYTES} bytes")
        return data


def entries(path: Path, chunk_bytes: int) -> Iterator[Iterator[bytes]]:
    """The bytes, in pieces, of each entry that is a file. Read them in this order.

    Raises:
        ExportFileError: the file cannot be accepted; may also be raised while the pieces are read.
        OSError: the file cannot be read here.
    """
    with _Bounded(path, opener=_open_no_link) as file:
        with _reading(path):
            archive = zipfile.ZipFile(file)
        with archive:
            found = archive.infolist()
            if len(found) > MAX_ENTRIES:
                raise ExportFileError(f"{path.name} has more than {MAX_ENTRIES} entries")
            for entry in found:
                if not entry.is_dir():
                    yield _pieces(path, archive, entry, chunk_bytes)


def _pieces(
    path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, chunk_bytes: int
) -> Iterator[bytes]:
    if entry.compress_type not in _ACCEPTED:
        method = _METHODS.get(entry.compress_type, f"method {entry.compress_type}")
        raise ExportFileError(f"{path.name} is packed with {method}; only stored and deflate are read")
    with _reading(path):
        stream = archive.open(entry)
    with stream:
        while True:
            with _reading(path):
                piece = stream.read(chunk_bytes)
            if not piece:
                return
            yield piece


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the zip module's errors into an `ExportFileError`, unless the disk is to blame."""
    try:
        yield
    except ExportFileError:
        raise
    except OSError as error:
        if error.errno != errno.EINVAL:  # raised for an impossible position in the file
            raise
        raise _no_zip(path, error) from None
    except Exception as error:  # noqa: BLE001 -- see the module
        raise _no_zip(path, error) from None


def _no_zip(path: Path, error: Exception) -> ExportFileError:
    # The error's class, not its text, which may quote the file.
    return ExportFileError(f"{path.name} is not a readable zip ({type(error).__name__})")
