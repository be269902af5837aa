"""The records of the topic `notifications`: markers of bootstraps, outcomes of replays and of comparisons
with the platform, changes of the visibility allowance, anomalies, ends of sessions and sellers.

Each kind has its own event type; readers skip types that they do not know.
"""

from __future__ import annotations

from abc import abstractmethod
from datetime import date
from typing import ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict

from schemas.types import Instant, PlatformId


class Notification(BaseModel):
    """What all notifications share."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    event_type: ClassVar[str]
    """The CloudEvents type."""

    @property
    @abstractmethod
    def subject(self) -> str:
        """The record's key and CloudEvents subject."""


NO_TASK: Final = 1
"""In place of a task's id, where there was no export. No task of the platform has it."""


class ExportPart(BaseModel):
    """What was had of the time before day zero. In several slices, if there are many orders: the certificate
    (`topsync certificate show`) has each of them.
    """

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    task_id: PlatformId
    """Of the first slice; 1 where there was no export, because the orders came from the platform's lists."""
    first_day: date
    """Orders created from this platform day (GMT+8) on ..."""
    last_day: date
    """... up to and including this day."""
    created_at: Instant
    """No state in a file is older than this."""
    adopted: bool
    """Whether the platform already had a task."""
    md5: str | None
    """The platform's check code, which the file matched; absent where there was not exactly one file."""
    file_bytes: int | None
    """Of all files."""
    lines: int
    """lines = published + repaired + refused."""
    published: int
    repaired: int
    """Orders fetched by single calls, because their line could not be read."""
    refused: int
    """Lines that name no order; there are some only where a list names every order instead."""
    orders: int
    """Distinct orders."""
    digest: str
    """SHA-256 over `tid modified` of each of these orders, ordered by tid."""


class TodayPart(BaseModel):
    """The result of the pull after the export, from its last day up to now."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    listed: int
    hinted: int
    """How many of these orders were missing or older in the copy."""
    calls: int
    proven_to: Instant | None
    """Every change before this time is stored and published."""
    refunds: int | None = None
    """Refunds listed since the export's first day, which are stored and published as well; absent when
    refunds are switched off, or the platform refuses them."""


class BootstrapBegun(Notification):
    """A seller's bulk start has begun: from here on its orders appear, not sorted by time."""

    event_type: ClassVar[str] = "taobao.ops.bootstrap.begun.v1"

    seller_id: PlatformId
    day_zero: date
    """The platform day (GMT+8) on which it began."""

    @property
    def subject(self) -> str:
        """The record's key and CloudEvents subject."""
        return f"bootstrap-begun:{self.seller_id}"


class BootstrapCompleted(Notification):
    """A seller's bulk start is complete: all its orders are in the topic. The body is the certificate."""

    event_type: ClassVar[str] = "taobao.ops.bootstrap.completed.v1"

    seller_id: PlatformId
    day_zero: date
    """The platform day (GMT+8) on which the export was requested."""
    export: ExportPart
    today: TodayPart
    certified_at: Instant

    @property
    def subject(self) -> str:
        """The record's key and CloudEvents subject."""
        return f"bootstrap-completed:{self.seller_id}"


class ReplayFinished(Notification):
    """A replay of a seller's span has ended, or a request for a replay is refused.

    Somebody may use an id again by mistake, for another seller or span. That request is refused by a record
    of its own with the same id. So compare `seller_id`, `start` and `end` with your request.
    """

    event_type: ClassVar[str] = "taobao.ops.replay.finished.v1"

    replay: str
    """The request's id."""
    seller_id: PlatformId
    state: Literal["done", "failed"]
    error: str | None = None
    """Why nothing was done, or not everything."""
    start: Instant | None = None
    """The start of the requested span: from this time on ..."""
    end: Instant | None = None
    """... up to and including then."""
    pulled_from: Instant | None = None
    """The part of the span that was pulled, or only counted: from this time on ..."""
    pulled_to: Instant | None = None
    """... up to and including this time; both are absent when there is no such part."""
    note: str | None = None
    """Why the part is smaller than the span, although the replay is done."""
    dry_run: bool | None = None
    """Whether it was only counted."""
    orders_listed: int | None = None
    orders_to_fetch: int | None = None
    refunds_listed: int | None = None
    """Absent when refunds are switched off, or the platform refuses them."""
    refunds_to_fetch: int | None = None
    list_calls: int | None = None
    calls: int | None = None
    minutes: float | None = None
    """The least time that the calls take: of a dry run, inside the budget as it was then; otherwise, at the
    budget's rate."""
    delays: str | None = None
    """Of a dry run: what waits for it, in words."""

    @property
    def subject(self) -> str:
        """The record's key and CloudEvents subject."""
        return f"replay:{self.replay}"


