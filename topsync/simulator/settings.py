"""The settings of a simulated platform. Plain values; the command line fills them in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum, StrEnum
from pathlib import Path

from schemas import platform_time
from topsync.simulator.channel.settings import ChannelSettings
from topsync.simulator.ids import MAX_SELLERS

LONGEST_ANSWER_SECONDS = 60.0
"""Shorter than the time after which an idle connection is closed."""


def check_answer_seconds(seconds: float) -> None:
    """Refuse a time that no answer may take.

    Raises:
        ValueError: it is out of bounds.
    """
    if not 0 <= seconds <= LONGEST_ANSWER_SECONDS:
        raise ValueError(f"answer_seconds must be 0 to {LONGEST_ANSWER_SECONDS:.0f}: {seconds}")


class PageBeyondEnd(Enum):
    """The answer to a page number after the last page."""

    EMPTY = "empty"
    LAST_PAGE = "last_page"
    REFUSED = "refused"


class UnknownType(Enum):
    """The effect of an unknown `type` in a list call."""

    IGNORED = "ignored"
    REFUSED = "refused"


class OldWindow(Enum):
    """The answer to a list window that begins more than three months ago."""

    REFUSED = "refused"
    CLIPPED = "clipped"


class DuplicateScope(Enum):
    """Which earlier export tasks make an identical request a duplicate."""

    RETAINED = "retained"
    UNFINISHED = "unfinished"


class ExportMethods(Enum):
    """Which of the asynchronous methods exist; the others are unknown (22)."""

    ALL = "all"
    ORDERS = "orders"
    """No export of refunds."""
    NONE = "none"
    """None of `taobao.topats.*`."""


class Check(StrEnum):
    """What the gateway checks of a call, once it knows the method and the app; in the assumed order."""

    VERSION = "version"
    TIMESTAMP = "timestamp"
    SIGNATURE = "signature"
    FORMAT = "format"
    FREQUENCY = "frequency"
    PERMISSION = "permission"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class PlatformQuirks:
    """Behaviour that is not documented, as switches (docs/platform/gateway.md 7, last paragraph).

    The defaults are the reference's assumptions.
    """

    business_code: int = 15
    """`code` of `isv.` and `isp.` errors: 15 in captures until 2018, 50 on current pages."""
    ids_as_strings: bool = False
    """Trade and order numbers as JSON strings instead of numbers."""
    end_modified_inclusive: bool = True
    end_created_inclusive: bool = True
    end_create_inclusive: bool = True
    """The same for `trades.sold.incrementv.get`, whose window is about arrivals."""
    changes_arrive: bool = True
    """Every change moves `async_modified`; if false, it stays at the order's first arrival."""
    equal_window_ends_refused: bool = True
    """`end_modified` must be *later* than `start_modified`, and `end_create` than `start_create`."""
    page_beyond_end: PageBeyondEnd = PageBeyondEnd.EMPTY
    unknown_type: UnknownType = UnknownType.IGNORED
    old_window: OldWindow = OldWindow.REFUSED
    duplicate_scope: DuplicateScope = DuplicateScope.RETAINED
    failed_download_spends_url: bool = True
    bare_batch_details: bool = False
    """A row of a batch of details is `{"trade": ...}`, as documented; clients have seen an envelope."""
    refunds_oldest_first: bool = False
    """`refunds.receive.get` is assumed to list the newest first; its order is not documented."""
    refund_span_limited: bool = False
    """Whether `refunds.receive.get` refuses windows of more than a day."""
    aftersale_refunds_move_orders: bool = True
    """A refund of a finished order moves the order's `modified`; this is not documented."""
    refund_ids_as_numbers: bool = False
    """`refund_id` as a JSON number, as in 2011 to 2013."""
    offline_parcels: bool = False
    """Parcels are reported as shipped offline: their trace says "signed" at once."""
    split_without_lines_refused: bool = True
    """The trace of a trade with several parcels must name lines; if false, it is the first parcel's."""
    messages_per_line: bool = False
    """Whether a change of a whole order sends a message per line, where `oid` is always there (7.1)."""
    address_topic: str = "taobao_trade_TradeChanged"
    """Users report that an address change never comes as `TradeLogisticsAddressChanged`."""
    check_order: tuple[Check, ...] = tuple(Check)
    """The order of checks, which matters when several things are wrong; each comes exactly once."""
    closed_apis: frozenset[str] = frozenset()
    """Methods that the app has no right to (11); `taobao.topats.*` may be closed to new apps."""
    exports: ExportMethods = ExportMethods.ALL
    """`taobao.topats.*` is missing from the catalogue of 2026 (0)."""
    unknown_app_is_a_system_error: bool = False
    """An unknown application is answered with code 1, `isp.get-app-error`, as in a capture, not with 29."""
    empty_parameters_signed: bool = False
    """Parameters without a value are signed too, as in the generated Python SDK (1.4)."""
    gzip_minimum_bytes: int = 1024
    """Answers at least this long are compressed for clients that accept gzip."""

    def __post_init__(self) -> None:
        if sorted(self.check_order) != sorted(Check):
            raise ValueError("check_order must name each check once")


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """The asynchronous export (docs/platform/gateway.md 4)."""

    schedule_seconds: int = 1800
    """Tasks run when the day's seconds reach a multiple of this: each half hour."""
    office_hours: bool = True
    """Whether tasks only run from 01:00 to 23:00."""
    run_seconds: int = 60
    """A task stays `doing` at least this long."""
    retention_seconds: int = 2 * 86400
    lines_per_file: int = 20_000
    line_separator: str = "\r\n"
    worker_timeout_seconds: int = 1800
    """A task whose file is not written by then fails."""


