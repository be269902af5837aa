"""Anomalies: one process judges for all what has been seen, and notifies each kind at most once an hour.

What is seen comes from every process (`topsync/wiring/call_counts.py`, `consumer/enrich/oddities.py`). Counts
over time are judged here, by `topsync/model/usual.py`: of orders straight from the table of orders, by an
index that they have anyway, so that nobody has to count them when they come.

Should two processes judge for a moment, they judge by the same rows and write the same; which of them
notifies, the database decides. A notification is decided first and published then: a crash in between loses
none, and what is published twice has the same id.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from itertools import groupby
from typing import Final

from schemas.notification import AnomalySeen, OddThing
from topsync.base import metrics, telemetry
from topsync.base.clock import ServerClock
from topsync.base.live_calendar import LiveCalendar
from topsync.base.settings import AnomalySettings
from topsync.model import anomaly_words, usual
from topsync.model.anomaly import LASTS, Anomaly, AnomalyKind, Found
from topsync.model.scheme import Scheme
from topsync.model.span import Span
from topsync.model.usual import ShopHour
from topsync.sellers import schemes
from topsync.store import anomalies, gaps, sellers
from topsync.store.database import Pool
from topsync.store.sellers import Seller, SellerState
from topsync.stream import records
from topsync.stream.producer import Producer

log = telemetry.get_logger(__name__)

MOST_TOLD: Final = 50
"""Things that one notification names. The next one names the others."""

ON_ITS_WAY: Final = timedelta(minutes=5)
"""Orders that are younger do not count: they may be on their way to us."""

OF_DETAILS: Final = "details"
"""The name of the one anomaly of its kind."""

TYPE_NOTE: Final = "trade type "
"""What the comparison writes before the type of an order that lists leave out."""


@dataclass(slots=True)
class AnomalyJudge:
    """Judges and notifies. For one process at a time."""

    pool: Pool
    clock: ServerClock
    producer: Producer
    notifications_topic: str
    settings: AnomalySettings
    calendar: LiveCalendar
    scheme: Scheme
    """The installation's."""
    _due_at: float = field(default=float("-inf"))
    """By the loop's time."""
    _may_be_pending: bool = True
    """Whether a former process may have left a notification that was decided."""

    async def round(self) -> None:
        """Judge and notify, when it is time.

        Raises:
            OSError, asyncpg.PostgresError, PublishError: a server is away; it goes on later.
        """
        if self._may_be_pending:
            await self._publish()
        loop = asyncio.get_running_loop()
        if loop.time() < self._due_at:
            return
        await self._judge()
        await self._notify()
        self._due_at = loop.time() + self.settings.anomaly_interval_seconds

    async def _judge(self) -> None:
        await anomalies.clean(self.pool)
        await self._judge_shops()
        await self._judge_answers()
        await self._judge_lists()

    async def _judge_shops(self) -> None:
        """Find silent shops. Of what cannot be judged now, what was found before stays."""
        rules, now = self.settings.silence, self.clock.now()
        window = Span(now - ON_ITS_WAY - rules.window, now - ON_ITS_WAY)
        live = {each.seller_id: each for each in await self._live()}
        held_up = {gap.seller_id for gap in await gaps.open_gaps(self.pool)}
        judged = sorted(
            seller_id
            for seller_id, each in live.items()
            # Of a seller that was just away, and of one whose messages were lost, orders come later.
            if seller_id not in held_up and not each.replay_due and each.since <= window.start
        )
        hours = await self._hours(judged, live, window)
        silent = usual.silent(hours, rules)
        ended = {
            seller_id
            for seller_id, hour in hours.items()
            if hour.expected is not None
            and hour.expected.median >= rules.least_orders
            and not usual.is_far_below(hour.orders, hour.expected, rules)
        }
        await self._write(
            AnomalyKind.SILENT_SHOP,
            [
                Found(
                    AnomalyKind.SILENT_SHOP,
                    str(seller_id),
                    hour.orders,
                    expected=hour.expected.median,
                    deviation=hour.expected.deviation,
                    seller_id=seller_id,
                )
                for seller_id in silent
                if (hour := hours[seller_id]).expected is not None
            ],
            in_doubt={str(seller_id) for seller_id in live.keys() - ended},
        )

    async def _live(self) -> list[Seller]:
        """Sellers whose bulk start is done, and that are not away: those have findings of their own."""
        return [each for each in await sellers.all_of(self.pool) if each.state is SellerState.LIVE]

    async def _hours(
        self, judged: Sequence[int], live: Mapping[int, Seller], window: Span
    ) -> dict[int, ShopHour]:
        rules = self.settings.silence
        sales = [Span(sale.start, sale.end) for sale in self.calendar().sales]
        weeks = usual.same_hours(window, rules.weeks, sales)
        present = await anomalies.present(self.pool, judged, window)
        earlier = await anomalies.earlier(self.pool, judged, weeks)
        hours = {}
        for seller_id, shop in present.items():
            # Before its first order nothing is known of it.
            counts = [
                count
                for week, count in zip(weeks, earlier.get(seller_id, []), strict=False)
                if shop.first_order is not None and shop.first_order <= week.start
            ]
            polled = schemes.is_polled(live[seller_id], self.scheme)
            hours[seller_id] = ShopHour(
                shop.orders,
                shop.orders if polled else shop.by_messages,
                usual.usual(counts, rules.least_weeks),
            )
        return hours

    async def _judge_answers(self) -> None:
        """Find a rise of answers that are behind, in this hour or the last."""
        rules, now = self.settings.rise, await anomalies.now(self.pool)
        this = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        hours = [this, this - timedelta(hours=1)]
        weeks = {
            hour: usual.same_hours(Span(hour, hour + timedelta(hours=1)), rules.weeks, self._sales())
            for hour in hours
        }
        known = await anomalies.detail_hours(
            self.pool, [*hours, *(week.start for each in weeks.values() for week in each)]
        )
        is_judged = False
        found: list[Found] = []
        for hour in hours:
            # During a sale the platform is late as a rule.
            if (here := known.get(hour)) is None or self.calendar().at(hour).sales:
                continue
            expected = usual.usual_behind(
                here, [known[week.start] for week in weeks[hour] if week.start in known], rules
            )
            is_judged |= expected is not None
            if expected is not None and usual.has_risen(here, expected, rules) and not found:
                found = [
                    Found(
                        AnomalyKind.BEHIND_ANSWERS,
                        OF_DETAILS,
                        here.behind,
                        among=here.answers,
                        expected=expected.median,
                        deviation=expected.deviation,
                    )
                ]
        await self._write(AnomalyKind.BEHIND_ANSWERS, found, in_doubt=set() if is_judged else {OF_DETAILS})

    def _sales(self) -> list[Span]:
        return [Span(sale.start, sale.end) for sale in self.calendar().sales]

    async def _write(self, kind: AnomalyKind, found: Sequence[Found], in_doubt: Collection[str]) -> None:
        await anomalies.find(self.pool, found)
        await anomalies.end(self.pool, kind, but={each.name for each in found} | set(in_doubt))

    async def _judge_lists(self) -> None:
        """Name the types of the orders that lists leave out, as comparisons have found."""
        kind = AnomalyKind.UNLISTED_TYPE
        found = await anomalies.unlisted(self.pool, within=LASTS[kind])
        await anomalies.find(
            self.pool,
            [
                Found(kind, each.note.removeprefix(TYPE_NOTE), each.orders, tid=each.tid, at=each.at)
                for each in found
                if each.note.startswith(TYPE_NOTE)
            ],
        )

    async def _notify(self) -> None:
        lasting = [each for each in await anomalies.lasting(self.pool) if self._concerns(each)]
        for kind in AnomalyKind:
            metrics.ANOMALIES.labels(kind.value).set(sum(each.kind is kind for each in lasting))
        untold = [each for each in await anomalies.untold(self.pool) if self._concerns(each)]
        for kind, of_kind in groupby(untold, key=lambda each: each.kind):
            some = list(of_kind)[:MOST_TOLD]
            body = notification_of(kind, some)
            if await anomalies.decide(
                self.pool,
                kind,
                [each.name for each in some],
                id=f"anomaly-{uuid.uuid4()}",
                body=body.model_dump_json(exclude_none=True),
            ):
                self._may_be_pending = True
                log.warning("anomaly", kind=kind.value, things=len(some), said=body.said)
        if self._may_be_pending:
            await self._publish()

    def _concerns(self, each: Anomaly) -> bool:
        return self.settings.concerns(each.kind, each.name)

    async def _publish(self) -> None:
        """Publish what was decided, by whichever process."""
        for notice in await anomalies.pending(self.pool):
            body = AnomalySeen.model_validate_json(notice.body)
            record = records.notification(self.notifications_topic, body, at=notice.decided_at, id=notice.id)
            await self.producer.publish([record])
            await anomalies.published(self.pool, notice)
            metrics.ANOMALIES_NOTIFIED.labels(notice.kind).inc()
        self._may_be_pending = False


def notification_of(kind: AnomalyKind, things: Sequence[Anomaly]) -> AnomalySeen:
    """What is notified of anomalies of the same kind. Pure."""
    return AnomalySeen(
        anomaly=kind.value,
        things=tuple(
            OddThing(
                name=each.name,
                seller_id=each.seller_id,
                tid=each.tid,
                seen=each.seen,
                among=each.among,
                expected=each.expected,
                deviation=each.deviation,
                first_at=each.first_at,
            )
            for each in things
        ),
        said=anomaly_words.what(things[0]),
        do=anomaly_words.DO[kind],
    )