class NotFetchedOrders(BaseModel):
    """Orders of a replay that were not fetched, for one reason."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    orders: int
    tids: tuple[PlatformId, ...] = ()
    """The first hundred of them."""


class FailedSeller(BaseModel):
    """A seller of a replay of whom not everything was done."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    seller_id: PlatformId
    error: str


class ReplayEnded(Notification):
    """A replay of named orders, or of all sellers, has ended, or a request for it is refused.

    For the replay of one seller's span, there is `taobao.ops.replay.finished.v1`.
    """

    event_type: ClassVar[str] = "taobao.ops.replay.ended.v1"

    replay: str
    """The request's id."""
    state: Literal["done", "failed"]
    """Done: all of it is stored and published, or, in a dry run, counted."""
    error: str | None = None
    """Why nothing was done, or not everything."""
    orders: int | None = None
    """How many orders were named; absent for a span."""
    named_by: str | None = None
    """What named the orders, where that is no list: a dead letter."""
    start: Instant | None = None
    """Of a span, from this time on ..."""
    end: Instant | None = None
    """... up to and including then."""
    note: str | None = None
    """Why less than the span was pulled, although the replay is done."""
    dry_run: bool | None = None
    """Whether it was only counted."""
    orders_held: int | None = None
    """How many of the named orders were stored before, in whatever state."""
    orders_fetched: int | None = None
    """How many of the named orders were fetched, stored and published."""
    not_fetched: dict[str, NotFetchedOrders] = {}
    """Which named orders were not, by reason: the word of a dead letter, or `not_there` (the platform does
    not know it), `session_refused`, `seller_paused`, `seller_erased`, `unknown_seller`, `not_stored`."""
    failed_pieces: int = 0
    """How many of its pieces failed: each is of one seller."""
    failed: tuple[FailedSeller, ...] = ()
    """The first twenty of them."""
    orders_listed: int | None = None
    orders_to_fetch: int | None = None
    refunds_listed: int | None = None
    refunds_to_fetch: int | None = None
    list_calls: int | None = None
    calls: int | None = None
    minutes: float | None = None
    """The least time that the calls take: of a dry run, inside the budget as it was then; otherwise, at the
    budget's rate."""
    delays: str | None = None
    """Of a dry run: what waits for it, in words."""

    @property
    def subject(self) -> str:
        """The record's key and CloudEvents subject."""
        return f"replay:{self.replay}"


class DifferencesFound(Notification):
    """The comparison with the platform has found that a seller's orders or refunds differ.

    Each night that finds some writes one record a seller, and so does each audit of an operator. They are
    named one by one in the report: `topsync report show`.
    """

    event_type: ClassVar[str] = "taobao.ops.comparison.differed.v1"

    report: str
    """The report's id."""
    seller_id: PlatformId
    missing: int
    """Orders and refunds that the platform lists and the copy did not have."""
    behind: int
    """Those of which the copy had an older state."""
    sum: int
    """Those with another amount."""
    unknown: int
    """Those that the platform neither lists nor shows; they stay in the copy."""
    unlisted: int
    """Those that the platform shows and its lists leave out."""
    repaired: int
    """How many of all these agreed when they were compared again."""
    left: int
    """How many did not."""
    some_orders: tuple[PlatformId, ...] = ()
    """The first of the orders that differed, by id."""
    some_refunds: tuple[PlatformId, ...] = ()
    """The same of refunds."""

    @property
    def subject(self) -> str:
        """The record's key and CloudEvents subject."""
        return f"comparison:{self.report}:{self.seller_id}"


class ComparisonFinished(Notification):
    """A night's comparison with the platform has ended; one record a night, also when nothing differed."""

    event_type: ClassVar[str] = "taobao.ops.comparison.finished.v1"

    report: str
    """The report's id."""
    night: date
    """The platform day (GMT+8) on which its hours began."""
    began_at: Instant
    days: int
    """How many days of sellers were compared, each kind by itself."""
    days_left: int
    """How many were not: the next night begins with them."""
    found: int
    """How many orders and refunds differed."""
    repaired: int
    left: int
    sellers_failed: int
    """Sellers that could not be compared, or not wholly."""

    @property
    def subject(self) -> str:
        """The record's key and CloudEvents subject."""
        return f"comparison:{self.report}"


class LateArrivalEvidence(BaseModel):
    """A change that a list of the platform did not show although it had happened, and that a later list
    showed.
    """

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    seller_id: PlatformId
    kind: str
    """`order` or `refund`."""
    id: PlatformId
    """The `tid` of an order, the `refund_id` of a refund."""
    modified: Instant
    """When it changed."""
    lacked_at: Instant
    """When the last list was asked for that should have shown it."""
    shown_at: Instant
    """When the first list that showed it had been answered."""


