"""Downloads the file of an export: within bounds, from known hosts only, verified before anybody uses it.

Source: docs/platform/gateway.md 4.3. The URL works for a single download, successful or not: after a
`DownloadFailedError` ask `exports.result` for a fresh URL.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import httpx

from topsync.base import private_files
from topsync.platforms.export_port import part_of
from topsync.platforms.taobao.gateway.errors import DownloadFailedError, TransportError
from topsync.platforms.taobao.gateway.transport import HttpConfig, HttpTransport

WRITE_BYTES: Final = 1024 * 1024
"""How much is collected before a thread writes and hashes it."""

_FILE_TYPE: Final = "application/octet-stream"
_IDENTITY: Final = "identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadConfig:
    """Bounds of a download.

    Attributes:
        allowed_hosts: exact names, without port; no other host is connected to.
        read_seconds: longest silence of the server.
        total_seconds: longest time for the whole file.
    """

    allowed_hosts: frozenset[str] = frozenset({"download.api.taobao.com"})
    max_bytes: int = 8 * 1024**3
    read_seconds: float = 30.0
    total_seconds: float = 3600.0
    http: HttpConfig = field(default_factory=lambda: HttpConfig(max_connections=1))


async def download(url: str, check_code: str, target: Path, config: DownloadConfig) -> int:
    """Fetch `url` to `target` and return its size in bytes.

    The file appears under its name only when it is complete and its md5 is `check_code` (in either case);
    until then it is `<target>.part`, which is deleted on any failure. No other user can read the two files:
    they hold buyers' addresses. Only one download per target at a time.

    Raises:
        DownloadFailedError: refused, cut, too large, too slow, an error text in place of a file, or another
            md5.
        OSError: the file cannot be written here; a fresh URL will not help.
    """
    _check_host(url, config)
    part = part_of(target)
    try:
        with await asyncio.to_thread(private_files.create, part) as file:
            size, md5 = await _fetch(url, file, config)
            await asyncio.to_thread(_flush, file)
        if md5 != check_code.lower():
            raise DownloadFailedError(f"the md5 of {size} bytes is not the check code")
        await asyncio.to_thread(part.replace, target)
    except TransportError as error:
        raise DownloadFailedError(f"the download broke off: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return size


async def _fetch(url: str, file: IO[bytes], config: DownloadConfig) -> tuple[int, str]:
    md5 = hashlib.md5(usedforsecurity=False)
    size = 0
    pending = bytearray()

    def write(data: bytes) -> None:
        file.write(data)
        md5.update(data)

    async with (
        HttpTransport(config.http) as http,
        http.stream(
            "GET", url, read_seconds=config.read_seconds, total_seconds=config.total_seconds
        ) as response,
    ):
        announced = _check_answer(response, config.max_bytes)
        if announced:
            # A full disk shows now, and not after an hour; and nobody else fills it meanwhile.
            await asyncio.to_thread(os.posix_fallocate, file.fileno(), 0, announced)
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > config.max_bytes:
                raise DownloadFailedError(f"the file is larger than {config.max_bytes} bytes")
            pending += chunk
            if len(pending) >= WRITE_BYTES:
                await asyncio.to_thread(write, bytes(pending))
                pending.clear()
    await asyncio.to_thread(write, bytes(pending))
    return size, md5.hexdigest()


def _check_host(url: str, config: DownloadConfig) -> None:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise DownloadFailedError("the download URL is malformed") from None
    if parsed.scheme not in {"http", "https"} or parsed.host not in config.allowed_hosts:
        raise DownloadFailedError(f"downloads from {parsed.scheme}://{parsed.host} are not allowed")


def _check_answer(response: httpx.Response, max_bytes: int) -> int:
    """Check that a file comes that is not too large; gives its announced size, 0 where there is none."""
    if response.status_code != httpx.codes.OK:
        # Also refuses a redirect: the file must be where the platform said.
        raise DownloadFailedError(f"HTTP status {response.status_code} in place of a file")
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != _FILE_TYPE:
        raise DownloadFailedError(f"an error text ({content_type[:60]}) in place of a file")
    if response.headers.get("content-encoding", _IDENTITY).strip().lower() != _IDENTITY:
        # The announced size and md5 are those of the file as it was packed for the export.
        raise DownloadFailedError("the file is compressed on its way, which was not asked for")
    text = response.headers.get("content-length", "")
    announced = int(text) if text.isdigit() else 0
    if announced > max_bytes:
        raise DownloadFailedError(f"the file is larger than {max_bytes} bytes")
    return announced


def _flush(file: IO[bytes]) -> None:
    """Write to the disk before the file gets its name: a crash must not leave half a file under it."""
    file.truncate()
    file.flush()
    os.fsync(file.fileno())
