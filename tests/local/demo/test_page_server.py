"""The page of the demo as a browser gets it: from a real server that reads a real process's metrics."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from prometheus_client import generate_latest

from tests.support import browser, pace
from tests.support.eventually import eventually
from topsync.base import metrics, telemetry
from topsync.base.settings import TelemetrySettings
from topsync.local.demo.page import lines, server
from topsync.local.demo.page.board import Board
from topsync.local.demo.page.readings import AnswerParser, MetricReading
from topsync.local.demo.page.server import FILES, PageServer
from topsync.local.demo.page.story import Story
from topsync.local.ports import LOOPBACK, free_port

SELLER = 2_000_000_001
NICK = "<img src=x onerror=\"document.title='taken'\">示例卖家"
"""A seller may call a shop like this."""

ROUND_SECONDS = 0.05
"""Of a core, for each reading of three processes: a twentieth."""


@pytest.fixture
def measured() -> Iterator[None]:
    """What a reconciler shows of one seller whose gap is open."""
    metrics.COPY_AGE.show({SELLER: 42.0})
    metrics.COPY_LATE_AFTER.set(20.0)
    metrics.GAPS_OPEN.set(1)
    metrics.MEASURED_AT.set(time.time())
    yield
    metrics.COPY_AGE.forget()
    metrics.COPY_LATE_AFTER.forget()
    metrics.GAPS_OPEN.set(0)
    metrics.MEASURED_AT.forget()


@asynccontextmanager
async def page(story: Story | None = None) -> AsyncIterator[PageServer]:
    """The page, of a process that answers and one that does not."""
    port = free_port()
    own = TelemetrySettings(telemetry_port=port, telemetry_host=LOOPBACK)
    addresses = {
        "reconcile": f"http://{LOOPBACK}:{port}/metrics",
        "push": f"http://{LOOPBACK}:{free_port()}/metrics",
    }
    async with (
        telemetry.endpoint(own, is_ready=lambda: True),
        server.serving(lambda: addresses, {str(SELLER): NICK}, story or Story()) as served,
    ):
        await eventually(lambda: served.board.points, within_seconds=pace.seconds(5))
        yield served


async def get(url: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(url, headers=headers)


async def test_the_page_shows_what_the_processes_measure_and_names_who_does_not_answer(
    measured: None,
) -> None:
    async with page() as served:
        given: dict[str, Any] = (await get(f"{served.url}data.json")).json()
        assert given["state"] == "open"
        assert given["copies"][0]["seller"] == NICK
        assert given["processes"] == [
            {"name": "reconcile", "problem": ""},
            {"name": "push", "problem": "does not answer"},
        ]
        number = given["points"][-1]["number"]
        later = (await get(f"{served.url}data.json?after={number}")).json()
        assert all(point["number"] > number for point in later["points"])
        layout = (await get(f"{served.url}layout.json")).json()
        assert len(given["points"][0]["panels"]) == sum(len(row["panels"]) for row in layout["rows"])


@pytest.mark.parametrize("path", ["", "page.js", "page.css", "layout.json", "data.json", "nothing"])
async def test_a_browser_may_run_our_script_alone_and_ask_this_server_alone(path: str) -> None:
    async with page() as served:
        answer = await get(f"{served.url}{path}")
    policy = answer.headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert set(policy[1:5]) == {f"{kind}-src 'self'" for kind in ("script", "style", "connect", "img")}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.status_code == (404 if path == "nothing" else 200)


async def test_a_foreign_name_for_this_address_gets_nothing() -> None:
    async with page() as served:
        answer = await get(f"{served.url}data.json", host="evil.example")
        assert (answer.status_code, answer.text) == (421, "this address only\n")
        assert (await get(f"{served.url}data.json?after=-1")).status_code == 400
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.post(f"{served.url}data.json")).status_code == 405


async def test_the_server_ends_with_the_demo() -> None:
    async with page() as served:
        assert (await get(served.url)).status_code == 200
    with pytest.raises(httpx.ConnectError):
        await get(served.url)


def test_the_page_takes_what_it_is_given_as_text_and_names_no_foreign_host() -> None:
    for file in FILES.iterdir():
        content = file.read_text("utf-8")
        for means in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"):
            assert means not in content, (file.name, means)
        hosts = content.replace("http://www.w3.org/2000/svg", "")  # a name of SVG, which nobody asks
        assert "http" not in hosts, file.name


def test_a_reading_costs_little() -> None:
    """What three processes show is read, answered for all panels, and made into JSON."""
    answer, board = generate_latest().decode(), Board({})
    parsers = [AnswerParser(name, lines.wanted()) for name in ("push", "enrich", "reconcile")]
    costs = []
    for at in range(15):
        began = time.process_time()
        values = {parser.process: parser.read(answer) for parser in parsers}
        board.add(MetricReading(float(at), values), {})
        orjson.dumps(board.since(at))
        costs.append(time.process_time() - began)
    assert min(costs) < ROUND_SECONDS


async def test_a_browser_shows_a_nick_as_it_is_and_is_read_by_keys_until_the_demo_ends(
    measured: None, tmp_path: Path
) -> None:
    browser.required()
    story = Story()
    story.begin("Outage", "Push is cut.")
    story.strike("push")
    async with browser.browsing(tmp_path / "profile") as tab:
        async with page(story) as served:
            await _looks_right(tab, served.url)
        await _becomes(tab, "document.querySelector('#away').checkVisibility()")
        assert "does not answer any more" in await tab.value("document.querySelector('#away').textContent")


async def _looks_right(tab: browser.Tab, url: str) -> None:
    await tab.size(1280, 900)
    await tab.open(url)
    await _becomes(tab, "document.querySelectorAll('.line').length > 2")
    await _becomes(tab, "document.querySelector('.table tbody th')?.textContent", NICK)
    assert await tab.value("document.querySelectorAll('img').length") == 0
    assert await tab.value("document.title") == "topsync demo"
    assert "Something may be missing" in await tab.value("document.querySelector('#says').textContent")
    assert "Push is cut." in await tab.value("document.querySelector('#story').textContent")
    await tab.value("document.querySelector('.chart').focus()")
    await tab.press("Home")
    await _becomes(tab, "document.querySelector('#clock').textContent.startsWith('reading')")
    await tab.press("Escape")
    await _becomes(tab, "document.querySelector('#clock').textContent.endsWith('GMT+8')")
    await tab.size(400, 800, dark=True)
    await _becomes(tab, "document.documentElement.scrollWidth <= 400")
    assert tab.complaints == []


async def _becomes(tab: browser.Tab, expression: str, wanted: object = True) -> None:
    async def is_so() -> bool:
        return bool(await tab.value(expression) == wanted)

    await eventually(is_so, within_seconds=pace.seconds(10))
