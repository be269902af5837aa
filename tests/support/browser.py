"""A real browser without a window, steered by its DevTools protocol: Chromium, where this machine has it."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.eventually import eventually

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NO_BROWSER: Final = f"no browser is on PATH ({', '.join(PROGRAMS)}), so this was not tried"
START_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 20.0
MOST_BYTES: Final = 64 * 1024 * 1024


def program() -> str | None:
    """The browser of this machine."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def required() -> str:
    """The browser; skips the test where there is none."""
    if (found := program()) is None:
        pytest.skip(NO_BROWSER)
    return found


@dataclass
class Tab:
    """A page in the browser."""

    connection: ClientConnection
    session: str
    complaints: list[str] = field(default_factory=list)
    """What the browser wrote to its console: errors of the script, and what the policy refused."""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def send(self, method: str, **parameters: object) -> dict[str, Any]:
        """Carry out a command of the protocol; returns its result."""
        number = next(self._numbers)
        asked = {"id": number, "method": method, "params": parameters}
        if self.session:
            asked["sessionId"] = self.session
        await self.connection.send(orjson.dumps(asked).decode())
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                told: dict[str, Any] = orjson.loads(await self.connection.recv())
                self._note(told)
                if told.get("id") == number:
                    assert "error" not in told, told
                    result: dict[str, Any] = told["result"]
                    return result

    def _note(self, told: dict[str, Any]) -> None:
        match told.get("method"):
            case "Log.entryAdded":
                self.complaints.append(told["params"]["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(told["params"]["exceptionDetails"]))

    async def open(self, url: str) -> None:
        """Go to an address."""
        await self.send("Page.enable")
        await self.send("Log.enable")
        await self.send("Runtime.enable")
        await self.send("Page.navigate", url=url)

    async def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Give the window a size, and the reader a taste."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def value(self, expression: str) -> Any:
        """What an expression of JavaScript is."""
        told = await self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def press(self, key: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            await self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    async def picture(self, *, whole: bool = False) -> bytes:
        """What is seen, as PNG; the whole page, or what the window shows."""
        told = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(told["data"])


@asynccontextmanager
async def browsing(folder: Path) -> AsyncIterator[Tab]:
    """A browser with a profile of its own in `folder`; it asks no foreign host. It ends with the context."""
    process = await asyncio.create_subprocess_exec(
        program() or "chromium",
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
        *(
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ),
        *("--disable-extensions", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
        *("--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder)},
        process_group=0,
    )
    try:
        port, path = await _address(folder / "DevToolsActivePort")
        async with connect(f"ws://127.0.0.1:{port}{path}", max_size=MOST_BYTES) as connection:
            browser = Tab(connection, "")
            made = await browser.send("Target.createTarget", url="about:blank")
            joined = await browser.send("Target.attachToTarget", targetId=made["targetId"], flatten=True)
            yield Tab(connection, joined["sessionId"])
            await browser.send("Browser.close")
            await process.wait()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 9)
            await process.wait()


async def _address(file: Path) -> tuple[str, str]:
    """Where the browser listens: its port, and the path of the connection."""
    await eventually(lambda: len(_lines(file)) == 2, within_seconds=START_SECONDS)
    port, path = _lines(file)
    return port, path


def _lines(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []
