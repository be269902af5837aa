"""`topsync status` begins with what can be read out, then what to do, then everything that is behind it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from tests.store.databases import SELLER, at, emptied
from tests.support.terminals import CTRL_C, terminal
from topsync.base.terminal import CLEAR
from topsync.budget.circuit import PLATFORM, Circuit, CircuitState, Evidence, seller_scope
from topsync.model.arrivals import LateArrival, Measured
from topsync.model.kind import Kind
from topsync.model.refetch import NO_SESSION, Refetch
from topsync.model.scheme import Scheme
from topsync.model.span import Span
from topsync.operate import overview, status_command
from topsync.operate.status_command import StatusWish
from topsync.store import circuits, coverage, push_connections, refetches, sellers, visibility
from topsync.store.database import Pool
from topsync.store.push_connections import PushConnection
from topsync.store.visibility import ArrivalEvidence

REFUSED = "the platform refused the session"
LOST = "the channel closed: 4004 \x1b[2J"


@pytest.fixture
async def pool(migrated_database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    monkeypatch.setenv("TOPSYNC_DATABASE_URL", migrated_database_url)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setattr(overview, "BETWEEN_LOOKS_SECONDS", 0.01)
    async with emptied(migrated_database_url) as pool:
        yield pool


@pytest.fixture
async def in_trouble(pool: Pool) -> Pool:
    """A seller is expired, another is paused, push is lost, orders wait."""
    await sellers.refuse(pool, SELLER, 1, REFUSED)
    await sellers.pause(pool, SELLER + 1, "a holiday")
    lost = PushConnection(uuid4(), "default", at(0), at(60), at(90), LOST, "closed")
    await push_connections.write(pool, lost)
    wait = timedelta(seconds=10)
    for tid in range(1, 188):
        reason = NO_SESSION if tid <= 150 else "not_there"
        await refetches.postpone(
            pool, [Refetch(tid, SELLER, "x", at(0), at(0), None, "push", reason)], wait=wait
        )
    return pool


async def status(
    capsys: pytest.CaptureFixture[str], *, as_json: bool = False, seller: str | None = None
) -> str:
    capsys.readouterr()
    assert await status_command.status(StatusWish(seller, as_json)) == status_command.NEEDS_A_PERSON
    return capsys.readouterr().out


async def test_it_begins_with_a_sentence_and_then_with_what_to_do_the_worst_first(
    in_trouble: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    output = await status(capsys)
    verdict, _, rest = output.partition("\n\n")
    assert verdict.startswith(f"no seller is complete: demo_one: session refused ({REFUSED}) since ")
    assert f"run `topsync sellers authorise {SELLER}`" in verdict
    assert "; but no process of `topsync push` is running, so no message arrives" in verdict
    assert verdict.endswith("; 2 more (below)")
    wrong, _, tables = rest.partition("\n\n")
    lines = wrong.splitlines()
    for service in ("push", "enrich", "reconcile"):
        assert any(line.startswith(f"! no process of `topsync {service}` is running") for line in lines)
    (push,) = [line for line in lines if "push is down" in line]
    assert r"the channel closed: 4004 \x1b[2J" in push
    (expired,) = [line for line in lines if "session refused" in line]
    assert expired.endswith(f", 150 orders parked; run `topsync sellers authorise {SELLER}`")
    (paused,) = [line for line in lines if "paused by an operator" in line]
    assert "(a holiday)" in paused
    marks = [line[0] for line in lines]
    assert marks == sorted(marks, key="!~-".index)
    assert lines.index(push) < lines.index(expired)
    assert re.search(r"^no_session +150 *$", tables, re.MULTILINE)
    assert re.search(r"^not_there +37 *$", tables, re.MULTILINE)


async def test_only_one_seller_is_shown_where_only_that_is_asked_for(
    in_trouble: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    output = await status(capsys, seller="demo_two")
    assert "demo_one" not in output
    assert "paused by an operator (a holiday)" in output
    found = orjson.loads(await status(capsys, as_json=True, seller="demo_two"))
    (only,) = found["sellers"]
    assert (only["nick"], only["orders"], found["waiting_orders"]) == ("demo_two", 0, {})


@pytest.mark.at_length
async def test_a_database_that_is_away_has_a_status_of_its_own_and_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOPSYNC_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    assert await status_command.status(StatusWish()) == status_command.NOT_READ
    output = capsys.readouterr()
    assert output.err.splitlines()[-1].startswith("topsync: the status could not be read: the database")


async def test_a_seller_without_pulls_is_not_shown_as_if_it_had_no_gaps(
    in_trouble: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    output = await status(capsys)
    for seller_id, state in ((SELLER, "expired"), (SELLER + 1, "paused")):
        (row,) = [line for line in output.splitlines() if line.startswith(str(seller_id))]
        assert f" {state} " in row
        assert " held up " in row
    assert "  37 " in next(line for line in output.splitlines() if line.startswith(str(SELLER)))


async def test_for_machines_the_same_is_a_single_document(
    in_trouble: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    written = await status(capsys, as_json=True)
    assert written.count("\n") == 1
    found = orjson.loads(written)
    assert set(found) == {
        "verdict", "findings", "trends", "dead_letters", "bulk_starts", "sellers_not_shown",
        "problems", "services", "push", "enrichers", "waiting_orders", "budget", "calendar", "calls",
        "sellers", "visibility", "sweeps",
    }  # fmt: skip
    assert found["push"]["connections"] == []
    assert (found["push"]["last"]["reason"], found["push"]["last"]["cause"]) == (LOST, "closed")
    assert found["waiting_orders"] == {"no_session": 150, "not_there": 37}
    first, second = found["sellers"]
    assert (first["seller_id"], first["state"], first["reason"]) == (str(SELLER), "expired", REFUSED)
    assert (first["held_up"], first["waiting_orders"], first["parked_orders"]) == (True, 37, 150)
    assert (second["reason"], second["parked_orders"]) == ("a holiday", 0)


async def test_a_circuit_that_is_not_closed_is_said_and_needs_nobody_and_a_closed_circuit_is_not_shown(
    pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    wait, seen = timedelta(minutes=1), Evidence(200, 60)
    await circuits.write(
        pool,
        [
            Circuit(PLATFORM, CircuitState.HALF_OPEN, at(60), at(0), wait, seen),
            Circuit(seller_scope(SELLER), CircuitState.CLOSED, at(60), at(0), wait, seen),
        ],
        [],
    )
    shown = orjson.loads(await status(capsys, as_json=True))
    (finding,) = [each for each in shown["findings"] if "circuit" in each["what"]]
    assert "the circuit platform is half open, and pulls are held back" in finding["what"]
    assert not finding["needs_a_person"]
    (circuit,) = shown["budget"]["circuits"]
    assert (circuit["scope"], circuit["calls"], circuit["failed"]) == ("platform", 200, 60)
    assert "circuit platform is half open, and pulls are held back since 2025-11-20 10:00:00" in await status(
        capsys
    )


async def test_the_calendar_is_shown_and_a_wrong_file_is_a_problem(
    pool: Pool, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await sellers.all_of(pool) is not None
    file = tmp_path / "calendar.toml"
    date = '[[dates]]\nsale = "{}"\nrules = "sale"\nstart = {}-01-01 00:00:00\nend = 2100-01-01 00:00:00\n'
    rules = "[rules.sale]\nvisibility_allowance_seconds = 1200\ncalls_per_second = 7\n"
    file.write_text(rules + date.format("11.11", 2020) + date.format("12.12", 2099), "utf-8")
    monkeypatch.setenv("TOPSYNC_CALENDAR_FILE", str(file))
    shown = orjson.loads(await status(capsys, as_json=True))
    assert shown["calendar"]["sales"] == ["11.11"]
    assert shown["calendar"]["next"]["sale"] == "12.12"
    assert shown["calendar"]["visibility_allowance_seconds"] == 1200
    assert shown["budget"]["calls_per_second"] == 7
    assert "12.12, 2099-01-01 00:00:00 (GMT+8)" in await status(capsys)
    file.write_text("[rules.sale]\noverlap = 3\n", "utf-8")
    shown = orjson.loads(await status(capsys, as_json=True))
    (problem,) = [line for line in shown["problems"] if "calendar" in line]
    assert "line 2, rules.sale.overlap: unknown" in problem


async def test_the_allowance_that_holds_is_shown_and_why_and_sweeps_that_are_stretched(
    pool: Pool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = orjson.loads(await status(capsys, as_json=True))
    assert (shown["visibility"]["allowance_seconds"], shown["visibility"]["because"]) == (600, "usual")
    assert shown["sweeps"] is None, "nobody is swept"
    now = datetime.now(UTC)
    late = LateArrival(7, at(0), at(900), at(1200), timedelta(seconds=600))
    async with pool.acquire() as connection, connection.transaction():
        before = await visibility.locked(connection)
        evidence = ArrivalEvidence(SELLER, Kind.ORDER, late)
        allowance = timedelta(seconds=1500)
        await visibility.change(connection, before, allowance, at=at(1200), evidence=evidence)
        await coverage.prove(connection, SELLER, Span(now - timedelta(days=1), now))
        await connection.execute(
            "insert into work_leases (kind, key, pulled_at) values ('seller', $1, $2)",
            str(SELLER),
            now - timedelta(seconds=900),
        )
        measured = Measured()
        measured.count_shown(now, timedelta(seconds=4))
        await visibility.count(connection, measured)
    shown = orjson.loads(await status(capsys, as_json=True))
    assert shown["visibility"]["because"] == "learned"
    assert shown["visibility"]["allowance_seconds"] == 1500
    assert shown["visibility"]["otherwise_seconds"] == 600
    assert shown["visibility"]["last_raising"]["id"] == "7"
    assert shown["visibility"]["last_day"] == [{"seconds": 2, "shown": 1, "lacked": 0}]
    assert shown["calendar"]["visibility_allowance_seconds"] == 1500
    assert shown["sweeps"]["wanted_seconds"] == 300
    assert 900 <= shown["sweeps"]["interval_seconds"] < 960
    assert shown["sweeps"]["stretched"]
    output = " ".join((await status(capsys)).split())
    assert "1500 s, learned since 2025-11-20 10:20:00 (GMT+8), instead of 600 s" in output
    assert re.search(r"every 300 s, stretched to 9\d\d s", output)
    assert "~ lists were late: the visibility allowance is 1500 s instead of 600 s since" in output
    monkeypatch.setenv("TOPSYNC_VISIBILITY_LEARNING", "false")
    assert "600 s, usual; learning is off" in await status(capsys)


async def test_where_no_sellers_scheme_has_messages_no_push_is_expected(
    pool: Pool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPSYNC_SCHEME", "two")
    output = await status(capsys)
    assert "! no process of `topsync reconcile` is running" in output
    for absent in ("topsync push", "push is down"):
        assert absent not in output
    assert "not needed: no seller's scheme has messages" in output
    found = orjson.loads(await status(capsys, as_json=True))
    assert found["push"]["needed"] is False
    assert [(each["scheme"], each["own_scheme"], each["polled"]) for each in found["sellers"]] == [
        ("two", None, True), ("two", None, True),
    ]  # fmt: skip
    await sellers.set_scheme(pool, SELLER, Scheme.THREE)
    output = await status(capsys)
    assert "! no process of `topsync push` is running" in output
    assert "! push is down: it was never connected" in output


async def test_a_seller_whose_polls_prove_nothing_is_a_problem_after_two_of_them(
    pool: Pool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPSYNC_STORED_WITHIN_SECONDS", "60")
    # The visibility allowance is 600 s, the interval 180 s: so late is after 1,020 s.
    now = datetime.now(UTC)
    for seller_id, ago in ((SELLER, 960), (SELLER + 1, 1080)):
        async with pool.acquire() as connection:
            proven = Span(now - timedelta(days=1), now - timedelta(seconds=ago))
            await coverage.prove(connection, seller_id, proven)
    assert "no poll has proven" not in await status(capsys), "with messages, sweeps are no hurry"
    monkeypatch.setenv("TOPSYNC_SCHEME", "one")
    (late,) = [line for line in (await status(capsys)).splitlines() if line.startswith("! demo_two")]
    assert late.startswith(f"! demo_two ({SELLER + 1}): no messages, and no poll has proven anything since ")
    await sellers.pause(pool, SELLER + 1, "a holiday")
    assert "no poll has proven" not in await status(capsys)


async def test_everything_else_is_shown_when_kafka_is_away(
    pool: Pool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    output = await status(capsys)
    assert f"\n{SELLER} " in output
    assert "! Kafka: " in output
    assert orjson.loads(await status(capsys, as_json=True))["enrichers"] is None


async def test_watching_redraws_in_place_within_the_screen_and_ends_with_ctrl_c(
    in_trouble: Pool, migrated_database_url: str
) -> None:
    environment = {"TOPSYNC_DATABASE_URL": migrated_database_url, "LINES": "12", "COLUMNS": "100"}
    with terminal("status", "--watch", environment=environment) as at:
        screen = await asyncio.to_thread(at.shows, status_command.REST)
        assert screen.count(CLEAR) == 1
        drawn = screen.rpartition(CLEAR)[2]
        assert drawn.startswith("no seller is complete: demo_one: session refused")
        assert len(drawn.splitlines()) <= 12
        at.type(CTRL_C)
        assert await asyncio.to_thread(at.ended) == status_command.NEEDS_A_PERSON
        assert "Traceback" not in at.seen.decode()
