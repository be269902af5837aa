"""P1, P2: a database that was restored from a backup is brought up to its topics before anybody writes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from consumer.enrich.read.batch import Batch
from consumer.enrich.republishing import Piece
from schemas import events
from schemas.erasure import Erasure
from schemas.trade import Trade
from tests.support import pace, pages, systems
from tests.support.eventually import eventually
from tests.system.test_writer import (
    SELLER,
    TID,
    Installation,
    at,
    batch_of,
    enricher,
    installation,
    publish,
    publish_batch,
    published,
    snapshot,
    taking_over,
    trade,
)
from topsync.base.errors import UnreachableError, leaves
from topsync.local import postgres
from topsync.local.system import Scale, System
from topsync.model.kind import Kind
from topsync.operate import restored_command
from topsync.operate.restored_command import StillRunningError
from topsync.store import orders
from topsync.store.database import Pool
from topsync.store.orders import OrderVersion
from topsync.store.versions import NotOwnerError
from topsync.stream import records
from topsync.stream.records import Record
from topsync.verify import topic_ends
from topsync.verify.topic_ends import OlderDatabaseError

__all__ = ["installation"]

REFUSED_WITHIN_SECONDS = pace.seconds(20)

CHANGED, NEW, ON_ITS_WAY, UNTOUCHED, ERASED = TID, TID + 1, TID + 2, TID + 3, TID + 4


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(autouse=True)
async def _clean(migrated_database_url: str) -> AsyncIterator[None]:
    """The database is that of other tests, too."""
    yield
    connection = await asyncpg.connect(migrated_database_url)
    await connection.execute("drop table if exists backup_orders, backup_partition_owners")
    await connection.close()


KEPT = ("orders", "partition_owners")


async def back_up(pool: Pool) -> None:
    for table in KEPT:
        await pool.execute(f"create table backup_{table} as table {table}")


async def go_back(pool: Pool) -> None:
    for table in KEPT:
        await pool.execute(f"truncate {table}")
        await pool.execute(f"insert into {table} table backup_{table}")


async def versions(of: Installation, tid: int, *titles: str, first: int = 1) -> None:
    """Store and publish versions of an order, one after the other."""
    async with taking_over(of) as writer:
        for modified, title in enumerate(titles, start=first):
            batch = batch_of(title, modified=modified, tid=tid)
            await writer.store(batch)
            await publish_batch(writer, batch)


async def rows(of: Installation) -> dict[int, tuple[int, int, str]]:
    """Of each order: revision, published revision, title."""
    found = await of.pool.fetch("select tid, revision, published_revision, trade->>'title' as t from orders")
    return {row["tid"]: (row["revision"], row["published_revision"], row["t"]) for row in found}


async def test_the_tables_take_what_the_topics_show_and_go_on_above_it(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = installation.pool
    await versions(installation, UNTOUCHED, "the same before and after")
    await versions(installation, CHANGED, "a", "b")
    async with taking_over(installation) as writer:
        await writer.store(batch_of("stored, not published yet", modified=1, tid=ON_ITS_WAY))
    await back_up(pool)

    async with taking_over(installation) as writer:
        await writer.publish_leftovers()
        await versions(installation, CHANGED, "c", "d", first=3)
        await versions(installation, NEW, "x", "y")
        before = await rows(installation)
        still_running = await orders.newest_epoch(pool, 0)
        await go_back(pool)

        await eventually(lambda: ends_with(0), within_seconds=30)
    assert await rows(installation) == before, "also what was on its way is not published a second time"
    shown = capsys.readouterr().out
    assert "orders: 1 were missing in the table, 4 versions were newer" in shown
    assert "refunds: 0 were missing in the table, 0 versions were newer" in shown

    assert await orders.newest_epoch(pool, 0) > still_running
    await versions(installation, CHANGED, "e", first=5)
    await versions(installation, NEW, "z", first=3)
    late = OrderVersion(SELLER, Trade.read(trade("of before", CHANGED, modified=9)), at(10), "push")
    with pytest.raises(NotOwnerError):
        await orders.TABLE.upsert(pool, [late], partition=0, epoch=still_running)
    revisions = [revision for revision, _ in await published(installation, CHANGED)]
    assert revisions == [1, 2, 3, 4, 5]
    assert [revision for revision, _ in await published(installation, NEW)] == [1, 2, 3]
    assert await restored_command.restored_command() == 0, "again does no harm"


async def test_states_published_before_the_command_ran_are_lifted_above_the_revisions_they_share(
    installation: Installation,
) -> None:
    """A subscriber has passed them over, as it has the revision already."""
    pool = installation.pool
    await versions(installation, CHANGED, "a")
    await back_up(pool)
    await versions(installation, CHANGED, "b", "c", first=2)
    await go_back(pool)
    await versions(installation, CHANGED, "d", "e", first=4)
    assert [revision for revision, _ in await published(installation, CHANGED)] == [1, 2, 3, 2, 3]

    await eventually(lambda: ends_with(0), within_seconds=30)
    assert await rows(installation) == {CHANGED: (4, 3, "e")}
    async with taking_over(installation) as writer:
        await writer.publish_leftovers()
    last, state = (await published(installation, CHANGED))[-1]
    assert (last, state.title) == (4, "e")


async def test_whoever_starts_on_an_older_database_writes_nothing_until_it_was_brought_up_to_the_topics(
    installation: Installation,
) -> None:
    """The same epoch wrote before and after the backup, as in an installation that was left in peace."""
    pool = installation.pool
    async with taking_over(installation) as writer:
        batch = batch_of("a", modified=1, tid=CHANGED)
        await writer.store(batch)
        await publish_batch(writer, batch)
        await back_up(pool)
        batch = batch_of("b", modified=2, tid=CHANGED)
        await writer.store(batch)
        await publish_batch(writer, batch)
    await go_back(pool)
    await publish(installation, snapshot(installation, "c", modified=3, fetched=20, tid=CHANGED))

    with pytest.raises(ExceptionGroup) as refused:
        async with enricher():
            await asyncio.sleep(REFUSED_WITHIN_SECONDS)
    (reason,) = leaves(refused.value)
    assert isinstance(reason, OlderDatabaseError)
    assert f"order {CHANGED} has revision 2 there, and 1 in its table" in str(reason)
    assert "run `topsync restored`" in str(reason)
    assert await rows(installation) == {CHANGED: (1, 1, "a")}
    assert [revision for revision, _ in await published(installation, CHANGED)] == [1, 2]

    await eventually(lambda: ends_with(0), within_seconds=30)
    async with enricher():
        await eventually(lambda: has_revisions(installation, [1, 2, 3]))


async def has_revisions(of: Installation, revisions: list[int]) -> bool:
    return [revision for revision, _ in await published(of, CHANGED)] == revisions


async def newest_is_reached(of: Installation) -> bool:
    try:
        await topic_ends.require(of.pool, of.kafka, of.topics, 0)
    except OlderDatabaseError:
        return False
    return True


async def test_nothing_that_may_happen_to_a_database_that_was_not_restored_looks_like_it(
    installation: Installation,
) -> None:
    pool, orders_topic = installation.pool, installation.topics.orders.name
    assert await newest_is_reached(installation), "empty topics"
    await versions(installation, CHANGED, "a", "b")
    await publish_again(installation)
    await versions(installation, UNTOUCHED, "the last one")
    assert await newest_is_reached(installation), "an older revision that was published again"
    async with taking_over(installation) as writer:
        await writer.store(batch_of("stored, not published yet", modified=9, tid=UNTOUCHED))
    assert await newest_is_reached(installation), "what a crash left"
    strange = [
        Record(orders_topic, b"x", None, []),
        Record(orders_topic, b"1", b"{}", [("ce_revision", b"9")]),
    ]
    await publish(installation, *strange)
    assert await newest_is_reached(installation), "records that nobody of ours wrote"

    await pool.execute("update sellers set state = 'erased' where seller_id = $1", SELLER)
    async with taking_over(installation) as writer:
        erased = Batch(erased={CHANGED, UNTOUCHED})
        await writer.store(erased)
        assert await newest_is_reached(installation), "erased, with the tombstones still to come"
        await publish_batch(writer, erased)
    assert await newest_is_reached(installation), "erased"
    await pool.execute("update sellers set state = 'live' where seller_id = $1", SELLER)
    await versions(installation, UNTOUCHED, "back", first=10)
    assert await newest_is_reached(installation), "erased, and back"


async def test_a_version_is_found_behind_however_many_tombstones(installation: Installation) -> None:
    await versions(installation, CHANGED, "a")
    orders_topic = installation.topics.orders.name
    gone = [
        records.tombstone(
            orders_topic,
            type_=events.ORDERS.erased,
            id_=TID + 100 + number,
            seller_id=SELLER,
            revision=2,
            erased_at=at(1),
            published_at=at(1),
        )
        for number in range(10 * topic_ends.FIRST_OFFSETS)
    ]
    await publish(installation, *gone)
    assert await newest_is_reached(installation)
    await installation.pool.execute("truncate orders")
    assert not await newest_is_reached(installation)


@pytest.mark.parametrize("erased_since", [False, True])
async def test_sellers_that_were_erased_or_came_back_since_the_backup_keep_no_enricher_from_its_work(
    installation: Installation, erased_since: bool
) -> None:
    """It is the enrichers that erase them again; and what the backup knows as erased gets no rows."""
    pool = installation.pool
    await versions(installation, UNTOUCHED, "before")
    if not erased_since:
        await erase(installation, UNTOUCHED)
    await back_up(pool)
    if erased_since:
        await erase(installation, UNTOUCHED)
    else:
        await pool.execute("update sellers set state = 'live' where seller_id = $1", SELLER)
        await versions(installation, UNTOUCHED, "after", first=5)
    await go_back(pool)
    state, floor = ("live", 0) if erased_since else ("erased", 2)
    await pool.execute(
        "update sellers set state = $2, revision_floor = $3 where seller_id = $1", SELLER, state, floor
    )
    assert await newest_is_reached(installation) is erased_since
    await eventually(lambda: ends_with(int(erased_since)), within_seconds=30)
    assert await newest_is_reached(installation)


async def erase(of: Installation, tid: int) -> None:
    await of.pool.execute("update sellers set state = 'erased' where seller_id = $1", SELLER)
    async with taking_over(of) as writer:
        erased = Batch(erased={tid})
        await writer.store(erased)
        await publish_batch(writer, erased)


async def publish_again(of: Installation) -> None:
    """As `topsync republish` does."""
    async with taking_over(of) as writer:
        again = await writer.again(Piece(Kind.ORDER, frozenset({CHANGED})))
        await writer.publish(Batch(), {}, again)


async def test_it_waits_for_the_end_of_enrichers_and_names_sellers_that_were_erased_since(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = installation.pool
    async with enricher():
        await publish(installation, snapshot(installation, "to go", modified=5, fetched=10, tid=ERASED))
        await eventually(lambda: is_there(installation))
        with pytest.raises(StillRunningError, match="1 enrichers are running"):
            await restored_command.restored_command()
        await back_up(pool)
        await pool.execute("update sellers set state = 'erased' where seller_id = $1", SELLER)
        wanted = Erasure(seller_id=SELLER, tid=ERASED, asked_at=at(20))
        await publish(installation, records.erasure(installation.topics.changes.name, wanted))
        await eventually(lambda: is_gone(installation))
    await go_back(pool)
    await pool.execute("delete from erasures")
    await pool.execute("update sellers set state = 'live', revision_floor = 0 where seller_id = $1", SELLER)

    await eventually(lambda: ends_with(1), within_seconds=60)
    assert f"run `topsync sellers erase {SELLER}`" in capsys.readouterr().out
    floor = await pool.fetchval("select revision_floor from sellers where seller_id = $1", SELLER)
    assert floor == 2, "the tombstone's: what comes back begins above it"


async def ends_with(status: int) -> bool:
    try:
        return await restored_command.restored_command() == status
    except (StillRunningError, UnreachableError):
        # The enricher that has ended still counts for a while, and a new broker knows no groups yet.
        return False


async def is_there(of: Installation) -> bool:
    return bool(await of.pool.fetchval("select published_revision from orders where tid = $1", ERASED))


async def is_gone(of: Installation) -> bool:
    left = "select (select count(*) from orders) + (select count(*) from tombstones)"
    return not await of.pool.fetchval(left)


PROGRAMS = postgres._installed_package() / "pginstall" / "bin"


async def of_the_page(program: str, folder: Path, database_url: str) -> None:
    """Run the only command of docs/tasks.md that begins so, as it is printed, with PostgreSQL's programs."""
    (command,) = [each.text for each in pages.commands("docs/tasks.md") if each.text.startswith(program)]
    process = await asyncio.create_subprocess_shell(
        command,
        cwd=folder,
        env={"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "TOPSYNC_DATABASE_URL": database_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@pytest.mark.at_length
async def test_a_system_goes_on_from_a_backup_without_a_loss_or_a_step_back(
    kafka_bootstrap_servers: str, database_server_url: str, tmp_path: Path
) -> None:
    """By the commands on docs/operations.md, with pg_dump and pg_restore, under changes; then the audit."""
    async with systems.system_apart(
        kafka_bootstrap_servers,
        database_server_url,
        Scale(sellers=3, orders=600, rate=20),
        settings={"TOPSYNC_SESSION_TIMEOUT_SECONDS": "6"},
    ) as system:
        await system.start_services()
        await system.run("bootstrap")
        database = urlsplit(system.environment["TOPSYNC_DATABASE_URL"])
        await of_the_page("pg_dump", tmp_path, database.geturl())
        # Between the backup and the loss everything goes on, and one seller is erased.
        erased, other, *_ = await systems.seller_ids(system)
        created = await systems.change(system, other, "create", count=20)
        await eventually(lambda: all_stored(system, created), within_seconds=60)
        await system.run("sellers", "erase", str(erased), "--confirm", str(erased))
        for name in reversed(system.services):
            await system.processes[name].stop()
        # What was stored at the end and not published nobody has seen: it is pulled again.
        lost = await revisions(system, "published_revision")

        await empty_database(database_server_url, database.path[1:])
        await of_the_page("pg_restore", tmp_path, database.geturl())
        at_backup = await revisions(system)
        assert any(lost.get(tid, 0) > revision for tid, revision in at_backup.items())
        output = await restored(system)
        assert f"run `topsync sellers erase {erased}`" in output
        back = await revisions(system)
        assert {tid: back[tid] for tid in lost} == lost

        await system.start("witness")
        await system.start_services()
        await system.run("sellers", "erase", str(erased), "--confirm", str(erased))
        await systems.change(system, other, "create", count=20)
        await systems.require_clean_audit(system)
        assert not await systems.value(system, "select count(*) from witness_findings")


async def empty_database(server_url: str, name: str) -> None:
    """An empty database in place of the one that was lost."""
    server = await asyncpg.connect(server_url)
    try:
        await server.execute(f"drop database {name} with (force)")
        await server.execute(f"create database {name}")
    finally:
        await server.close()


async def restored(system: System) -> str:
    """What the command prints when the stopped enrichers have left the group; an erasure is left to do."""
    said = ""

    async def does() -> bool:
        nonlocal said
        status, said = await system.try_run("restored")
        return status == 1 and "enrichers are running" not in said

    await eventually(does, within_seconds=60)
    return said


async def revisions(system: System, which: str = "revision") -> Mapping[int, int]:
    found = await systems.rows(system, f"select tid, {which} as revision from orders where {which} > 0")
    return {row["tid"]: row["revision"] for row in found}


async def all_stored(system: System, changed: list[systems.Changed]) -> bool:
    return await systems.stored(system, changed) == len(changed)
