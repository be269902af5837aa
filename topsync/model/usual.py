"""What is usual at an hour of the week, and what is far from it. Pure; times are aware instants.

The counts of the same hour of earlier weeks are compared: their median is what is usual, and how far they are
from it, by the median as well (the *median absolute deviation*), is how far a count usually is from it. Both
bear weeks that were odd themselves, as long as these are fewer than half. Nothing is learnt: whoever has the
counts can compute it by hand.

Counts differ by chance alone as well, by about the square root of what is usual, as of things that happen
independently of each other (Poisson). Only what neither the earlier weeks nor chance explains is far.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from topsync.model.span import Span

WEEK: Final = timedelta(days=7)

NORMAL: Final = 1.4826
"""By so much the median absolute deviation is smaller than the standard deviation of what is spread evenly to
both sides (normal)."""


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual."""

    median: float
    deviation: float
    """How far counts usually are from the median, by the earlier weeks."""
    by_chance: float
    """How far they are from it by chance alone."""
    weeks: int
    """How many weeks it rests on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceRules:
    """When a shop counts as silent."""

    window: timedelta = timedelta(hours=1)
    weeks: int = 8
    """Weeks that are looked back."""
    least_weeks: int = 4
    """With fewer usable weeks nothing is said."""
    least_orders: int = 25
    """Where fewer orders are usual, nothing is said: a quiet shop, a quiet hour."""
    share: float = 0.25
    """Only a count below this share of the usual count is far below."""
    deviations: float = 3.0
    """And only so many deviations below it ..."""
    times_chance: float = 4.5
    """... and so many times what is due to chance."""
    flow_share: float = 0.5
    """Messages of others flow while they bring at least this share of the orders that are usual of others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiseRules:
    """When answers that are behind have risen."""

    weeks: int = 8
    least_weeks: int = 4
    least_answers: int = 100
    """Hours with fewer answers say nothing."""
    least_behind: int = 30
    """With fewer that are behind, nothing is said."""
    least_share: float = 0.01
    """Below this share of the answers, nothing is said."""
    times: float = 3.0
    """Only a share of so many times the usual share is a rise."""
    deviations: float = 3.0
    """And only so many deviations above it ..."""
    times_chance: float = 4.5
    """... and so many times what is due to chance."""


def same_hours(window: Span, weeks: int, excluded: Iterable[Span] = ()) -> list[Span]:
    """The same hour of the week in earlier weeks, the latest first, without those that touch a sale."""
    sales = list(excluded)
    earlier = (
        Span(window.start - number * WEEK, window.end - number * WEEK) for number in range(1, weeks + 1)
    )
    return [
        each for each in earlier if not any(sale.start < each.end and each.start < sale.end for sale in sales)
    ]


def usual(counts: Sequence[int], least_weeks: int) -> Usual | None:
    """What is usual, by the counts of earlier weeks; None where these are too few.

    Of two medians the lower one: rather too little is expected than too much.
    """
    if len(counts) < least_weeks:
        return None
    median = statistics.median_low(counts)
    deviation = NORMAL * statistics.median(abs(count - median) for count in counts)
    return Usual(median, deviation, math.sqrt(median), len(counts))


def is_far_below(count: int, expected: Usual, rules: SilenceRules) -> bool:
    """Whether a shop has far fewer orders than usual."""
    if expected.median < rules.least_orders:
        return False
    away = max(rules.deviations * expected.deviation, rules.times_chance * expected.by_chance)
    return count < rules.share * expected.median and count < expected.median - away


@dataclass(frozen=True, slots=True)
class ShopHour:
    """What is known of a shop's orders of the present window."""

    orders: int
    by_messages: int
    """How many of them reached us in the way in which they should: by a message, or by a poll where that is
    the seller's scheme."""
    expected: Usual | None


def silent(hours: Mapping[int, ShopHour], rules: SilenceRules) -> list[int]:
    """The shops that are silent, of all that can be judged, by id."""
    flow = Flow.of(hours.values())
    return [
        seller_id
        for seller_id, hour in sorted(hours.items())
        if hour.expected is not None
        and is_far_below(hour.orders, hour.expected, rules)
        and others_flow(flow, hour, rules)
    ]


@dataclass(frozen=True, slots=True)
class Flow:
    """What came by messages, and what is usual, of all shops together."""

    came: int
    expected: float

    @classmethod
    def of(cls, hours: Collection[ShopHour]) -> Flow:
        """The sums."""
        return cls(
            sum(hour.by_messages for hour in hours),
            sum(hour.expected.median for hour in hours if hour.expected is not None),
        )


def others_flow(flow: Flow, shop: ShopHour, rules: SilenceRules) -> bool:
    """Whether messages of all shops but this one flow: if not, it is no matter of one shop."""
    came = flow.came - shop.by_messages
    expected = flow.expected - (0.0 if shop.expected is None else shop.expected.median)
    return came > 0 and came >= rules.flow_share * expected


@dataclass(frozen=True, slots=True)
class AnswerHour:
    """Answers with an object in full, within an hour."""

    began_at: datetime
    answers: int
    behind: int

    @property
    def share(self) -> float:
        """How many of them were behind, of 1."""
        return self.behind / self.answers


def usual_behind(hour: AnswerHour, earlier: Collection[AnswerHour], rules: RiseRules) -> Usual | None:
    """How many of an hour's answers would usually be behind; None where too little is known.

    By the shares of the same hour of earlier weeks. Of two medians the higher one: rather too many are
    expected than too few.
    """
    shares = [each.share for each in earlier if each.answers >= rules.least_answers]
    if len(shares) < rules.least_weeks or hour.answers < rules.least_answers:
        return None
    median = statistics.median_high(shares)
    deviation = NORMAL * statistics.median(abs(share - median) for share in shares) * hour.answers
    expected = median * hour.answers
    return Usual(expected, deviation, math.sqrt(max(expected, 1.0)), len(shares))


def has_risen(hour: AnswerHour, expected: Usual, rules: RiseRules) -> bool:
    """Whether far more answers of an hour are behind than usual."""
    least = max(rules.least_behind, rules.least_share * hour.answers, rules.times * expected.median)
    away = max(rules.deviations * expected.deviation, rules.times_chance * expected.by_chance)
    return hour.behind >= least and hour.behind > expected.median + away
