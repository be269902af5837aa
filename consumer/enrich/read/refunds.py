"""Refunds beside the orders: which have to be fetched, and what comes of it.

A refund belongs to one order, so whoever owns the order's partition is its one writer. It is fetched when a
hint names it, and when a fetched order shows it otherwise than it is stored: then its message was lost.
Nothing that goes wrong with a refund holds an order up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from consumer.enrich.dead_letters import DeadLetter
from consumer.enrich.read import decisions
from consumer.enrich.read.session_calls import NoSessionError, ask
from consumer.enrich.write.refund_part import RefundPart
from schemas.change import Change
from schemas.refund_transitions import RefundTransition
from topsync.base import metrics, telemetry
from topsync.base.clock import ServerClock
from topsync.model.known import Known
from topsync.model.need import Need
from topsync.model.priority import PRIORITY_OF
from topsync.model.refetch import MODIFIED_AHEAD, NO_NEWS, NO_SESSION, SESSION_REFUSED, Refetch
from topsync.platforms import fetch_outcome
from topsync.platforms.taobao.calls import refunds as calls
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import (
    BadAnswerError,
    RefundNotExistError,
    RequestRefusedError,
    RetryLaterError,
    SessionInvalidError,
)
from topsync.sellers.sessions import Sessions
from topsync.store import orders
from topsync.store.database import Pool
from topsync.store.open_letters import Subject
from topsync.store.orders import OrderVersion
from topsync.store.refunds import RefundVersion
from topsync.store.shared_table import SharedTable
from topsync.stream import records
from topsync.stream.topics import Registry

log = telemetry.get_logger(__name__)

REFUSED_FOR_SECONDS = 600.0
"""How long no refund is asked for of a seller whose refunds we may not have."""

POSTPONED_FOR = timedelta(seconds=2)
"""The first wait of a refund that the platform did not show as promised."""


@dataclass(frozen=True, slots=True)
class RefundReader:
    """Fetches refunds; shared by all partitions of a process."""

    pool: Pool
    table: SharedTable[RefundVersion, RefundTransition]
    client: TopClient
    clock: ServerClock
    sessions: Sessions
    topics: Registry
    enabled: bool
    _refused_until: dict[int, float] = field(default_factory=dict)
    """By seller, on the monotonic clock."""

    async def take_named(self, changes: Iterable[Change], part: RefundPart) -> None:
        """Fetch what hints name, as far as what is stored does not answer them.

        Raises:
            CallLimitedError: the batch is to be read again later.
        """
        needs = decisions.coalesce_refunds(changes) if self.enabled else {}
        if not needs:
            return
        part.hinted_at |= {id_: need.hinted_at for id_, need in needs.items() if need.hinted_at is not None}
        known = await self.table.known(needs)
        await self._fetch_all(
            {id_: need for id_, need in needs.items() if not decisions.is_answered(need, known.get(id_))},
            known,
            part,
        )

    async def shown(self, fetched: Sequence[OrderVersion], already: Collection[int]) -> RefundPart | None:
        """Fetch what orders that were just fetched show otherwise than it is stored; none if nothing is.

        But for those `already` fetched with them, by `refund_id`.

        Raises:
            CallLimitedError: the batch is to be read again later.
        """
        ids = {line.refund_id for version in fetched for line in version.trade.orders} - {None}
        if not ids or not self.enabled:
            return None
        known = await self.table.known([id_ for id_ in ids if id_ is not None])
        needs = decisions.refunds_shown_otherwise(fetched, known, already)
        if not needs:
            return None
        part = RefundPart()
        await self._fetch_all(needs, known, part)
        await self.note_orders_behind({version.trade.tid: version for version in fetched}, part)
        return part

    async def note_orders_behind(self, fetched: Mapping[int, OrderVersion], part: RefundPart) -> None:
        """Have orders fetched again that show a refund as it was before it was fetched here.

        An order's `modified` need not move with its refund (docs/platform/gateway.md 3.10), so no list may
        tell.
        """
        lines = decisions.lines_of(fetched.values())
        others = {version.refund.tid for version in part.versions.values()} - fetched.keys()
        if others:
            lines += await orders.refund_lines(self.pool, others)
        for version in decisions.ahead_of_order(part.versions.values(), lines):
            part.postponed.append(
                Refetch(
                    tid=version.refund.tid,
                    seller_id=version.seller_id,
                    event="refund",
                    occurred_at=version.refund.modified,
                    settled_after=version.fetched_at,
                    modified=None,
                    source=version.source,
                    reason=NO_NEWS,
                )
            )

    async def _fetch_all(
        self, needs: Mapping[int, Need], known: Mapping[int, Known], part: RefundPart
    ) -> None:
        async with asyncio.TaskGroup() as tasks:
            for id_, need in needs.items():
                if not self._is_refused(need.seller_id):
                    tasks.create_task(self._fetch_into(id_, need, known.get(id_), part))

    async def _fetch_into(self, refund_id: int, need: Need, known: Known | None, part: RefundPart) -> None:
        try:
            version = await self._fetch(refund_id, need)
        except RefundNotExistError:
            self._postpone(refund_id, need, part, "not_there")
        except BadAnswerError as error:
            self._set_aside(refund_id, need, part, "unreadable_answer", str(error), original=error.body)
        except RetryLaterError:
            self._postpone(refund_id, need, part, "platform_unavailable")
        except NoSessionError:
            # Of a seller that was never added, the order's dead letter tells.
            if await self.sessions.knows(need.seller_id):
                self._postpone(refund_id, need, part, NO_SESSION)
        except SessionInvalidError:
            self._postpone(refund_id, need, part, SESSION_REFUSED)
        except RequestRefusedError as error:
            self._refuse(refund_id, need, part, error)
        else:
            self._take(version, need, known, part)

    def _take(self, version: RefundVersion, need: Need, known: Known | None, part: RefundPart) -> None:
        refund = version.refund
        if refund.tid != need.tid:
            # Its one writer is somebody else: that order shows it, or the list names it.
            detail = "the refund is one of another order"
            self._set_aside(refund.refund_id, need, part, "refund_of_another_order", detail)
            return
        if self.clock.is_ahead(refund.modified):
            self._postpone(refund.refund_id, need, part, MODIFIED_AHEAD)
            return
        if need.modified is not None and refund.modified < need.modified:
            self._postpone(refund.refund_id, need, part, "detail_behind")
            return
        part.add(version)
        if fetch_outcome.is_old_news(need, known, refund.modified):
            settled_after = max(need.settled_after, version.fetched_at + POSTPONED_FOR)
            later = replace(need, settled_after=settled_after)
            self._postpone(refund.refund_id, later, part, NO_NEWS)

    async def _fetch(self, refund_id: int, need: Need) -> RefundVersion:
        fetched_at = self.clock.now()
        refund = await ask(
            self.sessions,
            need.seller_id,
            lambda session: calls.get(self.client, session, refund_id, priority=PRIORITY_OF[need.source]),
        )
        return RefundVersion(need.seller_id, refund, fetched_at, need.source.value)

    def _is_refused(self, seller_id: int) -> bool:
        return time.monotonic() < self._refused_until.get(seller_id, float("-inf"))

    def _refuse(self, refund_id: int, need: Need, part: RefundPart, error: RequestRefusedError) -> None:
        metrics.REFUNDS_REFUSED.labels("enricher").inc()
        if calls.refuses_all(error):
            self._refused_until[need.seller_id] = time.monotonic() + REFUSED_FOR_SECONDS
        self._set_aside(refund_id, need, part, "refund_refused", str(error))

    @staticmethod
    def _postpone(refund_id: int, need: Need, part: RefundPart, reason: str) -> None:
        metrics.REFUNDS_POSTPONED.labels(reason).inc()
        part.postponed.append(
            Refetch(
                tid=need.tid,
                seller_id=need.seller_id,
                event="refund",
                occurred_at=need.hinted_at or need.settled_after,
                settled_after=need.settled_after,
                modified=None,
                source=need.source.value,
                reason=reason,
                refund_ids=(refund_id,),
            )
        )

    def set_version_aside(self, version: RefundVersion, part: RefundPart, detail: str) -> None:
        """Make a dead letter of a version that the database cannot hold."""
        refund = version.refund
        record = records.dead_letter(
            self.topics.dead_letters.name,
            reason="unstorable",
            detail=detail,
            original=refund.to_wire().encode(),
            key=records.key_of(refund.tid),
            at=self.clock.now(),
            origin="enricher/refunds",
            seller_id=version.seller_id,
        )
        subject = Subject(refund.tid, refund.refund_id, "unstorable")
        letter = DeadLetter(record, "unstorable", detail, version.seller_id, subject, None)
        part.dead_letters.append(letter)

    def _set_aside(
        self,
        refund_id: int,
        need: Need,
        part: RefundPart,
        reason: str,
        detail: str,
        *,
        original: bytes | None = None,
    ) -> None:
        """Make a dead letter of a refund that cannot be had."""
        now = self.clock.now()
        asked = records.change(self.topics.changes.name, _hint(refund_id, need, at=now))
        record = records.dead_letter(
            self.topics.dead_letters.name,
            reason=reason,
            detail=detail,
            original=original or asked.value,
            original_headers=() if original else asked.headers,
            key=records.key_of(need.tid),
            at=now,
            origin="enricher/refunds",
            seller_id=need.seller_id,
        )
        subject = Subject(need.tid, refund_id, reason)
        part.dead_letters.append(DeadLetter(record, reason, detail, need.seller_id, subject, None))


def _hint(refund_id: int, need: Need, *, at: datetime) -> Change:
    """The hint that would ask for it again."""
    return Change(
        seller_id=need.seller_id,
        tid=need.tid,
        event="refund",
        occurred_at=need.hinted_at or need.settled_after,
        settled_after=need.settled_after,
        refund_id=refund_id,
        refund_modified=need.modified,
        received_at=at,
        source=need.source,
    )
