"""The contract's documents agree with the code and with every record, and no change breaks a reader."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft7Validator, ValidationError
from typer.testing import CliRunner

from schemas import content, events
from schemas.cloud_events import DEAD_LETTER_TYPE, SNAPSHOT_TYPE
from schemas.delta import TransitionWord
from schemas.platform_object import PlatformObject
from schemas.read_before import ReadBefore
from schemas.refund_transitions import RefundTransition
from schemas.trade import Trade
from schemas.transitions import Transition
from tests.schemas import samples
from tests.simulator.platform_client import make_world
from tests.support import pages
from topsync.base.errors import OperatorError
from topsync.base.settings import KafkaSettings
from topsync.contract import documents, examples
from topsync.contract.documents import ContractError
from topsync.operate import cli
from topsync.stream import records, topics

NOON = datetime(2026, 11, 20, 4, tzinfo=UTC)
ORDER = documents.schema_path(events.ORDER_SCHEMA)


@pytest.fixture
def released() -> dict[str, Any]:
    """A copy of the released documents that a test may change."""
    return copy.deepcopy(dict(documents.read(documents.FOLDER)))


@cache
def validator(name: str) -> Draft7Validator:
    return Draft7Validator(documents.documents()[documents.schema_path(name)])


@cache
def asyncapi() -> dict[str, Any]:
    return documents.documents()[documents.ASYNCAPI]


def test_the_committed_documents_are_those_of_the_code() -> None:
    """If they differ on purpose and compatibly, run `python -m topsync schema export`."""
    found = documents.compare(documents.read(documents.FOLDER), documents.documents())
    assert not found, "\n".join(map(str, found))


def test_the_environment_does_not_decide_what_the_documents_say(monkeypatch: pytest.MonkeyPatch) -> None:
    before = documents.documents()
    monkeypatch.setenv("TOPSYNC_PARTITIONS", "3")
    monkeypatch.setenv("TOPSYNC_TOPIC_PREFIX", "elsewhere")
    assert documents.documents() == before


@pytest.mark.parametrize("name", events.SCHEMAS)
def test_every_schema_is_valid_and_describes_every_field(name: str) -> None:
    schema = documents.documents()[documents.schema_path(name)]
    Draft7Validator.check_schema(schema)
    if name == events.ORDER_SCHEMA:
        lines = schema["definitions"]["OrderLine"]["properties"]  # type: ignore[index]
        for field, described in [*schema["properties"].items(), *lines.items()]:  # type: ignore[attr-defined]
            assert described.get("description"), field


EXAMPLES = {event: example for event in events.EVENTS if (example := examples.of(event))}


def test_every_event_type_whose_value_is_ours_has_an_example() -> None:
    assert set(EXAMPLES) == {event for event in events.EVENTS if event.schema is not None}


VERSIONS = [event for event in events.EVENTS if event.transition is not None]


def states_of(word: TransitionWord) -> tuple[PlatformObject | None, PlatformObject]:
    """The two states that a word declares as its example."""
    if isinstance(word, Transition):
        return examples.order_states(word)
    assert isinstance(word, RefundTransition)
    return examples.refund_states(word)


@pytest.mark.parametrize("event", VERSIONS, ids=lambda event: event.type)
def test_the_example_that_a_word_declares_shows_it_and_names_the_event_by_it(event: events.EventType) -> None:
    headers = EXAMPLES[event].headers
    assert headers["ce_type"] == event.type
    assert event.transition in headers["ce_transitions"].split(",")


@pytest.mark.parametrize("event", VERSIONS, ids=lambda event: event.type)
def test_what_a_word_says_makes_a_version_within_the_second_of_the_one_before(
    event: events.EventType,
) -> None:
    """Otherwise no event reports it: perhaps its field is not content (`not_content` of the model)."""
    assert event.transition is not None
    before, after = states_of(event.transition)
    assert before is None or not content.says_no_more(type(after), after.to_json(), before.to_json())


@pytest.mark.parametrize("event", VERSIONS, ids=lambda event: event.type)
def test_every_word_has_a_row_in_the_pages_for_subscribers(event: events.EventType) -> None:
    """A row says what it means and who acts on it; orders' words stand above those of refunds."""
    found = [page for page in pages.all_pages() if re.fullmatch(r"docs/subscribers(\.\w+)?\.md", page)]
    assert found
    for page in found:
        # The table of orders comes first, that of refunds second; each begins with `created`.
        _, *tables = pages.read(page).split("| `created` |")
        assert len(tables) == 2, page
        table = "| `created` |" + tables[event.topic == "refunds"].partition("\n\n")[0]
        assert f"\n| `{event.transition}` |" in f"\n{table}", f"{page}: a row for `{event.transition}`"


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.type)
def test_every_example_is_what_its_schema_says(event: events.EventType) -> None:
    example = EXAMPLES[event]
    assert event.schema is not None
    validator(event.schema).validate(example.value)
    message = asyncapi()["components"]["messages"][event.type]
    Draft7Validator(message["headers"]).validate(example.headers)
    assert set(example.headers) <= set(message["headers"]["properties"]), "every header is written down"
    assert message["examples"] == [{"name": "example", "headers": example.headers, "payload": example.value}]


