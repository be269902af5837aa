"""A trade keeps everything that the platform sent, exactly; its hash changes only with its content (I8)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import opaque
from schemas.trade import MASKED_FIELDS, OrderLine, Trade, UnreadableTradeError
from tests.schemas import samples
from topsync.platforms.taobao.gateway import wire

TRADES = dict(samples.all_trades())
REQUIRED = ("tid", "status", "created", "modified", "orders")

LIST_ITEMS = {"orders": "order", "promotion_details": "promotion_detail", "service_orders": "service_order"}


def minimal(**fields: object) -> dict[str, object]:
    return {
        "tid": 4000000000000000101,
        "status": "WAIT_BUYER_PAY",
        "created": "2025-11-20 09:31:07",
        "modified": "2025-11-20 10:05:44",
        "orders": {"order": [{"oid": 4000000000000000101}]},
        **fields,
    }


def value_of(shown: object) -> object:
    """What a field of our JSON says, comparable with what the platform sent: digits and amounts as text."""
    if isinstance(shown, bool):
        return shown
    return str(shown) if isinstance(shown, int | Decimal) else shown


def is_kept(sent: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether each field that was sent is there: as a typed field, flattened list or platform field."""
    for name, value in sent.items():
        if name in LIST_ITEMS:
            rows = value.get(LIST_ITEMS[name], [])
            if len(rows) != len(ours[name]):
                return False
            if name == "orders" and not all(map(is_kept, rows, ours[name])):
                return False
        elif name in ours["platform_fields"]:
            if ours["platform_fields"][name] != value:
                return False
        elif name not in ours or (
            value_of(ours[name]) != value_of(value) and not str(ours[name]).endswith("Z")
        ):
            return False
    return True


def test_the_samples_are_there() -> None:
    assert len(TRADES) >= 9


@pytest.mark.parametrize("name", TRADES)
def test_every_sample_is_read_without_a_loss(name: str) -> None:
    trade = Trade.from_platform(TRADES[name])
    assert is_kept(TRADES[name], orjson.loads(trade.to_wire()))
    assert not set(trade.platform_fields) & set(Trade.model_fields), "no known field in an odd shape"


def wire_of(name: str) -> dict[str, Any]:
    return Trade.from_platform(TRADES[name]).to_json()


EARLIER_RELEASES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "as it is": lambda written: written,
    "a field was unknown": lambda written: {
        **{field: value for field, value in written.items() if field != "payment"},
        "platform_fields": {**written["platform_fields"], "payment": "1.00"},
    },
    "a field of a line was unknown": lambda written: {
        **written,
        "orders": [
            {**line, "platform_fields": {**line["platform_fields"], "outer_sku_id": "x"}}
            for line in written["orders"]
        ],
    },
    "a list was unknown": lambda written: {
        field: value for field, value in written.items() if field != "service_orders"
    },
    "a field was known": lambda written: {**written, "x_former": "1"},
}


@pytest.mark.parametrize("release", EARLIER_RELEASES)
@pytest.mark.parametrize("name", TRADES)
def test_a_record_of_any_release_is_reread_as_the_model_reads_it(name: str, release: str) -> None:
    value = orjson.dumps(EARLIER_RELEASES[release](wire_of(name)))
    assert Trade.reread(value) == Trade.from_wire(value).to_json()


@pytest.mark.parametrize("name", TRADES)
def test_a_published_order_reads_back_as_it_was(name: str) -> None:
    trade = Trade.from_platform(TRADES[name])
    again = Trade.from_wire(trade.to_wire())
    assert again == trade
    assert again.content_hash() == trade.content_hash()
    assert again.to_wire() == trade.to_wire()


def test_money_is_decimal_inside_and_text_outside_with_its_digits() -> None:
    trade = Trade.from_platform(samples.complete(samples.FULL))
    assert trade.payment == Decimal("186.00")
    wired = orjson.loads(trade.to_wire())
    assert wired["payment"] == "186.00"
    assert wired["orders"][0]["payment"] == str(trade.orders[0].payment)


