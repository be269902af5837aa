"""The picture of the demo's page for README.md: a real browser's, of a real demo in its outage.

`python -m tests.support.page_picture` takes it again; it needs a browser (`tests/support/browser.py`) and two
minutes. Look at it before you commit it.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support import browser
from tests.support.eventually import eventually
from tests.support.places import DOCS

PICTURE: Final = DOCS / "pictures" / "demo-page.png"
WIDTH, HEIGHT = 1280, 800
MOST_BYTES: Final = 200_000

OUTAGE_SECONDS: Final = 25
SHADED_SECONDS: Final = 12
"""How long the outage must have lasted, so that the charts show it."""

START_SECONDS: Final = 120.0
OUTAGE_WITHIN_SECONDS: Final = 180.0

ADDRESS: Final = re.compile(rb"http://127\.0\.0\.1:\d+/\s")


async def take() -> bytes:
    """Run a demo up to its outage; returns the picture."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "topsync", "demo", "--watch", "--exit"),
        *("--outage", str(OUTAGE_SECONDS)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "120"},
    )
    try:
        assert process.stdout is not None
        url = await _address(process.stdout)
        reading = asyncio.create_task(_read_on(process.stdout))
        picture = await _in_the_outage(url)
        reading.cancel()
        return picture
    finally:
        process.terminate()
        await process.wait()


async def _address(output: asyncio.StreamReader) -> str:
    async with asyncio.timeout(START_SECONDS):
        async for line in output:
            if b"browser" in line and (found := ADDRESS.search(line)):
                return found[0].decode().strip()
    raise SystemExit("the demo did not say where its page is")


async def _read_on(output: asyncio.StreamReader) -> None:
    """So that the demo never waits for a reader."""
    async for _ in output:
        pass


async def _in_the_outage(url: str) -> bytes:
    async with httpx.AsyncClient(trust_env=False) as client:

        async def is_open() -> bool:
            given: dict[str, Any] = (await client.get(f"{url}data.json?after=999999999")).json()
            away = [outage for outage in given["outages"] if outage["ended"] is None]
            is_seen = bool(away) and time.time() > away[-1]["began"] + SHADED_SECONDS
            return is_seen and given["state"] == "open"

        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            async with browser.browsing(Path(profile)) as tab:
                await tab.size(WIDTH, HEIGHT)
                await tab.open(url)
                await eventually(is_open, within_seconds=OUTAGE_WITHIN_SECONDS)
                shown = "document.querySelector('#verdict').dataset.state"

                async def is_shown() -> bool:
                    return bool(await tab.value(shown) == "open")

                await eventually(is_shown)
                return await tab.picture()


def main() -> None:
    """Take the picture and put it into the documents."""
    if browser.program() is None:
        raise SystemExit(browser.NO_BROWSER)
    picture = asyncio.run(take())
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(picture)
    if len(picture) > MOST_BYTES:
        raise SystemExit(f"{PICTURE} has {len(picture)} bytes, more than {MOST_BYTES}")


if __name__ == "__main__":
    main()
