"""Unreadable input is kept whole as a dead letter, stops nothing, and shows nothing in any log (I9)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import httpx
import orjson

from schemas import cloud_events
from schemas.trade import RECEIVER_FIELDS
from tests.support import systems
from tests.support.eventually import eventually
from topsync.local.system import SERVICES, System
from topsync.platforms.taobao.channel.frames import decode
from topsync.platforms.taobao.channel.messages import read_message
from topsync.simulator.channel.queue import OutboundMessage
from topsync.simulator.server import Simulator
from topsync.simulator.settings import ExportSettings, SimulatorSettings
from topsync.stream import producer as producers
from topsync.stream import records
from topsync.stream.records import Record

PLATFORM = SimulatorSettings(
    seed=4,
    sellers=1,
    orders=60,
    exports=ExportSettings(schedule_seconds=1, run_seconds=1, office_hours=False),
)
PERSONAL = (RECEIVER_FIELDS | {"buyer_nick", "buyer_open_uid", "buyer_message"}) - {"receiver_zip"}
"""A postal code has six digits, like other numbers in a log."""

BAD_FRAME = bytes(range(256))
TID = 4_000_000_000_000_000_001
NEW_ORDERS = 10

REFUSE = """
create function refuse() returns trigger language plpgsql as $$
begin
    raise exception 'too much' using errcode = 'string_data_right_truncation', detail = new.trade::text;
end $$
"""


async def test_unreadable_input_is_kept_whole_and_stops_and_shows_nothing(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str, server_logs: list[Path]
) -> None:
    async with (
        Simulator(PLATFORM) as platform,
        systems.system_against(platform, kafka_bootstrap_servers, database_url, topic_prefix) as system,
    ):
        system.environment["TOPSYNC_LOG_LEVEL"] = "debug"
        for name in (*SERVICES, "witness"):
            await system.start(name)
        await system.run("bootstrap")
        (seller,) = platform.sellers
        # The worst case: personal data in a place where only a parser looks.
        trades = await truth(system, seller.user_id)
        exported = int(str(trades[0]["tid"]))
        personal = orjson.dumps({**trades[0], "session": seller.session, "tid": None, "modified": None})

        platform.channel.inject(BAD_FRAME + personal)
        message = OutboundMessage(
            user_id=seller.user_id,
            nick=seller.nick,
            topic="taobao_trade_TradeBuyerPay",
            content=personal.decode(),
            published_at=platform.clock.now(),
            data_id="1",
        )
        platform.channel.publish(message)
        topics = systems.registry(system)
        no_json = Record(topics.changes.name, records.key_of(TID), b"{" + personal, [])
        no_trade = records.snapshot(
            topics.snapshots.name,
            tid=exported,
            seller_id=seller.user_id,
            as_of=platform.clock.now(),
            reason="a test",
            value=personal,
        )
        no_time = Record(
            *(topics.snapshots.name, no_trade.key, personal),
            [header for header in no_trade.headers if header[0] != "ce_time"],
        )
        no_signal = Record(topics.signals.name, b"", personal, [("ce_type", b"x"), ("ce_id", b"1")])
        before = await fetched_at(system, exported)
        async with producers.idempotent(systems.kafka_settings(system)) as producer:
            await producer.publish([no_json, no_trade, no_time, no_signal])
        await eventually(lambda: dead_letters_are(system, 5))
        refused = await an_order_that_the_database_refuses(system, seller.user_id)
        await eventually(lambda: dead_letters_are(system, 6))
        said = await what_operators_get_wrong(system, seller.user_id, seller.session)
        created = await systems.change(system, seller.user_id, "create", count=NEW_ORDERS)
        await eventually(lambda: are_stored(system, created))

        letters = await dead_letters(system)
        assert letters["unreadable_frame"].value == BAD_FRAME + personal
        assert content_of(letters["unreadable_message"].value) == message.content
        assert letters["unreadable_change"].value == no_json.value
        assert letters["unreadable_snapshot"].value == no_time.value
        originals = dict(letters["unreadable_snapshot"].headers)
        assert all(originals[f"original_{name}"] == text for name, text in no_time.headers)
        assert platform.channel.ledger()["in_flight"] == 0
        system.require_running()

        listed = [
            orjson.loads(line) for line in (await system.run("deadletter", "list", "--json")).splitlines()
        ]
        ids = {letter["reason"]: str(letter["id"]) for letter in listed}
        assert ids.keys() == letters.keys()
        shown = [await system.run("deadletter", "list")]
        shown += [await system.run("deadletter", "show", name) for name in ids.values()]
        retried = await system.run("deadletter", "retry", ids["unreadable_snapshot"])
        assert "asked again for 1 of 1" in retried
        await eventually(lambda: is_fetched_after(system, exported, before))
        assert "unreadable_snapshot" not in await system.run("deadletter", "list")
        closing = ("deadletter", "close", ids["unreadable_message"], "--because", "a test", "--yes")
        closed = await system.run(*closing)
        assert "unreadable_message" not in await system.run("deadletter", "list")
        assert "a test" in await system.run("deadletter", "show", ids["unreadable_message"])
        await systems.rows(system, "drop trigger refused on orders")
        await eventually(lambda: are_stored(system, [refused]))

        await systems.require_clean_audit(system)
        logs = {log.name: log.read_bytes() for log in system.group.folder.glob("*.log")}
        assert {f"{name}.log" for name in SERVICES} <= logs.keys()
        logs["topsync deadletter"] = "".join([*shown, retried, closed]).encode()
        logs["topsync sellers"] = said.encode()
        logs["headers"] = await all_headers(system)
        logs |= {f"server: {log.name}": log.read_bytes() for log in server_logs}
        assert_nothing_personal_is_shown(system, logs, await truth(system, seller.user_id), seller.session)


async def an_order_that_the_database_refuses(system: System, seller_id: int) -> systems.Changed:
    """An order whose row the server's error quotes. It is refused until the trigger is dropped."""
    (order,) = await systems.change(system, seller_id, "create", message=False)
    await systems.rows(system, REFUSE)
    await systems.rows(
        system,
        f"create trigger refused before insert on orders for each row when (new.tid = {order.tid}) "
        "execute function refuse()",
    )
    await systems.change(system, seller_id, "pay", tid=order.tid)
    return order


