"""Traces: the seam between topsync's parts and OpenTelemetry, which is an extra and off by default.

Every record names its trace and its span already (`schemas/trace_context.py`), whether anybody records spans
or not. So a span is handed over when it is over, with the ids that are in the record: nothing is carried
along but a few times, and whether it is worth keeping is known by then.

`active` is None where traces are off. Whoever could record a span asks for that first, once for many orders:
then a change costs no call and no object. `docs/traces.md` says which spans there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from schemas import trace_context
from schemas.trace_context import TraceContext
from topsync.base import metrics, settings, telemetry
from topsync.base.errors import OperatorError
from topsync.base.settings import TracesSettings

log = telemetry.get_logger(__name__)

MAX_LINKS: Final = 128
"""Of one span; further ones are left out. As many as OpenTelemetry keeps."""

NS_PER_SECOND: Final = 1_000_000_000

EXTRA: Final = "opentelemetry"


class SpanKind(Enum):
    """OpenTelemetry's kinds, as far as we have them."""

    INTERNAL = "internal"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


Attributes = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class TraceSpan:
    """A span that is over. Times are this machine's, in nanoseconds since 1970."""

    name: str
    """Of few values: no id is part of it."""
    kind: SpanKind
    context: TraceContext
    parent: TraceContext | None
    began_ns: int
    ended_ns: int
    attributes: Attributes
    links: Sequence[TraceContext] = ()
    problem: str | None = None
    """A fixed word for what failed; None where nothing did."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended_ns - self.began_ns) / NS_PER_SECOND


class SpanSink(Protocol):
    """Where spans go. Never waits, never raises, and keeps a bounded number of spans."""

    def take(self, span: TraceSpan) -> None:
        """Take a span in, or drop it where there is no room."""
        ...

    def close(self) -> None:
        """Hand over what is left, in bounded time."""
        ...


@dataclass(slots=True)
class Allowance:
    """So many a second, with a second's worth saved up at most."""

    per_second: float
    monotonic: Callable[[], float] = time.monotonic
    _left: float = field(init=False)
    _at: float = field(init=False)

    def __post_init__(self) -> None:
        self._left, self._at = self.per_second, self.monotonic()

    def take(self) -> bool:
        """Whether there is another."""
        now = self.monotonic()
        self._left = min(self.per_second, self._left + (now - self._at) * self.per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(frozen=True, slots=True)
class Traces:
    """What a process does with its spans while traces are on."""

    sink: SpanSink
    slow_seconds: float
    unsampled: Allowance
    """How many that are slow or failed, and not sampled, are kept."""
    names_orders: bool = False
    """Whether spans name orders and sellers."""

    def keeps(self, context: TraceContext, *, seconds: float, failed: bool) -> bool:
        """Whether the spans of this process in a trace are kept, now that it is known how they went."""
        if context.is_sampled:
            return True
        if not failed and seconds < self.slow_seconds:
            return False
        if self.unsampled.take():
            return True
        metrics.SPANS.labels("held_back").inc()
        return False

    def record(self, spans: Iterable[TraceSpan]) -> None:
        """Hand over spans that are kept. Does not wait, and does not raise."""
        for span in spans:
            metrics.SPANS.labels("recorded").inc()
            self.sink.take(span)

    def about(self, tid: int | None, seller_id: int | None) -> dict[str, str | int | float]:
        """The attributes that name an order and its seller: none, unless a setting wants them."""
        if not self.names_orders:
            return {}
        named = {"topsync.tid": tid, "topsync.seller_id": seller_id}
        # As text: a JavaScript number cannot hold an order's id.
        return {name: str(id_) for name, id_ in named.items() if id_ is not None}


active: Traces | None = None
"""What records spans in this process; None: nobody does."""


class TracesExtraMissingError(OperatorError):
    """Traces are asked for, and OpenTelemetry is not installed."""


@contextmanager
def exported(process: str) -> Iterator[None]:
    """Record and export spans meanwhile, where the settings ask for it; otherwise nothing is even imported.

    Raises:
        SettingsError: a setting is wrong.
        TracesExtraMissingError: the extra is not installed.
    """
    own = settings.load(TracesSettings)
    if own.traces_url is None:
        yield
        return
    with recorded(
        Traces(
            _exporter(own, process),
            slow_seconds=own.traces_slow_seconds,
            unsampled=Allowance(own.traces_unsampled_per_second),
            names_orders=own.traces_order_ids,
        ),
        share=own.traces_share,
    ):
        yield


@contextmanager
def recorded(traces: Traces, *, share: float) -> Iterator[None]:
    """Record spans meanwhile; this share of the traces that begin here is sampled."""
    global active  # noqa: PLW0603 -- a process records its spans in one way
    active = traces
    trace_context.sample(share)
    try:
        yield
    finally:
        active = None
        trace_context.sample(0)
        traces.sink.close()


def _exporter(own: TracesSettings, process: str) -> SpanSink:
    try:
        from topsync.base.span_export import SpanExport
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith((EXTRA, "requests")):
            raise
        raise TracesExtraMissingError(
            "TOPSYNC_TRACES_URL is set, and OpenTelemetry is not installed. Install topsync with its extra, "
            "pip install 'topsync[traces]', or unset it"
        ) from None
    return SpanExport(own, process)