OTHERS = {
    **{
        type_: records.tombstone(
            topic, type_=type_, id_=101, seller_id=7, revision=3, erased_at=NOON, published_at=NOON
        )
        for type_, topic in ((events.ORDERS.erased, "orders"), (events.REFUNDS.erased, "refunds"))
    },
    SNAPSHOT_TYPE: records.snapshot(
        "snapshots",
        tid=101,
        seller_id=7,
        as_of=NOON,
        reason="export 1",
        value=b"{}",
        read_before=ReadBefore(b"\x01", may_be_odd=True, head={}, happened=("created",)),
    ),
    DEAD_LETTER_TYPE: records.dead_letter(
        "deadletter", reason="refused", detail="a text", original=b"", at=NOON, origin="enricher", seller_id=7
    ),
}
"""Records without a value, or with a value of others: they have no example."""


@pytest.mark.parametrize("event", OTHERS)
def test_every_header_of_a_record_without_an_example_is_written_down(event: str) -> None:
    text = {name: value.decode() for name, value in OTHERS[event].headers}
    headers = asyncapi()["components"]["messages"][event]["headers"]
    Draft7Validator(headers).validate(text)
    assert set(text) <= set(headers["properties"])


def orders() -> Iterator[Trade]:
    for _, trade in samples.all_trades():
        yield Trade.from_platform(trade)
    world = make_world(orders=150)
    for number in world.books[0].numbers():
        yield Trade.from_platform(world.trade(world.books[0].seller, number))
    yield Trade.from_platform(
        {**samples.complete(samples.FULL), "payment": 1e-7, "num": "odd", "new": {"a": 1}}
    )


def test_every_order_is_what_its_schema_says() -> None:
    order = validator(events.ORDER_SCHEMA)
    for trade in orders():
        order.validate(orjson.loads(trade.to_wire()))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tid", 4000000000000000101),
        ("tid", "0"),
        ("payment", 186.0),
        ("payment", "1.86E+2"),
        ("modified", "2026-11-20 10:05:44"),
        ("modified", "2026-11-20T10:05:44+08:00"),
        ("pay_time", None),
        ("orders", {"order": []}),
    ],
)
def test_the_order_schema_describes_the_wire_and_accepts_nothing_else(field: str, value: object) -> None:
    wired = {**orjson.loads(Trade.from_platform(samples.complete(samples.FULL)).to_wire()), field: value}
    with pytest.raises(ValidationError):
        validator(events.ORDER_SCHEMA).validate(wired)


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(found := value.get("$ref"), str):
            yield found
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_reference_in_the_asyncapi_document_has_a_target() -> None:
    document = asyncapi()
    found = list(references(document))
    assert found
    for reference in found:
        file, _, pointer = reference.partition("#")
        if file:
            assert (documents.FOLDER / file).exists(), reference
            continue
        place: Any = document
        for key in pointer.strip("/").split("/"):
            place = place[key]


def test_the_asyncapi_document_has_every_topic_and_every_event_type_once() -> None:
    document = asyncapi()
    registry = topics.registry(KafkaSettings(kafka_bootstrap_servers="nowhere:1", topic_prefix="taobao"))
    addresses = {
        channel["address"].replace("{prefix}", "taobao") for channel in document["channels"].values()
    }
    assert addresses == {topic.name for topic in registry.all()}
    text = [name for channel in document["channels"].values() for name in channel["messages"]]
    assert sorted(text) == sorted(event.type for event in events.EVENTS) == sorted(set(text))


# What the check says.


def breaks(released: Any, made: Any = None) -> list[str]:
    found = documents.compare(released, made or documents.documents())
    return [str(finding) for finding in found if finding.is_breaking]


def test_a_released_field_that_is_gone_is_named_with_the_readers_that_it_breaks(
    released: dict[str, Any],
) -> None:
    released[ORDER]["properties"]["gone"] = {"type": "string"}
    (text,) = breaks(released)
    assert text == f"BREAKS  {ORDER}: gone: removed -- readers of the field no longer find it"


