"""Spans to a collector, by OpenTelemetry's SDK and its exporter for OTLP over HTTP (the extra `traces`).

Only `topsync/base/tracing.py` imports this, and only where traces are on.

A thread of the SDK sends what a bounded queue holds. A collector that is away, slow or wrong costs spans, and
nothing else: it is logged once when that begins, and once when it is over.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Final

import requests
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags

from schemas.trace_context import TraceContext
from topsync.base import identity, masking, metrics, telemetry
from topsync.base.settings import TracesSettings
from topsync.base.tracing import MAX_LINKS, SpanKind, TraceSpan

log = telemetry.get_logger(__name__)

CONVENTIONS: Final = "https://opentelemetry.io/schemas/1.44.0"
"""The version of the semantic conventions whose names the spans have."""

QUEUE_SPANS: Final = 4096
"""Some megabytes. Further spans push out the oldest."""

SENT_TOGETHER: Final = 512

SEND_EVERY_SECONDS: Final = 1.0

SEND_TIMEOUT_SECONDS: Final = 5.0
"""Of one request, with its repetitions."""

CLOSE_SECONDS: Final = 3.0
"""How long the end of a process waits for the collector."""

MAX_REASON_CHARACTERS: Final = 200

_KINDS: Final = {
    SpanKind.INTERNAL: trace.SpanKind.INTERNAL,
    SpanKind.CLIENT: trace.SpanKind.CLIENT,
    SpanKind.PRODUCER: trace.SpanKind.PRODUCER,
    SpanKind.CONSUMER: trace.SpanKind.CONSUMER,
}


class SpanExport:
    """The way of a process's spans to the collector; a `topsync.base.tracing.SpanSink`."""

    def __init__(self, own: TracesSettings, process: str) -> None:
        complaints = _LastComplaint()
        exporter = OTLPSpanExporter(
            endpoint=str(own.traces_url),
            certificate_file=None if own.traces_ca_file is None else str(own.traces_ca_file),
            headers=_hidden(own.headers),
            timeout=SEND_TIMEOUT_SECONDS,
            compression=Compression.Gzip,
            session=_plain_session(),
        )
        self._exporter = WatchedExporter(exporter, complaints)
        self._ids = _GivenIds()
        self._provider = TracerProvider(
            sampler=sampling.ALWAYS_ON,  # what comes here is to be kept
            resource=Resource.create(
                {
                    "service.namespace": "topsync",
                    "service.name": f"topsync-{process}",
                    "service.version": identity.release(),
                    "service.instance.id": f"{socket.gethostname()}/{os.getpid()}",
                }
            ),
            shutdown_on_exit=False,  # that would wait for 30 s
            id_generator=self._ids,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=QUEUE_SPANS,
                schedule_delay_millis=SEND_EVERY_SECONDS * 1000,
                max_export_batch_size=SENT_TOGETHER,
                export_timeout_millis=SEND_TIMEOUT_SECONDS * 1000,
            )
        )
        self._tracer = self._provider.get_tracer("topsync", identity.release(), schema_url=CONVENTIONS)

    def take(self, span: TraceSpan) -> None:
        """See `topsync.base.tracing.SpanSink`."""
        self._ids.next = span.context
        parent = trace.INVALID_SPAN_CONTEXT if span.parent is None else _of(span.parent)
        begun = self._tracer.start_span(
            span.name,
            trace.set_span_in_context(NonRecordingSpan(parent)),
            _KINDS[span.kind],
            span.attributes,
            [Link(_of(linked)) for linked in span.links[:MAX_LINKS]],
            span.began_ns,
        )
        if span.problem is not None:
            begun.set_status(Status(StatusCode.ERROR, span.problem))
            begun.set_attribute("error.type", span.problem)
        begun.end(span.ended_ns)

    def close(self) -> None:
        """See `topsync.base.tracing.SpanSink`. Not called in an event loop that has anything else to do."""
        # A thread of its own, because the SDK waits longer for a collector that does not answer.
        closing = threading.Thread(target=self._provider.shutdown, name="close-traces", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)
        if closing.is_alive():
            log.warning("the collector takes no spans; ending without it")
            # Otherwise the SDK's thread would go on with the whole queue, request by request.
            self._exporter.shutdown()


class _GivenIds(IdGenerator):
    """Gives the next span the ids that it has already: they are in a record."""

    next: TraceContext

    def generate_span_id(self) -> int:
        return int(self.next.span_id, 16)

    def generate_trace_id(self) -> int:
        return int(self.next.trace_id, 16)


class WatchedExporter(SpanExporter):
    """Counts what goes out, and says once when that fails and once when it works again."""

    def __init__(self, exporter: SpanExporter, complaints: _LastComplaint) -> None:
        self._exporter = exporter
        self._complaints = complaints
        self._works = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; called by the SDK's thread alone."""
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001 -- whatever is wrong with a span or a collector, work goes on
            self._complaints.text, result = type(error).__name__, SpanExportResult.FAILURE
        works = result is SpanExportResult.SUCCESS
        metrics.SPANS.labels("sent" if works else "lost").inc(len(spans))
        if works != self._works:
            if works:
                log.warning("the collector takes spans again")
            else:
                log.warning("the collector takes no spans; they are lost", error=self._complaints.text)
        self._works = works
        return result

    def shutdown(self) -> None:
        """End what is being sent."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held here."""
        return self._exporter.force_flush(timeout_millis)


class _LastComplaint(logging.Handler):
    """Takes what OpenTelemetry logs, which is a line for each request that fails, in place of our own log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""
        logger = logging.getLogger("opentelemetry")
        logger.propagate = False
        logger.handlers = [self]
        # A line for each span that a full queue drops; `topsync_spans_total` shows them.
        logging.getLogger("opentelemetry.sdk").setLevel(logging.ERROR)

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()[:MAX_REASON_CHARACTERS]


def _hidden(headers: Mapping[str, str]) -> Mapping[str, str]:
    for value in headers.values():
        masking.hide(value)
        for word in value.split():  # as in "Bearer ..."
            masking.hide(word)
    return headers


def _plain_session() -> requests.Session:
    """A session that takes nothing from the environment: no proxy, and no password of `.netrc`."""
    session = requests.Session()
    session.trust_env = False
    return session


def _of(context: TraceContext) -> SpanContext:
    return SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if context.is_sampled else TraceFlags.DEFAULT),
    )