@dataclass(frozen=True, slots=True)
class OAuthSettings:
    """Grants and sessions (docs/platform/gateway.md 3.16). What is not documented is a switch."""

    refreshable: bool = False
    """Only apps sold on the service market can refresh; merchants' own apps cannot."""
    session_seconds: int = 90 * 86400
    """Life of a granted session; 86400 for test apps. The sessions of the start do not end."""
    refresh_seconds: int = 120 * 86400
    code_seconds: int = 300
    """How long a code can be exchanged: not documented."""
    renewal_ends_old_session: bool = True
    """Whether a refresh ends the old session at once: not documented."""
    token_from_query: bool = False
    """Whether the token endpoint also takes a GET, and parameters from the query: not documented."""
    messages_need_session: bool = True
    """Whether a seller's messages stop with the session (6.1, 19: inferred), until permitted again."""


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """The past: the base orders are a function of these settings."""

    seed: int
    sellers: int
    orders: int
    """Base orders of all sellers together, divided evenly."""
    start_second: int
    """When the past ends, in seconds since the epoch."""
    history_days: int = 89
    """The oldest order is from this many days before the day of the start; 90 are within reach."""

    def __post_init__(self) -> None:
        if not 1 <= self.sellers <= MAX_SELLERS:
            raise ValueError(f"sellers must be 1 to {MAX_SELLERS}: {self.sellers}")
        if self.orders < 0:
            raise ValueError(f"orders must not be negative: {self.orders}")

    def orders_of(self, seller: int) -> int:
        """How many base orders a seller has."""
        return self.orders // self.sellers + (seller < self.orders % self.sellers)

    @property
    def start_day(self) -> date:
        """The platform's day on which the past ends."""
        return platform_time.day_of(datetime.fromtimestamp(self.start_second, platform_time.CHINA))


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """A whole simulated platform."""

    seed: int = 1
    sellers: int = 3
    orders: int = 3000
    history_days: int = 89
    start_at: datetime | None = None
    """Where the platform's clock begins (aware); None is the machine's time."""
    workers: int = 0
    """Processes that answer calls which only read, for load; 0: the main process does. Linux only."""
    rate: float = 0.0
    """Live changes per second, over all sellers."""
    day: bool = False
    """Whether the changes are those of an ordinary day (`day.py`), or as varied as possible."""
    visibility_delay_seconds: int = 0
    """List calls see a change at most this long after it happened."""
    answer_seconds: float = 0.0
    """How long an answer takes, in real seconds; its content is as of the call."""
    host: str = "127.0.0.1"
    gateway_port: int = 0
    channel_port: int = 0
    admin_port: int = 0
    oauth_port: int = 0
    """0 chooses a free port, for each of the three."""
    app_key: str = "99000001"
    app_secret: str = field(default="simulator-secret-0001", repr=False)
    quirks: PlatformQuirks = PlatformQuirks()
    exports: ExportSettings = ExportSettings()
    oauth: OAuthSettings = OAuthSettings()
    channel: ChannelSettings = field(default_factory=ChannelSettings)
    folder: Path | None = None
    """Folder of the export files; None is a temporary folder, which is removed at the end."""

    def __post_init__(self) -> None:
        check_answer_seconds(self.answer_seconds)
