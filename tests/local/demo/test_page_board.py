"""The page of the demo keeps a bounded past, shows what the panels ask, and says four answers in words."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topsync.base import metrics
from topsync.base.metric_catalogue import MetricKind
from topsync.base.metric_queries import Labels, LatestValue
from topsync.base.panels import ROWS, PanelQuery
from topsync.local.demo.page import lines, summary
from topsync.local.demo.page.board import Board
from topsync.local.demo.page.readings import AnswerParser, MetricReading, ReadingRing, TooManyLinesError
from topsync.local.demo.page.story import Story
from topsync.local.demo.page.summary import Figures, PageState

SELLER = "2000000001"
NAMES = {SELLER: "示例卖家0001", "2000000002": "示例卖家0002"}
BEGAN = 1_764_000_000.0
"""2025-11-25 00:00:00 (GMT+8)."""


def reading(at: float, **shown: float | Mapping[str, float]) -> MetricReading:
    """What the reconciler shows: a value, or values by seller."""
    values: dict[str, dict[Labels, float]] = {}
    for metric, value in {"measured_timestamp_seconds": BEGAN + at, **shown}.items():
        by_seller = value if isinstance(value, Mapping) else {"": value}
        values[f"topsync_{metric}"] = {
            (("instance", "reconcile"), *([("seller_id", seller)] if seller else [])): each
            for seller, each in by_seller.items()
        }
    return MetricReading(BEGAN + at, {"reconcile": values})


def board_of(*given: MetricReading) -> Board:
    board = Board(NAMES)
    for each in given:
        board.add(each, {"reconcile": ""})
    return board


def answers(board: Board) -> dict[str, tuple[str, str]]:
    return {each.question: (each.answer, each.rests_on) for each in summary.of(board.figures).answers}


COMPLETE: Mapping[str, float | Mapping[str, float]] = {
    "complete_until_age_seconds": {SELLER: 4.0, "2000000002": 6.0},
    "complete_until_late_after_seconds": 20.0,
    "gaps_open": 0,
}


# --- the ring ----------------------------------------------------------------------------------------------


@given(st.integers(1, 50))
def test_the_page_keeps_five_minutes_and_no_more(count: int) -> None:
    board, ring = Board({}, rows=ROWS[:1], kept=20), ReadingRing(20)
    for at in range(count):
        board.add(MetricReading(float(at), {}), {})
        ring.add(MetricReading(float(at), {}))
    assert len(ring) == len(board.points) == len(board.figures) == min(20, count)
    assert [point.number for point in board.points] == list(range(max(1, count - 19), count + 1))
    assert Board({}).kept == ReadingRing().kept == 300


def test_the_page_is_given_only_what_is_new() -> None:
    board = board_of(*(reading(at, **COMPLETE) for at in range(5)))
    assert [point["number"] for point in points(board, after=3)] == [4, 5]
    assert points(board, after=5) == []
    assert len(points(board, after=0)) == 5


def points(board: Board, *, after: int) -> list[dict[str, object]]:
    given: list[dict[str, object]] = orjson.loads(orjson.dumps(board.since(after)))["points"]
    return given


# --- what is read ------------------------------------------------------------------------------------------


def test_an_answer_is_read_for_what_the_panels_ask_and_nothing_else() -> None:
    answer = (
        "# HELP topsync_gaps_open Gaps.\n# TYPE topsync_gaps_open gauge\ntopsync_gaps_open 3.0\n"
        'topsync_api_calls_total{api="a",outcome="ok",priority="live"} 7.0\npython_info{version="3"} 1.0\n'
    )
    parser = AnswerParser("push", lines.wanted())
    read = parser.read(answer)
    assert read["topsync_gaps_open"] == {(("instance", "push"),): 3.0}
    assert list(read["topsync_api_calls_total"].values()) == [7.0]
    assert set(read) == {"topsync_gaps_open", "topsync_api_calls_total"}
    assert parser.read(answer.replace("3.0", "5.0"))["topsync_gaps_open"] == {(("instance", "push"),): 5.0}


@pytest.mark.parametrize(
    "answer", ["topsync_gaps_open three\n", "topsync_gaps_open 1 1764000000\n", 'topsync_gaps_open{x="1 2\n']
)
def test_an_answer_that_is_no_metrics_is_refused(answer: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        AnswerParser("push", lines.wanted()).read(answer)


def test_an_answer_without_end_is_refused() -> None:
    with pytest.raises(TooManyLinesError):
        AnswerParser("push", lines.wanted()).read("x 1\n" * 30_000)


def test_the_page_reads_every_metric_that_its_panels_ask_for() -> None:
    known = metrics.entered()
    shown = {
        f"{name}_bucket" if entry.kind is MetricKind.HISTOGRAM else name for name, entry in known.items()
    }
    assert lines.wanted() <= shown
    assert len(lines.wanted()) > 30


# --- lines -------------------------------------------------------------------------------------------------


def test_a_seller_is_called_by_the_nick_and_everything_else_by_its_labels() -> None:
    query = PanelQuery(LatestValue("topsync_session_left_seconds"), "{{seller_id}}")
    assert lines.line_name(query, (("seller_id", SELLER),), NAMES) == "示例卖家0001"
    assert lines.line_name(query, (("seller_id", "9"),), NAMES) == "9"
    other = PanelQuery(LatestValue("topsync_build_info"), "{{process}} {{release}}")
    assert lines.line_name(other, (("process", SELLER), ("release", "1")), NAMES) == f"{SELLER} 1"


def test_a_panel_shows_few_enough_lines_to_be_told_apart() -> None:
    values: dict[Labels, float] = {(("scope", str(at)),): 1.0 for at in range(40)}
    ring = ReadingRing()
    ring.add(MetricReading(1.0, {"reconcile": {"topsync_ban_left_seconds": values}}))
    [panel] = [panel for row in ROWS for panel in row.panels if panel.title == "Closed by the platform"]
    assert len(lines.shown(panel, ring, {})) == lines.MOST_LINES


# --- the four answers --------------------------------------------------------------------------------------


def test_complete_copies_are_said_to_lack_nothing() -> None:
    board = board_of(*(reading(at, **COMPLETE) for at in range(3)))
    told = summary.of(board.figures)
    assert told.state is PageState.COMPLETE
    assert told.says == "Nothing is missing: every copy is proven complete up to 6 s ago."
    assert answers(board) == {
        "Is anything missing?": ("No", "2 copies, no open gaps, no holes, no late copies"),
        "For whom?": ("Nobody", ""),
        "Since when?": ("Never", "complete up to 23:59:56, 6 s ago"),
        "Is it getting better?": ("Nothing to mend", ""),
    }


def test_an_open_gap_is_said_to_lack_perhaps_something_for_whom_and_since_when() -> None:
    board = board_of(
        *(reading(at, **COMPLETE) for at in range(3)),
        *(
            reading(at, **{**COMPLETE, "gaps_open": 2, "complete_until_age_seconds": {SELLER: 4.0 + at}})
            for at in range(3, 15)
        ),
    )
    told = summary.of(board.figures)
    assert told.state is PageState.OPEN
    assert told.says == "Something may be missing: 2 open gaps. What changed in the last 18 s is not proven."
    said = answers(board)
    assert said["Is anything missing?"] == ("Perhaps", "1 copy, 2 open gaps, no holes, no late copies")
    assert said["For whom?"] == ("示例卖家0001", "")
    assert said["Since when?"] == ("23:59:56", "complete up to there: 18 s ago")
    assert said["Is it getting better?"] == (
        "Not yet",
        "oldest copy: 8 s, 10 s later 18 s; gaps: 2, then 2",
    )


def test_fewer_gaps_are_said_to_be_better_and_a_closed_one_is_remembered() -> None:
    past = [reading(at, **{**COMPLETE, "gaps_open": 3}) for at in range(12)]
    better = board_of(*past, reading(12, **{**COMPLETE, "gaps_open": 1}))
    assert answers(better)["Is it getting better?"][0] == "Yes"
    mended = board_of(*past, *(reading(at, **COMPLETE) for at in range(12, 20)))
    assert answers(mended)["Is it getting better?"] == (
        "Yes, all is proven",
        "3 gaps at most, closed 8 s ago",
    )
    forgotten = board_of(*past, reading(200, **COMPLETE))
    assert answers(forgotten)["Is it getting better?"] == ("Nothing to mend", "")


def test_a_late_copy_is_named_before_copies_in_time() -> None:
    late = {**COMPLETE, "complete_until_age_seconds": {SELLER: 4.0, "2000000002": 60.0}}
    board = board_of(reading(0, **late))
    assert answers(board)["For whom?"] == ("示例卖家0002", "")
    assert [copy["is_late"] for copy in board.since(0)["copies"]] == [True, False]  # type: ignore[attr-defined]


@pytest.mark.parametrize("metric", ["witness_findings", "topic_lost", "last_comparison_differences"])
def test_what_no_time_mends_is_said_to_be_wrong(metric: str) -> None:
    labels: Labels = (("instance", "reconcile"), ("outcome", "left"), ("topic", "orders"))
    now = reading(0, **COMPLETE)
    wrong = MetricReading(now.at, {**now.by_process, "witness": {f"topsync_{metric}": {labels: 1.0}}})
    told = summary.of(board_of(wrong).figures)
    assert told.state is PageState.BROKEN
    assert told.says.startswith("Something is wrong: 1 ")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (MetricReading(BEGAN, {}), "It is not known yet: nothing has been measured."),
        (
            reading(60, **{**COMPLETE, "measured_timestamp_seconds": BEGAN}),
            "It is not known: measured last 1 min ago.",
        ),
    ],
)
def test_what_nobody_measures_is_said_to_be_unknown_however_good_the_last_figures_were(
    given: MetricReading, says: str
) -> None:
    told = summary.of(board_of(given).figures)
    assert (told.state, told.says) == (PageState.UNKNOWN, says)


def test_before_the_first_copy_the_page_says_that_bulk_starts_are_under_way() -> None:
    board = board_of(reading(0, bulk_starts_under_way=3))
    told = summary.of(board.figures)
    assert (told.state, told.says) == (
        PageState.STARTING,
        "There is no copy yet: 3 bulk starts under way.",
    )


def test_before_anything_is_read_the_page_has_something_to_say() -> None:
    assert summary.of([]).state is PageState.UNKNOWN
    assert orjson.loads(orjson.dumps(Board({}).since(0)))["points"] == []


@given(st.lists(st.tuples(st.floats(0, 1e5), st.integers(0, 9), st.booleans()), min_size=1, max_size=30))
def test_every_past_has_four_answers(past: list[tuple[float, int, bool]]) -> None:
    history = [
        Figures(
            at=BEGAN + at,
            measured_seconds_ago=1.0,
            copies=[summary.CopyAge("x", age, is_late)] if gaps != 1 else [],
            gaps=gaps,
            holes=0,
            bulk_starts=0,
            differences_left=0,
            steps_back=0,
            topics_lost=0,
        )
        for at, (age, gaps, is_late) in enumerate(past)
    ]
    told = summary.of(history)
    assert told.says
    assert [bool(each.answer) for each in told.answers] == [True] * 4


def test_the_story_says_what_was_away_and_until_when() -> None:
    story = Story()
    story.begin("Outage", "cut")
    story.strike("push")
    assert story.as_json["outages"][0]["ended"] is None
    story.mend()
    outage = story.as_json["outages"][0]
    assert outage["began"] <= outage["ended"]  # type: ignore[operator]
    assert [chapter["title"] for chapter in story.as_json["chapters"]] == ["Outage"]