def test_an_event_type_that_is_gone_or_moved_breaks_subscribers_that_wait_for_it(
    released: dict[str, Any],
) -> None:
    messages = released[documents.ASYNCAPI]["components"]["messages"]
    messages["taobao.trade.lost.v1"] = messages[events.ORDERS.types()[0].type]
    (text,) = breaks(released)
    assert "taobao.trade.lost.v1 is gone" in text
    moved: Any = copy.deepcopy(dict(documents.documents()))
    moved[documents.ASYNCAPI]["channels"]["orders"]["address"] = "{prefix}.trade.orders.v2"
    text = " ".join(breaks(documents.documents(), moved))
    assert "is not in {prefix}.trade.orders.v1 any more" in text


def test_a_header_that_is_gone_breaks_subscribers_that_filter_by_it(released: dict[str, Any]) -> None:
    order = released[documents.ASYNCAPI]["components"]["messages"][events.ORDERS.types()[0].type]
    order["headers"]["properties"]["ce_gone"] = {"type": "string"}
    (text,) = breaks(released)
    assert "ce_gone: removed" in text


def test_another_key_breaks_subscribers_that_rely_on_the_order_of_its_records() -> None:
    made: Any = copy.deepcopy(dict(documents.documents()))
    paid = events.ORDERS.type_of(Transition.PAID)
    made[documents.ASYNCAPI]["components"]["messages"][paid]["bindings"]["kafka"]["key"]["title"] = "buyer"
    (text,) = breaks(documents.documents(), made)
    assert f"{paid}: keyed by `buyer` and no longer by `tid`" in text


def test_a_topic_that_is_no_longer_compacted_breaks_subscribers_that_read_it_from_the_start() -> None:
    made: Any = copy.deepcopy(dict(documents.documents()))
    del made[documents.ASYNCAPI]["channels"]["orders"]["bindings"]["kafka"]["topicConfiguration"][
        "cleanup.policy"
    ]
    (text,) = breaks(documents.documents(), made)
    assert "{prefix}.trade.orders.v1 is kept by delete and no longer by compact" in text


@pytest.mark.parametrize("what", ["payload", "contentType"])
def test_another_form_of_the_value_in_the_same_version_breaks_its_readers(what: str) -> None:
    made: Any = copy.deepcopy(dict(documents.documents()))
    paid = events.ORDERS.type_of(Transition.PAID)
    made[documents.ASYNCAPI]["components"]["messages"][paid][what] = "another"
    (text,) = breaks(documents.documents(), made)
    assert f"{paid}: another {what}" in text


def test_a_header_that_may_be_absent_now_or_has_another_form_breaks_subscribers_that_read_it() -> None:
    made: Any = copy.deepcopy(dict(documents.documents()))
    paid = events.ORDERS.type_of(Transition.PAID)
    headers = made[documents.ASYNCAPI]["components"]["messages"][paid]["headers"]
    headers["required"].remove("ce_transitions")
    headers["properties"]["ce_time"]["pattern"] = "^[0-9]+$"
    text = " ".join(breaks(documents.documents(), made))
    assert "ce_transitions: may be absent now" in text
    assert "ce_time: `pattern`" in text


def test_what_is_new_breaks_nobody(released: dict[str, Any]) -> None:
    del released[ORDER]["properties"]["cod_fee"]
    del released[documents.schema_path("taobao.trade.change.v1")]
    assert breaks(released) == []
    text = [str(finding) for finding in documents.compare(released, documents.documents())]
    assert f"compatible  {ORDER}: cod_fee: added" in text


def test_check_finds_no_difference_after_export(tmp_path: Path) -> None:
    documents.export(tmp_path)
    assert documents.read(tmp_path) == documents.documents() == documents.read(documents.FOLDER)
    documents.export(tmp_path)


def test_export_refuses_a_breaking_change_and_writes_nothing(
    tmp_path: Path, released: dict[str, Any]
) -> None:
    released[ORDER]["properties"]["gone"] = {"type": "string"}
    documents.write(tmp_path, released)
    with pytest.raises(ContractError, match=r"gone: removed.*new version of the event type") as refused:
        documents.export(tmp_path)
    assert isinstance(refused.value, OperatorError)
    assert documents.read(tmp_path) == released


def test_the_command_says_what_differs_and_ends_with_a_status(
    tmp_path: Path, released: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = CliRunner()
    shown = runner.invoke(cli.app, ["schema", "check"])
    assert (shown.exit_code, shown.output) == (0, "")
    released[ORDER]["properties"]["gone"] = {"type": "string"}
    documents.write(tmp_path, released)
    monkeypatch.setattr(documents, "FOLDER", tmp_path)
    shown = runner.invoke(cli.app, ["schema", "check"])
    assert shown.exit_code == 1
    assert "gone: removed" in shown.output
    assert runner.invoke(cli.app, ["schema", "export", str(tmp_path / "new")]).exit_code == 0
    assert documents.read(tmp_path / "new") == documents.documents()
