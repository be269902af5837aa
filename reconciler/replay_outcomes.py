"""What a replay has found, as it is published and kept. Pure.

A replay of a seller's span is answered by `ReplayFinished`; any other, by `ReplayEnded`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from schemas.notification import FailedSeller, NotFetchedOrders, Notification, ReplayEnded, ReplayFinished
from topsync.coverage import reach, replay_found, replay_lists
from topsync.coverage.pull import PullOutcome
from topsync.coverage.replay_forecast import Forecast
from topsync.coverage.replay_found import Found
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.store.replay_jobs import WantedOrders, WantedReplay, WantedSpan
from topsync.store.replay_pieces import PieceState

MOST_FAILED_NAMED: Final = 20
"""Sellers that the outcome names with what went wrong; of all others, only the number."""

IN_THE_ROW: Final = frozenset({"replay", "seller_id", "state"})
"""What a job has in columns of its own."""


@dataclass(frozen=True, slots=True)
class Sum:
    """What a replay has found in all, and how many of its pieces are through."""

    found: Found = field(default_factory=Found)
    pieces: int = 0
    done: int = 0
    """Pieces that came to their end."""
    failed: int = 0
    failures: tuple[tuple[int, str], ...] = ()
    """Of the first of these, the seller and why."""

    @property
    def is_through(self) -> bool:
        """Whether no piece is left."""
        return self.done + self.failed >= self.pieces

    def plus(self, seller_id: int, state: PieceState, found: Found) -> Sum:
        """With a piece that is through."""
        is_failed = state is PieceState.FAILED
        failures = self.failures
        if is_failed and len(failures) < MOST_FAILED_NAMED:
            failures = (*failures, (seller_id, found.error or "it failed"))
        return replace(
            self,
            found=replay_found.together([self.found, found]),
            done=self.done + (not is_failed),
            failed=self.failed + is_failed,
            failures=failures,
        )

    def with_pieces_under_way(self, found: Mapping[int, Found]) -> Sum:
        """With what pieces have found that are not through."""
        return replace(self, found=replay_found.together([self.found, *found.values()]))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of a replay."""

    wanted: WantedReplay
    total: Sum
    calls_per_second: float
    state: Literal["done", "failed"] = "done"
    error: str | None = None
    forecast: Forecast | None = None

    @property
    def note(self) -> str | None:
        """Why the replay did less than was asked for, although it came to its end."""
        found, what = self.total.found, self.wanted.what
        if self.state != "done" or not isinstance(what, WantedSpan):
            return None
        if found.pulled_from is None or found.pulled_to is None:
            return None
        return reach.shortfall(what.span, Span(found.pulled_from, found.pulled_to))

    @property
    def minutes(self) -> float:
        """The least time for its calls: inside the budget as a dry run found it, or at the budget's rate."""
        if self.forecast is not None:
            return self.forecast.minutes
        return round(self.total.found.calls / self.calls_per_second / 60, 2)

    def notification(self) -> Notification:
        """As it is published."""
        found, what = self.total.found, self.wanted.what
        if isinstance(what, WantedSpan) and what.seller_id is not None:
            return ReplayFinished(
                replay=self.wanted.id,
                seller_id=what.seller_id,
                state=self.state,
                error=self.error,
                note=self.note,
                start=what.span.start,
                end=what.span.end,
                dry_run=self.wanted.dry_run,
                **self._counts(),
                pulled_from=found.pulled_from,
                pulled_to=found.pulled_to,
            )
        return ReplayEnded(
            replay=self.wanted.id,
            state=self.state,
            error=self.error,
            note=self.note,
            start=what.span.start if isinstance(what, WantedSpan) else None,
            end=what.span.end if isinstance(what, WantedSpan) else None,
            orders=what.count if isinstance(what, WantedOrders) else None,
            named_by=what.named_by if isinstance(what, WantedOrders) else None,
            dry_run=self.wanted.dry_run,
            **self._counts(),
            orders_held=found.orders_held,
            orders_fetched=found.orders_fetched,
            not_fetched={
                reason: NotFetchedOrders(orders=missing.orders, tids=missing.tids)
                for reason, missing in found.not_fetched.items()
            },
            failed_pieces=self.total.failed,
            failed=tuple(
                FailedSeller(seller_id=seller_id, error=error) for seller_id, error in self.total.failures
            ),
        )

    def _counts(self) -> dict[str, object]:
        """What both kinds of notifications say."""
        found = self.total.found
        looked = found.list_calls is not None or found.orders_asked is not None
        return {
            "orders_listed": found.orders_listed,
            "orders_to_fetch": found.orders_to_fetch,
            "refunds_listed": found.refunds_listed,
            "refunds_to_fetch": found.refunds_to_fetch,
            "list_calls": found.list_calls,
            "calls": found.calls if looked else None,
            "minutes": self.minutes if looked else None,
            "delays": None if self.forecast is None else self.forecast.delays,
        }

    def kept(self) -> dict[str, object]:
        """What the job's row keeps of it."""
        published = self.notification().model_dump(mode="json", exclude_none=True, exclude=set(IN_THE_ROW))
        said = {name: value for name, value in published.items() if value not in ({}, [])}
        return said | {"pieces": self.total.pieces, "pieces_done": self.total.done + self.total.failed}


def failed(outcome: Outcome, error: str) -> Outcome:
    """The outcome of a job that did not come to its end, as far as it came."""
    return replace(outcome, state="failed", error=error)


def ended(outcome: Outcome) -> Outcome:
    """The outcome of a job all of whose pieces are through: failed where anything is missing."""
    total, wanted = outcome.total, outcome.wanted
    if wanted.one_seller is not None:
        return failed(outcome, total.failures[0][1]) if total.failures else outcome
    problems = []
    if total.failed:
        named = "; ".join(f"{seller_id}: {error}" for seller_id, error in total.failures[:3])
        unit = "sellers" if isinstance(wanted.what, WantedSpan) else "pieces"
        problems.append(f"{total.failed} of {total.pieces} {unit} failed ({named})")
    if total.found.missing and not wanted.dry_run:
        reasons = ", ".join(
            f"{missing.orders} {reason} ({replay_lists.some(missing.tids)})"
            for reason, missing in sorted(total.found.not_fetched.items())
        )
        problems.append(
            f"{total.found.missing} of {total.found.orders_asked} orders were not fetched: {reasons}"
        )
    return failed(outcome, "; ".join(problems)) if problems else outcome


def with_piece_of_span(found: Found, piece: Span, pulled: PullOutcome) -> Found:
    """What was found in a span, with another piece of it."""

    def more(before: int | None, count: int | None) -> int | None:
        return None if before is None and count is None else (before or 0) + (count or 0)

    return replace(
        found,
        pulled_from=found.pulled_from or piece.start,
        pulled_to=piece.end,
        orders_listed=more(found.orders_listed, pulled.listed[Kind.ORDER]),
        orders_to_fetch=more(found.orders_to_fetch, pulled.hinted[Kind.ORDER]),
        refunds_listed=more(found.refunds_listed, pulled.listed.get(Kind.REFUND)),
        refunds_to_fetch=more(found.refunds_to_fetch, pulled.hinted.get(Kind.REFUND)),
        list_calls=more(found.list_calls, pulled.calls),
    )
