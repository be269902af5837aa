"""The names that follow from a kind's word: tables, topics, columns and hints are found by them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from schemas.change import Change, Source
from topsync.model import named
from topsync.model.kind import PARTS, Kind
from topsync.model.named import Named

NOW = datetime(2025, 11, 20, 2, tzinfo=UTC)
HINT = Change(
    seller_id=1, tid=7, event="e", occurred_at=NOW, settled_after=NOW, received_at=NOW, source=Source.GAP
)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (Kind.ORDER, ("orders", "tid", "modified")),
        (Kind.REFUND, ("refunds", "refund_id", "refund_modified")),
    ],
)
def test_a_kinds_names_are_those_of_the_contract(kind: Kind, names: tuple[str, str, str]) -> None:
    assert (kind.plural, kind.id_name, kind.modified_name) == names


def test_every_kind_but_the_first_is_a_part_of_an_order() -> None:
    assert (Kind.ORDER, *PARTS) == tuple(Kind)


def test_a_word_of_a_newer_release_is_no_error() -> None:
    assert [Kind.known(word) for word in ("refund", "refunds", "")] == [Kind.REFUND, None, None]
    assert [Kind.known_plural(word) for word in ("refunds", "refund", "")] == [Kind.REFUND, None, None]


def test_a_hint_names_its_order_and_at_most_what_it_says_beside_it() -> None:
    assert named.named(HINT, Kind.ORDER) == Named(7)
    assert named.parts(HINT) == []
    about_refund = named.naming(HINT, Kind.REFUND, Named(8, NOW))
    assert named.named(about_refund, Kind.ORDER) == Named(7)
    assert named.parts(about_refund) == [(Kind.REFUND, Named(8, NOW))]
    assert named.ids(Kind.ORDER, 7) == {}
    assert named.ids(Kind.REFUND, 8) == {"refund_id": 8}


def test_every_time_that_a_hint_promises_is_known() -> None:
    promised = {name for name in Change.model_fields if name.endswith("modified")}
    assert set(named.MODIFIED_NAMES) == promised