@pytest.mark.parametrize(
    ("sent", "amount"),
    [
        ("186.00", "186.00"),
        (186, "186"),
        (0.1, "0.1"),
        (19.99, "19.99"),
        ("-0.50", "-0.50"),
        ("1.0", "1.0"),
        ("1.00", "1.00"),
        ("1E5", "100000"),
        ("0.00000001", "0.00000001"),
    ],
)
def test_an_amount_keeps_the_digits_that_were_sent(sent: object, amount: str) -> None:
    assert orjson.loads(Trade.from_platform(minimal(payment=sent)).to_wire())["payment"] == amount


def test_times_are_utc_instants() -> None:
    trade = Trade.from_platform(minimal(pay_time="2025-11-20 00:00:00"))
    assert orjson.loads(trade.to_wire())["pay_time"] == "2025-11-19T16:00:00Z"


@given(tid=st.integers(2**53 + 1, 2**63 - 1))
def test_ids_above_the_floats_keep_every_digit_as_number_and_as_text(tid: int) -> None:
    for sent in (tid, str(tid)):
        trade = Trade.from_platform(minimal(tid=sent, orders={"order": [{"oid": sent, "sku_id": sent}]}))
        wired = orjson.loads(trade.to_wire())
        assert wired["tid"] == wired["orders"][0]["oid"] == wired["orders"][0]["sku_id"] == str(tid)


@pytest.mark.parametrize("tid", [4e18, 1.0, True, "", "12a", "-5", 0, 2**63, "４２", None, [1]])
def test_a_value_that_is_no_id_is_refused_above_all_a_float(tid: object) -> None:
    with pytest.raises(UnreadableTradeError, match="tid"):
        Trade.from_platform(minimal(tid=tid))


@pytest.mark.parametrize("missing", REQUIRED)
def test_a_trade_without_a_field_that_every_trade_has_is_refused_by_its_name(missing: str) -> None:
    trade = minimal()
    del trade[missing]
    with pytest.raises(UnreadableTradeError, match=missing):
        Trade.from_platform(trade)


@pytest.mark.parametrize(
    ("field", "absent"),
    [*((name, None) for name in REQUIRED), ("orders", {}), ("orders", {"order": []}), ("orders", [])],
)
def test_an_order_without_a_field_that_each_order_has_is_incomplete(field: str, absent: object) -> None:
    """The platform leaves an empty list out (docs/platform/gateway.md 1.6)."""
    with pytest.raises(UnreadableTradeError, match=field) as refused:
        Trade.from_platform(minimal(**{field: absent}))
    assert refused.value.is_incomplete


def test_a_malformed_order_is_not_incomplete() -> None:
    with pytest.raises(UnreadableTradeError) as refused:
        Trade.from_platform(minimal(modified="soon", status=None))
    assert not refused.value.is_incomplete


@pytest.mark.parametrize(
    "field",
    [
        {"created": "secret value"},
        {"modified": "2025-11-20"},
        {"modified": "0001-01-01 00:00:00"},
        {"tid": "secret value"},
        {"status": {"secret": "value"}},
        {"orders": {"order": [{"oid": "secret value"}]}},
        {"orders": {"order": ["secret value"]}},
        {"orders": "secret value"},
    ],
)
def test_a_refusal_names_fields_and_never_values(field: dict[str, object]) -> None:
    """Values may be personal data (I9)."""
    trade = minimal(receiver_name="secret value", **field)
    with pytest.raises(UnreadableTradeError) as refused:
        Trade.from_platform(trade)
    assert next(iter(field)) in str(refused.value)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("payment", "on request"),
        ("pay_time", "2025-11-20"),
        ("pay_time", "0000-00-00 00:00:00"),
        ("pay_time", "0001-01-01 00:00:00"),  # before the year 1 in UTC
        ("pay_time", "0001-01-01T00:00:00+08:00"),
        ("num", "several"),
        ("seller_flag", [1]),
        ("is_part_consign", "perhaps"),
        ("num_iid", 1.5),
        ("receiver_zip", 310000),
        ("title", {"text": "x"}),
        ("promotion_details", "none today"),
        ("service_orders", {"service_order": ["x"]}),
    ],
)
def test_an_optional_field_in_an_odd_shape_is_kept_as_it_came(field: str, value: object) -> None:
    trade = Trade.from_platform(minimal(**{field: value}))
    assert not getattr(trade, field)
    assert trade.platform_fields == {field: value}
    assert Trade.from_wire(trade.to_wire()) == trade


