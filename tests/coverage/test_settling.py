"""What a sweep leaves to a later sweep: whatever it claims, the stored orders have all of it (I4)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.coverage.moving_list import (
    NOW,
    Change,
    Reading,
    at,
    limits,
    moments,
    platforms,
    read,
    second_of,
    span,
)
from topsync.coverage import settling, spans
from topsync.coverage.listing import ListingFailedError, SpanPart
from topsync.model.listed import Listed
from topsync.model.span import Span

REACH = 60
"""A listing "to now" asks for so many seconds beyond now."""

JUST = 0.001


@dataclass(frozen=True)
class Stored:
    """A state of an order that a fetch may have brought."""

    fetched_at: float
    has: tuple[Change, ...]

    @property
    def modified(self) -> int:
        return max(change.modified for change in self.has)

    def is_outstanding(self, listed: Listed) -> bool:
        """As `outstanding` in `topsync/store/sql/versions.sql` says."""
        assert listed.modified is not None
        promised = second_of(listed.modified)
        settles = self.fetched_at < second_of(listed.settled_after)
        return self.modified < promised or (settles and self.modified == promised)


def states(changes: list[Change], listed: Listed, *, lag: float) -> Iterator[Stored]:
    """All that fetches at the moments that matter may show of an order, where details lag by up to `lag`."""
    changes = sorted(changes, key=lambda change: change.made_at)
    promised = second_of(listed.settled_after)
    around = [moment for change in changes for moment in (change.made_at, change.made_at + lag)]
    for moment, off in itertools.product([*around, promised], (-JUST, 0.0, JUST)):
        fetched_at = moment + off
        surely = sum(change.made_at <= fetched_at - lag for change in changes)
        perhaps = sum(change.made_at <= fetched_at for change in changes)
        for number in range(max(surely, 1), perhaps + 1):
            yield Stored(fetched_at, tuple(changes[:number]))


def again_in_its_second(change: Change) -> Change:
    """The order changes once more in the second of its change."""
    return replace(change, made_at=(change.made_at + change.modified + 1) / 2)


def proofs_of(reading: Reading, allowance: float) -> list[Span | None]:
    return [
        spans.proof(part.span, asked_at=part.asked_at, visibility_allowance=timedelta(seconds=allowance))
        for part in reading.parts
    ]


@given(data=st.data())
def test_what_a_sweep_claims_is_in_every_state_that_it_does_not_ask_for_again(data: st.DataObject) -> None:
    allowance = data.draw(st.sampled_from([0.0, 3.0, 12.0]), "allowance")
    lag = data.draw(st.sampled_from([0.0, 0.4, 1.0, 5.0]), "lag of details")
    quiet = data.draw(st.sampled_from([0.0, 2.0, 60.0]), "quiet")
    platform = data.draw(platforms(allowance=allowance), "platform")
    platform.changes += [again_in_its_second(change) for change in platform.changes]
    asked = span(70, NOW + REACH)
    how = limits(8, longest=data.draw(st.sampled_from([7, 1800])))
    try:
        reading = read(platform, asked, how, data.draw(moments(allowance=allowance), "moments"))
    except ListingFailedError:
        return  # nothing is claimed
    if platform.now >= second_of(asked.end):
        return  # the pull lists again
    proofs = proofs_of(reading, allowance)
    until = settling.proven_by(reading.parts, proofs, quiet=timedelta(seconds=quiet))
    wanted = settling.wanted(
        reading.parts, until=until, detail_lag=timedelta(seconds=lag), latest_now=at(platform.now)
    )
    for tid, listed in wanted.items():
        changes = [change for change in platform.changes if change.tid == tid]
        claimed = [
            change
            for change in changes
            if any(proof and proof.start <= at(change.made_at) < proof.end for proof in proofs)
        ]
        for state in states(changes, listed, lag=lag):
            assert state.is_outstanding(listed) or set(claimed) <= set(state.has)


def part(asked_at: float, *changed_at: float) -> SpanPart:
    orders = {number: at(moment) for number, moment in enumerate(changed_at)}
    return SpanPart(span(0, asked_at + REACH), at(asked_at), orders)


def settled_after(listing: SpanPart, *, until: float | None, lag: float = 1.0) -> list[float]:
    found = settling.wanted(
        [listing],
        until=None if until is None else at(until),
        detail_lag=timedelta(seconds=lag),
        latest_now=at(1e6),
    )
    return [second_of(listed.settled_after) for listed in found.values()]


def test_a_pull_that_does_not_come_again_wants_everything_proven_that_it_lists() -> None:
    assert settled_after(part(1000.5, 300, 999, 1000), until=None) == [302, 1001, 1001.5]


def test_a_sweep_is_content_with_any_fetch_of_what_has_changed_just_now() -> None:
    """A state with a `modified` of 999 was fetched at 999 or later, so it is never asked for again."""
    assert settled_after(part(1000.5, 300, 939, 999), until=940.5) == [302, 941, 941.5]


def test_a_sweep_wants_proven_what_it_claims_and_whatever_has_been_quiet_for_long() -> None:
    quiet = settling.QUIET.total_seconds()
    listing = part(1000)
    assert settling.proven_by([listing], [None]) == at(1000 - quiet)
    assert settling.proven_by([listing], [span(0, 1000 - quiet - 5)]) == at(1000 - quiet)
    assert settling.proven_by([listing], [span(0, 997)]) == at(997)
