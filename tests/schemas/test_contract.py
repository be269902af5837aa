"""The small formats: platform time, types, changes, and CloudEvents as a subscriber reads them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import orjson
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import cloud_events, events, platform_time
from schemas.change import Change, Source
from schemas.transitions import Transition
from schemas.types import parse_id, parse_instant, parse_money, write_instant

NOON = datetime(2025, 11, 20, 4, 0, 0, tzinfo=UTC)

instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
seconds = instants.map(platform_time.floor_to_second)


# Platform time.


@given(instant=seconds)
def test_platform_time_reads_back_as_it_was_written(instant: datetime) -> None:
    assert platform_time.parse(platform_time.format(instant)) == instant


@given(instant=instants)
def test_platform_time_cuts_fractions_off_and_never_rounds_up(instant: datetime) -> None:
    written = platform_time.parse(platform_time.format(instant))
    assert timedelta(0) <= instant - written < platform_time.RESOLUTION
    assert written == platform_time.floor_to_second(instant)


def test_platform_time_is_eight_hours_ahead_whatever_this_machine_thinks() -> None:
    assert platform_time.format(NOON) == "2025-11-20 12:00:00"
    assert platform_time.format(NOON.astimezone(timezone(timedelta(hours=-5)))) == "2025-11-20 12:00:00"


def test_the_platform_day_begins_at_its_own_midnight() -> None:
    last, first = datetime(2025, 11, 20, 15, 59, 59, tzinfo=UTC), datetime(2025, 11, 20, 16, tzinfo=UTC)
    assert platform_time.day_of(last) == date(2025, 11, 20)
    assert platform_time.day_of(first) == date(2025, 11, 21)
    assert platform_time.start_of(date(2025, 11, 21)) == first


@pytest.mark.parametrize(
    "text", ["", "2025-11-20", "2025-11-20T12:00:00", "2025-13-20 12:00:00", "2025-11-20 12:00:00Z", "x" * 19]
)
def test_a_text_in_another_form_is_no_platform_time(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        platform_time.parse(text)


# Types.


@given(instant=instants)
def test_an_instant_reads_back_as_it_was_written(instant: datetime) -> None:
    written = write_instant(instant)
    assert written.endswith("Z")
    assert parse_instant(written) == instant


@pytest.mark.parametrize("value", ["2025-11-20T12:00:00", datetime(2025, 11, 20), 1763611200, None, "soon"])  # noqa: DTZ001
def test_a_time_without_offset_is_no_instant(value: object) -> None:
    with pytest.raises(ValueError, match="time"):
        parse_instant(value)


@given(number=st.integers(1, 2**63 - 1))
def test_an_id_is_read_from_a_number_and_from_text(number: int) -> None:
    assert parse_id(number) == parse_id(str(number)) == number


@given(value=st.one_of(st.floats(), st.booleans(), st.none(), st.binary(), st.integers(max_value=0)))
def test_an_id_is_never_read_from_anything_else(value: object) -> None:
    with pytest.raises(ValueError, match="id"):
        parse_id(value)


@given(cents=st.integers(-(10**15), 10**15))
def test_an_amount_is_exact(cents: int) -> None:
    amount = Decimal(cents).scaleb(-2)
    assert parse_money(str(amount)) == amount
    assert str(parse_money(f"{amount:.2f}")) == f"{amount:.2f}"


@pytest.mark.parametrize("value", ["", "free", "NaN", "Infinity", float("inf"), True, None, [1]])
def test_a_value_that_is_no_finite_amount_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="amount"):
        parse_money(value)


# Changes.


def change(**fields: object) -> Change:
    return Change.model_validate(
        {
            "seller_id": "2200000000001",
            "tid": 2**63 - 1,
            "event": "listed",
            "occurred_at": NOON,
            "settled_after": NOON,
            "received_at": NOON,
            "source": "gap",
            **fields,
        }
    )


def test_a_change_is_written_with_ids_as_text_and_reads_back_as_it_was() -> None:
    written = change(modified=NOON, reason="gap 7").model_dump_json(exclude_none=True)
    assert orjson.loads(written)["tid"] == str(2**63 - 1)
    assert orjson.loads(written)["modified"] == "2025-11-20T04:00:00Z"
    assert Change.model_validate_json(written) == change(modified=NOON, reason="gap 7")


def test_a_change_of_a_later_version_with_more_fields_is_still_read() -> None:
    assert change(added_later=1) == change()


def test_a_broken_change_is_refused_without_its_values() -> None:
    with pytest.raises(ValidationError) as refused:
        change(tid="secret-value")
    assert "secret-value" not in str(refused.value)


def test_sources_are_in_the_order_of_their_urgency() -> None:
    assert list(Source) == [Source.PUSH, Source.GAP, Source.OPERATOR, Source.BOOTSTRAP, Source.SWEEP]


# CloudEvents.


def headers(**changes: object) -> list[tuple[str, bytes]]:
    given: dict[str, object] = {
        "id": "101:3",
        "type": events.ORDERS.type_of(Transition.FINISHED),
        "source": "/topsync/sellers/7",
        "subject": "101",
        "time": NOON,
        "extensions": {"revision": "3", "status": "TRADE_FINISHED"},
        **changes,
    }
    return cloud_events.headers(**given)  # type: ignore[arg-type]


def test_a_subscriber_with_the_cloudevents_sdk_reads_our_records() -> None:
    message = KafkaMessage(headers=dict(headers()), key=b"101", value=b'{"tid":"101"}')
    event = from_binary_event(message)
    assert event.get_specversion() == "1.0"
    assert event.get_id() == "101:3"
    assert event.get_type() == "taobao.trade.order.finished.v1"
    assert event.get_source() == "/topsync/sellers/7"
    assert event.get_subject() == "101"
    assert event.get_time() == NOON
    assert event.get_datacontenttype() == "application/json"
    assert event.get_extension("revision") == "3"
    assert event.get_extension("status") == "TRADE_FINISHED"
    assert event.get_data() == {"tid": "101"}


def test_the_sdk_accepts_the_attributes_of_a_tombstone_too() -> None:
    """A record without a value has headers like any other; only its value is missing."""
    event = from_binary_event(KafkaMessage(headers=dict(headers()), key=b"101", value=b""))
    assert event.get_subject() == "101"
    assert not event.get_data()


def test_every_attribute_that_the_specification_requires_is_there() -> None:
    ce = cloud_events.attributes(headers())
    assert {"id", "source", "specversion", "type"} <= ce.keys()
    assert ce["specversion"] == "1.0"


def test_attributes_are_what_was_written_and_foreign_headers_are_left_out() -> None:
    ce = cloud_events.attributes([*headers(), ("tracestate", b"a=1"), ("ce_odd", b"\xff")])
    assert ce["id"] == "101:3"
    assert ce["revision"] == "3"
    assert ce["time"] == "2025-11-20T04:00:00Z"
    assert ce["odd"] == "\ufffd"
    assert not {"tracestate", "content-type"} & ce.keys()


def test_the_specification_allows_the_names_of_the_extensions() -> None:
    for name, _ in headers():
        if name.startswith("ce_"):
            assert name[3:].isalnum()
            assert name[3:] == name[3:].lower()