def test_an_odd_field_of_a_line_is_kept_with_its_line() -> None:
    trade = Trade.from_platform(minimal(orders={"order": [{"oid": "7", "num": "two", "new_field": [1]}]}))
    assert trade.orders == [OrderLine(oid=7, platform_fields={"new_field": [1], "num": "two"})]


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (None, 0),
        ({}, 0),
        ([], 0),
        ({"service_order": []}, 0),
        ({"service_order": {"oid": 1}}, 1),
        ({"service_order": [{"oid": 1}, {"oid": 2}]}, 2),
        ([{"oid": 1}], 1),
    ],
)
def test_lists_are_read_in_every_form_that_the_platform_has_used(sent: object, read: int) -> None:
    assert len(Trade.from_platform(minimal(service_orders=sent)).service_orders) == read


@pytest.mark.parametrize("sent", [{"order": {"oid": 1}}, {"order": [{"oid": 1}]}, [{"oid": 1}]], ids=str)
def test_lines_are_read_in_every_form_that_the_platform_has_used(sent: object) -> None:
    assert Trade.from_platform(minimal(orders=sent)).orders == [OrderLine(oid=1)]


def test_an_unknown_field_is_carried_and_an_absent_or_null_field_is_left_out() -> None:
    trade = Trade.from_platform(minimal(brand_new={"a": [1, "2", None]}, buyer_message=None))
    wired = orjson.loads(trade.to_wire())
    assert wired["platform_fields"] == {"brand_new": {"a": [1, "2", None]}}
    assert "buyer_message" not in wired
    assert "pay_time" not in wired


@pytest.mark.parametrize(
    "field", ["pay_time", "payment", "num", "num_iid", "is_part_consign", "service_orders"]
)
def test_an_empty_text_is_no_value_except_of_a_text(field: str) -> None:
    sent = Trade.from_platform(minimal(**{field: "", "buyer_message": ""}))
    assert sent == Trade.from_platform(minimal(buyer_message=""))
    assert sent.buyer_message == ""
    assert sent.content_hash() == Trade.from_platform(minimal(buyer_message="")).content_hash()


def test_a_field_that_each_order_has_is_incomplete_as_an_empty_text() -> None:
    for field in ("tid", "created", "modified", "orders"):
        with pytest.raises(UnreadableTradeError, match=field) as refused:
            Trade.from_platform(minimal(**{field: ""}))
        assert refused.value.is_incomplete


def test_characters_that_no_database_and_no_utf8_can_store_are_replaced() -> None:
    trade = Trade.from_platform(
        minimal(buyer_message="a\x00b\ud800c", unknown={"k\x00": ["\udfff"]}, seller_memo="好\u2028")
    )
    assert trade.buyer_message is not None
    assert set(trade.buyer_message) <= {"a", "b", "c", "\ufffd"}
    assert trade.seller_memo == "好\u2028"
    wired = trade.to_wire()
    assert "\x00" not in wired
    assert "\\u0000" not in wired
    wired.encode()
    assert Trade.from_wire(wired) == trade


@pytest.mark.parametrize("odd", ["\x00", "\ud800", "\udfff\x00"])
def test_they_are_replaced_wherever_they_come(odd: str) -> None:
    fields: list[dict[str, object]] = [
        {"title": odd},
        {"unknown": [odd]},
        {"unknown": {odd: 1}},
        {"orders": {"order": [{"oid": 1, "title": odd}]}},
        {"promotion_details": {"promotion_detail": [{"promotion_name": odd}]}},
    ]
    for field in fields:
        wired = Trade.from_platform(minimal(**field)).to_wire()
        assert "\ufffd" in wired
        assert "\\u0000" not in wired
        wired.encode()


