"""The commands on the pages, to run them exactly as printed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from topsync.local import paths

BLOCK = re.compile(r"^(?P<indent> *)```sh\n(?P<text>.*?)^ *```", re.MULTILINE | re.DOTALL)
CONTINUED = re.compile(r"\\\n\s*")
PAGES = ("*.md", "docs/**/*.md", "deploy/**/*.md")
BOUND_SECONDS = 120.0

SHORT_LIVED_JAVA = {"JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
"""For short Java programs: a server's compiler and garbage collector would double their time."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command line of a page."""

    page: str
    text: str
    """As printed, with continued lines joined, and without the comment at its end."""


def all_pages() -> list[str]:
    """Every page of the project, relative to the checkout."""
    found = [page for pattern in PAGES for page in paths.CHECKOUT.glob(pattern)]
    return sorted(str(page.relative_to(paths.CHECKOUT)) for page in found)


def read(page: str) -> str:
    """A page's text."""
    return (paths.CHECKOUT / page).read_text()


def slug(title: str) -> str:
    """The anchor of a heading, if no other heading of the page has the same text."""
    plain = re.sub(r"\[([^\]]*)\]\([^)\s]+\)", r"\1", title)
    return re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")


def commands(page: str) -> list[Command]:
    """The commands that a page asks its reader to type, in order."""
    lines = [line for block in BLOCK.finditer(read(page)) for line in _lines(block["text"])]
    return [Command(page, line) for line in lines]


def _lines(block: str) -> list[str]:
    joined = CONTINUED.sub(" ", block)
    bare = [re.sub(r"\s+# .*$", "", line).strip() for line in joined.splitlines()]
    return [line for line in bare if line and not line.startswith("#")]


@dataclass(frozen=True, slots=True)
class Shell:
    """A reader's terminal: a folder, an environment, and programs that replace those that are not here."""

    folder: Path
    environment: Mapping[str, str]

    @classmethod
    def at(cls, folder: Path, scratch: Path, environment: Mapping[str, str]) -> Shell:
        """A shell in `folder`, with `topsync` and `python` on its path; `scratch` takes replaced programs."""
        programs = scratch / "bin"
        programs.mkdir(exist_ok=True)
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return cls(folder, {**os.environ, **environment, **SHORT_LIVED_JAVA, "PATH": path})

    def stand_in(self, name: str, script: str) -> None:
        """Replace a program by a script of `sh`."""
        program = Path(self.environment["PATH"].partition(":")[0]) / name
        program.write_text(f"#!/bin/sh\n{script}")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    async def run(self, line: str, *, typed: str = "") -> str:
        """Run a line, which must succeed; returns its output."""
        async with self._started(line) as process, asyncio.timeout(BOUND_SECONDS):
            output, _ = await process.communicate(typed.encode())
        text = output.decode(errors="replace")
        assert process.returncode == 0, f"{line}\n{text}"
        return text

    async def run_until(self, line: str, shown: str) -> None:
        """Run an endless command until it has printed `shown`; then press Ctrl-C, which must end it."""
        output = b""
        async with self._started(line) as process, asyncio.timeout(BOUND_SECONDS):
            assert process.stdout is not None
            while shown.encode() not in output:
                piece = await process.stdout.read(65536)
                assert piece, f"{line}\nended without {shown!r}:\n{output.decode(errors='replace')}"
                output += piece
            os.killpg(process.pid, signal.SIGINT)
            await process.communicate()

    @asynccontextmanager
    async def _started(self, line: str) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", line,
            cwd=self.folder,
            env=dict(self.environment),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
