"""Downloads: verified before they are visible, bounded, from known hosts only, and cleaned up."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import hashlib
import os
import stat
from pathlib import Path

import pytest
from aiohttp import web

from tests.platforms.taobao.gateway import Step, answers, drips, never_answers, resets, sample, serving
from tests.support import pace
from topsync.platforms.export_port import part_of
from topsync.platforms.taobao.gateway.download import DownloadConfig, download
from topsync.platforms.taobao.gateway.errors import DownloadFailedError

FILE = sample("topats_export.zip")
CHECK_CODE = "401f0ff90ae07fa9b520858309473a97"
CONFIG = DownloadConfig(
    allowed_hosts=frozenset({"127.0.0.1"}),
    max_bytes=10_000,
    read_seconds=pace.seconds(0.3),
    total_seconds=pace.seconds(1.0),
)


def file(body: bytes = FILE, content_type: str = "application/octet-stream") -> Step:
    return answers(
        lambda: web.Response(
            body=body,
            content_type=content_type,
            headers={"Content-Disposition": 'attachment;filename="export"'},
        )
    )


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def fetch(
    step: Step, target: Path, check_code: str = CHECK_CODE, config: DownloadConfig = CONFIG
) -> int:
    async with serving(step) as address:
        return await download(f"{address}/download?id=ONEUSETOKEN", check_code, target, config)


@pytest.mark.parametrize("check_code", [CHECK_CODE, CHECK_CODE.upper()])
async def test_a_file_with_the_right_md5_appears_under_its_name(tmp_path: Path, check_code: str) -> None:
    target = tmp_path / "export.zip"
    assert await fetch(file(), target, check_code) == len(FILE)
    assert target.read_bytes() == FILE
    assert files_in(tmp_path) == ["export.zip"]


async def test_a_file_larger_than_the_buffers_arrives_whole(tmp_path: Path) -> None:
    body = bytes(range(256)) * 20_000
    target = tmp_path / "export.zip"
    config = dataclasses.replace(CONFIG, max_bytes=len(body), total_seconds=20.0)
    await fetch(file(body), target, hashlib.md5(body).hexdigest(), config)
    assert target.read_bytes() == body


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(FILE))})
    response.content_type = "application/octet-stream"
    await response.prepare(request)
    await response.write(FILE[: len(FILE) // 2])
    assert request.transport is not None
    request.transport.close()
    return response


async def cut_without_a_length(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_type = "application/octet-stream"
    await response.prepare(request)
    await response.write(FILE[: len(FILE) // 2])
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_type = "application/octet-stream"
    await response.prepare(request)
    while True:
        await response.write(b"x" * 1000)
        await asyncio.sleep(0)


async def redirects(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("http://example.invalid/elsewhere")


async def compressed(request: web.Request) -> web.StreamResponse:
    assert request.headers["Accept-Encoding"] == "identity"
    return web.Response(
        body=gzip.compress(FILE),
        content_type="application/octet-stream",
        headers={"Content-Encoding": "GZip"},
    )


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (file(FILE + b"x"), "md5"),
        (cut, "broke off"),
        (cut_without_a_length, "md5"),
        (resets, "broke off"),
        (never_answers, "broke off"),
        (file(b"x" * 10_001), "larger"),
        (endless, "larger"),
        (drips, "broke off"),
        (file(b"<error>spent</error>", "text/plain"), "error text"),
        (answers(lambda: web.Response(status=502)), "502"),
        (redirects, "302"),
        (compressed, "compressed"),
    ],
)
async def test_a_failed_download_leaves_nothing_and_asks_for_a_fresh_url(
    tmp_path: Path, step: Step, reason: str
) -> None:
    with pytest.raises(DownloadFailedError, match=reason) as caught:
        await fetch(step, tmp_path / "export.zip")
    assert files_in(tmp_path) == []
    error: BaseException | None = caught.value
    while error is not None:
        assert "ONEUSETOKEN" not in str(error)
        error = error.__cause__


@pytest.mark.parametrize(
    "url",
    [
        "http://elsewhere.invalid/download",
        "http://127.0.0.1.elsewhere.invalid/download",
        "http://127.0.0.1@elsewhere.invalid/download",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "//127.0.0.1/x",
        "http://[broken",
        "http://127.0.0.1:http/x",
        "http://127.0.0.1/\x00",
        "",
    ],
)
async def test_no_connection_is_made_to_other_hosts_and_schemes(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadFailedError):
        await download(url, CHECK_CODE, tmp_path / "export.zip", CONFIG)
    assert files_in(tmp_path) == []


async def test_a_file_that_exists_is_kept_when_the_download_fails(tmp_path: Path) -> None:
    target = tmp_path / "export.zip"
    target.write_bytes(b"earlier")
    with pytest.raises(DownloadFailedError):
        await fetch(file(b"other"), target)
    assert target.read_bytes() == b"earlier"


async def test_a_half_file_of_an_earlier_crash_is_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "export.zip"
    target.with_name("export.zip.part").write_bytes(b"z" * 50_000)
    await fetch(file(), target)
    assert target.read_bytes() == FILE


async def test_nobody_else_can_read_the_file(tmp_path: Path) -> None:
    target = tmp_path / "export.zip"
    before = os.umask(0)
    try:
        await fetch(file(), target)
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


async def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    target = tmp_path / "export.zip"
    for link in (target, part_of(target)):
        link.symlink_to(elsewhere)
    await fetch(file(), target)
    assert elsewhere.read_bytes() == b"precious"
    assert not target.is_symlink()
    assert target.read_bytes() == FILE


async def test_a_cancelled_download_leaves_nothing(tmp_path: Path) -> None:
    reached = asyncio.Event()

    async def hangs(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "application/octet-stream"
        await response.prepare(request)
        await response.write(b"x")
        reached.set()
        await asyncio.sleep(30)
        return response

    config = dataclasses.replace(CONFIG, read_seconds=20, total_seconds=20)
    task = asyncio.create_task(fetch(hangs, tmp_path / "export.zip", config=config))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files_in(tmp_path) == []


async def test_a_folder_that_cannot_be_written_is_no_error_of_the_platform(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        await fetch(file(), tmp_path / "missing" / "export.zip")


async def test_room_for_the_whole_file_is_taken_before_it_is_read(tmp_path: Path) -> None:
    """A disk that is too small shows at once, with an error of its own, and leaves nothing behind."""
    announced = 1 << 60

    async def announces_too_much(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "application/octet-stream"
        response.content_length = announced
        await response.prepare(request)
        await asyncio.sleep(30)
        return response

    config = dataclasses.replace(CONFIG, max_bytes=announced, read_seconds=20, total_seconds=20)
    with pytest.raises(OSError, match=r"large|space"):
        await fetch(announces_too_much, tmp_path / "export.zip", config=config)
    assert files_in(tmp_path) == []
