"""Statements over the tables of all kinds: written once, filled in for each."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from consumer.enrich.kinds.catalogue import KINDS
from topsync.base.settings import KafkaSettings
from topsync.model.kind import Kind
from topsync.store import database
from topsync.store.version_tables import TABLES, sql_over
from topsync.stream import topics

OVER_ALL = re.compile(r"^ *-- each |\{(kind|table|key)\}", re.MULTILINE)


def test_every_kind_has_a_table_a_topic_and_an_enricher_in_the_same_order() -> None:
    registry = topics.registry(KafkaSettings(kafka_bootstrap_servers="unused:1", topic_prefix="t"))
    assert list(TABLES) == list(KINDS) == list(registry.versions) == list(Kind)


def test_a_piece_is_there_for_each_kind_with_its_names() -> None:
    pieces = sql_over("erasures.orders").strip().split("\n", 1)[1].split("\nunion\n")
    assert pieces == [f"select tid from {kind.plural} where seller_id = $1" for kind in Kind]


def test_a_piece_for_parts_leaves_orders_out() -> None:
    filled = sql_over("order_facts.parts")
    assert "from refunds" in filled
    assert "from orders" not in filled


@pytest.mark.parametrize("name", ["erasures", "order_facts", "refetches"])
def test_nothing_is_left_to_be_filled_in(name: str) -> None:
    for verb in database.statements(name):
        assert not OVER_ALL.search(sql_over(f"{name}.{verb}"))


def test_no_statement_but_a_tables_own_needs_to_name_a_table_of_a_part() -> None:
    """Otherwise the next kind would be forgotten there."""
    own = {f"{kind.plural}.sql" for kind in Kind}
    files = [one for one in resources.files("topsync.store").joinpath("sql").iterdir() if one.name not in own]
    parts = "|".join(kind.plural for kind in Kind if not kind.leads)
    table = re.compile(rf"(from|join|into|update) ({parts})\b")
    assert {one.name for one in files if table.search(one.read_text("utf-8"))} == set()
