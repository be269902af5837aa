"""Each log line is a JSON object and shows no personal data; probes and metrics tell the truth (I9)."""

from __future__ import annotations

import subprocess
import sys

import aiohttp
import orjson
import pytest

from topsync.base import metrics, telemetry
from topsync.base.settings import TelemetrySettings
from topsync.local.ports import free_port

SECRET = "very-secret-value-0001"

LOGGING = """
import asyncio, logging, sys
from topsync.base import telemetry
from topsync.base.settings import TelemetrySettings
telemetry.configure_logging(TelemetrySettings(log_level="{level}", log_format="{format}"), process="test")
log = telemetry.get_logger("here")
{body}
"""


def logged(body: str, *, level: str = "info", form: str = "json") -> list[str]:
    """The lines that a new process logs. Logging is set up once in a process, so each test needs its own."""
    script = LOGGING.format(level=level, format=form, body=body)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60)
    assert ended.stdout == b""
    return ended.stderr.decode().removesuffix("\n").split("\n")


def test_each_event_is_one_json_object_with_its_process_and_module() -> None:
    lines = logged('log.info("pulled", windows=3, text="a\\nb \\u2028 好"); log.debug("unseen")')
    (event,) = map(orjson.loads, lines)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "pulled",
        "level": "info",
        "module": "here",
        "process": "test",
        "windows": 3,
        "text": "a\nb \u2028 好",
    }


ROW = f"""
class RowError(Exception):
    def __init__(self):
        super().__init__("value too long")
        self.detail = "Failing row contains ({SECRET})."
    def __str__(self):
        return f"{{super().__str__()}} DETAIL: {{self.detail}}"
"""

RAISED_WITH_TEXT = f"""
try:
    raise ValueError('{{"Receiver_Name": "{SECRET}"}}')
except ValueError:
    log.exception("failed")
    logging.getLogger("asyncio").exception("failed")
"""

RAISED = """
try:
    try:
        raise RowError()
    except RowError as error:
        raise ExceptionGroup("several", [RuntimeError("x"), error])
except ExceptionGroup as group:
    {log}
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_form_of_logging_shows_sessions_receivers_or_rows(form: str) -> None:
    fields = (
        "session",
        "token",
        "app_secret",
        "sign",
        "receiver_name",
        "receiver_mobile",
        "buyer_nick",
        "oaid",
    )
    body = "\n".join(
        [
            *(f'log.warning("x", {name}="{SECRET}")' for name in fields),
            *(f'log.warning("x", answer={{"{name.upper()}": ["{SECRET}"]}})' for name in fields),
            *(f'log.warning("x", error=repr(ValueError("{name}={SECRET}")))' for name in fields),
            f'logging.getLogger("aiohttp").error("refused: %s", {{"access_token": "{SECRET}"}})',
            RAISED_WITH_TEXT,
            f'logging.getLogger("aiokafka").error("x", extra={{"receiver_name": "{SECRET}"}})',
            ROW,
            RAISED.format(log='log.exception("failed")'),
            RAISED.format(log='log.error("failed", exc_info=group)'),
            RAISED.format(log='logging.getLogger("asyncio").error("never retrieved", exc_info=group)'),
            RAISED.format(log='logging.getLogger("asyncio").exception("failed")'),
        ]
    )
    output = "\n".join(logged(body, form=form))
    assert SECRET not in output
    assert output.count("value too long") >= 4, "the error itself is shown"


def test_an_uncaught_error_is_printed_without_secrets() -> None:
    body = f"{ROW}\nraise ExceptionGroup('several', [RowError(), ValueError('session={SECRET}')])"
    script = LOGGING.format(level="info", format="json", body=body)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert SECRET.encode() not in ended.stderr
    assert b"value too long" in ended.stderr
    assert b"ValueError: session=***" in ended.stderr


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_line_break_in_a_nick_forges_no_line_and_no_terminal_obeys_it(form: str) -> None:
    nick = r"evil\n2026-11-20T10:00:00Z [info] all is well\x1b[2J\x9b1m\u202e"
    lines = logged(
        f'log.warning("x", nick="{nick}"); log.warning("{nick}", other=["{nick}"]); '
        f'logging.getLogger("aiokafka").error("{nick}")',
        form=form,
    )
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert "all is well" in lines[0]
    if form == "json":
        assert orjson.loads(lines[0])["nick"].endswith("\x1b[2J\x9b1m\u202e")


def test_logs_are_json_whatever_the_encoding_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    (line,) = logged('log.warning("x", nick="café 店 😀")')
    assert line.isascii()
    assert orjson.loads(line)["nick"] == "café 店 😀"


def test_chatter_of_libraries_is_left_out_and_their_errors_are_objects_too() -> None:
    body = 'logging.getLogger("aiokafka").info("chatter"); logging.getLogger("aiokafka").error("broken")'
    (line,) = logged(body)
    assert orjson.loads(line)["event"] == "broken"


def test_lines_below_the_level_are_not_logged() -> None:
    assert logged('log.info("x"); log.warning("y")', level="error") == [""]


@pytest.mark.parametrize("level", ["debug", "info"])
def test_code_that_logs_each_order_can_ask_whether_debug_lines_are_written(level: str) -> None:
    body = 'log.debug("x"); log.warning(str(telemetry.writes_debug()))'
    *debug, asked = logged(body, level=level)
    assert orjson.loads(asked)["event"] == str(bool(debug))


async def test_probes_and_metrics_show_the_real_state() -> None:
    own = TelemetrySettings(telemetry_port=free_port())
    ready = False
    async with telemetry.endpoint(own, is_ready=lambda: ready) as port, aiohttp.ClientSession() as http:
        assert port == own.telemetry_port

        async def get(path: str) -> tuple[int, str]:
            async with http.get(f"http://127.0.0.1:{port}{path}") as response:
                return response.status, await response.text()

        assert await get("/livez") == (200, "alive\n")
        assert (await get("/readyz"))[0] == 503
        ready = True
        assert await get("/readyz") == (200, "ready\n")
        metrics.DEAD_LETTERS.labels("test_reason").inc()
        status, text = await get("/metrics")
        assert status == 200
        assert 'topsync_dead_letters_total{reason="test_reason"} 1.0' in text
        assert (await get("/other"))[0] == 404


async def test_without_a_port_nothing_is_served() -> None:
    async with telemetry.endpoint(TelemetrySettings(), is_ready=lambda: True) as port:
        assert port is None
