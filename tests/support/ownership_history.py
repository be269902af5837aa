"""Who wrote what, and who owned it, seen from outside: from the database and from the broker's files."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

from tests.support import systems
from topsync.local.system import System
from topsync.stream import records

INSTALL = """
create table ownership_history (
    number      bigserial   primary key,
    at          timestamptz not null default clock_timestamp(),
    writer      text        not null default current_setting('history.writer'),
    partition   integer,    -- that was taken over
    epoch       bigint,
    tid         bigint,     -- that was written
    source      text
);
create function note_owner() returns trigger language plpgsql as $$
begin
    insert into ownership_history (partition, epoch) values (new.partition, new.epoch);
    return null;
end $$;
create function note_order() returns trigger language plpgsql as $$
begin
    insert into ownership_history (tid, source) values (new.tid, new.source);
    return null;
end $$;
create trigger note_owner after insert or update on partition_owners
    for each row execute function note_owner();
create trigger note_order after insert or update of revision on orders
    for each row execute function note_order();
"""
"""A writer's statement locks its partition's row in `partition_owners`, so the numbers show the order of
take-overs and writes of a partition."""

BATCH_HEADER = struct.Struct(">qiibIhiqqqh")
"""Head of a batch on the broker's disk: offset, length, ..., producer's id and epoch."""
BATCH_LENGTH_FROM = 12


def database_url(system: System, writer: str) -> str:
    """The database's address for a writer, with its name for the history."""
    url = system.environment["TOPSYNC_DATABASE_URL"]
    return f"{url}{'&' if '?' in url else '?'}history.writer={quote(writer)}"


async def install(system: System) -> None:
    """Begin to keep the history. From now on every writer of orders must have a name."""
    connection = await systems.connect(system)
    try:
        await connection.execute(INSTALL)
    finally:
        await connection.close()


@dataclass(frozen=True, slots=True)
class Ownership:
    """An owner's time with a partition."""

    partition: int
    epoch: int
    owner: str
    began: float
    """In seconds of the database's clock."""
    writes: list[tuple[float, str]]
    """When orders were written in this time, and the source that found them."""


async def ownerships(system: System) -> list[Ownership]:
    """All ownerships so far; those of a partition are in order.

    Raises:
        AssertionError: a writer did not own an order's partition when it wrote the order.
    """
    partitions = int(system.environment["TOPSYNC_PARTITIONS"])
    found: list[Ownership] = []
    current: dict[int, Ownership] = {}
    for row in await systems.rows(system, "select * from ownership_history order by number"):
        at = row["at"].timestamp()
        if row["partition"] is not None:
            ownership = Ownership(row["partition"], row["epoch"], row["writer"], at, [])
            found.append(ownership)
            current[ownership.partition] = ownership
            continue
        owner = current[records.partition_of(row["tid"], partitions)]
        assert row["writer"] == owner.owner, f"{row['writer']} wrote an order of {owner}"
        owner.writes.append((at, row["source"]))
    return sorted(found, key=lambda ownership: (ownership.partition, ownership.epoch))


def moves(found: list[Ownership]) -> int:
    """How often a partition went to another owner than before."""
    return sum(
        before.partition == after.partition and before.owner != after.owner
        for before, after in pairwise(found)
    )


def require_no_former_producer(system: System) -> int:
    """Check that no fenced producer has written to `orders`; returns how many batches there are.

    The broker's files name the producer of each batch, also of aborted batches, which no reader sees.
    Each take-over raises the producer's epoch.
    """
    topic, batches = systems.registry(system).orders, 0
    for partition in range(topic.partitions):
        newest: dict[int, int] = defaultdict(int)
        folder = system.group.folder / "kafka" / "logs" / f"{topic.name}-{partition}"
        for offset, producer, epoch in _batches(folder):
            assert epoch >= newest[producer], f"a former owner published at {partition}/{offset}"
            newest[producer] = epoch
            batches += 1
        assert len(newest) <= 1, "a partition's owners follow each other as one producer"
    return batches


def _batches(folder: Path) -> Iterator[tuple[int, int, int]]:
    for segment in sorted(folder.glob("*.log")):
        data, at = segment.read_bytes(), 0
        while at + BATCH_HEADER.size <= len(data):
            offset, length, *_, producer, epoch = BATCH_HEADER.unpack_from(data, at)
            yield offset, producer, epoch
            at += BATCH_LENGTH_FROM + length
