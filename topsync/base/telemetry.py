"""Structured logs, and the endpoint for metrics and probes.

Logs are one JSON object a line on standard error. Values that could identify a receiver or open a
seller's shop must not be handed to a log call at all; as a second fence, `topsync/base/masking.py` hides
values with a known name, at every level and in the texts of errors.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from types import TracebackType

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from topsync.base import masking
from topsync.base.repeats import Repeats
from topsync.base.settings import TelemetrySettings
from topsync.base.shown import shown, shown_json, shown_lines


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger that writes `event` plus key-value pairs, with the module's name as `module`."""
    logger: FilteringBoundLogger = structlog.get_logger(module=name)
    return logger


_LEVEL = logging.getLogger("topsync")
"""Knows the least level that is written, and answers in a tenth of the time that a log call takes."""


def writes_debug() -> bool:
    """Whether this process writes what is logged at level debug.

    Asked before what is logged of each order, so that it costs nothing where nobody reads it.
    """
    return _LEVEL.isEnabledFor(logging.DEBUG)


def _mask(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        event[name] = masking.MASK if masking.is_hidden(name) else masking.mask(value)
    return event


def _strip_row_values(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """PostgreSQL quotes whole rows in the detail of an error, and a traceback would print it."""
    error = event.get("exc_info")
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):  # from the standard library's loggers
        error = error[1]
    _strip_details(error if isinstance(error, BaseException) else None)
    return event


def _strip_details(error: BaseException | None) -> None:
    for found in _all_of(error):
        if getattr(found, "detail", None) is not None:
            found.detail = None  # type: ignore[attr-defined]


def _show_masked(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    """Print an error that nobody caught, masked as logs are."""
    _strip_details(error)
    sys.stderr.write(masking.mask_text("".join(traceback.format_exception(error))))


def _all_of(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and all other exceptions that its traceback shows."""
    waiting, seen = [error], set[int]()
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += [found.__cause__, found.__context__]
        if isinstance(found, BaseExceptionGroup):
            waiting += found.exceptions


def _show_texts(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """For a line that people read: text of others is escaped, and cannot begin a line of its own."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = shown_lines(value) if name == "exception" else shown(value)
    return event


def _as_json(logger: WrappedLogger, name: str, event: EventDict) -> str:
    """A line for machines. It cannot control a terminal either."""
    has_all = (sys.stderr.encoding or "").lower().startswith("utf")
    return shown_json(str(_JSON(logger, name, event)), ascii_only=not has_all)


_JSON = structlog.processors.JSONRenderer(ensure_ascii=False)


def configure_logging(settings: TelemetrySettings, *, process: str) -> None:
    """Set up logging for this process; standard-library loggers (aiokafka, aiohttp) go the same way."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _strip_row_values,
    ]
    renderers: list[Processor] = (
        [_as_json]
        if settings.log_format == "json"
        else [_show_texts, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    # Last, so that the texts of errors are masked as well.
    rendering: list[Processor] = [structlog.processors.format_exc_info, _mask, *renderers]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],  # what is added is masked, too
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    handler.addFilter(Repeats())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.WARNING))
    _LEVEL.setLevel(level)
    structlog.contextvars.bind_contextvars(process=process)
    sys.excepthook = _show_masked


@asynccontextmanager
async def endpoint(settings: TelemetrySettings, *, is_ready: Callable[[], bool]) -> AsyncIterator[int | None]:
    """Serve `/metrics`, `/livez` and `/readyz` while the context is open; yields the port, if any."""
    if settings.telemetry_port == 0:
        yield None
        return
    # Only services serve it: an operator's command need not wait for the import.
    from aiohttp import web

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ready\n") if is_ready() else web.Response(text="not ready\n", status=503)

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/livez", livez), web.get("/readyz", readyz)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.telemetry_host, settings.telemetry_port)
        await site.start()
        yield settings.telemetry_port
    finally:
        await runner.cleanup()
