"""The message channel over HTTP: the same queue as the connections.

Source: docs/platform/gateway.md 3.12, docs/platform/channel.md 4.6 and 6.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from tests.platforms.taobao.calls.conftest import Form, Platform, running
from tests.platforms.taobao.gateway import Gateway, answers, answers_sample, ok
from tests.simulator.platform_client import START
from tests.simulator.raw_socket import RawSocket
from topsync.model.priority import Priority
from topsync.platforms.taobao.calls import messages
from topsync.platforms.taobao.calls.messages import QueueCounts, QueuedMessage, TmcUser
from topsync.platforms.taobao.channel import messages as frames
from topsync.platforms.taobao.channel.messages import read_message
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import (
    BadAnswerError,
    DroppedError,
    RequestRefusedError,
    TopError,
)
from topsync.platforms.taobao.gateway.requests import ApiRequest, Parameter
from topsync.simulator.channel.settings import ChannelSettings
from topsync.simulator.faults.channel import Duplicate

LANE = Priority.OPERATOR
GROUP = "slow-shops"
PAID = "taobao_trade_TradeBuyerPay"
CREATED = "taobao_trade_TradeCreate"


async def permit(platform: Platform, *topics: str) -> None:
    await messages.permit(platform.client, platform.session, topics or (PAID, CREATED))


async def consume(platform: Platform, group: str | None = None, quantity: int = 100) -> list[QueuedMessage]:
    return await messages.consume(platform.client, group=group, quantity=quantity, priority=LANE)


async def confirm(platform: Platform, *taken: QueuedMessage, group: str | None = None) -> None:
    ids = [message.id for message in taken]
    await messages.confirm(platform.client, ids, group=group, priority=LANE)


async def counts(platform: Platform, group: str = "default") -> QueueCounts:
    (found,) = await messages.queues(platform.client, group, priority=LANE)
    return found


def tids(taken: list[QueuedMessage]) -> list[int]:
    return [orjson.loads(message.content)["tid"] for message in taken]


@asynccontextmanager
async def connected(platform: Platform, group: str = "default") -> AsyncIterator[tuple[RawSocket, str]]:
    settings = platform.simulator.settings
    raw, token = await RawSocket.connected(
        platform.simulator.addresses.channel_url, settings.app_key, settings.app_secret, group
    )
    try:
        yield raw, token
    finally:
        await raw.close()


# The queue.


async def test_a_message_is_taken_and_confirmed(platform: Platform) -> None:
    await permit(platform, PAID)
    tid = platform.order("pay")
    (message,) = await consume(platform)
    assert (message.topic, tids([message])) == (PAID, [tid])
    assert (message.user_id, message.user_nick) == (platform.seller.user_id, platform.seller.nick)
    assert message.published_at == platform.simulator.clock.now()
    assert message.id > 2**53
    await confirm(platform, message)
    platform.simulator.clock.advance(3600)
    assert await consume(platform) == []


async def test_an_empty_queue_answers_with_nothing(platform: Platform) -> None:
    assert await consume(platform) == []


async def test_an_unconfirmed_message_comes_again_with_its_id(platform: Platform) -> None:
    await permit(platform, PAID)
    platform.order("pay")
    taken = await consume(platform)
    assert await consume(platform) == []
    platform.simulator.clock.advance(60 + 359)
    assert await consume(platform) == []
    platform.simulator.clock.advance(1)
    assert await consume(platform) == taken


async def test_a_failed_message_comes_again_sooner(plain: Platform) -> None:
    await permit(plain, PAID)
    plain.order("pay")
    taken = await consume(plain)
    request = ApiRequest("taobao.tmc.messages.confirm", {"f_message_ids": str(taken[0].id)})
    assert await plain.client.call(request, priority=LANE)
    plain.simulator.clock.advance(360)
    assert await consume(plain) == taken


async def test_a_second_confirm_does_no_harm(platform: Platform) -> None:
    await permit(platform, PAID)
    platform.order("pay")
    taken = await consume(platform)
    await confirm(platform, *taken)
    await confirm(platform, *taken)


async def test_messages_live_for_a_day(plain: Platform) -> None:
    await permit(plain, PAID)
    plain.order("pay")
    plain.simulator.clock.advance(86400)
    assert await consume(plain) == []


async def test_no_more_than_the_quantity_is_taken(plain: Platform) -> None:
    await permit(plain, PAID)
    made = {plain.order("pay") for _ in range(12)}
    first = await consume(plain, quantity=10)
    second = await consume(plain, quantity=10)
    assert (len(first), len(second)) == (10, 2)
    assert set(tids(first + second)) == made


async def test_connections_and_http_calls_share_the_queue(plain: Platform) -> None:
    await permit(plain, PAID)
    tid = plain.order("pay")
    async with connected(plain) as (raw, _):
        pushed = read_message(await raw.receive_frame(), b"")
        assert orjson.loads(pushed.content)["tid"] == tid
        assert await consume(plain) == []
        await messages.confirm(plain.client, [pushed.id], priority=LANE)
        assert plain.simulator.channel.ledger()["confirmed"] == 1


async def test_a_message_taken_over_http_is_pushed_again_and_confirmed_there(plain: Platform) -> None:
    await permit(plain, PAID)
    plain.order("pay")
    (taken,) = await consume(plain)
    async with connected(plain) as (raw, token):
        plain.simulator.clock.advance(60 + 360)
        pushed = read_message(await raw.receive_frame(), b"")
        assert (pushed.id, pushed.retried) == (taken.id, 1)
        raw.send_frame(frames.confirm(token, pushed.id))
        await raw.writer.drain()
        await confirm(plain, taken)
        ledger = plain.simulator.channel.ledger()
        assert (ledger["pending"], ledger["in_flight"], ledger["confirmed"]) == (0, 0, 1)


async def test_a_repeated_message_comes_twice_in_one_answer() -> None:
    async with running(Form(faults=(Duplicate(),))) as platform:
        await permit(platform, PAID)
        platform.order("pay")
        first, second = await consume(platform)
        assert first == second


async def test_the_counts_are_those_of_the_platforms_day(plain: Platform) -> None:
    await permit(plain, PAID)
    for _ in range(3):
        plain.order("pay")
    assert await counts(plain) == QueueCounts("default", "simulated-broker", put=3, read=0)
    await consume(plain)
    plain.simulator.clock.advance(420)
    await consume(plain)
    found = await counts(plain)
    assert (found.put, found.read) == (3, 3)
    plain.simulator.clock.advance(9 * 3600)  # past midnight
    found = await counts(plain)
    assert (found.put, found.read) == (0, 0)


# Permits.


async def test_a_permit_is_shown(platform: Platform) -> None:
    await permit(platform, PAID, CREATED)
    found = await messages.user(platform.client, platform.seller.nick, priority=LANE)
    topics = frozenset({PAID, CREATED})
    assert found == TmcUser(platform.seller.user_id, platform.seller.nick, True, "default", topics)


async def test_a_single_topic_is_shown_as_a_list_too(platform: Platform) -> None:
    await permit(platform, PAID)
    found = await messages.user(platform.client, platform.seller.nick, priority=LANE)
    assert found is not None
    assert found.topics == {PAID}


async def test_a_second_permit_replaces_the_first(platform: Platform) -> None:
    await permit(platform, PAID, CREATED)
    await permit(platform, PAID)
    platform.order("pay")
    assert [message.topic for message in await consume(platform)] == [PAID]


async def test_a_permit_of_everything_is_shown_as_no_topics(plain: Platform) -> None:
    await plain.client.call(ApiRequest("taobao.tmc.user.permit"), session=plain.session, priority=LANE)
    found = await messages.user(plain.client, plain.seller.nick, priority=LANE)
    assert found is not None
    assert found.topics == frozenset()


@pytest.mark.parametrize("nick", ["nobody", "示例卖家0002"])
async def test_a_seller_without_a_permit_is_none(platform: Platform, nick: str) -> None:
    assert await messages.user(platform.client, nick, priority=LANE) is None


async def test_after_a_cancelled_permit_no_message_comes(platform: Platform) -> None:
    await permit(platform)
    assert await messages.cancel(platform.client, platform.seller.nick, priority=LANE)
    platform.order("pay")
    assert await consume(platform) == []
    assert await messages.user(platform.client, platform.seller.nick, priority=LANE) is None
    assert not await messages.cancel(platform.client, platform.seller.nick, priority=LANE)
    assert not await messages.cancel(platform.client, "nobody", priority=LANE)


# Groups.


async def test_a_sellers_messages_go_to_the_group_from_then_on(platform: Platform) -> None:
    await permit(platform, PAID)
    before = platform.order("pay")
    await messages.add_group(platform.client, GROUP, [platform.seller.nick], priority=LANE)
    after = platform.order("pay")
    assert tids(await consume(platform)) == [before]
    taken = await consume(platform, GROUP)
    assert tids(taken) == [after]
    await confirm(platform, *taken, group=GROUP)
    assert (await counts(platform, GROUP)).put == 1
    found = await messages.user(platform.client, platform.seller.nick, priority=LANE)
    assert found is not None
    assert found.group == GROUP


async def test_connections_of_a_group_are_pushed_its_messages(plain: Platform) -> None:
    await permit(plain, PAID)
    await messages.add_group(plain.client, GROUP, [plain.seller.nick], priority=LANE)
    async with connected(plain, GROUP) as (raw, _):
        tid = plain.order("pay")
        pushed = read_message(await raw.receive_frame(), b"")
        assert orjson.loads(pushed.content)["tid"] == tid


async def test_a_sellers_group_goes_before_the_topics(plain: Platform) -> None:
    await permit(plain)
    assert await messages.route_topics(plain.client, "payments", [PAID], priority=LANE)
    plain.order("pay")
    assert [message.topic for message in await consume(plain, "payments")] == [PAID]
    assert [message.topic for message in await consume(plain)] == [CREATED]
    await messages.add_group(plain.client, GROUP, [plain.seller.nick], priority=LANE)
    plain.order("pay")
    assert {message.topic for message in await consume(plain, GROUP)} == {CREATED, PAID}
    assert await messages.delete_group(plain.client, GROUP, [plain.seller.nick], priority=LANE)
    assert await messages.unroute_topics(plain.client, "payments", [PAID], priority=LANE)
    plain.order("pay")
    assert {message.topic for message in await consume(plain)} == {CREATED, PAID}


async def test_deleting_a_group_loses_its_messages(platform: Platform) -> None:
    await permit(platform, PAID)
    await messages.add_group(platform.client, GROUP, [platform.seller.nick], priority=LANE)
    platform.order("pay")
    assert await messages.delete_group(platform.client, GROUP, priority=LANE)
    assert not await messages.delete_group(platform.client, GROUP, priority=LANE)
    assert platform.simulator.channel.ledger()["lost"] == 1
    with pytest.raises(DroppedError):
        await consume(platform, GROUP)
    after = platform.order("pay")
    assert tids(await consume(platform)) == [after]
    await messages.add_group(platform.client, GROUP, [platform.seller.nick], priority=LANE)
    assert await consume(platform, GROUP) == []


async def test_groups_are_listed_by_page_and_by_name(platform: Platform) -> None:
    nick = platform.seller.nick
    for name in ("a", "b"):
        await messages.add_group(platform.client, name, [nick], priority=LANE)
    assert await messages.groups(platform.client, priority=LANE) == ["default", "a", "b"]
    assert await messages.groups(platform.client, page_no=2, page_size=2, priority=LANE) == ["b"]
    assert await messages.groups(platform.client, ["b", "c"], priority=LANE) == ["b"]
    assert await messages.groups(platform.client, ["c"], priority=LANE) == []


async def test_the_token_of_a_group_is_returned_and_never_logged(plain: Platform) -> None:
    await messages.add_group(plain.client, GROUP, [plain.seller.nick], priority=LANE)
    default = await messages.connection_token(plain.client, "default", priority=LANE)
    other = await messages.connection_token(plain.client, GROUP, priority=LANE)
    assert default.get_secret_value()
    assert default.get_secret_value() != other.get_secret_value()
    assert default.get_secret_value() not in f"{default} {default!r}"
    with pytest.raises(DroppedError):
        await messages.connection_token(plain.client, "nobodys", priority=LANE)


# Limits.

Asked = Callable[[TopClient], Awaitable[object]]


@pytest.mark.parametrize(
    "asked",
    [
        lambda client: messages.user(client, "", priority=LANE),
        lambda client: messages.user(client, "n" * 101, priority=LANE),
        lambda client: messages.cancel(client, "n" * 101, priority=LANE),
        lambda client: messages.groups(client, ["g"] * 21, priority=LANE),
        lambda client: messages.add_group(client, "", ["n"], priority=LANE),
        lambda client: messages.add_group(client, "g" * 33, ["n"], priority=LANE),
        lambda client: messages.add_group(client, "default2", ["n"], priority=LANE),
        lambda client: messages.add_group(client, "g", [], priority=LANE),
        lambda client: messages.add_group(client, "g", ["n"] * 201, priority=LANE),
        lambda client: messages.delete_group(client, "default", priority=LANE),
        lambda client: messages.delete_group(client, "g", ["n"] * 201, priority=LANE),
        lambda client: messages.route_topics(client, "g", [], priority=LANE),
        lambda client: messages.route_topics(client, "g", ["t"] * 21, priority=LANE),
        lambda client: messages.consume(client, quantity=9, priority=LANE),
        lambda client: messages.consume(client, quantity=201, priority=LANE),
        lambda client: messages.confirm(client, [], priority=LANE),
        lambda client: messages.confirm(client, range(1, 202), priority=LANE),
    ],
)
async def test_requests_that_the_platform_would_refuse_are_not_sent(
    gateway: Gateway, client: TopClient, asked: Asked
) -> None:
    with pytest.raises(ValueError, match=r".+"):
        await asked(client)
    assert gateway.calls() == []


@pytest.mark.parametrize(
    ("method", "arguments", "code", "sub_code"),
    [
        ("user.get", {"fields": "user_id", "nick": "n"}, 41, "isv.invalid-parameter:fields"),
        ("user.get", {"fields": "topics"}, 40, "isv.missing-parameter:nick"),
        ("user.get", {"fields": "topics", "nick": "n" * 101}, 41, "isv.invalid-parameter:nick"),
        (
            "user.cancel",
            {"nick": "n", "user_platform": "x"},
            41,
            "isv.invalid-parameter:user_platform",
        ),
        ("groups.get", {"group_names": ",".join("abcdefghijklmnopqrstu")}, 41, None),
        ("group.add", {"group_name": "default1", "nicks": "n"}, 41, "isv.invalid-parameter:group_name"),
        ("group.add", {"group_name": "g" * 33, "nicks": "n"}, 41, "isv.invalid-parameter:group_name"),
        ("group.add", {"group_name": "g"}, 40, "isv.missing-parameter:nicks"),
        ("group.add", {"group_name": "g", "nicks": "nobody"}, 15, "isv.user-not-exist:invalid-nicks"),
        ("topic.group.add", {"group_name": "g"}, 40, "isv.missing-parameter:topics"),
        ("queue.get", {}, 40, "isv.missing-parameter:group_name"),
        ("queue.get", {"group_name": "g"}, 15, "isv.group-not-exist:invalid-group_name"),
        ("messages.consume", {"quantity": 9}, 41, "isv.invalid-parameter:quantity"),
        ("messages.consume", {"quantity": 201}, 41, "isv.invalid-parameter:quantity"),
        ("messages.consume", {"group_name": "g"}, 15, "isv.group-not-exist:invalid-group_name"),
        ("messages.confirm", {}, 40, "isv.missing-parameter:s_message_ids"),
        ("messages.confirm", {"s_message_ids": "x"}, 41, "isv.invalid-parameter:s_message_ids"),
        (
            "messages.confirm",
            {"s_message_ids": ",".join(map(str, range(1, 202)))},
            41,
            "isv.invalid-parameter:s_message_ids",
        ),
        ("auth.get", {}, 40, "isv.missing-parameter:group"),
    ],
)
async def test_the_platform_refuses(
    plain: Platform, method: str, arguments: dict[str, Parameter], code: int, sub_code: str | None
) -> None:
    with pytest.raises(TopError) as refused:
        await plain.client.call(ApiRequest(f"taobao.tmc.{method}", arguments), priority=LANE)
    assert refused.value.code == code
    assert sub_code in (None, refused.value.sub_code)


async def test_the_queue_keeps_its_rules_of_redelivery_over_http() -> None:
    settings = ChannelSettings(confirm_timeout_seconds=5, redelivery_delay_seconds=10)
    async with running(Form(), channel=settings) as platform:
        await permit(platform, PAID)
        platform.order("pay")
        taken = await consume(platform)
        platform.simulator.clock.advance(15)
        assert await consume(platform) == taken


# Samples.


async def test_the_messages_of_the_samples_are_read(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("tmc_messages_consume.json"))
    found = await messages.consume(client, priority=LANE)
    assert [message.id for message in found] == [
        8000000000000000001,
        8000000000000000002,
        8000000000000000001,
    ]
    assert found[0].published_at == datetime(2025, 11, 20, 1, 31, 53, tzinfo=UTC)
    assert tids(found) == [4000000000000000101] * 3
    assert "group_name" not in gateway.calls()[0].form
    assert "d**" not in repr(found)


async def test_the_empty_queue_of_the_samples_is_read(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("tmc_messages_consume_empty.json"))
    assert await messages.consume(client, priority=LANE) == []


async def test_the_confirm_of_the_samples_is_read(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("tmc_messages_confirm.json"))
    await messages.confirm(client, [8000000000000000001, 8000000000000000002], priority=LANE)
    assert gateway.calls()[0].form["s_message_ids"] == "8000000000000000001,8000000000000000002"


async def test_the_counts_of_the_samples_are_read(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("tmc_queue_get.json"))
    assert await messages.queues(client, "default", priority=LANE) == [
        QueueCounts("default", "demo-broker-a", put=12840, read=12731),
        QueueCounts("default", "demo-broker-b", put=12911, read=12911),
    ]


async def test_the_user_of_the_samples_is_read(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample("tmc_user_get.json"))
    found = await messages.user(client, "demo_seller", priority=LANE)
    assert found is not None
    assert (found.user_id, found.is_valid, found.group) == (2000000001, True, "default")
    assert found.topics == {"taobao_trade_TradeChanged", PAID, "taobao_refund_RefundCreated"}
    assert "topics" in gateway.calls()[0].form["fields"].split(",")
    assert "demo_seller" not in repr(found)


async def test_a_seller_whose_session_has_ended_is_known_but_not_valid(plain: Platform) -> None:
    await permit(plain, PAID)
    plain.simulator.authorisations.expire(plain.seller)
    found = await messages.user(plain.client, plain.seller.nick, priority=LANE)
    assert found is not None
    assert (found.is_valid, found.topics) == (False, frozenset({PAID}))
    plain.order("pay")
    assert await consume(plain) == []


@pytest.mark.parametrize("answer", [{"is_success": False}, {"is_success": "false"}])
async def test_a_confirm_that_was_not_done_is_refused(
    gateway: Gateway, client: TopClient, answer: object
) -> None:
    gateway.script.append(answers(lambda: ok("tmc_messages_confirm", answer)))
    with pytest.raises(RequestRefusedError):
        await messages.confirm(client, [7], priority=LANE)


async def test_an_answer_without_a_token_is_a_bad_answer(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers(lambda: ok("tmc_auth_get", {})))
    with pytest.raises(BadAnswerError):
        await messages.connection_token(client, "default", priority=LANE)


async def test_a_permit_has_its_own_times(plain: Platform) -> None:
    await permit(plain)
    plain.simulator.clock.advance(60)
    await permit(plain)
    request = ApiRequest(
        "taobao.tmc.user.get", {"fields": "topics,created,modified", "nick": plain.seller.nick}
    )
    user = (await plain.client.call(request, priority=LANE))["tmc_user"]
    assert isinstance(user, dict)
    assert user["created"] == "2025-11-20 15:30:00"
    assert user["modified"] == "2025-11-20 15:31:00"
    assert plain.simulator.clock.now() == START + timedelta(minutes=1)
