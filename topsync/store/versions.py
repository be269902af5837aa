"""Tables of versions: guarded by age and by the epoch of their only writer, behind the topics.

Every kind is kept in the same way (`topsync.store.orders`, `topsync.store.refunds`): each row is the newest
version of something, with what it brings beside the version that the topic has. `sql/versions.sql` has the
statements, once for all tables.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

import asyncpg
import orjson

from schemas import content, delta
from schemas.change import Source
from schemas.delta import Delta, TransitionWord, join
from schemas.platform_object import PlatformObject, UnreadableError, WireForm
from topsync.model.copy_state import CopyState
from topsync.model.kind import Kind
from topsync.model.known import Known
from topsync.model.listed import Listed
from topsync.model.span import Span
from topsync.model.unpublished import Unpublished
from topsync.store import deltas
from topsync.store.database import Connection, Pool, sql, statements

MAX_WIRE_BYTES: Final = 16 * 1024 * 1024
"""As large as an answer of the platform may be, and small enough for the topic with all headers. An answer of
that size can become a larger version: a list of ids, for example, becomes a list of texts."""

_STATES_AT_ONCE: Final = 1000
"""Rows that the server sends at a time where many are read."""


class NotOwnerError(RuntimeError):
    """Another process has taken the partition over; nothing was written."""


class UnstorableError(ValueError):
    """Table or topic cannot hold some version; nothing was written. The text holds no values."""


class Version(ABC):
    """A full object as it was read from the platform, ready to be written."""

    kind: ClassVar[Kind]
    seller_id: int
    fetched_at: datetime
    """Platform time at which the fetch began: the state is not older than this."""
    source: str
    """How it was found."""

    @abstractmethod
    def is_older_than(self, other: Self) -> bool:
        """Which of two versions of the same thing is newer.

        The guard of the table's statement `upsert` decides likewise: how batches are cut must make no
        difference.
        """

    @property
    @abstractmethod
    def key(self) -> int:
        """Its id."""

    @property
    @abstractmethod
    def tid(self) -> int:
        """Its order's id: its own id, where it is an order."""

    @property
    @abstractmethod
    def oid(self) -> int | None:
        """Its order's line; None where it is an order."""

    @property
    @abstractmethod
    def created(self) -> datetime | None:
        """When it came into being, where that is known."""

    @property
    @abstractmethod
    def modified(self) -> datetime:
        """When the platform changed it last."""

    @property
    def platform_version(self) -> int | None:
        """The platform's own count of versions, or None: it orders the versions of the same second."""
        return None

    @property
    @abstractmethod
    def status(self) -> str:
        """The platform's word for how far it is."""

    @property
    @abstractmethod
    def content(self) -> Mapping[str, Any]:
        """What topic and table have of it: JSON, read."""

    @property
    @abstractmethod
    def happened(self) -> tuple[str, ...] | None:
        """See `WireForm`."""

    @cached_property
    @abstractmethod
    def content_hash(self) -> bytes:
        """Digest of its own content."""

    @property
    @abstractmethod
    def wire(self) -> str:
        """The JSON of topic and table."""

    @property
    @abstractmethod
    def may_be_odd(self) -> bool:
        """Whether it may have fields that nobody asked for."""

    def prepare(self) -> Self:
        """Compute now what writing needs later, when many versions are written without a pause."""
        _ = self.content_hash
        return self


T = TypeVar("T", bound=TransitionWord)


V = TypeVar("V", bound=Version)


@dataclass(frozen=True, slots=True)
class PartitionRows(Generic[V]):
    """What a partition's owner writes of its orders or their refunds, at most one version of each."""

    partition: int
    epoch: int
    versions: Sequence[V]
    latest_now: datetime | None = None
    """The latest that platform time can be: what is stored with a `modified` ahead of it does not hide these.
    Without this value, it does."""


@dataclass(frozen=True, slots=True)
class Written(Generic[T]):
    """What an upsert has done."""

    rows: int
    """How many rows changed; also rows that only proved to be still current."""
    ahead: list[Unpublished[T]]
    """The rows that the topic does not have yet."""


@dataclass(frozen=True, slots=True)
class StoredState:
    """The state of an order or refund, for comparing: equal means that nothing changed.

    Another stored hash does not mean that something changed: see `VersionTable.upsert`.
    """

    modified: datetime
    content_hash: bytes


