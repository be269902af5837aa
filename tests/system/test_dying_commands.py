"""P4: an operator's command that dies between any two of its steps is run again, and goes on."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import orjson
import pytest

from schemas import cloud_events
from schemas.change import Change, Source
from tests.support import executioner, systems
from tests.support.commands import ForkingGroup
from tests.support.eventually import eventually
from tests.system.test_writer import SELLER, TID, Installation, enricher, installation, is_published, snapshot
from topsync.base.failpoints import POINTS, Point
from topsync.local.processes import ManagedProcess, ProcessGroup
from topsync.store import erasures
from topsync.store.erasures import Left
from topsync.stream import producer as producers
from topsync.stream import records

__all__ = ["installation"]

ERASE = ("sellers", "erase", str(SELLER), "--confirm", str(SELLER))
RETRY = ("deadletter", "retry", "--reason", "refused", "--yes")
ERASING: list[Point] = [point for point in POINTS if point.startswith("erasure.")]
RETRYING: list[Point] = ["deadletters.forgotten", "deadletters.hinted", "deadletters.marked"]
POINTS_HERE = frozenset({*ERASING, *RETRYING})
IN_SECONDS = ("erasure.asked", "erasure.rows_cleared")
"""The points for which the suite has time; `make soak` runs all of them."""


@pytest.fixture
async def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProcessGroup]:
    monkeypatch.setenv("TOPSYNC_WORK_DIR", str(tmp_path))
    async with ForkingGroup(tmp_path / "processes") as group:
        yield group


async def run(
    group: ProcessGroup, arguments: tuple[str, ...], extra: Mapping[str, str] | None = None
) -> ManagedProcess:
    return await group.start(arguments[0], [sys.executable, "-m", "topsync", *arguments], env=extra or {})


async def test_an_erasure_goes_on_wherever_it_died(
    installation: Installation, group: ProcessGroup, tmp_path: Path, at_length: bool
) -> None:
    topics = installation.topics
    async with producers.idempotent(installation.kafka) as producer, enricher():
        await producer.publish([snapshot(installation, "an order", modified=5, fetched=10)])
        await eventually(lambda: is_published(installation, TID))
        start = partial(run, group, ERASE)
        chosen = [point for point in ERASING if at_length or point in IN_SECONDS]
        await executioner.die_at_each(start, chosen, tmp_path)
        last = await start()
        assert await last.wait() == 0, last.log_tail()

    assert await erasures.left(installation.pool, SELLER) == Left(0, 0)
    erasure = await erasures.get(installation.pool, SELLER)
    assert erasure is not None
    assert erasure.finished_at is not None
    assert (await systems.records(installation.kafka, topics.orders))[-1].value is None
    assert not await systems.records(installation.kafka, topics.snapshots)
    found = await systems.records(installation.kafka, topics.notifications)
    assert {orjson.loads(record.value or b"")["orders"] for record in found} == {1}


@pytest.mark.at_length
async def test_dead_letters_are_retried_wherever_the_command_died(
    installation: Installation, group: ProcessGroup, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    wanted = Change(
        seller_id=SELLER,
        tid=TID,
        event="x",
        occurred_at=now,
        settled_after=now,
        received_at=now,
        source=Source.PUSH,
    )
    letter = records.dead_letter(
        installation.topics.dead_letters.name,
        reason="refused",
        detail="a test",
        original=orjson.dumps(wanted.model_dump(mode="json")),
        key=records.key_of(TID),
        at=now,
        origin="enricher",
        seller_id=SELLER,
    )
    async with producers.idempotent(installation.kafka) as producer:
        await producer.publish([letter])
    start = partial(run, group, RETRY)
    await executioner.die_at_each(start, RETRYING, tmp_path)
    assert await (await start()).wait() == 0
    hints = await systems.records(installation.kafka, installation.topics.changes)
    assert [orjson.loads(hint.value or b"")["tid"] for hint in hints] == [str(TID)] * 2, (
        "never marked unasked"
    )
    assert len({cloud_events.attributes(hint.headers)["id"] for hint in hints}) <= 2
