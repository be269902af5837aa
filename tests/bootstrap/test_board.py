"""What people and machines see of bulk starts that are under way."""

from __future__ import annotations

from bootstrap import board
from bootstrap.board import MOST_ROWS, Rates
from bootstrap.progress import Phase, SellerProgress, SliceProgress
from topsync.base.terminal import Styled
from topsync.model.slice import SliceState


def seller(
    number: int, phase: Phase = Phase.SLICES, *, stored: int = 0, failure: str | None = None
) -> SellerProgress:
    slices = {
        0: SliceProgress(SliceState.STORED, 100, 100, min(stored, 100)),
        1: SliceProgress(SliceState.DOWNLOADED, 900, 50, max(0, stored - 100)),
    }
    return SellerProgress(number, f"shop_{number}", phase, slices, failure=failure)


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    rates, watched = Rates(), seller(1)
    assert rates.of(watched) is None
    for second, stored in ((0, 0), (10, 0), (31, 100), (41, 400)):
        watched = seller(1, stored=stored)
        rates.see([watched], at_seconds=second)
    assert rates.of(watched) == 300 / 10
    assert rates.seconds_left(watched) == (1000 - 400) / 30
    watched.phase = Phase.TODAY
    assert rates.seconds_left(watched) is None


def test_a_seller_in_a_line() -> None:
    assert board.line(seller(1, stored=150)) == (
        "loading and storing: 1 of 2 slices, 150 rows loaded, 150 of 1000 stored"
    )
    assert board.line(seller(1, Phase.LIVE)) == "live"
    assert board.line(seller(1, Phase.FAILED, failure="a \x1b bad day")) == r"failed, a \x1b bad day"
    today = seller(1, Phase.TODAY)
    today.done, today.total = 3, 9
    assert board.line(today) == "today's changes: 3 of 9"


def test_of_many_sellers_those_that_failed_come_first_and_those_that_wait_share_a_row() -> None:
    sellers = [seller(number, Phase.WAITING) for number in range(MOST_ROWS + 3)]
    sellers.append(seller(99, Phase.FAILED, failure="no room"))
    rows = board.table(sellers, Rates()).rows
    assert len(rows) == MOST_ROWS + 1
    assert rows[0][0] == "shop_99"
    assert rows[0][1] == Styled("failed, no room", "bold red")
    assert rows[-1][:2] == ("4 others", "4 waiting for its turn")


def test_a_machine_reads_the_same() -> None:
    document = board.document(seller(7, stored=150), Rates())
    assert {name: document[name] for name in ("seller_id", "step", "slices", "slices_stored")} == {
        "seller_id": 7,
        "step": "slices",
        "slices": 2,
        "slices_stored": 1,
    }
    assert (document["expected"], document["loaded"], document["stored"]) == (1000, 150, 150)
