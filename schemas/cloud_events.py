"""CloudEvents 1.0 in Kafka's binary content mode: attributes as `ce_` headers, the value unchanged.

We do not use the SDK to write, because it encodes the value itself and so cannot write a tombstone. In the
tests, the SDK reads our records.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from schemas import trace_context
from schemas.types import write_instant

CHANGE_TYPE = "taobao.trade.change.v1"
ERASURE_TYPE = "taobao.trade.erasure.v1"
SNAPSHOT_TYPE = "taobao.trade.snapshot.v1"
DEAD_LETTER_TYPE = "taobao.trade.deadletter.v1"

_TRACEPARENT: Final = "ce_traceparent"

MAX_REPEATING: Final = 4096
"""How many cached header lists are kept: events of the same kind and seller begin with the same headers."""

Headers = Sequence[tuple[str, bytes]]
"""Kafka record headers, in the client's form."""


def headers(
    *,
    id: str,  # noqa: A002 -- the attribute's name
    type: str,  # noqa: A002
    source: str,
    subject: str,
    time: datetime,
    content_type: str = "application/json",
    schema: str | None = None,
    extensions: Mapping[str, str] | None = None,
    caused_by: str | None = None,
) -> list[tuple[str, bytes]]:
    """The headers of an event; `schema` is the URI of the value's JSON Schema.

    `caused_by` is the `traceparent` of the event that led to this event; without it, this event begins a
    trace. Extension names are lower-case letters and digits (CloudEvents 1.0, 3.1).
    """
    written = [
        *_repeating(content_type, type, source, schema),
        ("ce_id", id.encode()),
        ("ce_subject", subject.encode()),
        ("ce_time", write_instant(time).encode()),
        trace_header(trace_context.go_on(caused_by)),
    ]
    if extensions:
        written += [(f"ce_{name}", value.encode()) for name, value in extensions.items()]
    return written


# Needed for each message: a few kinds of messages, from some thousands of sellers.
@functools.lru_cache(maxsize=MAX_REPEATING)
def _repeating(
    content_type: str,
    type: str,  # noqa: A002
    source: str,
    schema: str | None,
) -> tuple[tuple[str, bytes], ...]:
    return (
        ("content-type", content_type.encode()),
        ("ce_specversion", b"1.0"),
        ("ce_type", type.encode()),
        ("ce_source", source.encode()),
        *([] if schema is None else [("ce_dataschema", schema.encode())]),
    )


def attributes(record_headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """The CloudEvents attributes of a record, without their prefix; other headers are left out."""
    return {
        name[3:]: value.decode("utf-8", "replace")
        for name, value in record_headers
        if name.startswith("ce_") and value is not None
    }


def trace_header(traceparent: str) -> tuple[str, bytes]:
    """The header with which a record names what sent it."""
    return _TRACEPARENT, traceparent.encode()


def traceparent(record_headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """The `traceparent` of a record, as it came."""
    for name, value in record_headers:
        if name == _TRACEPARENT and value is not None:
            return value.decode("utf-8", "replace")
    return None
