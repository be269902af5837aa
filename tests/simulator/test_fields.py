"""An answer has the fields that the call asked for, and no others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.simulator.platform_client import FULL_FIELDS, make_world
from topsync.simulator.fields import parse_fields
from topsync.simulator.wire import JsonObject

WORLD = make_world(orders=300)
names = st.sampled_from([*FULL_FIELDS.split(","), "orders.oid", "orders.status", "no_such_field", "orders.x"])


def picked(trade: JsonObject, asked: set[str]) -> JsonObject:
    """The rule in its simplest form."""
    lines: JsonObject = {}
    for name, value in trade.items():
        nested = {field.partition(".")[2] for field in asked if field.startswith(f"{name}.")}
        if name in asked:
            lines[name] = value
        elif nested and isinstance(value, dict):
            lines[name] = {
                item: [{key: row[key] for key in row if key in nested} for row in rows]
                for item, rows in value.items()
            }
    return lines


@given(st.integers(0, 299), st.sets(names, min_size=1), st.sampled_from(["", " "]))
def test_any_fields_of_any_order_are_picked_in_the_orders_own_sequence(
    number: int, asked: set[str], space: str
) -> None:
    trade = WORLD.trade(WORLD.books[0].seller, number)
    found = parse_fields(f",{space}".join(sorted(asked))).pick(trade)
    assert found == picked(trade, asked)
    assert list(found) == [name for name in trade if name in found]
