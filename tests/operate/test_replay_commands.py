"""Replays from the command line: each prints its id, its cost and its outcome (P5)."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from schemas import platform_time
from tests.store.databases import SELLER, emptied
from topsync.base.errors import OperatorError
from topsync.coverage.replay_requests import ReplayRefusedError
from topsync.model.difference import Difference, DifferenceKind
from topsync.model.kind import Kind
from topsync.operate import replay_commands
from topsync.operate.replay_commands import Asked, AskedOrders
from topsync.operate.seller_commands import SellerOperationError
from topsync.store import call_budget, comparisons, dead_letters, open_letters, replay_jobs, replay_pieces
from topsync.store.database import Pool
from topsync.store.open_letters import OpenDeadLetter, Subject
from topsync.store.replay_jobs import AskedBy, ReplayState, WantedReplay
from topsync.store.replay_pieces import PieceState

NOW = platform_time.floor_to_second(datetime.now(UTC)).astimezone(platform_time.CHINA).replace(tzinfo=None)
"""As an operator writes it."""
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MINE = Asked("demo_one", NOW - 2 * HOUR, NOW - HOUR, dry_run=True, id="mine")
BOUND_SECONDS = 60.0


@dataclass(frozen=True)
class Desk:
    """A database, and what commands print of it on a terminal of 80 columns."""

    pool: Pool
    captured: pytest.CaptureFixture[str]

    async def ask(self, asked: Asked = MINE, *, wait_seconds: float = 0, as_json: bool = False) -> int:
        return await replay_commands.request(asked, wait_seconds=wait_seconds, as_json=as_json)

    async def job(self, id_: str, *, start: datetime = NOW - 2 * HOUR, dry_run: bool = False) -> None:
        begin, end = (moment.replace(tzinfo=platform_time.CHINA) for moment in (start, NOW))
        wanted = WantedReplay.of_seller(id_, SELLER, begin, end, dry_run)
        assert await replay_jobs.request(self.pool, wanted, AskedBy.SIGNAL) is not None

    def printed(self) -> tuple[str, list[str]]:
        """Standard output, and the lines on standard error."""
        written = self.captured.readouterr()
        return written.out, written.err.splitlines()


@pytest.fixture
async def desk(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Desk]:
    monkeypatch.setenv("TOPSYNC_DATABASE_URL", migrated_database_url)
    monkeypatch.setenv("COLUMNS", "80")
    async with emptied(migrated_database_url) as pool:
        yield Desk(pool, capsys)


async def test_the_id_comes_first_with_the_cost_and_at_the_end_the_command_to_see_it_again(
    desk: Desk,
) -> None:
    assert await desk.ask() == 1
    output, (first, *_, last) = desk.printed()
    assert first == "replay mine, a dry run: it fetches nothing, but listing takes at least 2 calls"
    assert last == "replay mine is still under way; see it again: topsync replay --id mine"
    assert "Replay mine: requested" in output
    assert "demo_one" in output

    asked = Asked(str(SELLER), NOW - 3 * DAY, NOW, dry_run=False, id=None)
    await desk.ask(asked)
    _, (first, *_) = desk.printed()
    assert first.endswith(
        ": listing takes at least 144 calls, and each order or refund that is missing another call"
    )


async def test_the_same_request_again_is_the_same_job_and_another_request_with_its_id_is_refused(
    desk: Desk,
) -> None:
    await desk.ask()
    await replay_jobs.finish(desk.pool, "mine", ReplayState.DONE, {"orders_listed": 7, "error": None})
    desk.printed()
    assert await desk.ask() == 0
    output, (first, *_) = desk.printed()
    assert "orders listed" in output
    assert first.startswith("replay mine was asked for at ")
    for other in (
        Asked("demo_two", MINE.start, MINE.end, dry_run=True, id="mine"),
        Asked("demo_one", MINE.start, NOW, dry_run=True, id="mine"),
        Asked("demo_one", MINE.start, MINE.end, dry_run=False, id="mine"),
    ):
        with pytest.raises(ReplayRefusedError) as refused:
            await desk.ask(other)
        assert str(refused.value) == (
            f"the id mine is taken: it stands for a dry run of seller {SELLER} from {MINE.start} (GMT+8) to "
            f"{MINE.end} (GMT+8); choose another id, or see what became of it: topsync replay --id mine"
        )


@pytest.mark.parametrize(
    ("start", "end", "why"),
    [
        (NOW, NOW, "--from must be before --to"),
        (NOW - HOUR, datetime(9999, 12, 31, 23, 59, 59), "the span ends at 9999-12-31 23:59:59 "),  # noqa: DTZ001
        (NOW - 100 * DAY, NOW, "the platform lists nothing that was modified before "),
    ],
    ids=["empty", "to the year 9999", "before what the platform lists"],
)
async def test_a_span_that_cannot_be_pulled_is_refused_before_a_job_is_noted(
    desk: Desk, start: datetime, end: datetime, why: str
) -> None:
    with pytest.raises(ReplayRefusedError) as refused:
        await desk.ask(Asked("demo_one", start, end, dry_run=False, id="mine"))
    assert str(refused.value).startswith(why)
    assert await replay_jobs.get(desk.pool, "mine") is None


async def test_an_unknown_seller_or_replay_is_refused_with_the_command_that_lists_them(desk: Desk) -> None:
    with pytest.raises(SellerOperationError, match="no seller nobody; see `topsync sellers list`"):
        await desk.ask(Asked("nobody", MINE.start, MINE.end, dry_run=False, id=None))
    with pytest.raises(ReplayRefusedError, match="no replay mine; see `topsync replay list`"):
        await replay_commands.show("mine", wait_seconds=0, as_json=False)
    with pytest.raises(ReplayRefusedError, match="no replay mine; see `topsync replay list`"):
        await replay_commands.cancel("mine")
    with pytest.raises(ReplayRefusedError, match="1 to 64 letters"):
        await desk.ask(Asked("demo_one", MINE.start, MINE.end, dry_run=False, id="two words"))


async def test_an_id_alone_shows_the_outcome_and_a_failure_has_another_status(desk: Desk) -> None:
    await desk.job("mine")
    await replay_jobs.finish(desk.pool, "mine", ReplayState.FAILED, {"error": "the seller is paused"})
    assert await replay_commands.show("mine", wait_seconds=0, as_json=False) == 1
    output, errors = desk.printed()
    assert "Replay mine: failed" in output
    assert "the seller is paused" in output
    assert str(NOW - 2 * HOUR) in output
    assert errors == []


async def test_for_machines_standard_output_has_a_single_object(desk: Desk) -> None:
    await desk.ask(as_json=True)
    output, _ = desk.printed()
    (line,) = output.splitlines()
    document = orjson.loads(line)
    assert (document["replay"], document["seller_id"], document["nick"]) == ("mine", str(SELLER), "demo_one")
    assert (document["state"], document["dry_run"], document["asked_by"]) == ("requested", True, "operator")
    assert datetime.fromisoformat(document["start"]) == MINE.start.replace(tzinfo=platform_time.CHINA)
    await desk.job("theirs")
    desk.printed()
    await replay_commands.list_jobs(limit=10, as_json=True)
    output, _ = desk.printed()
    assert [orjson.loads(line)["replay"] for line in output.splitlines()] == ["theirs", "mine"]


@pytest.mark.parametrize(("columns", "is_wide"), [(80, False), (160, True)], ids=["narrow", "wide"])
async def test_the_list_is_newest_first_and_never_breaks_an_id_or_a_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, columns: int, is_wide: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    await replay_commands.list_jobs(limit=10, as_json=False)
    assert desk.printed() == ("nobody has asked for a replay\n", [])
    ids = [f"{number}f1e2d3c4b5a" for number in range(3)]
    for id_ in ids:
        await desk.job(id_, dry_run=id_ == ids[2])
    await replay_jobs.finish(desk.pool, ids[0], ReplayState.FAILED, {"error": "a long reason " * 5})
    await replay_jobs.cancel(desk.pool, ids[1])
    long_nick = "a shop with a name that goes on and on"
    await desk.pool.execute("update sellers set nick = $2 where seller_id = $1", SELLER, long_nick)
    await replay_commands.list_jobs(limit=10, as_json=False)
    output, _ = desk.printed()
    assert max(map(len, output.splitlines())) <= columns
    assert sorted(ids, key=output.index) == ids[::-1]
    assert output.count(str(NOW - 2 * HOUR)) == 3
    for word in ("failed", "cancelled", "requested", "dry run", "a shop with a", "a long reason"):
        assert word in output, output
    assert (output.count(str(NOW)), output.count("signal")) == ((3, 3) if is_wide else (0, 0)), output
    assert ("no room for: to, asked by" in output) is not is_wide


async def test_cancelling_is_idempotent_and_a_done_replay_cannot_be_cancelled(desk: Desk) -> None:
    await desk.job("waits")
    for _ in range(2):
        assert await replay_commands.cancel("waits") == 0
        assert desk.printed()[0] == "replay waits is cancelled\n"
    assert await replay_jobs.next_open(desk.pool) is None

    await desk.job("runs")
    await replay_jobs.start(desk.pool, "runs")
    assert await replay_commands.cancel("runs") == 0
    assert desk.printed()[0] == "replay runs is cancelled, and stops within seconds; what it pulled stays\n"

    await desk.job("done")
    await replay_jobs.finish(desk.pool, "done", ReplayState.DONE, {})
    assert await replay_commands.cancel("done") == 1
    assert desk.printed()[0] == "replay done is done already: nothing to cancel\n"


async def test_while_it_waits_it_shows_its_progress_and_until_when_the_platform_is_closed(
    desk: Desk,
) -> None:
    await desk.job("mine")
    await replay_jobs.start(desk.pool, "mine")
    outcome = {"pulled_to": "2025-11-20T02:00:00Z", "orders_listed": 12}
    await replay_jobs.advance(desk.pool, "mine", outcome)
    await call_budget.ban(desk.pool, "app", 31062)
    assert await replay_commands.show("mine", wait_seconds=0.01, as_json=False) == 1
    _, (moving, _) = desk.printed()
    (ban,) = await call_budget.bans(desk.pool)
    assert moving == (
        "replay mine is under way, at 2025-11-20 10:00:00, 12 orders; the platform has closed app until "
        f"{platform_time.format(ban.until)} (GMT+8)"
    )


async def test_ctrl_c_does_not_stop_the_job_and_prints_the_command_to_see_it_again(desk: Desk) -> None:
    await desk.job("mine")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "topsync", "replay", "--id", "mine"),
        env={**os.environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(BOUND_SECONDS):
        assert await process.stderr.readline() == b"replay mine waits for the reconciler\n"
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    assert errors.decode().splitlines()[0] == (
        "replay mine goes on; see it again: topsync replay --id mine, or stop it: topsync replay cancel mine"
    )
    assert "Traceback" not in errors.decode()
    assert process.returncode == 130
    assert await replay_jobs.next_open(desk.pool) is not None


def orders(*tids: str, **other: object) -> AskedOrders:
    """What is asked for, with the seller named."""
    given = {
        "tids": tids,
        "file": None,
        "dead_letter": None,
        "report": None,
        "seller": "demo_one",
        "dry_run": False,
        "id": "mine",
    }
    return AskedOrders(**{**given, **other})  # type: ignore[arg-type]


async def test_orders_are_asked_for_by_a_file_or_by_arguments_and_it_is_the_same_replay(
    desk: Desk, tmp_path: Path
) -> None:
    doubtful = tmp_path / "doubtful.csv"
    doubtful.write_text("# late\ntid,why\n\n12,x\n11,y\n12,z\n")
    status = await replay_commands.request_orders(orders(file=str(doubtful)), wait_seconds=0, as_json=False)
    assert status == 1
    output, (first, *_) = desk.printed()
    assert first == "replay mine: 2 orders of 1 seller, a call for each order"
    assert "By seller" in output
    await replay_commands.request_orders(orders("11", "12"), wait_seconds=0, as_json=False)
    _, (first, *_) = desk.printed()
    assert first == "replay mine: 2 orders of 1 seller, a call for each order", "it has not begun yet"
    (piece,) = await replay_pieces.waiting(desk.pool, "mine", after=0, limit=9)
    assert piece.tids == [11, 12]
    with pytest.raises(
        ReplayRefusedError, match="the id mine is taken: it stands for the replay of 2 orders;"
    ):
        await replay_commands.request_orders(orders("11"), wait_seconds=0, as_json=False)


async def test_what_differs_by_a_report_is_asked_for_and_the_report_knows_whose_it_is(desk: Desk) -> None:
    day = NOW.date()
    await comparisons.begin(desk.pool, "night", night=day, at=NOW)
    asked = orders(report="night", seller=None)
    with pytest.raises(ReplayRefusedError, match="nothing differs by report night"):
        await replay_commands.request_orders(asked, wait_seconds=0, as_json=False)
    for seller_id, tids in ((SELLER, (12, 11)), (SELLER + 1, (21,))):
        found = [Difference(seller_id, Kind.ORDER, tid, tid, day, DifferenceKind.MISSING) for tid in tids]
        await comparisons.add(desk.pool, "night", seller_id, Kind.ORDER, day, found)
    await replay_commands.request_orders(asked, wait_seconds=0, as_json=False)
    output, (first, *_) = desk.printed()
    assert first == "replay mine: 3 orders of 2 sellers, a call for each order"
    assert "what differs by report night" in " ".join(output.split())
    pieces = await replay_pieces.waiting(desk.pool, "mine", after=0, limit=9)
    assert {each.seller_id: each.tids for each in pieces} == {SELLER: [11, 12], SELLER + 1: [21]}
    with pytest.raises(ReplayRefusedError, match="no report lost; see `topsync report list`"):
        await replay_commands.request_orders(orders(report="lost"), wait_seconds=0, as_json=False)


async def test_a_list_that_cannot_be_read_is_refused_in_a_line(desk: Desk, tmp_path: Path) -> None:
    for asked, why in (
        (orders(file=str(tmp_path / "nothing")), "cannot be read: No such file"),
        (orders("1", "x"), "line 2: 'x' is no tid"),
        (orders("11", "12", seller=None), "2 of 2 orders are not stored here"),
        (orders(file=os.devnull), "no order is named"),
    ):
        with pytest.raises(OperatorError) as refused:
            await replay_commands.request_orders(asked, wait_seconds=0, as_json=False)
        assert why in str(refused.value)
    assert await replay_jobs.newest(desk.pool, 9) == []


async def test_the_outcome_of_orders_names_what_was_not_fetched_and_sums_up_by_seller(desk: Desk) -> None:
    await replay_commands.request_orders(orders("11", "12", "13"), wait_seconds=0, as_json=False)
    (piece,) = await replay_pieces.waiting(desk.pool, "mine", after=0, limit=9)
    found = {
        "orders_asked": 3, "orders_held": 1, "orders_fetched": 1,
        "not_fetched": {"not_there": {"orders": 2, "tids": ["12", "13"]}},
    }  # fmt: skip
    await replay_pieces.finish(desk.pool, piece, PieceState.DONE, found)
    error = "2 of 3 orders were not fetched: 2 not_there (12, 13)"
    await replay_jobs.finish(
        desk.pool, "mine", ReplayState.FAILED, {**found, "error": error, "pieces": 1, "pieces_done": 1}
    )
    desk.printed()
    assert await replay_commands.show("mine", wait_seconds=0, as_json=False) == 1
    output, errors = desk.printed()
    assert errors == []
    assert re.search(r"^2 +the platform does not know it +12, 13 *$", output, re.MULTILINE), output
    assert "3 orders, 1 held before, 1 fetched; 2 not_there" in " ".join(output.split())
    assert max(map(len, output.splitlines())) <= 80
    await replay_commands.show("mine", wait_seconds=0, as_json=True)
    document = orjson.loads(desk.printed()[0])
    assert (document["orders"], document["seller_id"], document["state"]) == (3, None, "failed")
    (by_seller,) = document["sellers"]
    assert (by_seller["seller_id"], by_seller["orders_fetched"]) == (str(SELLER), 1)


async def test_all_sellers_cost_as_many_calls_as_there_are_sellers(desk: Desk) -> None:
    asked = Asked(None, NOW - 2 * HOUR, NOW - HOUR, dry_run=True, id="all")
    await desk.ask(asked)
    output, (first, *_) = desk.printed()
    assert first == (
        "replay all, a dry run: it fetches nothing, but listing takes at least 4 calls for 2 sellers"
    )
    assert "all sellers" in output
    await replay_commands.list_jobs(limit=9, as_json=False)
    assert "all sellers" in desk.printed()[0]


async def test_the_kin_of_a_dead_letter_are_its_sellers_open_letters_with_its_reason(desk: Desk) -> None:
    kept = timedelta(days=90)
    for tid, reason, seller_id in (
        (11, "refused", SELLER),
        (12, "refused", SELLER),
        (13, "not_there", SELLER),
        (14, "refused", SELLER + 1),
    ):
        letter = OpenDeadLetter(Subject.of_order(tid, reason), f"letter-{tid}", seller_id)
        await open_letters.note(desk.pool, [letter], kept=kept)
    assert await open_letters.kin(desk.pool, SELLER, "refused", limit=9) == [11, 12]
    assert await open_letters.kin(desk.pool, SELLER, "refused", limit=1) == [11]
    await dead_letters.mark_closed(desk.pool, ["letter-12"], "it was a test", kept=kept)
    assert await open_letters.kin(desk.pool, SELLER, "refused", limit=9) == [11]