@dataclass(frozen=True, slots=True)
class Reached:
    """How far an order or refund has come in a copy."""

    modified: datetime
    was_published: bool
    """Whether any version of it was. Its newest may still be on the way."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of a table. The partition of its owner follows from `tid`."""

    key: int
    tid: int
    size_bytes: int
    """The value as it is stored."""


@dataclass(frozen=True, slots=True)
class PublishedVersion(Generic[V]):
    """A version as a topic shows it."""

    version: V
    revision: int
    step: str
    """What it brought, as the tables keep it."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What catching up with a topic has done to rows."""

    inserted: int = 0
    changed: int = 0

    def __add__(self, other: CaughtUp) -> CaughtUp:
        return CaughtUp(self.inserted + other.inserted, self.changed + other.changed)


class VersionTable(ABC, Generic[V, T]):
    """The statements of a kind. Whoever owns an order's partition is the only writer of all kinds."""

    kind: ClassVar[Kind]
    """Says the names of the table, of the file of the statements that only it has, and of the column with the
    id."""
    value: ClassVar[str]
    """The column with the JSON."""
    own: ClassVar[Mapping[str, str]]
    """The columns that only this table has, and what they hold of a version."""
    words: type[T]
    """The words for what may have happened."""
    model: ClassVar[type[PlatformObject]]
    """How a stored value is read."""

    def __init__(self) -> None:
        self._statements: dict[str, str] = {}

    @abstractmethod
    def _step(self, before: Mapping[str, Any] | None, after: Mapping[str, Any], source: Source) -> Delta[T]:
        """What has happened between two versions, the later of which reached us by `source`."""

    @abstractmethod
    def version(self, seller_id: int, form: WireForm, fetched_at: datetime, source: str) -> V:
        """A version of this kind."""

    async def upsert(
        self,
        pool: Pool,
        versions: Sequence[V],
        *,
        partition: int,
        epoch: int,
        latest_now: datetime | None = None,
    ) -> Written[T]:
        """Write versions of a partition, at most one version of each order or refund.

        Idempotent: writing the same versions again changes nothing. What each version brings beside the
        version before is noted with it. Nobody else writes a partition's rows, so the version before is the
        version that is read here. What has the content of the row is the row's version, whatever the row's
        hash: the release that stored it may have counted otherwise.

        Raises:
            NotOwnerError: the epoch is no longer the partition's.
            UnstorableError: see there.
        """
        (written,) = await self.upsert_parts(pool, [PartitionRows(partition, epoch, versions, latest_now)])
        if isinstance(written, NotOwnerError):
            raise written
        return written

    async def upsert_parts(
        self, pool: Pool, parts: Sequence[PartitionRows[V]]
    ) -> list[Written[T] | NotOwnerError]:
        """The same for several partitions at once; returns what became of each, in order.

        Raises:
            UnstorableError: see there.
        """
        versions = [version for part in parts for version in part.versions]
        if any(map(_is_too_large, versions)):
            # The topic would never take it, nor anything behind it.
            raise UnstorableError(f"more than {MAX_WIRE_BYTES} bytes")
        # To borrow a connection costs as much as a small statement: both statements use the same.
        async with pool.acquire() as connection:
            with _refusals():
                before = await self._before(connection, versions)
            # Outside: a defect of our own code is no reason to set good orders aside.
            try:
                hashes = {version.key: self._hash(before, version) for version in versions}
                brought = {each.key: self._brought(before.get(each.key), each) for each in versions}
            except UnreadableError as error:
                raise UnstorableError(str(error)) from None
            with _refusals():
                owned, *rows = await self._upsert(connection, parts, hashes, brought)
        unpublished = {row["key"]: row for row in rows if row["unpublished"]}
        # Of what was stored with the same content, the row keeps what it has.
        kept = [key for key, row in unpublished.items() if key not in before and not row["inserted"]]
        ahead = {
            version.key: _ahead(version, row["revision"], brought[version.key])
            for version in versions
            if (row := unpublished.get(version.key)) is not None
        }
        ahead |= {left.key: left for left in await self.unpublished(pool, kept)} if kept else {}
        written = {row["key"] for row in rows}
        return [_written(part, owned["owned"], written, ahead) for part in parts]

    async def _before(self, connection: Connection, versions: Sequence[V]) -> dict[int, asyncpg.Record]:
        """Of these versions, the versions that are stored with another hash."""
        keys, hashes = [version.key for version in versions], [version.content_hash for version in versions]
        return {row["key"]: row for row in await connection.fetch(self.statement("before"), keys, hashes)}

    def _hash(self, before: dict[int, asyncpg.Record], version: V) -> bytes:
        """The hash to write a version with: the stored hash of the same version, which leaves `before`.

        Another hash is not always other content: an earlier release may have counted other fields, and the
        platform may have left fields out this time. Equal `modified` decides which of the two it can be.
        """
        stored = before.get(version.key)
        if stored is None or stored["modified"] != version.modified:
            return version.content_hash
        if not content.says_no_more(self.model, version.content, self.model.reread(stored["value"])):
            return version.content_hash
        return bytes(before.pop(version.key)["content_hash"])

    async def _upsert(
        self,
        connection: Connection,
        parts: Sequence[PartitionRows[V]],
        hashes: Mapping[int, bytes],
        brought: Mapping[int, Delta[T]],
    ) -> list[asyncpg.Record]:
        """First the partitions that are owned, then the rows written."""
        return await connection.fetch(
            self.statement("upsert"),
            [part.partition for part in parts],
            [part.epoch for part in parts],
            [
                version_row(part.partition, version, hashes[version.key], deltas.write(brought[version.key]))
                for part in parts
                for version in part.versions
            ],
            max((part.latest_now for part in parts if part.latest_now is not None), default=None),
        )

    def _brought(self, before: asyncpg.Record | None, version: V) -> Delta[T]:
        """What a version brings beside what subscribers have seen."""
        source = Source(version.source)
        if before is None and version.happened is not None:
            return delta.first(self.words, version.happened, source)
        if before is None:
            return self._step(None, version.content, source)
        step = self._step(orjson.loads(before["value"]), version.content, source)
        return join(deltas.read(before["step"], self.words), step) if before["unpublished"] else step

    async def known(self, pool: Pool, keys: Iterable[int]) -> dict[int, Known]:
        """What is stored of these; what is not stored is absent from the answer."""
        rows = await pool.fetch(self.statement("known"), list(keys))
        return {
            row["key"]: Known(row["modified"], row["fetched_at"], row["published"], row["status"])
            for row in rows
        }

    async def unpublished(self, pool: Pool, keys: Iterable[int]) -> list[Unpublished[T]]:
        """Of these, the versions that still have to be published."""
        return list(map(self._read, await pool.fetch(self.statement("unpublished"), list(keys))))

    async def stored(self, pool: Pool, keys: Iterable[int]) -> list[Unpublished[T]]:
        """Of these, the newest versions, to be published once more: as they are, with the same revision."""
        return list(map(self._read, await pool.fetch(self.statement("stored"), list(keys))))

    async def unpublished_ids(self, pool: Pool) -> list[tuple[int, int]]:
        """Whatever still has to be published, of all partitions: its id and its order's.

        Read by repairs after a crash.
        """
        return [(row["key"], row["tid"]) for row in await pool.fetch(self.statement("unpublished_ids"))]

    async def catch_up(self, pool: Pool, found: Sequence[PublishedVersion[V]]) -> CaughtUp:
        """Bring rows up to what the topic shows, each thing once.

        For a table that was restored from a backup, while nobody owns a partition. Idempotent.
        """
        row = await pool.fetchrow(
            self.statement("catch_up"),
            [version_row(0, each.version, each.version.content_hash, each.step) for each in found],
            [each.revision for each in found],
        )
        assert row is not None
        return CaughtUp(row["inserted"], row["changed"])

    def _read(self, row: asyncpg.Record) -> Unpublished[T]:
        return Unpublished(
            key=row["key"],
            tid=row["tid"],
            oid=row["oid"],
            seller_id=row["seller_id"],
            revision=row["revision"],
            modified=row["modified"],
            status=row["status"],
            fetched_at=row["fetched_at"],
            value=row["value"],
            source=Source(row["source"]),
            step=deltas.read(row["step"], self.words),
        )

    async def mark_published(self, pool: Pool, versions: Sequence[Unpublished[T]]) -> None:
        """Note that the topic has these versions. Idempotent."""
        keys, revisions = [version.key for version in versions], [version.revision for version in versions]
        await pool.execute(self.statement("mark_published"), keys, revisions)

    async def outstanding(
        self, pool: Pool, listed: Sequence[Listed], *, latest_now: datetime | None = None
    ) -> set[int]:
        """Of what is listed, the ids of what is not yet stored and published as listed.

        A stored `modified` ahead of `latest_now`, the latest that platform time can be, is not newer.
        """
        rows = await pool.fetch(
            self.statement("outstanding"),
            [item.id for item in listed],
            [item.modified for item in listed],
            [item.settled_after for item in listed],
            latest_now,
        )
        return {row["key"] for row in rows}

    async def states(self, pool: Pool, seller_id: int) -> AsyncIterator[tuple[int, StoredState]]:
        """The state of everything stored of a seller, streamed."""
        async with pool.acquire() as connection, connection.transaction():
            async for row in connection.cursor(self.statement("states"), seller_id, prefetch=_STATES_AT_ONCE):
                yield row["key"], StoredState(row["modified"], row["content_hash"])

    async def values_of(self, pool: Pool, keys: Iterable[int]) -> AsyncIterator[tuple[int, str]]:
        """The JSON of these; what is not stored is absent from the answer."""
        wanted = list(keys)
        for start in range(0, len(wanted), _STATES_AT_ONCE):
            some = wanted[start : start + _STATES_AT_ONCE]
            for row in await pool.fetch(self.statement("values_of"), some):
                yield row["key"], row["value"]

    async def count_of_day(self, pool: Pool, seller_id: int, span: Span) -> int:
        """How many of a seller are dated in a half-open span: see `dated`."""
        return int(await pool.fetchval(self.statement("count_of_day"), seller_id, span.start, span.end))

    async def copies_of_day(self, pool: Pool, seller_id: int, span: Span) -> dict[int, CopyState]:
        """Those of a seller that are dated in a half-open span, by id. The caller bounds how many."""
        rows = await pool.fetch(self.statement("copies_of_day"), seller_id, span.start, span.end)
        return dict(map(_copy_state, rows))

    async def copies(self, pool: Pool, keys: Iterable[int]) -> dict[int, CopyState]:
        """What is stored of these; what is not stored is absent from the answer."""
        wanted = list(keys)
        found: dict[int, CopyState] = {}
        for start in range(0, len(wanted), _STATES_AT_ONCE):
            some = wanted[start : start + _STATES_AT_ONCE]
            found.update(map(_copy_state, await pool.fetch(self.statement("copies"), some)))
        return found

    async def doubt(self, pool: Pool, revisions: Mapping[int, int]) -> None:
        """Let the next fetch of these replace what their rows hold, also where it has the row's `modified`.

        `revisions` are those that were compared: a row that has moved since is let be. Any process may do so,
        the owner of the partition writes what follows. Idempotent.
        """
        await pool.execute(self.statement("doubt"), list(revisions), list(revisions.values()))

    async def reached_revision(self, pool: Pool, key: int, *, seller_id: int) -> int:
        """The revision above which the next version of a seller's object comes; 0 where there was none."""
        return int(await pool.fetchval(self.statement("reached_revision"), key, seller_id))

    async def reached(self, pool: Pool, seller_id: int, keys: Iterable[int]) -> dict[int, Reached]:
        """Of these objects of a seller, those that are stored, and how far they have come."""
        rows = await pool.fetch(self.statement("reached"), list(keys), seller_id)
        return {row["key"]: Reached(row["modified"], row["was_published"]) for row in rows}

    async def published(
        self, pool: Pool, among: Iterable[int] | None = None
    ) -> AsyncIterator[tuple[int, int]]:
        """Stream ids and revisions of everything that the topic should have: all, or only some ids."""
        keys = None if among is None else list(among)
        async with pool.acquire() as connection, connection.transaction():
            async for row in connection.cursor(self.statement("published"), keys, prefetch=_STATES_AT_ONCE):
                yield row["key"], row["revision"]

    async def count_published(self, pool: Pool) -> int:
        """How many have been published: the topic must have at least as many keys."""
        return int(await pool.fetchval(self.statement("count_published")))

    async def count(
        self, pool: Pool, *, seller_id: int | None = None, tids: Collection[int] | None = None
    ) -> int:
        """How many are stored: all, a seller's, or those of some orders; without those of erased sellers."""
        found = await pool.fetchval(self.statement("count"), seller_id, None if tids is None else list(tids))
        return int(found)

    async def count_of_seller(self, pool: Pool, seller_id: int) -> int:
        """How many are stored of a seller, also where it is erased."""
        return int(await pool.fetchval(self.statement("count_of_seller"), seller_id))

    async def tids_among(self, pool: Pool, tids: Collection[int]) -> set[int]:
        """The orders among these of which anything is stored here."""
        return {row["tid"] for row in await pool.fetch(self.statement("tids_among"), list(tids))}

    async def candidates(
        self,
        pool: Pool,
        *,
        after: int,
        limit: int,
        seller_id: int | None = None,
        tids: Collection[int] | None = None,
    ) -> list[Candidate]:
        """The next rows after an id, in order of ids: of all, of a seller, or of some orders."""
        which: tuple[object, ...]
        if tids is not None:
            of, which = "some", (list(tids),)
        elif seller_id is not None:
            of, which = "seller", (seller_id,)
        else:
            of, which = "all", ()
        rows = await pool.fetch(self.statement(f"candidates_of_{of}"), after, limit, *which)
        return [Candidate(*row) for row in rows]

    def statement(self, verb: str) -> str:
        """A statement of this table by its name in `sql/versions.sql`."""
        if not self._statements:
            self._statements = {name: self._fill(text) for name, text in statements("versions").items()}
        return self._statements[verb]

    def _fill(self, text: str) -> str:
        for name, filling in {
            "table": self.kind.plural,
            "key": self.kind.id_name,
            "value": self.value,
            "own": "".join(f"{column}, " for column in self.own),
            "own_values": "".join(f"{source}, " for source in self.own.values()),
            "set_own": "".join(f"{column} = excluded.{column}, " for column in self.own),
            "oid": "oid" if "oid" in self.own else "null",
            "dated": "created" if self.kind.leads else "modified",
            "guard": sql(f"{self.kind.plural}.guard"),
        }.items():
            text = text.replace(f"{{{name}}}", filling)
        return text


