"""Spans to a collector by real HTTP: what arrives, and that a bad collector costs spans and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count

import pytest

from schemas.trace_context import TraceContext
from tests.support.collector import Collector, collecting
from topsync.base import settings, span_export, tracing
from topsync.base.settings import TracesSettings
from topsync.base.span_export import CONVENTIONS, QUEUE_SPANS, SpanExport
from topsync.base.tracing import SpanKind, TraceSpan

TRACE, SECRET = "4bf92f3577b34da6a3ce929d0e0e4736", "opens-the-collector"
_numbers = count(1)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def exporting(monkeypatch: pytest.MonkeyPatch, url: str) -> SpanExport:
    monkeypatch.setenv("TOPSYNC_TRACES_URL", url)
    monkeypatch.setenv("TOPSYNC_TRACES_HEADERS", f"x-secret={SECRET}")
    # A collector is in the cluster, whatever leads to the platform.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    return SpanExport(settings.load(TracesSettings), "push")


def a_span(*, parent: TraceContext | None = None, problem: str | None = None) -> TraceSpan:
    own = TraceContext(TRACE, f"{next(_numbers):016x}", is_sampled=False)
    return TraceSpan(
        "send changes", SpanKind.PRODUCER, own, parent, 10**18, 2 * 10**18, {"a": 1}, [own], problem
    )


def test_a_span_arrives_with_the_ids_that_are_in_the_record(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = exporting(monkeypatch, collector.url)
    first = a_span()
    second = a_span(parent=first.context, problem="platform_away")
    for span in (first, second):
        export.take(span)
    export.close()
    found = {span.span_id: span for span in collector.spans}
    assert found.keys() == {first.context.span_id, second.context.span_id}
    root, child = found[first.context.span_id], found[second.context.span_id]
    assert (root.trace_id, root.parent_id, root.service) == (TRACE, "", "topsync-push")
    assert (child.trace_id, child.parent_id) == (TRACE, root.span_id)
    assert (root.failed, child.failed) == (False, True)
    assert child.attributes == {"a": 1, "error.type": "platform_away"}
    assert child.links == [(TRACE, child.span_id)]
    assert root.conventions == CONVENTIONS
    assert root.seconds == 1e9
    assert collector.headers[0]["x-secret"] == SECRET


FAILING = """
import sys
from tests.base.test_span_export import a_span
from topsync.base import settings, span_export, telemetry
from topsync.base.settings import TelemetrySettings, TracesSettings

span_export.SEND_EVERY_SECONDS, span_export.SEND_TIMEOUT_SECONDS = 0.02, 0.5
telemetry.configure_logging(settings.load(TelemetrySettings), process="push")
export = span_export.SpanExport(settings.load(TracesSettings), "push")
for _ in range(5 * span_export.SENT_TOGETHER):
    export.take(a_span())
export.close()
"""


@pytest.mark.parametrize("trouble", ["away", "wrong"])
def test_a_collector_that_takes_nothing_is_logged_once_and_without_our_secrets(
    collector: Collector, trouble: str
) -> None:
    collector.status = 401
    environment = {
        **os.environ,
        "TOPSYNC_TRACES_URL": collector.url if trouble == "wrong" else "http://127.0.0.1:9/v1/traces",
        "TOPSYNC_TRACES_HEADERS": f"x-secret={SECRET}",
    }
    ended = subprocess.run(
        [sys.executable, "-c", FAILING], capture_output=True, env=environment, timeout=60, check=True
    )
    (line,) = ended.stderr.decode().splitlines()
    assert "the collector takes no spans" in line
    assert SECRET not in line


def test_a_collector_that_never_answers_holds_up_neither_work_nor_the_end(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_export, "CLOSE_SECONDS", 0.3)
    monkeypatch.setattr(span_export, "SEND_TIMEOUT_SECONDS", 0.5)
    before_it = set(threading.enumerate())
    collector.answers.clear()
    export = exporting(monkeypatch, collector.url)
    began = time.monotonic()
    slowest = 0.0
    for _ in range(QUEUE_SPANS + 1000):
        before = time.monotonic()
        export.take(a_span())
        slowest = max(slowest, time.monotonic() - before)
    export.close()
    assert slowest < 1.0
    assert time.monotonic() - began < 5.0
    requests = len(collector.headers)
    for thread in set(threading.enumerate()) - before_it:
        if thread.name.startswith("Otel") or thread.name == "close-traces":
            thread.join(20)
            assert not thread.is_alive()
    assert len(collector.headers) <= requests + 1, "after the end only what was under way arrives"


def test_a_process_records_only_while_its_traces_are_on(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPSYNC_TRACES_URL", collector.url)
    with tracing.exported("push"):
        traces = tracing.active
        assert traces is not None
        traces.record([a_span()])
    assert len(collector.spans) == 1
