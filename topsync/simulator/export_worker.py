"""Writes an export file, in a process of its own.

To write a seller's three months takes seconds of pure computation; in the gateway's process this would stall
every other call. All input is a JSON document on standard input: the past is a pure function, so only the
orders that have changed since the start are in it. The result is a JSON document on standard output. Format
of the file: docs/platform/gateway.md 4.3.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain, count, islice
from pathlib import Path

import orjson

from topsync.simulator import wire
from topsync.simulator.book import OrderBook
from topsync.simulator.fields import FieldMask, parse_fields
from topsync.simulator.life import EventKind, OrderEvent
from topsync.simulator.refunds import full_refund, of_events
from topsync.simulator.sellers import seller_of
from topsync.simulator.settings import WorldSettings
from topsync.simulator.trades import full_trade
from topsync.simulator.wire import JsonObject
from topsync.simulator.world import histories

_COMPRESSION_LEVEL = 1
_HASHED_BYTES = 1 << 20
_LEFT_OUT_BYTES = 3
_NAMELESS = orjson.dumps({"error_response": {"code": 15, "sub_code": "isp.remote-service-error"}})
_NICENESS = 10
"""Gives the gateway precedence on a small machine."""


@dataclass(frozen=True, slots=True)
class ExportJob:
    """Everything that is needed to write a file."""

    world: WorldSettings
    seller: int
    is_of_refunds: bool
    first: int
    last: int
    """Orders created, or refunds changed, in these seconds since the epoch, both included."""
    oldest_created: int
    """Refunds of orders created before this second are out of reach."""
    fields: str
    ids_as_strings: bool
    refund_ids_as_numbers: bool
    bad_lines: int
    """So many of the first lines cannot be read."""
    nameless_lines: bool
    """The bad lines do not even hold an id."""
    lives: list[tuple[int, list[OrderEvent]]]
    """All events of the orders that have changed since the start, as of the run."""
    path: str
    folder: str
    """Name of the directory inside the zip."""
    written_at: int
    lines_per_file: int
    line_separator: str


@dataclass(frozen=True, slots=True)
class WrittenExport:
    """What was written."""

    lines: int
    check_code: str
    """MD5 of the zip, hexadecimal."""


def job_to_json(job: ExportJob) -> bytes:
    """The job as the worker reads it."""
    return orjson.dumps(asdict(job), default=tuple)  # orjson does not know named tuples


def job_from_json(text: bytes) -> ExportJob:
    """The job that `job_to_json` wrote."""
    fields = orjson.loads(text)
    world = WorldSettings(**fields.pop("world"))
    lives = [
        (
            number,
            [OrderEvent(at, EventKind(kind), line, moves_order) for at, kind, line, moves_order in events],
        )
        for number, events in fields.pop("lives")
    ]
    return ExportJob(world=world, lives=lives, **fields)


def write(job: ExportJob) -> WrittenExport:
    """Write the zip; memory does not grow with the number of orders."""
    lines = _lines(job)
    stamp = time.gmtime(job.written_at)[:6]
    written = 0
    with zipfile.ZipFile(job.path, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION_LEVEL) as archive:
        archive.writestr(zipfile.ZipInfo(f"{job.folder}/", stamp), b"")
        for part in count(1):
            first = next(lines, None)
            if first is None:
                break
            entry = zipfile.ZipInfo(f"{job.folder}/{part}.txt", stamp)
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as text:
                for line in chain([first], islice(lines, job.lines_per_file - 1)):
                    text.write(line)
                    written += 1
    return WrittenExport(written, _md5(job.path))


def _lines(job: ExportJob) -> Iterator[bytes]:
    mask = parse_fields(job.fields)
    separator = job.line_separator.encode()
    if job.is_of_refunds:  # inferred (docs/platform/gateway.md 3.10)
        root, name, objects = "refund_get_response", "refund", _refunds(job, mask)
    else:
        root, name, objects = "trade_fullinfo_get_response", "trade", _trades(job, mask)
    for number, each in enumerate(objects):
        written = wire.with_text_ids(each) if job.ids_as_strings else each
        line = orjson.dumps({root: {name: written}})
        if number < job.bad_lines:
            line = _NAMELESS if job.nameless_lines else line[:-_LEFT_OUT_BYTES]
        yield line + separator


def _book(job: ExportJob) -> OrderBook:
    history = next(islice(histories(job.world), job.seller, None))
    return OrderBook(job.world.seed, seller_of(job.world.seed, job.seller), history)


def _refunds(job: ExportJob, mask: FieldMask) -> Iterator[JsonObject]:
    book, lives = _book(job), dict(job.lives)
    history = book.history
    reachable = history.created_range(0, job.oldest_created - 1).stop
    rows = [row for row in history.refunds_between(job.first, job.last) if row.number not in lives]
    for number, events in lives.items():
        rows += of_events(book, number, events, job.first, job.last)
    for row in sorted(rows):
        if row.number < reachable:
            continue
        draft = book.draft(row.number)
        events = lives.get(row.number) or history.events(row.number)
        refund = full_refund(book.seller, draft, book.state(draft, events), row.line, row.attempt)
        if refund is not None:
            picked = mask.pick(refund)
            if job.refund_ids_as_numbers and "refund_id" in picked:
                picked["refund_id"] = int(str(picked["refund_id"]))
            yield picked


def _trades(job: ExportJob, mask: FieldMask) -> Iterator[JsonObject]:
    book, lives = _book(job), dict(job.lives)
    seller, history = book.seller, book.history
    past = history.created_range(job.first, job.last)
    since = sorted(
        number
        for number, events in lives.items()
        if number >= history.count and job.first <= events[0].at <= job.last
    )
    for number in (*past, *since):
        draft = book.draft(number)
        events = lives.get(number) or history.events(number)
        yield mask.pick(full_trade(seller, draft, book.state(draft, events)))


def _md5(path: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with Path(path).open("rb") as file:
        while block := file.read(_HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()


def main() -> None:
    """Read a job from standard input, write its result to standard output."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    result = write(job_from_json(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(orjson.dumps(asdict(result)))


if __name__ == "__main__":
    main()
