"""How an order stands and what happens next, from everything that is known of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from schemas import platform_time
from topsync.model.refetch import (
    LATE,
    LINGERING,
    MODIFIED_AHEAD,
    NO_NEWS,
    UNREADABLE_SNAPSHOT,
    WAITING_IN_BACKLOG,
)
from topsync.operate import story
from topsync.operate.story import OrderEvidence, duration, is_over
from topsync.sellers import session_rules
from topsync.store.order_facts import OrderWait
from topsync.store.sellers import SellerState

REPLAY_MARGIN: Final = timedelta(minutes=10)
"""Before the last change that is known: where a replay for an order begins."""

REPLAYED_BACK: Final = timedelta(days=1)
"""The earliest start of a proposed replay, back from now: it costs calls for every order of the seller."""


class OrderStanding(StrEnum):
    """How an order stands. The words are a contract (docs/operations.md)."""

    ERASED = "erased"
    BEING_ERASED = "being_erased"
    DEAD_LETTER = "dead_letter"
    UNPUBLISHED = "unpublished"
    BANNED = "banned"
    PARKED = "parked"
    LINGERING = "lingering"
    BACKLOG = "backlog"
    WAITING = "waiting"
    UNREAD = "unread"
    SELLER_AWAY = "seller_away"
    NOT_BOOTSTRAPPED = "not_bootstrapped"
    GAP = "gap"
    PUSH_DOWN = "push_down"
    TOPIC_LOST = "topic_lost"
    PUBLISHED = "published"
    NOT_STORED = "not_stored"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class OrderVerdict:
    """A thing to be said of how the order stands."""

    standing: OrderStanding
    says: str
    next: str
    """What happens by itself, or what somebody has to do."""


EXPLAINED: Final = {
    NO_NEWS: "the platform sent a message about a change, and then showed what was known before",
    UNREADABLE_SNAPSHOT: "the platform exported the order in a form that cannot be read",
    MODIFIED_AHEAD: "the platform shows a time of change that lies ahead of its own clock",
    "not_there": "the platform named the order, and then did not know it",
    "detail_behind": "the platform's detail is older than what its list or message says",
    "incomplete_answer": "the platform's detail lacks what each order has, such as its lines",
    "unreadable_answer": "the platform's answer could not be read",
    "platform_unavailable": "the platform did not answer for this order",
    LATE: "it was in the backlog, and has been handed to its writer",
}
"""Why an order is asked for again, by the reason of its wait."""


def verdicts(evidence: OrderEvidence) -> list[OrderVerdict]:
    """How it stands, what matters most first; never empty."""
    if evidence.seller is not None and evidence.seller.state is SellerState.ERASED:
        return [_erased(evidence)]
    found = [
        *_dead(evidence),
        *_unpublished(evidence),
        *_banned(evidence),
        *_waits(evidence),
        *_unread(evidence),
        *_seller(evidence),
        *_gaps(evidence),
        *_push(evidence),
        *_lost(evidence),
    ]
    order = evidence.order
    if order is not None and order.is_published:
        return [*found, _published(evidence)]
    if not evidence.is_known:
        return [*found, _unknown(evidence)]
    return found or [_left(evidence)]


def _erased(evidence: OrderEvidence) -> OrderVerdict:
    left = evidence.order is not None or evidence.facts.parts or evidence.facts.tombstones
    if left:
        return OrderVerdict(
            OrderStanding.BEING_ERASED,
            "its seller is being erased, and this order is not gone yet",
            f"run `topsync sellers erase {evidence.seller_id}` until it is done; the enrichers must run",
        )
    return OrderVerdict(
        OrderStanding.ERASED,
        "its seller was erased: nothing is kept of the order, and nothing is stored of it any more",
        "nothing; a seller that authorises again begins anew, with `topsync sellers authorise`",
    )


def _dead(evidence: OrderEvidence) -> Iterator[OrderVerdict]:
    row = evidence.order
    letters = {letter.event_id: (letter.reason, letter.at) for letter in evidence.open_letters}
    letters |= {letter.event_id: (letter.reason, letter.noted_at) for letter in evidence.facts.letters}
    for reason, at in sorted(set(letters.values()), key=lambda letter: letter[1]):
        if row is not None and row.fetched_at > at:
            continue
        yield OrderVerdict(
            OrderStanding.DEAD_LETTER,
            f"it was set aside for the reason {reason}, and is not asked for any more",
            f"do what docs/operations.md says about {reason}, then "
            f"`topsync deadletter retry --tid {evidence.tid}`",
        )


def _unpublished(evidence: OrderEvidence) -> Iterator[OrderVerdict]:
    for row in (evidence.order, *evidence.facts.parts):
        if row is None or row.is_published:
            continue
        what = story.name_of(row.kind, row.id)
        was = f"; the topic has revision {row.published_revision}" if row.published_revision else ""
        yield OrderVerdict(
            OrderStanding.UNPUBLISHED,
            f"{what} is stored in revision {row.revision} (status {row.status}) and not published yet{was}",
            _by_service(
                evidence,
                "enrich",
                "its writer publishes it within a second, and after a crash as soon as another process has "
                "taken its partition over; if it takes longer, `topsync status` says what is wrong",
            ),
        )


def _banned(evidence: OrderEvidence) -> Iterator[OrderVerdict]:
    wait = evidence.facts.wait
    waits_for_a_call = wait is not None and not wait.parked and not is_over(evidence)
    if not (waits_for_a_call or evidence.unread):
        return
    for ban in evidence.holding_bans:
        what = "every call" if ban.scope == "app" else ban.scope
        yield OrderVerdict(
            OrderStanding.BANNED,
            f"the platform has closed {what} to us until {_time(ban.until)} (GMT+8)",
            f"calls go on by themselves in {duration(ban.until - evidence.now)}",
        )


def _waits(evidence: OrderEvidence) -> Iterator[OrderVerdict]:
    wait = evidence.facts.wait
    if wait is None or is_over(evidence):
        return
    if wait.parked:
        yield _parked(evidence, wait)
    elif wait.reason == LINGERING:
        yield OrderVerdict(
            OrderStanding.LINGERING,
            f"its message waits for others of the order until {_time(wait.due_at)} (GMT+8), so that one call "
            "answers them all (TOPSYNC_LINGER)",
            _by_service(evidence, "reconcile", f"it is fetched then, {_in(wait.due_at, evidence.now)}"),
        )
    elif wait.reason in WAITING_IN_BACKLOG:
        yield _in_backlog(evidence)
    else:
        yield _waiting(evidence, wait)


def _parked(evidence: OrderEvidence, wait: OrderWait) -> OrderVerdict:
    seller = evidence.seller
    if seller is None:
        says = f"it waits for its seller {wait.seller_id}, who is not known here"
        then = "run `topsync sellers authorise`, or `topsync sellers add`"
    elif seller.state in (SellerState.NEW, SellerState.LIVE):
        says = "it waited for its seller, who is back"
        then = _by_service(evidence, "reconcile", "it is asked for in one of the next rounds")
    else:
        since = _time(seller.since)
        says = f"it waits for its seller, who is {seller.state} since {since} (GMT+8)"
        then = f"{_bring_back(evidence)}; then it is asked for by itself"
    return OrderVerdict(OrderStanding.PARKED, says, then)


def _in_backlog(evidence: OrderEvidence) -> OrderVerdict:
    task = evidence.facts.task
    if task is None:
        return OrderVerdict(
            OrderStanding.BACKLOG,
            "its writer was far behind: the order waits in the backlog, behind fresh changes",
            _by_service(evidence, "reconcile", "it is asked for by a task with others, or alone, by itself"),
        )
    number = "not requested yet" if task.task_id is None else f"number {task.task_id}"
    return OrderVerdict(
        OrderStanding.BACKLOG,
        f"a task asks for it and others of the backlog since {_time(task.asked_at)} (GMT+8), {number}",
        _by_service(
            evidence,
            "reconcile",
            "the platform runs tasks each half hour from 01:00 to 23:00; if the task fails, the order is "
            "asked for alone",
        ),
    )


def _waiting(evidence: OrderEvidence, wait: OrderWait) -> OrderVerdict:
    why = EXPLAINED.get(wait.reason, f"it waits for a reason of another release, {wait.reason}")
    about = f", with {', '.join(f'{part.kind} {part.id}' for part in wait.parts)}" if wait.parts else ""
    tries = f"asked for again {wait.attempts} times" if wait.attempts else "not asked for again yet"
    if wait.reason == NO_NEWS and wait.modified is None:
        end = "if that brings nothing either, it is let go: nothing is known to be missing"
    else:
        end = f"after {evidence.refetch_attempts} times it becomes a dead letter"
    return OrderVerdict(
        OrderStanding.WAITING,
        f"{why} ({wait.reason}{about}); {tries}",
        _by_service(evidence, "reconcile", f"it is asked for again {_in(wait.due_at, evidence.now)}; {end}"),
    )


def _unread(evidence: OrderEvidence) -> Iterator[OrderVerdict]:
    unread = evidence.unread
    if not unread:
        return
    first = min(unread, key=lambda record: record.ahead or 0)
    stands = duration(evidence.now - first.where.at)
    others = (first.ahead or 1) - 1
    before = f", with {others} others before it" if others else ""
    yield OrderVerdict(
        OrderStanding.UNREAD,
        f"its enricher is not done with {len(unread)} records about it; the oldest, {first.where}, is there "
        f"for {stands}{before}",
        _by_service(
            evidence,
            "enrich",
            "it comes by itself; if it does not within a minute, `topsync status` says what is wrong",
        ),
    )


def _seller(evidence: OrderEvidence) -> Iterator[OrderVerdict]:
    seller = evidence.seller
    if seller is None:
        if evidence.seller_id is not None:
            yield OrderVerdict(
                OrderStanding.SELLER_AWAY,
                f"its seller {evidence.seller_id} was never added here: nothing of it is fetched",
                "run `topsync sellers authorise`, or `topsync sellers add`",
            )
    elif seller.state in (SellerState.PAUSED, SellerState.EXPIRED):
        if evidence.facts.wait is not None and evidence.facts.wait.parked:
            return  # as it says itself
        yield OrderVerdict(
            OrderStanding.SELLER_AWAY,
            f"its seller is {seller.state} since {_time(seller.since)} (GMT+8): what changed since then is "
            "not fetched",
            f"{_bring_back(evidence)}; then that time is replayed by itself",
        )
    elif evidence.complete_until is None:
        yield OrderVerdict(
            OrderStanding.NOT_BOOTSTRAPPED,
            "its seller's bulk start is not done: older orders may be missing",
            f"run `topsync bootstrap --seller {seller.seller_id}`, or wait for its end",
        )


def _gaps(evidence: OrderEvidence) -> Iterator[OrderVerdict]:
    for gap in evidence.open_gaps:
        end = "now" if gap.ended is None else _time(gap.ended)
        then = (
            "it is pulled as soon as push is back: `topsync status` says what push does"
            if gap.ended is None
            else _by_service(evidence, "reconcile", "the reconciler pulls it until it is proven, by itself")
        )
        yield OrderVerdict(
            OrderStanding.GAP,
            f"push of its seller cannot be trusted from {_time(gap.began)} to {end} (GMT+8), {gap.cause}: a "
            "change in that time may be missing",
            then,
        )


def _push(evidence: OrderEvidence) -> Iterator[OrderVerdict]:
    last = evidence.last_push
    if evidence.polled_every is not None:
        return
    if evidence.push_is_up or last is None or any(gap.ended is None for gap in evidence.open_gaps):
        return
    yield OrderVerdict(
        OrderStanding.PUSH_DOWN,
        f"push is down, its last proof of life is of {_time(last.last_proof_at)} (GMT+8): what changed since "
        "then may be missing",
        _by_service(evidence, "push", "it connects by itself, and `topsync status` says what holds it up"),
    )


def _lost(evidence: OrderEvidence) -> Iterator[OrderVerdict]:
    for loss in evidence.losses:
        if loss.kind.leads:
            yield OrderVerdict(
                OrderStanding.TOPIC_LOST,
                "the topic may lack it, although it was published",
                str(loss),
            )


def _published(evidence: OrderEvidence) -> OrderVerdict:
    row = evidence.order
    assert row is not None
    until = evidence.complete_until
    complete = "" if until is None else f"; every change of its seller before {_time(until)} (GMT+8) is here"
    start = _time(max(row.modified - REPLAY_MARGIN, evidence.now - REPLAYED_BACK))
    return OrderVerdict(
        OrderStanding.PUBLISHED,
        f"revision {row.revision} (status {row.status}, changed {_time(row.modified)}, GMT+8) is stored and "
        f"published{complete}",
        f"nothing; if the platform shows a newer state, {_by_poll(evidence)}replay the time of that change, "
        f"e.g. `topsync replay --seller {row.seller_id} --from '{start}' --to '{_time(evidence.now)}'`",
    )


def _by_poll(evidence: OrderEvidence) -> str:
    """For a seller without messages: first of all, wait."""
    if evidence.polled_every is None:
        return ""
    return (
        "wait for the next poll: its seller has no messages, and is polled every "
        f"{duration(evidence.polled_every)}; if that does not bring it, "
    )


def _left(evidence: OrderEvidence) -> OrderVerdict:
    """Something named it, but it is not stored and nothing is under way."""
    return OrderVerdict(
        OrderStanding.NOT_STORED,
        "a message or a list has named it, nothing of it is stored, and nothing is under way about it",
        f"`topsync deadletter list --all --tid {evidence.tid}` shows whether it was given up; orders of more "
        "than three months are out of the platform's reach, although their refunds are listed",
    )


def _unknown(evidence: OrderEvidence) -> OrderVerdict:
    if evidence.kafka_problem is not None:
        says = "PostgreSQL knows nothing of it, and Kafka could not be asked"
        return OrderVerdict(OrderStanding.UNKNOWN, says, "ask again when Kafka is back")
    if evidence.seller is None:
        return OrderVerdict(
            OrderStanding.UNKNOWN,
            f"nothing is known of an order {evidence.tid}: no message, no list and no export has named it",
            "check the number; with `--seller` the story says what may be missing of its seller",
        )
    start, end = _time(evidence.now - REPLAYED_BACK), _time(evidence.now)
    until = evidence.complete_until
    complete = "" if until is None else f"; every change of its seller before {_time(until)} (GMT+8) is here"
    return OrderVerdict(
        OrderStanding.UNKNOWN,
        f"nothing is known of an order {evidence.tid}{complete}",
        f"check the number and whose order it is; {_by_poll(evidence)}what changed on a day is pulled again "
        f"by `topsync replay --seller {evidence.seller.seller_id} --from '{start}' --to '{end}'`",
    )


def _bring_back(evidence: OrderEvidence) -> str:
    """What an operator does about a seller that is away."""
    seller = evidence.seller
    assert seller is not None
    if seller.state is SellerState.PAUSED:
        return f"run `topsync sellers resume {seller.seller_id}`"
    return session_rules.what_to_do(seller, now=evidence.now)


def _by_service(evidence: OrderEvidence, service: str, then: str) -> str:
    """What happens by itself, where the service runs that does it."""
    if evidence.runs(service):
        return then
    return f"no process of `topsync {service}` is running: start it; then {then}"


def _in(at: datetime, now: datetime) -> str:
    return "now" if at <= now else f"in {duration(at - now)}"


def _time(moment: datetime) -> str:
    return platform_time.format(moment)