def test_a_backslash_is_no_reason_to_change_a_text() -> None:
    assert Trade.from_platform(minimal(seller_memo='a\\u0000 \\ "b"')).seller_memo == 'a\\u0000 \\ "b"'


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, -(2**63) - 1])
def test_a_number_beyond_64_bits_is_text_wherever_it_comes(number: int) -> None:
    opaque = {"new": number, "deep": [{"new": number}]}
    trade = Trade.from_platform(
        minimal(
            **opaque,
            orders={"order": [{"oid": 1, **opaque}]},
            promotion_details={"promotion_detail": [opaque]},
            service_orders={"service_order": [opaque]},
        )
    )
    kept = {"deep": [{"new": str(number)}], "new": str(number)}
    assert trade.platform_fields == trade.orders[0].platform_fields == kept
    assert trade.promotion_details == trade.service_orders == [kept]
    assert Trade.from_platform(minimal(title=number)).title == str(number)


def test_the_largest_and_smallest_64_bit_numbers_stay_numbers() -> None:
    opaque = {"largest": 2**63 - 1, "smallest": -(2**63), "deep": [2**63 - 1], "yes": True, "half": 0.5}
    trade = Trade.from_platform(minimal(**opaque))
    assert orjson.loads(trade.to_wire())["platform_fields"] == opaque


@pytest.mark.parametrize("number", [2**31, 10**30, str(10**30), -(2**31) - 1])
def test_an_impossible_count_keeps_its_digits_and_stops_nobody(number: int | str) -> None:
    """The typed views could not show it, and beyond 64 bits the content could not even be compared."""
    trade = Trade.from_platform({**samples.complete(samples.FULL), "num": number})
    assert trade.num is None
    assert str(trade.platform_fields["num"]) == str(number)
    assert Trade.from_wire(trade.to_wire()).content_hash() == trade.content_hash()


@pytest.mark.parametrize("number", [2**63, 2**64, 10**30, -(2**63) - 1])
def test_a_number_beyond_64_bits_in_an_unknown_field_keeps_its_digits_and_stops_nobody(number: int) -> None:
    body = orjson.dumps({"trade_get_response": {"trade": minimal()}}).replace(
        b'"status"', b'"opaque":%d,"status"' % number
    )
    answer = wire.parse("taobao.trade.get", 200, "application/json", body)
    assert isinstance(answer, Mapping)
    raw = answer["trade"]
    assert isinstance(raw, Mapping)
    trade = Trade.from_platform(raw)
    assert str(trade.platform_fields["opaque"]) == str(number)
    assert Trade.from_wire(trade.to_wire()).content_hash() == trade.content_hash()


@pytest.mark.parametrize("levels", [opaque.MAX_DEPTH + 1, 300, 900])
@pytest.mark.parametrize("where", ["unknown", "title", "of_a_line"])
def test_an_order_that_is_nested_too_deeply_to_be_written_again_is_refused(levels: int, where: str) -> None:
    """If it were read, it would end the process that writes it, at each attempt."""
    deep: object = 1
    for _ in range(levels):
        deep = [deep]
    fields = {"orders": {"order": [{"oid": 1, "odd": deep}]}} if where == "of_a_line" else {where: deep}
    with pytest.raises(UnreadableTradeError, match="nested too deeply"):
        Trade.from_platform(minimal(**fields))


def test_a_value_nested_as_deeply_as_allowed_is_carried() -> None:
    deep: object = 1
    for _ in range(opaque.MAX_DEPTH):
        deep = [deep]
    trade = Trade.from_platform(minimal(odd=deep))
    assert Trade.from_wire(trade.to_wire()).content_hash() == trade.content_hash()


