"""A database on another machine must prove who it is; whoever does not is refused in one line, at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
import structlog

from tests.support.authorities import Authority
from tests.support.tls_front import TlsFront
from topsync.base import settings
from topsync.base.errors import UnreachableError
from topsync.base.rereading import Latest
from topsync.base.settings import DatabaseSettings, SettingsError
from topsync.store import database
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.wiring import parts

AT_ONCE_SECONDS: Final = 15.0
"""Eight attempts would take longer."""

SOME_OTHER_MACHINE: Final = "0.0.0.0"
"""The settings take it for another machine, and the kernel for this machine."""


@pytest.fixture
async def front(database_server_url: str, tmp_path: Path) -> AsyncIterator[TlsFront]:
    """Its certificate is for 127.0.0.1 only."""
    port = urlsplit(database_server_url).port
    assert port is not None
    made = TlsFront(port, Authority(tmp_path).issue("database"))
    async with made.open():
        yield made


@pytest.fixture
def authority(front: TlsFront, tmp_path: Path) -> Path:
    """The file of the authority that issued it."""
    return tmp_path / "authority.pem"


@pytest.fixture
def configured(
    front: TlsFront, database_server_url: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], None]:
    """Sets the address: a query, and the host's name."""
    own = urlsplit(database_server_url)

    def configure(query: str, host: str) -> None:
        netloc = f"{own.netloc.rpartition('@')[0]}@{host}:{front.port}"
        monkeypatch.setenv("TOPSYNC_DATABASE_URL", own._replace(netloc=netloc, query=query).geturl())

    return configure


Configure = Callable[[str, str], None]


def checked_by(authority: Path) -> str:
    return f"sslmode=verify-full&sslrootcert={authority}"


@asynccontextmanager
async def opened(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    """The pool of a process, whatever the schema is."""

    async def is_fine(_: Pool) -> None:
        """Nobody migrated this database."""

    monkeypatch.setattr("topsync.store.schema.require_schema", is_fine)
    async with parts.open_pool() as pool:
        yield pool


async def test_a_server_with_a_certificate_of_the_authority_for_its_name_is_used(
    front: TlsFront, authority: Path, configured: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(checked_by(authority), "127.0.0.1")
    async with opened(monkeypatch) as pool:
        assert await pool.fetchval("select 1") == 1
    assert front.encrypted


async def test_a_server_with_another_certificate_is_refused_at_once_in_one_line(
    front: TlsFront,
    authority: Path,
    configured: Configure,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    unknown = Authority(tmp_path, "unknown")
    cases = [
        (checked_by(unknown.file), "127.0.0.1", "unable to get local issuer certificate"),
        (checked_by(authority), "localhost", "Hostname mismatch.*'localhost'"),
    ]
    for query, host, why in cases:
        configured(query, host)
        line = rf"TOPSYNC_DATABASE_URL.*its certificate is refused: .*{why}"
        async with asyncio.timeout(AT_ONCE_SECONDS):
            with pytest.raises(UnreachableError, match=line) as raised:
                async with opened(monkeypatch):
                    raise AssertionError("a wrong certificate was accepted")
        assert "\n" not in str(raised.value)
    assert not front.encrypted


async def test_an_unchecked_server_on_another_machine_needs_a_permission_that_is_said_at_each_start(
    front: TlsFront, configured: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured("sslmode=require", SOME_OTHER_MACHINE)
    with pytest.raises(SettingsError, match=r"another machine: .*TOPSYNC_DATABASE_UNVERIFIED"):
        async with opened(monkeypatch):
            raise AssertionError("any server would do")
    monkeypatch.setenv("TOPSYNC_DATABASE_UNVERIFIED", "true")
    with structlog.testing.capture_logs() as lines:
        async with opened(monkeypatch) as pool:
            assert await pool.fetchval("select 1") == 1
    (warning,) = [line for line in lines if line["log_level"] == "warning"]
    assert warning["hosts"] == [SOME_OTHER_MACHINE]
    assert "can read and change everything" in warning["event"]


@pytest.fixture
def replaced(authority: Path, tmp_path: Path) -> Callable[[bool], None]:
    """Replaces the file of the authority by another authority's, or puts it back."""
    other, right = Authority(tmp_path, "other").file.read_bytes(), authority.read_bytes()

    def replace(is_right: bool) -> None:
        authority.write_bytes(right if is_right else other)

    return replace


async def test_a_replaced_authority_holds_for_the_next_connection(
    authority: Path, configured: Configure, replaced: Callable[[bool], None]
) -> None:
    configured(checked_by(authority), "127.0.0.1")
    own = settings.load(DatabaseSettings)
    async with database.connect(own, Latest(own)) as pool:
        assert await pool.fetchval("select 1") == 1
        replaced(False)
        await pool.expire_connections()
        with pytest.raises(OUTAGE_ERRORS):  # a running process goes on when it is put right
            await pool.fetchval("select 1")
        replaced(True)
        assert await pool.fetchval("select 1") == 1
