"""Writes versions into a table as their writer does, and checks what the table says of them."""

from __future__ import annotations

import orjson

from topsync.model.unpublished import Unpublished
from topsync.store.database import Pool
from topsync.store.versions import T, V, VersionTable


async def write(table: VersionTable[V, T], pool: Pool, *versions: V, partition: int, epoch: int) -> int:
    """How many rows it changed. What it says to be unpublished is what the table says to be."""
    written = await table.upsert(pool, versions, partition=partition, epoch=epoch)
    found = await table.unpublished(pool, [version.key for version in versions])
    stored = {one.key: _parsed(one) for one in found}
    assert all(_parsed(one) == stored[one.key] for one in written.ahead)
    return written.rows


async def publish(table: VersionTable[V, T], pool: Pool, *keys: int) -> list[Unpublished[T]]:
    """Mark what is unpublished of these as published."""
    ahead = await table.unpublished(pool, keys)
    await table.mark_published(pool, ahead)
    return ahead


def _parsed(ahead: Unpublished[T]) -> Unpublished[T]:
    """With the value in one form: the table's text of it has the keys in an order of its own."""
    return ahead._replace(value=orjson.dumps(orjson.loads(ahead.value), option=orjson.OPT_SORT_KEYS).decode())
