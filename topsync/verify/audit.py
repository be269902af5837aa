"""The audit: for each order and refund, truth = table = compacted topic (I3); and no hole in the ledger.

At rest all three are equal at the first look. While orders change, each change needs time to pass through the
system, so a difference at the first look may be on the move. The first look notes the state that the platform
showed, and later looks check whether table and topic have reached it since. A difference that is left when
the time is up is an error. The time counts from the end of the first look, which itself takes a minute with
many orders.

The truth comes from the simulator's administrative port; the real platform has no such thing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import httpx

from topsync.base.errors import OperatorError
from topsync.base.settings import KafkaSettings
from topsync.model.compacted_topic import TopicLoss
from topsync.model.kind import Kind
from topsync.sellers import status
from topsync.store import compacted_topics, sellers, witness
from topsync.store.database import Pool
from topsync.store.sellers import Seller, SellerState
from topsync.stream.topics import Registry
from topsync.verify import admin_port
from topsync.verify.agreement import Agreement, ShownObject, arrival
from topsync.verify.views import AuditedKind, TopicReader
from topsync.verify.witness import wait_until_read

WITNESS_WAIT_SECONDS = 15.0
LOOK_AGAIN_SECONDS = 0.5
ADMIN_TIMEOUT_SECONDS = 60.0
MAX_EXAMPLES = 5
IDS_AT_ONCE = 200
"""How many ids a request holds; they stand in its address."""
LOOKED_AT_ONCE = 1000
"""How many of those that seem to differ at the first look are read from the table at a time."""


class AuditError(OperatorError):
    """The audit cannot be made. The text says why and what to do."""


@dataclass(slots=True)
class Comparison:
    """What the audit found about a seller's orders, or about a kind of their parts."""

    kind: AuditedKind
    is_erased: bool = False
    """Whether the seller is erased: then nothing may be left."""
    count: int = 0
    """How many the platform has."""
    expected: dict[int, ShownObject] = field(default_factory=dict)
    """Those that differ, with what the platform showed at the first look."""
    newest: dict[int, ShownObject] = field(default_factory=dict)
    """What the platform has shown of them since: of two changes within a second, `modified` does not say
    which is later."""
    agreeing: set[int] = field(default_factory=set)
    """Those that agree in what counts: see `Agreement.IN_WHAT_COUNTS`."""
    unknown: set[int] = field(default_factory=set)
    """Those in table or topic that should not be there: the platform lacks them, or the seller is erased."""
    lacking: dict[int, str] = field(default_factory=dict)
    """Those that the platform has, with the place where they are missing."""

    @property
    def stale(self) -> int:
        """How many have another state, or are unknown to the platform."""
        return len(self.expected) - len(self.lacking) + len(self.unknown)

    def examples(self) -> list[str]:
        """What is wrong, for people."""
        noun = self.kind.kind.value
        found = [f"{noun} {id_} missing in the {where}" for id_, where in self.lacking.items()]
        found += [f"{noun} {id_} stale" for id_ in self.expected if id_ not in self.lacking]
        why = "not erased" if self.is_erased else "unknown to the platform"
        return found + [f"{noun} {id_} {why}" for id_ in self.unknown]


