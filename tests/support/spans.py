"""Spans of one process, kept in memory: what the parts record while a test has traces on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from topsync.base import tracing
from topsync.base.tracing import Allowance, Traces, TraceSpan


@dataclass
class KeptSpans:
    """A `SpanSink` that keeps everything."""

    spans: list[TraceSpan] = field(default_factory=list)

    def take(self, span: TraceSpan) -> None:
        self.spans.append(span)

    def close(self) -> None:
        pass

    def named(self, name: str) -> list[TraceSpan]:
        return [span for span in self.spans if span.name == name]


@contextmanager
def recording(
    *, share: float = 1.0, slow_seconds: float = 1000.0, names_orders: bool = False
) -> Iterator[KeptSpans]:
    """Record spans in this process meanwhile."""
    kept = KeptSpans()
    traces = Traces(kept, slow_seconds, Allowance(1000), names_orders=names_orders)
    with tracing.recorded(traces, share=share):
        yield kept
