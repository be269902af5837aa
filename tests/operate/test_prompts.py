"""Commands that ask: Ctrl-C ends them at once, and the next input goes to the next command."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tests.store.databases import SELLER, emptied, settings_for
from tests.support.terminals import CTRL_C, CTRL_D, terminal
from topsync.store import database, sellers
from topsync.store.sellers import SellerState

SESSION = b"6100e1aDEMOSESSION0001"
INTERRUPTED = 130

ERASE = ("sellers", "erase", "demo_one")
AUTHORISE = ("sellers", "authorise", "demo_one")
ADD = ("sellers", "add", "--user-id", "7", "--nick", "new_shop")


@pytest.fixture
def environment(migrated_database_url: str) -> dict[str, str]:
    async def empty() -> None:
        async with emptied(migrated_database_url):
            pass

    asyncio.run(empty())
    return {
        "TOPSYNC_DATABASE_URL": migrated_database_url,
        "TOPSYNC_TOKEN_KEYS": Fernet.generate_key().decode(),
        "TOPSYNC_APP_KEY": "99000001",
        "TOPSYNC_APP_SECRET": "very-secret-value-0001",
        "TOPSYNC_OAUTH_REDIRECT_URL": "https://shop.example/callback",
    }


def state_of(seller_id: int, database_url: str) -> SellerState | None:
    async def look() -> SellerState | None:
        async with database.connect(settings_for(database_url)) as pool:
            found = await sellers.get(pool, seller_id)
        return None if found is None else found.state

    return asyncio.run(look())


@pytest.mark.parametrize(
    ("command", "asks"),
    [(ERASE, "type the seller's nick or id: "), (AUTHORISE, "was sent to: "), (ADD, "Enter ends it): ")],
    ids=["erase", "authorise", "add"],
)
def test_ctrl_c_at_a_prompt_ends_the_command_at_once_and_swallows_nothing(
    environment: dict[str, str], command: tuple[str, ...], asks: str
) -> None:
    with terminal(*command, environment=environment) as at:
        at.shows(asks)
        at.type(CTRL_C)
        assert at.ended() == INTERRUPTED
        at.type(b"echo next\n")
        assert at.next_line() == b"echo next\n"
        assert "Traceback" not in at.shows("next")
    assert state_of(SELLER, environment["TOPSYNC_DATABASE_URL"]) is SellerState.NEW


def test_the_input_at_a_prompt_is_its_answer(environment: dict[str, str]) -> None:
    with terminal(*ERASE, environment=environment) as at:
        at.shows("type the seller's nick or id: ")
        at.type(b"demo_two\nnot for it\n")
        at.shows("that does not name demo_one (2200000000001): nothing is erased")
        assert at.ended() == 1
        assert at.next_line() == b"not for it\n"


def test_the_end_of_the_input_is_no_answer(environment: dict[str, str]) -> None:
    with terminal(*ERASE, environment=environment) as at:
        at.shows("type the seller's nick or id: ")
        at.type(CTRL_D)
        at.shows("nothing is erased")
        assert at.ended() == 1


def test_a_session_is_asked_for_on_a_terminal_and_not_shown_there(environment: dict[str, str]) -> None:
    with terminal(*ADD, environment=environment) as at:
        at.shows("The session, or the token endpoint's answer (it is not shown; Enter ends it): ")
        at.type(SESSION + b"\n")
        assert SESSION.decode() not in at.shows("added new_shop; next: topsync bootstrap --seller 7")
        assert at.ended() == 0
        at.type(b"seen again\n")
        at.shows("seen again")
    assert state_of(7, environment["TOPSYNC_DATABASE_URL"]) is SellerState.NEW


def test_an_answer_of_several_lines_ends_with_its_last_brace(environment: dict[str, str]) -> None:
    with terminal(*ADD, environment=environment) as at:
        at.shows("Enter ends it): ")
        at.type(b'{"access_token": "' + SESSION + b'",\n"taobao_user_id": "8", "expires_in": 60}\n')
        at.shows("that session belongs to seller 8, not to 7")
        assert at.ended() == 1


def test_an_import_says_on_a_terminal_what_it_waits_for(environment: dict[str, str]) -> None:
    with terminal("sellers", "import", environment=environment) as at:
        at.shows("One seller a line, as JSON (Ctrl-D ends it):")
        at.type(CTRL_C)
        assert at.ended() == INTERRUPTED


@pytest.mark.parametrize("source", ["pipe", "file", "nothing", "closed"])
def test_a_prompt_reads_its_line_from_any_kind_of_input(source: str, tmp_path: Path) -> None:
    """From a pipe it reads only its line: the rest may be for the next command."""
    script = (
        "import asyncio, sys; from topsync.base import terminal; terminal.prepare(); "
        "print([asyncio.run(terminal.ask('')) for _ in 'ab'], sys.stdin.read())"
    )
    (tmp_path / "lines").write_text("one\n店\nrest")
    given = {"pipe": "exec cat lines | {}", "file": "{} < lines", "nothing": "{} < /dev/null"}
    command = given.get(source, "{} <&-").format(f'{sys.executable} -c "$SCRIPT"')
    ended = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        cwd=tmp_path,
        env={"SCRIPT": script, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path.cwd()), "LANG": "C.UTF-8"},
        timeout=60,
        check=True,
    )
    something = source in ("pipe", "file")
    assert ended.stdout.decode() == ("['one\\n', '店\\n'] rest\n" if something else "['', ''] \n")
