"""`topsync sellers erase`: what it asks, what it says, and what it does when a server does not answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.support import systems
from tests.support.eventually import eventually, holds
from tests.system.test_writer import SELLER, TID, Installation, enricher, installation, is_published, snapshot
from topsync.base.errors import OperatorError
from topsync.model.priority import Priority
from topsync.operate import erase_command, seller_commands
from topsync.platforms.taobao.calls import messages
from topsync.simulator.server import Simulator
from topsync.simulator.settings import SimulatorSettings
from topsync.store import erasures, sellers
from topsync.store.erasures import Left
from topsync.store.sellers import SellerState
from topsync.stream import producer as producers
from topsync.wiring import opening, platforms
from topsync.wiring.taobao import OpenTaobao

__all__ = ["installation"]

NICK = "a seller"
NOWHERE = "http://127.0.0.1:9/router/rest"


@pytest.fixture(autouse=True)
def work_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOPSYNC_WORK_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


async def erase(confirmation: str | None = NICK, *, answer: str = "") -> int:
    async def ask(_: str) -> str:
        return answer

    return await erase_command.erase(str(SELLER), confirmation, ask, stalled_after_seconds=30)


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def state_of(installation: Installation) -> SellerState:
    found = await sellers.get(installation.pool, SELLER)
    assert found is not None
    return found.state


async def test_only_the_nick_or_the_id_confirms(installation: Installation) -> None:
    """A script whose input has ended also gives an empty answer."""
    for typed in ("", "yes", "A SELLER", str(SELLER + 1)):
        for confirmation, answer in ((typed, ""), (None, typed)):
            with pytest.raises(OperatorError, match="nothing is erased"):
                await erase(confirmation, answer=answer)
    assert await state_of(installation) is SellerState.NEW


async def test_it_says_what_goes_and_what_stays_and_files_go_too(
    installation: Installation, work_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exports = work_dir / "exports"
    exports.mkdir()
    kept = exports / f"export-{SELLER + 1}.zip"
    for file in (kept, exports / f"export-{SELLER}.zip", exports / f"export-{SELLER}.zip.part"):
        file.write_bytes(b"orders")
    async with producers.idempotent(installation.kafka) as producer, enricher():
        await producer.publish([snapshot(installation, "an order", modified=5, fetched=10)])
        await eventually(lambda: is_published(installation, TID))
        assert await erase(None, answer=f"{SELLER}\n") == 0
    shown = capsys.readouterr()
    assert "To be erased of a seller" in shown.out
    assert "is erased: 1 orders" in shown.out
    assert "What stays" in shown.out
    assert "erasing orders: 1 of 1" in shown.err
    assert [file.name for file in files(exports)] == [kept.name]
    assert await state_of(installation) is SellerState.ERASED

    with pytest.raises(OperatorError, match="its data was erased"):
        await seller_commands.pause(NICK, "a test")
    with pytest.raises(OperatorError, match="not paused but erased"):
        await seller_commands.resume(NICK)


async def test_a_platform_that_does_not_answer_is_informed_by_the_next_run(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The erasure must not wait for the platform: a seller who has left it can still be erased."""
    async with enricher(), producers.idempotent(installation.kafka) as producer:
        await producer.publish([snapshot(installation, "an order", modified=5, fetched=10)])
        await eventually(lambda: is_published(installation, TID))
        with monkeypatch.context() as unreachable:
            unreachable.setenv("TOPSYNC_GATEWAY_URL", NOWHERE)
            assert await erase() == 1
    assert "the platform could not be asked to stop its messages" in capsys.readouterr().out
    erasure = await erasures.get(installation.pool, SELLER)
    assert erasure is not None
    assert erasure.finished_at is not None
    assert not erasure.platform_notified

    assert await erase() == 0, "without an enricher: nothing else is left to do"
    assert await erase() == 0
    assert "is erased already" in capsys.readouterr().out


async def test_the_messages_of_a_shop_that_has_the_nick_now_go_on(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The platform's call takes the nick, and shops may exchange their nicks."""
    async with Simulator(SimulatorSettings(orders=2, sellers=2)) as platform:
        other = next(seller for seller in platform.sellers if seller.user_id != SELLER)
        monkeypatch.setenv("TOPSYNC_GATEWAY_URL", platform.addresses.gateway_url)
        monkeypatch.setenv("TOPSYNC_APP_SECRET", platform.settings.app_secret)
        monkeypatch.setenv("TOPSYNC_APP_KEY", platform.settings.app_key)
        async with opening.open_platform(platforms.chosen(), installation.pool) as (opened, _):
            assert isinstance(opened, OpenTaobao)
            client = opened.client
            session = SecretStr(platform.authorisations.current(other).token)
            await messages.permit(client, session)
            await sellers.add(installation.pool, seller_id=SELLER, nick=other.nick, session_cipher=b"x")
            async with enricher():
                assert await erase(str(SELLER)) == 0
            assert f"{other.nick} is now the nick of {other.user_id}" in capsys.readouterr().out
            known = await messages.user(client, other.nick, priority=Priority.OPERATOR)
    assert known is not None
    assert known.is_valid


async def test_a_batch_that_was_under_way_when_the_seller_was_stopped_is_waited_for(
    installation: Installation,
) -> None:
    """Its statement began before, so it stores an order of a seller that is erased meanwhile."""
    blocking = installation.pool.acquire()
    async with enricher(), producers.idempotent(installation.kafka) as producer, blocking as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "insert into orders "
            "(tid, seller_id, created, modified, status, content_hash, fetched_at, source, trade) "
            "values ($1, $2, now(), now(), '', '', now(), 'push', '{}')",
            TID,
            SELLER,
        )
        await producer.publish([snapshot(installation, "under way", modified=5, fetched=10)])
        await eventually(lambda: somebody_waits(installation))
        erasing = asyncio.create_task(erase())
        await eventually(lambda: is_erased(installation))
        await holds(lambda: is_under_way(erasing), for_seconds=1.0)
        await transaction.rollback()
        assert await erasing == 0
    assert await erasures.left(installation.pool, SELLER) == Left(0, 0)
    seen = await systems.records(installation.kafka, installation.topics.orders)
    assert seen[-1].value is None, "the batch has stored and published it, or only stored it; now it is gone"


WAITING = """
select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
"""


async def somebody_waits(installation: Installation) -> bool:
    return bool(await installation.pool.fetchval(WAITING))


async def is_erased(installation: Installation) -> bool:
    return await state_of(installation) is SellerState.ERASED


async def is_under_way(erasing: asyncio.Task[int]) -> bool:
    return not erasing.done()