async def what_operators_get_wrong(system: System, seller_id: int, session: str) -> str:
    """Everything that commands print when an operator gives them a session in a wrong way."""
    line = f'{{"user_id": {seller_id}, "session": "{session}", "nick"}}\n'
    tries = [
        (("sellers", "import"), line),
        (("sellers", "add", "--user-id", str(seller_id), "--nick", "x"), f'{{"access_token": "{session}"}}'),
        (("sellers", "authorise", str(seller_id), "--code", session), ""),
    ]
    said = ""
    for arguments, given in tries:
        status, output = await system.try_run(*arguments, given=given)
        assert status != 0, output
        said += output
    return said


async def all_headers(system: System) -> bytes:
    """Names and values of every header in every topic."""
    found = [
        name.encode() + b"=" + value
        for topic in systems.registry(system).all()
        for record in await systems.records(systems.kafka_settings(system), topic)
        for name, value in record.headers
    ]
    assert found
    return b"\n".join(found)


async def truth(system: System, seller_id: int) -> list[dict[str, object]]:
    """Every order of the seller, as the platform has it."""
    async with httpx.AsyncClient(base_url=system.admin_url, trust_env=False) as client:
        answer = await client.get("/truth", params={"user_id": seller_id})
    return [orjson.loads(line) for line in answer.content.split(b"\n") if line]


async def dead_letters(system: System) -> dict[str, systems.Record]:
    """A dead letter of each reason."""
    found = await systems.records(systems.kafka_settings(system), systems.registry(system).dead_letters)
    return {cloud_events.attributes(record.headers)["reason"]: record for record in found}


async def dead_letters_are(system: System, count: int) -> bool:
    return len(await dead_letters(system)) == count


async def are_stored(system: System, created: list[systems.Changed]) -> bool:
    return await systems.stored(system, created) == len(created)


def content_of(raw: bytes | None) -> str:
    """The content of the message in a frame of the channel."""
    assert raw is not None
    return read_message(decode(raw), raw).content


async def fetched_at(system: System, tid: int) -> datetime:
    found: datetime = await systems.value(system, "select fetched_at from orders where tid = $1", tid)
    return found


async def is_fetched_after(system: System, tid: int, before: datetime) -> bool:
    return await fetched_at(system, tid) > before


def assert_nothing_personal_is_shown(
    system: System, logs: dict[str, bytes], trades: list[dict[str, object]], session: str
) -> None:
    secrets = {session, system.environment["TOPSYNC_APP_SECRET"], system.environment["TOPSYNC_TOKEN_KEYS"]}
    secrets |= {str(trade[field]) for trade in trades for field in PERSONAL & trade.keys() if trade[field]}
    for name, log in logs.items():
        # Also in the form of JSON that escapes everything but ASCII.
        shown = {text for text in secrets if text.encode() in log or ascii(text)[1:-1].encode() in log}
        assert not shown, name
