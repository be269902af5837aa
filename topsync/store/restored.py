"""What has to be put right in a database that was restored from a backup, beside the rows of versions.

Counters went back in time with it. A process that still runs from the time after the backup could meet its
own epoch again, so all of them are raised by more than any installation counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from topsync.model.kind import Kind
from topsync.store.database import Pool, sql
from topsync.store.version_tables import sql_over

EPOCHS: Final = 1_000_000_000
"""Added to each epoch: a take-over a second for thirty years. Epochs have 64 bits."""


async def raise_epochs(pool: Pool) -> None:
    """Shut out whoever holds a partition or a lease. To do so twice does no harm."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(sql("restored.raise_epochs"), EPOCHS)
        await connection.execute(sql("restored.raise_leases"), EPOCHS)
        await connection.execute(sql("restored.forget_members"))


async def drop_tombstones(pool: Pool, kind: Kind, revisions: Mapping[int, int]) -> None:
    """Take away tombstones that are still to be published, of what the topic shows in a later revision."""
    ids, later = list(revisions), list(revisions.values())
    await pool.execute(sql("restored.drop_tombstones"), kind.value, ids, later)


async def raise_floors(pool: Pool, revisions: Mapping[tuple[int, bool], int]) -> None:
    """Let whatever comes back of a seller begin above these revisions.

    By seller, and by whether the revision is a tombstone's. Versions count for sellers only that are erased.
    """
    sellers, are_gone = [seller for seller, _ in revisions], [is_gone for _, is_gone in revisions]
    await pool.execute(sql("restored.raise_floors"), sellers, are_gone, list(revisions.values()))


async def erased_later(pool: Pool, kind: Kind, ids: Iterable[int]) -> dict[int, int]:
    """Of these, which the topic shows as erased: how many have a row again, by seller."""
    rows = await pool.fetch(sql_over("restored.erased_later"), kind.value, list(ids))
    return {row["seller_id"]: row["rows"] for row in rows}
