"""The orders' table, as the partitions of a process use it together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from topsync.store import orders
from topsync.store.database import Pool
from topsync.store.orders import Known, NotOwnerError, Part, Unpublished, UnstorableError, Written
from topsync.store.together import Together

AT_MOST_KNOWN: Final = 2000
"""Orders looked up at once."""

AT_MOST_WRITTEN: Final = 400
"""Orders written at once, each of some kilobytes."""


class OrderTable:
    """What `topsync.store.orders` does, with the statements that are asked for at the same time made one."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known = Together(self._known_of_all, weigh=len, at_most=AT_MOST_KNOWN)
        self._upsert = Together(self._upsert_all, weigh=_orders_of, at_most=AT_MOST_WRITTEN)
        self._mark_published = Together(self._mark_all_published, weigh=len, at_most=AT_MOST_KNOWN)

    async def known(self, tids: Collection[int]) -> dict[int, Known]:
        """See `orders.known`."""
        found = await self._known(tids)
        return {tid: one for tid in tids if (one := found.get(tid)) is not None}

    async def upsert(self, part: Part) -> Written:
        """See `orders.upsert`. What is wrong with the orders of one partition concerns no other."""
        return await self._upsert(part)

    async def mark_published(self, versions: Sequence[Unpublished]) -> None:
        """See `orders.mark_published`."""
        await self._mark_published(versions)

    async def _known_of_all(self, asked: Sequence[Collection[int]]) -> list[dict[int, Known]]:
        found = await orders.known(self._pool, {tid for tids in asked for tid in tids})
        return [found] * len(asked)

    async def _upsert_all(self, parts: Sequence[Part]) -> Sequence[Written | NotOwnerError | UnstorableError]:
        try:
            return await orders.upsert_parts(self._pool, parts)
        except UnstorableError as error:
            if len(parts) == 1:
                return [error]
        return [(await self._upsert_all([part]))[0] for part in parts]

    async def _mark_all_published(self, published: Sequence[Sequence[Unpublished]]) -> list[None]:
        await orders.mark_published(self._pool, [version for versions in published for version in versions])
        return [None] * len(published)


def _orders_of(part: Part) -> int:
    return len(part.versions)