# The content hash.


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        (samples.FULL, "1d1be0293be21b2d56aa233b274be74b"),
        (samples.PRESALE, "6cf19d6cf8d56e41448aab2b842c64df"),
    ],
)
def test_the_hash_is_the_hash_that_is_in_the_tables(name: str, digest: str) -> None:
    """With another hash, each stored order must be read again before it counts as the same."""
    assert Trade.from_platform(samples.complete(name)).content_hash().hex() == digest


def shuffled(value: Any, order: Any) -> Any:
    if isinstance(value, dict):
        names = order.draw(st.permutations(list(value)))
        return {name: shuffled(value[name], order) for name in names}
    return [shuffled(item, order) for item in value] if isinstance(value, list) else value


@given(name=st.sampled_from(sorted(TRADES)), order=st.data())
def test_the_hash_does_not_depend_on_the_order_of_fields(name: str, order: st.DataObject) -> None:
    trade = TRADES[name]
    assert (
        Trade.from_platform(shuffled(trade, order)).content_hash()
        == Trade.from_platform(trade).content_hash()
    )


@given(
    name=st.sampled_from(sorted(TRADES)),
    receiver=st.dictionaries(
        st.sampled_from(sorted(MASKED_FIELDS)), st.one_of(st.text(max_size=20), st.integers(), st.none())
    ),
)
def test_the_hash_does_not_depend_on_how_the_receiver_is_masked(
    name: str, receiver: dict[str, object]
) -> None:
    trade = TRADES[name]
    changed = Trade.from_platform({**trade, **receiver})
    assert changed.content_hash() == Trade.from_platform(trade).content_hash()


def with_ids_as_text(value: Any) -> Any:
    if isinstance(value, dict):
        ids = {"tid", "oid", "num_iid", "sku_id", "refund_id"}
        return {
            name: str(inner) if name in ids and not isinstance(inner, dict) else with_ids_as_text(inner)
            for name, inner in value.items()
        }
    return [with_ids_as_text(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", TRADES)
def test_the_hash_does_not_depend_on_ids_being_numbers_or_text(name: str) -> None:
    trade = TRADES[name]
    assert with_ids_as_text(trade) != trade
    as_text = Trade.from_platform(with_ids_as_text(trade))
    assert as_text.content_hash() == Trade.from_platform(trade).content_hash()


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for name, inner in value.items() for leaf in leaves(inner, (*path, name))]
    if isinstance(value, list):
        return [leaf for number, inner in enumerate(value) for leaf in leaves(inner, (*path, number))]
    return [path]


def changed_at(trade: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """The trade with a single leaf changed into another value of its kind."""
    changed = copy.deepcopy(trade)
    holder: Any = changed
    for step in path[:-1]:
        holder = holder[step]
    old = holder[path[-1]]
    match old:
        case bool():
            new: object = not old
        case int():
            new = old + 1
        case str() if len(old) == 19 and old[4] == old[7] == "-":
            new = "2031" + old[4:]
        case str() if old.replace(".", "", 1).isdigit():
            new = "9" + old[1:] if old[0] != "9" else "8" + old[1:]
        case _:
            new = f"{old}?"
    holder[path[-1]] = new
    return changed


CHANGEABLE = [
    (name, path) for name, trade in TRADES.items() for path in leaves(trade) if path[0] not in MASKED_FIELDS
]


@given(where=st.sampled_from(CHANGEABLE))
def test_the_hash_changes_with_everything_else(where: tuple[str, tuple[Any, ...]]) -> None:
    name, path = where
    before, after = TRADES[name], changed_at(TRADES[name], path)
    assert Trade.from_platform(after).content_hash() != Trade.from_platform(before).content_hash()


@pytest.mark.parametrize("name", [samples.FULL, samples.PRESALE])
def test_the_hash_changes_when_a_field_goes_away(name: str) -> None:
    trade = samples.complete(name)
    hashes = {Trade.from_platform(trade).content_hash()}
    gone = [field for field in trade if field not in {*MASKED_FIELDS, *REQUIRED}]
    for field in gone:
        hashes.add(Trade.from_platform({k: v for k, v in trade.items() if k != field}).content_hash())
    assert len(hashes) == len(gone) + 1
