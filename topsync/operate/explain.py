"""`topsync orders explain`: gathers everything that is known of an order, from PostgreSQL and Kafka.

The platform is not asked, and nothing is changed: it may be run at any time. Without Kafka the story has what
PostgreSQL knows, and says so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from aiokafka.errors import KafkaError

from schemas import platform_time
from topsync.base import settings, terminal
from topsync.base.errors import OperatorError, UnreachableError
from topsync.base.settings import EnricherSettings, KafkaSettings, ReconcilerSettings, SchemeSettings
from topsync.coverage import spans
from topsync.model.refetch import OrderPart
from topsync.operate import order_records, story_tables
from topsync.operate.order_records import OrderRecords
from topsync.operate.story import OrderEvidence
from topsync.sellers import schemes
from topsync.store import (
    activity,
    call_budget,
    compacted_topics,
    coverage,
    dead_letters,
    order_facts,
    push_connections,
    sellers,
)
from topsync.store.database import Pool
from topsync.store.order_facts import AroundOrder
from topsync.store.sellers import Seller
from topsync.stream import records, topics
from topsync.wiring import parts

LOOKED_BACK: Final = timedelta(days=7)
"""How far the story goes back: as long as `changes` keeps hints, unless that is set otherwise."""

KAFKA_SECONDS: Final = 10.0
"""How long Kafka may take to answer at all; reading what it has may take longer."""


class NoSellerError(OperatorError):
    """The seller that was named is not known."""


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """Which order is to be explained."""

    tid: int
    seller: str | None
    """Nick or id, for an order of which nothing is stored."""
    since: datetime | None
    """Without a zone: the platform's time, GMT+8. None: `LOOKED_BACK` ago."""


async def explain(request: ExplainRequest, *, as_json: bool) -> int:
    """Show the story of an order; 0 where anything is known of it, otherwise 1.

    Raises:
        NoSellerError: the seller that was named is not known.
        UnreachableError: PostgreSQL is away.
    """
    evidence = await gather(request)
    if as_json:
        terminal.write_json(story_tables.document(evidence))
    else:
        story_tables.show(evidence)
    return 0 if evidence.is_known else 1


async def gather(request: ExplainRequest) -> OrderEvidence:
    """Everything that is known of the order.

    Raises:
        NoSellerError: the seller that was named is not known.
        UnreachableError: PostgreSQL is away.
    """
    now = datetime.now(UTC)
    since = now - LOOKED_BACK if request.since is None else request.since.replace(tzinfo=platform_time.CHINA)
    kafka = settings.load(KafkaSettings)
    async with parts.open_pool() as pool:
        named = None if request.seller is None else await _named(pool, request.seller)
        partition = records.partition_of(request.tid, kafka.partitions)
        facts = await order_facts.of_order(pool, request.tid, partition=partition)
        evidence = OrderEvidence(tid=request.tid, now=now, since=since, facts=facts)
        evidence = await _with_records(evidence, kafka)
        seller_id = facts.seller_id or _seller_in(evidence.records)
        if seller_id is None and named is not None:
            seller_id = named.seller_id
        if seller_id is not None:
            evidence = replace(evidence, seller_id=seller_id)
            evidence = await _with_seller(pool, evidence, seller_id)
        return await _with_surroundings(pool, evidence)


async def _with_records(evidence: OrderEvidence, kafka: KafkaSettings) -> OrderEvidence:
    """The same with what Kafka has; where it is away, with the reason."""
    try:
        async with asyncio.timeout(KAFKA_SECONDS):
            registry = await topics.require(kafka)
        found = await order_records.of_order(
            kafka,
            registry,
            settings.load(EnricherSettings).enricher_group,
            evidence.tid,
            parts=[OrderPart(row.kind, row.id) for row in evidence.facts.parts],
            since=evidence.since,
        )
    except TimeoutError:
        return replace(evidence, kafka_problem=f"{topics.SERVER} does not answer within {KAFKA_SECONDS:g} s")
    except UnreachableError as error:
        return replace(evidence, kafka_problem=str(error))
    except (OperatorError, KafkaError, OSError) as error:
        return replace(evidence, kafka_problem=f"{topics.SERVER}: {str(error) or type(error).__name__}")
    return replace(evidence, records=found)


def _seller_in(found: OrderRecords) -> int | None:
    """Whose order it is, by the topics, the newest record first."""
    named = [
        *(hint.change.seller_id for hint in reversed(found.hints)),
        *(version.seller_id for version in reversed(found.versions) if version.seller_id is not None),
        *(letter.seller_id for letter in reversed(found.letters) if letter.seller_id is not None),
    ]
    return named[0] if named else None


async def _named(pool: Pool, name: str) -> Seller:
    found = await sellers.find(pool, name)
    if found is None:
        raise NoSellerError(f"no seller {name}; see `topsync sellers list`")
    return found


async def _with_seller(pool: Pool, evidence: OrderEvidence, seller_id: int) -> OrderEvidence:
    row = evidence.order
    around: AroundOrder = await order_facts.around(
        pool,
        evidence.tid,
        seller_id,
        modified=None if row is None else row.modified,
        since=evidence.since,
    )
    proven = (await coverage.proven(pool)).get(seller_id, [])
    return replace(
        evidence,
        around=around,
        seller=await sellers.get(pool, seller_id),
        complete_until=spans.complete_until(proven),
    )


async def _with_surroundings(pool: Pool, evidence: OrderEvidence) -> OrderEvidence:
    own = settings.load(ReconcilerSettings)
    silent_for = timedelta(seconds=own.push_lost_after_seconds)
    scheme, seller = settings.load(SchemeSettings), evidence.seller
    is_polled = seller is not None and schemes.is_polled(seller, scheme.scheme)
    return replace(
        evidence,
        marks=await dead_letters.marks(pool, [letter.event_id for letter in evidence.records.letters]),
        bans=tuple(await call_budget.bans(pool)),
        losses=tuple(await compacted_topics.losses(pool)),
        running=Counter(process.service for process in await activity.processes(pool)),
        push_is_up=bool(await push_connections.up(pool, silent_for=silent_for)),
        last_push=await push_connections.last(pool),
        refetch_attempts=own.refetch_attempts,
        polled_every=scheme.poll_interval if is_polled else None,
    )