class AllowanceChanged(Notification):
    """The platform's lists were later than the visibility allowance, so it was raised, and claims that rested
    on less were taken back; or lists have been in time for a while, and it was lowered.
    """

    event_type: ClassVar[str] = "taobao.ops.allowance.changed.v1"

    change: int
    """The change's number. The same number may come twice."""
    is_raised: bool
    """False: it was lowered."""
    before_seconds: float
    """What was learnt before; 0: nothing, so the setting or the calendar held."""
    allowance_seconds: float
    """What is learnt now. The setting, the calendar's or this holds, whichever is longest."""
    most_seconds: float
    """What it is never raised beyond. Where it has been reached, lists may be later than it allows for."""
    late_arrivals: int = 0
    """How many changes of the pull that found it were later than what held."""
    evidence: LateArrivalEvidence | None = None
    """The latest of them; absent where it was lowered, or the seller has been erased since."""
    taken_back_from: Instant | None = None
    """Claims after this moment were taken back where they rested on less ..."""
    taken_back_sellers: int = 0
    """... of so many sellers; it is pulled again."""

    @property
    def subject(self) -> str:
        """The record's key and CloudEvents subject."""
        return "allowance"


class OddThing(BaseModel):
    """An anomaly, with its evidence: names and numbers, never a value of an order."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    """Of an error: the API and its codes. Of a field: the kind of object and the field's name, as
    `order.orders.some_name`. Of a type: the type. Of a silent shop: the seller's id. Else a fixed word."""
    seller_id: PlatformId | None = None
    """Whose it is, or of whom the last example was."""
    tid: PlatformId | None = None
    """The last example."""
    seen: int
    """How many: of what nobody knows, how often it came since it was first seen; of a silent shop, its orders
    in the hour; of answers, those that were behind; of a type, its orders that lists leave out."""
    among: int | None = None
    """Of how many answers."""
    expected: float | None = None
    """How many are usual at this hour of the week."""
    deviation: float | None = None
    """How far the count usually is from that."""
    first_at: Instant
    """When it was first seen, or began."""


class AnomalySeen(Notification):
    """Something is odd, though nothing has failed for it. At most one record an hour of each kind.

    A code, field or type is named once. A silent shop, or a rise, is named again if it comes again after its
    end. Records with the same CloudEvents `id` are the same.
    """

    event_type: ClassVar[str] = "taobao.ops.anomaly.seen.v1"

    anomaly: Literal[
        "unknown_code", "unknown_field", "unknown_type", "unlisted_type", "silent_shop", "behind_answers"
    ]
    """The kind; docs/operations.md says what each means. Readers skip kinds that they do not know."""
    things: tuple[OddThing, ...]
    """Fifty at most; what is left is in the next record of the kind."""
    said: str
    """The first of them, in words."""
    do: str
    """What an operator should do."""

    @property
    def subject(self) -> str:
        """The record's key and CloudEvents subject."""
        return f"anomaly:{self.anomaly}"


class SessionWarned(Notification):
    """A seller's session ends soon, or has ended: then no change of the seller can be fetched."""

    event_type: ClassVar[str] = "taobao.ops.session.warned.v1"

    session: Literal["ends", "expired"]
    seller_id: PlatformId
    days_left: int
    """The threshold that was passed, in days before the end."""
    ends_at: Instant | None = None
    """When the session ends, if that is known."""
    refreshable: bool
    """Whether topsync can refresh it by itself."""
    reason: str | None = None
    """Why the platform refused the session."""
    do: str
    """What an operator has to do, if anything."""

    @property
    def subject(self) -> str:
        """The record's key and CloudEvents subject."""
        return f"session:{self.seller_id}"


class SellerErased(Notification):
    """A seller's data was erased: each of its orders and refunds has a tombstone in its topic.

    Written when the last of them is published. The seller may be added again later, and then begins anew.
    """

    event_type: ClassVar[str] = "taobao.ops.seller.erased.v1"

    seller_id: PlatformId
    orders: int
    """How many orders were stored when the erasure began."""

    @property
    def subject(self) -> str:
        """The record's key and CloudEvents subject."""
        return f"seller-erased:{self.seller_id}"


class MessageReceived(Notification):
    """The platform's channel sent a message that is not about an order; only its ids are here."""

    event_type: ClassVar[str] = "taobao.ops.message.received.v1"

    topic: str
    """The platform's message topic."""
    id: str
    """The platform's message id."""
    seller_id: PlatformId | None = None

    @property
    def subject(self) -> str:
        """The record's key and CloudEvents subject."""
        return f"message:{self.topic}"


NOTIFICATIONS: tuple[type[Notification], ...] = (
    BootstrapBegun,
    BootstrapCompleted,
    ReplayFinished,
    DifferencesFound,
    ComparisonFinished,
    ReplayEnded,
    AllowanceChanged,
    AnomalySeen,
    SessionWarned,
    SellerErased,
    MessageReceived,
)
"""All kinds of notifications."""
