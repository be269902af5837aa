"""Reports from the command line: what differed by id, what became of it, and what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import date

import orjson
import pytest

from tests.store.databases import SELLER, at, emptied
from topsync.model.difference import Difference, DifferenceKind, DifferenceOutcome
from topsync.model.kind import Kind
from topsync.operate import report_commands, report_tables
from topsync.operate.report_commands import NoReportError
from topsync.store import comparisons
from topsync.store.database import Pool

TID = 4000000000000000101
NIGHT = date(2025, 11, 21)
REPORT = "night-2025-11-21"
MISSING = Difference(SELLER, Kind.ORDER, TID, TID, date(2025, 11, 20), DifferenceKind.MISSING)


@dataclass(frozen=True)
class Desk:
    """A database, and what commands print of it on a wide terminal."""

    pool: Pool
    captured: pytest.CaptureFixture[str]

    async def report(self, *found: Difference) -> None:
        await comparisons.begin(self.pool, REPORT, night=NIGHT, at=at(0))
        await comparisons.add(self.pool, REPORT, SELLER, Kind.ORDER, MISSING.day, found)

    def printed(self) -> str:
        return self.captured.readouterr().out


@pytest.fixture
async def desk(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Desk]:
    monkeypatch.setenv("TOPSYNC_DATABASE_URL", migrated_database_url)
    monkeypatch.setenv("COLUMNS", "200")
    async with emptied(migrated_database_url) as pool:
        yield Desk(pool, capsys)


async def test_a_report_names_what_differs_and_the_last_column_says_what_to_do(desk: Desk) -> None:
    summed = replace(MISSING, id=TID + 1, tid=TID + 1, what=DifferenceKind.SUM, note="payment")
    unknown = replace(
        MISSING, id=TID + 2, what=DifferenceKind.UNKNOWN, outcome=DifferenceOutcome.LEFT, tid=TID + 2
    )
    await desk.report(MISSING, summed, unknown)
    await comparisons.settle(
        desk.pool, REPORT, Kind.ORDER, [TID], DifferenceOutcome.REPAIRED, looked_at=at(40)
    )
    await comparisons.fail(desk.pool, REPORT, SELLER + 1, Kind.ORDER, "the platform refused the session")
    await comparisons.finish(desk.pool, REPORT, at=at(60), days=170, days_left=10)
    assert await report_commands.show(REPORT, limit=10, as_json=False) == 1
    output = desk.printed()
    assert f"report {REPORT}: 10 days left, 170 days of sellers compared" in output
    rows = {row.split()[3]: row for row in output.splitlines() if "2025-11-20" in row}
    assert rows[str(TID)].rstrip().endswith("nothing")
    assert "sum: payment" in rows[str(TID + 1)]
    assert rows[str(TID + 1)].rstrip().endswith(f"see why: topsync orders explain {TID + 1}")
    assert "ask the seller" in rows[str(TID + 2)]
    assert "demo_two" in output
    assert "the platform refused the session" in output


async def test_a_report_of_which_nothing_is_left_ends_with_status_0(desk: Desk) -> None:
    await desk.report(MISSING)
    await comparisons.settle(
        desk.pool, REPORT, Kind.ORDER, [TID], DifferenceOutcome.REPAIRED, looked_at=at(40)
    )
    await comparisons.finish(desk.pool, REPORT, at=at(60), days=180, days_left=0)
    assert await report_commands.show(REPORT, limit=10, as_json=True) == 0
    document = orjson.loads(desk.printed())
    assert (document["state"], document["missing"], document["repaired"], document["left"]) == (
        "done",
        1,
        1,
        0,
    )
    (difference,) = document["differences"]
    assert (difference["id"], difference["difference"], difference["do"]) == (str(TID), "missing", "nothing")


async def test_what_is_not_shown_is_said(desk: Desk) -> None:
    await desk.report(*(replace(MISSING, id=TID + number) for number in range(5)))
    await report_commands.show(REPORT, limit=2, as_json=False)
    assert "(the first 2: --limit shows more)" in desk.printed()


async def test_the_list_has_a_row_for_each_report_the_newest_first(desk: Desk) -> None:
    await report_commands.list_reports(limit=5, as_json=False)
    assert desk.printed() == "nothing has been compared with the platform yet\n"
    await desk.report(MISSING)
    await comparisons.begin(desk.pool, "audit-1", night=None, at=at(3600))
    await report_commands.list_reports(limit=5, as_json=False)
    *_, first, second = desk.printed().splitlines()
    assert first.split()[0] == "audit-1"
    assert second.split()[0] == REPORT
    assert "under way" in second
    await report_commands.list_reports(limit=1, as_json=True)
    assert orjson.loads(desk.printed())["report"] == "audit-1"


async def test_an_unknown_report_is_a_line_that_says_where_to_look(desk: Desk) -> None:
    with pytest.raises(NoReportError, match="no report x; see `topsync report list`"):
        await report_commands.show("x", limit=1, as_json=False)
    assert desk.printed() == ""


@pytest.mark.parametrize("what", DifferenceKind)
@pytest.mark.parametrize("outcome", DifferenceOutcome)
def test_there_is_advice_about_every_difference(what: DifferenceKind, outcome: DifferenceOutcome) -> None:
    advice = report_tables.advice(replace(MISSING, what=what, outcome=outcome))
    assert (advice == report_tables.NOTHING) == (outcome is DifferenceOutcome.REPAIRED)