def _copy_state(row: asyncpg.Record) -> tuple[int, CopyState]:
    return row["key"], CopyState(
        row["tid"], row["created"], row["modified"], row["status"], row["revision"], row["is_published"]
    )


def version_row(
    partition: int, version: Version, content_hash: bytes, step: str
) -> tuple[int | str | bytes | datetime | None, ...]:
    """A version as the database's type `version_row` has it (migration `version_rows`)."""
    return (
        partition,
        version.key,
        version.tid,
        version.oid,
        version.seller_id,
        version.created,
        version.modified,
        version.platform_version,
        version.status,
        content_hash,
        version.fetched_at,
        version.source,
        version.wire,
        step,
    )


@contextmanager
def _refusals() -> Iterator[None]:
    """Around a statement: what the database refuses of its arguments, and nothing else, is unstorable."""
    try:
        yield
    except (asyncpg.DataError, asyncpg.ProgramLimitExceededError) as error:
        # By the server, e.g. as too long for an index.
        raise UnstorableError(type(error).__name__) from None
    except asyncpg.InterfaceError as error:
        # By the driver before it, whose other complaints are no ValueErrors.
        if not isinstance(error, ValueError):
            raise
        raise UnstorableError(type(error).__name__) from None


def _is_too_large(version: Version) -> bool:
    # A character has four bytes at most: hardly any text has to be encoded to know.
    return 4 * len(version.wire) > MAX_WIRE_BYTES and len(version.wire.encode()) > MAX_WIRE_BYTES


def _written(
    part: PartitionRows[Any],
    owned: Collection[int],
    written: Collection[int],
    ahead: Mapping[int, Unpublished[T]],
) -> Written[T] | NotOwnerError:
    """What became of a partition's part."""
    if part.partition not in owned:
        return NotOwnerError(f"partition {part.partition} has a newer owner than epoch {part.epoch}")
    keys = [version.key for version in part.versions if version.key in written]
    return Written(len(keys), [row for key in keys if (row := ahead.get(key)) is not None])


def _ahead(version: Version, revision: int, step: Delta[T]) -> Unpublished[T]:
    """A version that has been written, and changed its row."""
    return Unpublished(
        key=version.key,
        tid=version.tid,
        oid=version.oid,
        seller_id=version.seller_id,
        revision=revision,
        modified=version.modified,
        status=version.status,
        fetched_at=version.fetched_at,
        value=version.wire,
        source=Source(version.source),
        step=step,
    )
