"""Judges what only counts show: silent shops, a rise of answers that are behind, types that lists lack.

By the rules of `topsync/model/usual.py`: of orders straight from the table of orders, by an index that they
have anyway, so that nobody has to count them when they come. Should two processes judge for a moment, they
judge by the same rows and write the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Final

from topsync.base.clock import ServerClock
from topsync.model import usual
from topsync.model.anomaly import LASTS, AnomalyKind, FoundAnomaly
from topsync.model.calendar import Calendar
from topsync.model.scheme import Scheme
from topsync.model.span import Span
from topsync.model.usual import RiseRules, ShopHour, SilenceRules
from topsync.sellers import schemes
from topsync.store import anomalies, gaps, sellers
from topsync.store.database import Pool
from topsync.store.sellers import Seller, SellerState

OF_DETAILS: Final = "details"
"""The name of the one anomaly of its kind."""

TYPE_NOTE: Final = "trade type "
"""What the comparison writes before the type of an order that lists leave out."""

HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class AnomalyJudge:
    """What judging needs."""

    pool: Pool
    clock: ServerClock
    silence: SilenceRules
    rise: RiseRules
    calendar: Callable[[], Calendar]
    scheme: Scheme
    """The installation's."""

    async def judge(self) -> None:
        """Judge everything once, and write down what was found. Idempotent.

        Raises:
            OSError, asyncpg.PostgresError: the database is away.
        """
        await anomalies.clean(self.pool)
        await self._judge_shops()
        await self._judge_answers()
        await self._judge_lists()

    async def _judge_shops(self) -> None:
        """Find silent shops. Of what cannot be judged now, what was found before stays."""
        rules, now = self.silence, self.clock.now()
        # Younger orders may be on their way to us, as long as the platform's lists may lack them.
        until = now - self.calendar().visibility_allowance(now)
        window = Span(until - rules.window, until)
        live = {each.seller_id: each for each in await self._live()}
        away_before = await anomalies.now(self.pool) - (now - window.start)
        held_up = {gap.seller_id for gap in await gaps.open_gaps(self.pool)}
        judged = sorted(
            seller_id
            for seller_id, each in live.items()
            # Of a seller that was just away, and of one whose messages were lost, orders come later.
            if seller_id not in held_up and not each.replay_due and each.since <= away_before
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
                FoundAnomaly(
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
        rules = self.silence
        weeks = usual.same_hours(window, rules.weeks, self._sales())
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
        rules, now = self.rise, await anomalies.now(self.pool)
        this = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        hours = [this, this - HOUR]
        weeks = {
            hour: usual.same_hours(Span(hour, hour + HOUR), rules.weeks, self._sales()) for hour in hours
        }
        known = await anomalies.detail_hours(
            self.pool, [*hours, *(week.start for each in weeks.values() for week in each)]
        )
        is_judged = False
        found: list[FoundAnomaly] = []
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
                    FoundAnomaly(
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

    async def _write(
        self, kind: AnomalyKind, found: Sequence[FoundAnomaly], in_doubt: Collection[str]
    ) -> None:
        await anomalies.find(self.pool, found)
        await anomalies.end(self.pool, kind, but={each.name for each in found} | set(in_doubt))

    async def _judge_lists(self) -> None:
        """Name the types of the orders that lists leave out, as comparisons have found."""
        kind, now = AnomalyKind.UNLISTED_TYPE, self.clock.now()
        found = await anomalies.unlisted(self.pool, since=now - LASTS[kind])
        database_now = await anomalies.now(self.pool)
        await anomalies.find(
            self.pool,
            [
                FoundAnomaly(
                    kind,
                    each.note.removeprefix(TYPE_NOTE),
                    each.orders,
                    tid=each.tid,
                    at=database_now - (now - each.at),
                )
                for each in found
                if each.note.startswith(TYPE_NOTE)
            ],
        )
