"""The story of an order, for people and for machines. Times are shown in GMT+8, and are UTC in JSON."""

from __future__ import annotations

from typing import Final

from schemas import platform_time
from topsync.base import terminal
from topsync.base.terminal import Cell, Column, Styled, Table, facts
from topsync.model import named
from topsync.model.kind import PARTS
from topsync.operate import story, verdicts
from topsync.operate.seller_tables import state_of
from topsync.operate.story import OrderEvidence, StoryEvent, StoryEventKind
from topsync.operate.verdicts import OrderStanding, OrderVerdict
from topsync.store.order_facts import StoredRow

STYLES: Final = {
    OrderStanding.PUBLISHED: "green",
    OrderStanding.UNREAD: "yellow",
    OrderStanding.LINGERING: "yellow",
    OrderStanding.WAITING: "yellow",
    OrderStanding.BACKLOG: "yellow",
}
"""Of a standing; red where nothing else is said."""

MARKED: Final = {
    StoryEventKind.SET_ASIDE: "bold red",
    StoryEventKind.PUBLISHED: "green",
    StoryEventKind.PLANNED: "yellow",
}


def show(evidence: OrderEvidence) -> None:
    """Print the story: who and what it is, what happened, and last how it stands and what happens next."""
    terminal.show(head(evidence))
    terminal.say("")
    happened = story.events(evidence)
    if happened:
        terminal.show(table(happened))
        terminal.say("")
    terminal.say(*limits(evidence))
    for verdict in verdicts.verdicts(evidence):
        _say_filled(f"{verdict.standing.value.replace('_', ' ')}: {verdict.says}.")
        terminal.say(f"  next: {verdict.next}")


def _say_filled(text: str) -> None:
    terminal.say(*terminal.filled(text))


def head(evidence: OrderEvidence) -> Table:
    """Who and what it is, in a few lines."""
    row, seller = evidence.order, evidence.seller
    shown = facts(f"Order {evidence.tid}, as of {_time_of(evidence)}")
    if seller is not None:
        shown.add("seller", seller.name)
        shown.add("its state", state_of(seller))
    elif evidence.seller_id is not None:
        shown.add("seller", f"{evidence.seller_id}, who was never added here")
    for name, value in _rows(row):
        shown.add(name, value)
    for part in evidence.facts.parts:
        published = "" if part.is_published else f", of which the topic has {part.published_revision}"
        shown.add(f"{part.kind} {part.id}", f"{part.status}, revision {part.revision}{published}")
    if evidence.complete_until is not None:
        shown.add("complete until", platform_time.format(evidence.complete_until))
    if evidence.facts.owner is not None and evidence.is_known:
        shown.add("its writer", evidence.facts.owner.owner)
    if evidence.records.unread_changes:
        shown.add("before its writer", f"{evidence.records.unread_changes} changes of all its orders")
    return shown


def _time_of(evidence: OrderEvidence) -> str:
    return f"{platform_time.format(evidence.now)} (GMT+8)"


def _rows(row: StoredRow | None) -> list[tuple[str, Cell]]:
    if row is None:
        return [("stored", Styled("nothing", "bold red"))]
    topic = (
        Styled("has it", "green")
        if row.is_published
        else Styled(f"has revision {row.published_revision}" if row.published_revision else "nothing", "red")
    )
    return [
        ("status", row.status),
        ("changed", platform_time.format(row.modified)),
        ("stored", f"revision {row.revision}, fetched {platform_time.format(row.fetched_at)}"),
        ("topic", topic),
    ]


def table(happened: list[StoryEvent]) -> Table:
    """What happened, a line each, in the order of time."""
    shown = Table((Column("when (GMT+8)", whole=True), Column("what", whole=True), Column("")))
    for event in happened:
        style = MARKED.get(event.kind)
        what: Cell = event.kind.value if style is None else Styled(event.kind.value, style)
        shown.add(platform_time.format(event.at), what, event.says)
    return shown


def limits(evidence: OrderEvidence) -> list[str]:
    """What the story does not have, a line each."""
    said = []
    if evidence.kafka_problem is not None:
        said.append(
            f"! {evidence.kafka_problem}. Messages, hints and what was published are not in the story."
        )
    for looked in evidence.records.looked:
        if not looked.is_complete:
            back_to = "its end" if looked.back_to is None else platform_time.format(looked.back_to)
            said.append(f"! of {looked.topic}, what is older than {back_to} (GMT+8) was not looked through.")
    said += [f"! the witness found: {finding}" for finding in evidence.facts.findings]
    return said


def document(evidence: OrderEvidence) -> dict[str, object]:
    """The story for machines. The keys are a contract (docs/reference/order-story.md)."""
    seller = evidence.seller
    found = verdicts.verdicts(evidence)
    return {
        "tid": str(evidence.tid),
        "known": evidence.is_known,
        "looked_at": evidence.now,
        "seller": None
        if evidence.seller_id is None
        else {
            "seller_id": str(evidence.seller_id),
            "nick": None if seller is None else seller.nick,
            "state": None if seller is None else seller.state.value,
            "state_since": None if seller is None else seller.since,
            "reason": None if seller is None else seller.reason,
            "complete_until": evidence.complete_until,
        },
        "order": None if evidence.order is None else _stored(evidence.order),
        **{
            kind.plural: [_stored(part) for part in evidence.facts.parts if part.kind is kind]
            for kind in PARTS
        },
        "standing": found[0].standing.value,
        "standings": [_standing(verdict) for verdict in found],
        "events": [
            {
                "at": event.at,
                "kind": event.kind.value.replace(" ", "_"),
                "says": event.says,
                "facts": event.facts,
            }
            for event in story.events(evidence)
        ],
        "unread_changes": evidence.records.unread_changes,
        "kafka_problem": evidence.kafka_problem,
        "looked_through": [
            {"topic": topic.topic.replace(" ", "_"), "back_to": topic.back_to, "complete": topic.is_complete}
            for topic in evidence.records.looked
        ],
    }


def _standing(verdict: OrderVerdict) -> dict[str, object]:
    return {"standing": verdict.standing.value, "says": verdict.says, "next": verdict.next}


def _stored(row: StoredRow) -> dict[str, object]:
    return {
        **{name: str(id_) for name, id_ in named.ids(row.kind, row.id).items()},
        "status": row.status,
        "created": row.created,
        "modified": row.modified,
        "fetched_at": row.fetched_at,
        "source": row.source,
        "revision": row.revision,
        "published_revision": row.published_revision,
    }
