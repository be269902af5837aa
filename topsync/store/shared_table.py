"""The tables of versions as the partitions of a process use them together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, Generic

from topsync.model.kind import Kind
from topsync.model.known import Known
from topsync.model.unpublished import Unpublished
from topsync.store.batching import Batcher
from topsync.store.database import Pool
from topsync.store.versions import (
    NotOwnerError,
    PartitionRows,
    T,
    UnstorableError,
    V,
    VersionTable,
    Written,
)

AT_MOST_KNOWN: Final = 2000
"""Looked up at once."""

AT_MOST_WRITTEN: Final = 400
"""Written at once, each of some kilobytes."""

MANY: Final = 50
"""So many versions of a partition come from a bulk start, or after a standstill. Their statement takes long:
partitions that are up to date, and have few versions to write, do not wait for it."""


class SharedTable(Generic[V, T]):
    """What a `VersionTable` does; statements that are asked for at the same time become one."""

    def __init__(self, pool: Pool, table: VersionTable[V, T]) -> None:
        self._pool = pool
        self._table = table
        self._known = Batcher(self._known_of_all, weigh=len, at_most=AT_MOST_KNOWN)
        self._upsert_few, self._upsert_many = (
            Batcher[PartitionRows[V], Written[T]](
                self._upsert_all, weigh=_versions_of, at_most=AT_MOST_WRITTEN
            )
            for _ in range(2)
        )
        self._mark_published = Batcher(self._mark_all_published, weigh=len, at_most=AT_MOST_KNOWN)

    async def known(self, keys: Collection[int]) -> dict[int, Known]:
        """See `VersionTable.known`."""
        found = await self._known(keys)
        return {key: state for key in keys if (state := found.get(key)) is not None}

    async def upsert(self, part: PartitionRows[V]) -> Written[T]:
        """See `VersionTable.upsert`. A wrong version in a partition concerns no other partition."""
        upsert = self._upsert_many if _versions_of(part) >= MANY else self._upsert_few
        return await upsert(part)

    async def mark_published(self, versions: Sequence[Unpublished[T]]) -> None:
        """See `VersionTable.mark_published`."""
        await self._mark_published(versions)

    async def unpublished(self, keys: Collection[int]) -> list[Unpublished[T]]:
        """See `VersionTable.unpublished`."""
        return await self._table.unpublished(self._pool, keys)

    async def stored(self, keys: Collection[int]) -> list[Unpublished[T]]:
        """See `VersionTable.stored`."""
        return await self._table.stored(self._pool, keys)

    async def unpublished_ids(self) -> list[tuple[int, int]]:
        """See `VersionTable.unpublished_ids`."""
        return await self._table.unpublished_ids(self._pool)

    async def _known_of_all(self, asked: Sequence[Collection[int]]) -> list[dict[int, Known]]:
        found = await self._table.known(self._pool, {key for keys in asked for key in keys})
        return [found] * len(asked)

    async def _upsert_all(
        self, parts: Sequence[PartitionRows[V]]
    ) -> Sequence[Written[T] | NotOwnerError | UnstorableError]:
        try:
            return await self._table.upsert_parts(self._pool, parts)
        except UnstorableError as error:
            if len(parts) == 1:
                return [error]
        return [(await self._upsert_all([part]))[0] for part in parts]

    async def _mark_all_published(self, published: Sequence[Sequence[Unpublished[T]]]) -> list[None]:
        every = [version for versions in published for version in versions]
        await self._table.mark_published(self._pool, every)
        return [None] * len(published)


class SharedTables:
    """The tables of all kinds, for all partitions of a process."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._shared: dict[Kind, SharedTable[Any, Any]] = {}

    def of(self, table: VersionTable[V, T]) -> SharedTable[V, T]:
        """This table, shared."""
        shared = self._shared.get(table.kind)
        if shared is None:
            shared = self._shared[table.kind] = SharedTable(self._pool, table)
        return shared


def _versions_of(part: PartitionRows[Any]) -> int:
    return len(part.versions)