@dataclass(slots=True)
class SellerResult:
    """What the audit found about a seller."""

    seller: Seller
    compared: dict[Kind, Comparison]
    """Of each kind that is kept."""
    holes: int = 0
    complete_until: datetime | None = None
    proven_in: str = ""
    """Text that says where `complete_until` holds, if not everywhere."""

    def count(self, kind: Kind) -> int | None:
        """How many the platform has of a kind; None when that is not kept."""
        return self.compared[kind].count if kind in self.compared else None

    @property
    def missing(self) -> int:
        """Orders and refunds that the platform has and table or topic lack."""
        return sum(len(comparison.lacking) for comparison in self.compared.values())

    @property
    def stale(self) -> int:
        """Orders and refunds with another state in table or topic, or that the platform does not have."""
        return sum(comparison.stale for comparison in self.compared.values())

    @property
    def agreeing(self) -> int:
        """Orders and refunds that differ, but agree in what counts: they are neither missing nor stale."""
        return sum(len(comparison.agreeing) for comparison in self.compared.values())

    @property
    def examples(self) -> list[str]:
        """Some of what is wrong, for people."""
        return [example for comparison in self.compared.values() for example in comparison.examples()][
            :MAX_EXAMPLES
        ]

    @property
    def differing(self) -> int:
        """Orders and refunds that differed, or were on the move, at the last look."""
        return sum(
            len(comparison.expected) + len(comparison.unknown) for comparison in self.compared.values()
        )

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing left to wait for."""
        return not (self.differing or self.holes)


@dataclass(frozen=True, slots=True)
class Compared:
    """The first look has compared `sellers` of `of` sellers."""

    sellers: int
    of: int


@dataclass(frozen=True, slots=True)
class OnTheMove:
    """How much differs or is unproven after a look; the audit looks again until the time is up."""

    differing: int
    """Orders and refunds."""
    holes: int
    seconds_left: float


Stage = Compared | OnTheMove
"""The progress of an audit."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the audit found. All but `orders` counts orders and refunds together."""

    sellers: list[SellerResult]
    backwards: int
    witnessed: bool
    """Whether `backwards` comes from a reader that was there from the start."""
    moved: int
    """Orders and refunds that differed at the first look, and arrived afterwards."""
    losses: list[TopicLoss]
    """Compacted topics that are known to have lost records: each is a hole for every seller."""

    @property
    def clean(self) -> bool:
        """Whether all four counts are 0."""
        return not (self.missing or self.stale or self.backwards or self.holes)

    @property
    def orders(self) -> int:
        """Orders that the platform has."""
        return sum(result.count(Kind.ORDER) or 0 for result in self.sellers)

    @property
    def missing(self) -> int:
        """See `SellerResult`."""
        return sum(result.missing for result in self.sellers)

    @property
    def stale(self) -> int:
        """See `SellerResult`."""
        return sum(result.stale for result in self.sellers)

    @property
    def agreeing(self) -> int:
        """See `SellerResult`."""
        return sum(result.agreeing for result in self.sellers)

    @property
    def holes(self) -> int:
        """What the ledger cannot vouch for: holes, gaps, sellers without bootstrap or without refunds."""
        return sum(result.holes for result in self.sellers)

    def line(self) -> str:
        """The line for machines."""
        return (
            f"AUDIT orders={self.orders} missing={self.missing} stale={self.stale} "
            f"backwards={self.backwards} holes={self.holes}"
        )


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything an audit needs."""

    pool: Pool
    kafka: KafkaSettings
    topics: Registry
    admin_url: str
    kinds: Sequence[Kind]
    """What is kept: it is compared, and the ledger must vouch for it."""
    reached: Callable[[Stage], None] = lambda _: None
    """Called with the audit's progress."""
    monotonic: Callable[[], float] = time.monotonic

    async def run(self, *, settle_seconds: float) -> Result:
        """Compare. Differences have `settle_seconds` to disappear, counted from the end of the first look.

        Raises:
            AuditError: the simulator's administrative port does not answer.
        """
        kinds = [AuditedKind(kind) for kind in self.kinds]
        readers = {kind.kind: TopicReader(self.kafka, self.topics, kind) for kind in kinds}
        try:
            for reader in readers.values():
                await reader.start()
            results = await self._first_look(kinds, readers)
            differed = sum(result.differing for result in results)
            if not await self._settle(results, readers, settle_seconds):
                await self._count(results, readers)
            ends = {place: end for reader in readers.values() for place, end in reader.ends.items()}
            progress = await wait_until_read(self.pool, ends, within_seconds=WITNESS_WAIT_SECONDS)
        finally:
            for reader in readers.values():
                await reader.stop()
        seen_here = sum(reader.backwards for reader in readers.values())
        return Result(
            results,
            backwards=seen_here if progress is None else len(await witness.findings(self.pool)),
            witnessed=progress is not None and all(each.first_offset == 0 for each in progress.values()),
            moved=differed - sum(result.differing for result in results),
            losses=await compacted_topics.losses(self.pool),
        )

    async def _first_look(
        self, kinds: Sequence[AuditedKind], readers: Mapping[Kind, TopicReader]
    ) -> list[SellerResult]:
        results = []
        everybody = await sellers.all_of(self.pool)
        for seller in everybody:
            compared = {kind.kind: await self._compare(seller, kind, readers) for kind in kinds}
            results.append(SellerResult(seller, compared))
            self.reached(Compared(len(results), of=len(everybody)))
        return results

    async def _settle(
        self, results: list[SellerResult], readers: Mapping[Kind, TopicReader], seconds: float
    ) -> bool:
        """Look again until nothing differs or the time is up; returns whether nothing differs."""
        deadline = self.monotonic() + seconds
        while True:
            for reader in readers.values():
                await reader.catch_up()
            if await self._look(results, readers):
                return True
            left = deadline - self.monotonic()
            if left <= 0:
                return False
            differing = sum(result.differing for result in results)
            self.reached(OnTheMove(differing, sum(result.holes for result in results), left))
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _compare(
        self, seller: Seller, kind: AuditedKind, readers: Mapping[Kind, TopicReader]
    ) -> Comparison:
        """Compare a seller: reads the copies first, so that the truth is never older than they are."""
        found, topic = Comparison(kind, is_erased=seller.state is SellerState.ERASED), readers[kind.kind]
        table = {id_: state async for id_, state in kind.table.states(self.pool, seller.seller_id)}
        found.unknown = table.keys() | topic.of_seller(seller.seller_id)
        if found.is_erased:
            return found
        differing: dict[int, ShownObject] = {}
        async for truth in self._truth(seller.seller_id, kind):
            found.count += 1
            found.unknown.discard(truth.key)
            if not topic.has_digest(truth.key, truth.digest) or table.get(truth.key) != truth.state:
                differing[truth.key] = truth
            if len(differing) >= LOOKED_AT_ONCE:
                await self._look_closer(found, differing, topic)
        await self._look_closer(found, differing, topic)
        return found

    async def _look_closer(
        self, found: Comparison, differing: dict[int, ShownObject], topic: TopicReader
    ) -> None:
        """Read these from the table, and note those that do not agree in `expected`; empties `differing`."""
        found.expected |= differing
        async for table in found.kind.stored_of(self.pool, differing):
            self._strike_out(found, table, topic)
        differing.clear()

    def _strike_out(self, found: Comparison, table: ShownObject, topic: TopicReader) -> None:
        """Remove from `expected` what table and topic now show as the platform did, or newer."""
        id_, first = table.key, found.expected[table.key]
        shown = (first, found.newest.get(id_, first))
        how = arrival(found.kind.table.model, shown, table, topic.state(id_))
        if how is Agreement.IN_WHAT_COUNTS:
            found.agreeing.add(id_)
        if how is not Agreement.NONE:
            del found.expected[id_]

    async def _look(self, results: list[SellerResult], readers: Mapping[Kind, TopicReader]) -> bool:
        """Strike out what has arrived, and read the ledger; true when nothing is left to wait for."""
        standings = {stands.seller.seller_id: stands for stands in await status.of_all(self.pool)}
        for result in results:
            for comparison in result.compared.values():
                topic = readers[comparison.kind.kind]
                for ids in _chunks(sorted(comparison.expected)):
                    async for truth in self._truth(result.seller.seller_id, comparison.kind, ids):
                        comparison.newest[truth.key] = truth
                async for table in comparison.kind.stored_of(self.pool, list(comparison.expected)):
                    self._strike_out(comparison, table, topic)
                stored = {
                    id_ async for id_, _ in comparison.kind.table.values_of(self.pool, comparison.unknown)
                }
                comparison.unknown = {id_ for id_ in comparison.unknown if id_ in stored or id_ in topic}
            stands = standings[result.seller.seller_id]
            result.complete_until, result.proven_in = stands.complete_until, stands.proven_in
            result.holes = stands.doubts
            if result.seller.state is not SellerState.ERASED:
                result.holes += len({kind for kind in self.kinds if not kind.leads} - stands.parts)
        return all(result.is_settled for result in results)

    async def _count(self, results: list[SellerResult], readers: Mapping[Kind, TopicReader]) -> None:
        """Separate what is missing from what is stale."""
        for comparison in [comparison for result in results for comparison in result.compared.values()]:
            table = {id_ async for id_, _ in comparison.kind.table.values_of(self.pool, comparison.expected)}
            topic = readers[comparison.kind.kind]
            comparison.lacking = {
                id_: "table" if id_ not in table else "topic"
                for id_ in comparison.expected
                if id_ not in table or id_ not in topic
            }

    async def _truth(
        self, seller_id: int, kind: AuditedKind, ids: Sequence[int] | None = None
    ) -> AsyncIterator[ShownObject]:
        """A seller's orders or refunds on the platform now: all, or those with the given ids."""
        asked = {"user_id": str(seller_id)} | ({} if ids is None else {"ids": ",".join(map(str, ids))})
        try:
            async with (
                admin_port.client(self.admin_url, timeout_seconds=ADMIN_TIMEOUT_SECONDS) as client,
                client.stream("GET", kind.truth, params=asked) as response,
            ):
                response.raise_for_status()
                async for line in _lines(response.aiter_bytes()):
                    yield kind.of_platform(line)
        except httpx.HTTPError as error:
            raise AuditError(
                f"the simulator's administrative port {self.admin_url} does not answer ({error!r}): "
                "is `topsync simulate` running?"
            ) from None


def _chunks(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), IDS_AT_ONCE):
        yield ids[start : start + IDS_AT_ONCE]


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines split on bytes: splitting text would also split inside buyers' messages (U+2028 and others)."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
    if rest:
        yield rest
