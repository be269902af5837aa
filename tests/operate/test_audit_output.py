"""What an audit prints: a row for each seller whatever its nick, and a line or a document for machines."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from topsync.base import terminal
from topsync.model.kind import Kind
from topsync.operate import installation_commands
from topsync.store.sellers import UNKNOWN, Seller, SellerState
from topsync.store.versions import StoredState
from topsync.verify.agreement import ShownObject
from topsync.verify.audit import Comparison, Result, SellerResult
from topsync.verify.views import AuditedKind

NOW = datetime(2025, 11, 20, 2, tzinfo=UTC)
NICK = "shop [/b] x\n\x1b[2J"
TID = 4000000000000000101


@pytest.fixture
def result() -> Result:
    seller = Seller(
        2200000000001, NICK, b"", SellerState.LIVE, 1, UNKNOWN, None, None, NOW, False, 0, True, False
    )  # fmt: skip
    expected = {TID: ShownObject(TID, StoredState(NOW, b"x"), b"", {})}
    orders = Comparison(AuditedKind(Kind.ORDER), count=7, expected=expected, lacking={TID: "table"})
    compared = {Kind.ORDER: orders, Kind.REFUND: Comparison(AuditedKind(Kind.REFUND), count=2)}
    sellers = [SellerResult(seller, compared, complete_until=NOW)]
    return Result(sellers, backwards=0, witnessed=True, moved=3, losses=[])


def test_a_nick_with_markup_fits_a_row_of_an_audit_on_a_screen_of_80_columns(
    result: Result, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    installation_commands.print_audit(result)
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if "2025-11-20 10:00:00" in line]
    assert row.startswith("shop [/b] ")
    assert all(line.isprintable() and len(line) <= 80 for line in lines)
    assert lines[-3:] == [
        f"  order {TID} missing in the table",
        "3 differed at first and arrived since: they were on the move.",
        "AUDIT orders=7 missing=1 stale=0 backwards=0 holes=0",
    ]


def test_for_machines_an_audit_is_a_single_document(
    result: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.write_json(installation_commands.audit_document(result))
    found = orjson.loads(capsys.readouterr().out)
    (seller,) = found.pop("sellers")
    assert found == {
        "clean": False, "orders": 7, "missing": 1, "stale": 0, "backwards": 0, "holes": 0, "witnessed": True,
        "moved": 3, "agreeing": 0, "lost_topics": [],
    }  # fmt: skip
    assert (seller["seller_id"], seller["nick"], seller["refunds"]) == ("2200000000001", NICK, 2)
    assert (seller["missing"], seller["examples"]) == (1, [f"order {TID} missing in the table"])
