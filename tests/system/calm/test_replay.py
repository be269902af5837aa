"""P5: an operator's replay says what it would cost, does exactly that, and does it once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

import pytest

from schemas import cloud_events, platform_time
from schemas.notification import ReplayFinished
from schemas.signal import ReplayRequested
from tests.support import systems
from tests.support.eventually import eventually
from topsync.local.system import System
from topsync.stream import producer as producers
from topsync.stream import records

pytestmark = pytest.mark.asyncio(loop_scope="package")

MISSED_ORDERS = 25


async def test_a_replay_does_what_its_dry_run_said_and_does_it_once(calm: System) -> None:
    seller, *_ = await systems.seller_ids(calm)
    missed = await systems.change(calm, seller, "create", count=MISSED_ORDERS, message=False)
    first, last = missed[0].modified, missed[-1].modified + timedelta(seconds=1)
    span = ("--from", platform_time.format(first), "--to", platform_time.format(last))
    replay = ("replay", "--seller", str(seller), *span)
    hints_before = len(await systems.changes(calm))

    planned = outcome(await calm.run(*replay, "--dry-run"))
    assert planned["dry run"] == "yes"
    assert int(planned["orders to fetch"]) == MISSED_ORDERS
    assert int(planned["calls"]) == int(planned["list calls"]) + MISSED_ORDERS
    assert len(await systems.changes(calm)) == hints_before
    assert await systems.stored(calm, missed) == 0

    done = outcome(await calm.run(*replay, "--id", "after-the-outage"))
    counts = ("orders listed", "orders to fetch", "list calls", "calls")
    assert [done[name] for name in counts] == [planned[name] for name in counts]
    assert await systems.stored(calm, missed) == MISSED_ORDERS
    hints = [hint for hint in await systems.changes(calm) if hint["source"] == "operator"]
    assert {int(hint["tid"]) for hint in hints} == {each.tid for each in missed}
    assert {hint["reason"] for hint in hints} == {"replay after-the-outage"}

    again = outcome(await calm.run(*replay, "--id", "after-the-outage"))
    assert again == done
    assert len(await systems.changes(calm)) == hints_before + len(hints)


async def test_a_replay_may_be_asked_for_by_topic_and_its_outcome_is_published(calm: System) -> None:
    seller, *_ = await systems.seller_ids(calm)
    missed = await systems.change(calm, seller, "create", count=3, message=False)
    wanted = ReplayRequested(
        replay="by-topic",
        seller_id=seller,
        start=missed[0].modified,
        end=missed[-1].modified + timedelta(seconds=1),
    )
    topics, kafka = systems.registry(calm), systems.kafka_settings(calm)
    async with producers.idempotent(kafka) as producer:
        signal = records.signal(topics.signals.name, wanted, at=wanted.end)
        await producer.publish([signal, signal])

    async def its_outcomes() -> list[ReplayFinished]:
        return [each for each in await outcomes(calm) if each.replay == wanted.replay]

    async def is_published() -> bool:
        return bool(await its_outcomes())

    await eventually(is_published)
    (outcome_,) = await its_outcomes()
    assert (outcome_.state, outcome_.orders_to_fetch) == ("done", len(missed))
    assert await systems.stored(calm, missed) == len(missed)


async def test_a_replay_for_an_unknown_seller_is_a_line_that_says_where_to_look(calm: System) -> None:
    span = ("--from", "2026-11-20 10:00:00", "--to", "2026-11-20 11:00:00")
    status, output = await calm.try_run("replay", "--seller", "nobody", *span)
    assert status == 1
    assert output.splitlines() == ["topsync: no seller nobody; see `topsync sellers list`"]


async def test_status_shows_sellers_coverage_push_and_calls(calm: System) -> None:
    status, output = await calm.try_run("status")
    for row in await systems.rows(calm, "select nick from sellers"):
        assert re.search(rf"{row['nick']} +live ", output), output
    assert re.search(r"default +\d{4}-\d\d-\d\d ", output), output
    assert re.search(r"taobao.trade.fullinfo.get +[1-9]", output), output
    for service in ("push", "enrich", "reconcile"):
        assert re.search(rf"^{service} +\S+/\d+ *$", output, re.MULTILINE), output
    assert re.search(r"^group of the enrichers +\S+: [1-9]\d* members", output, re.MULTILINE), output
    assert output.startswith("complete up to ")
    assert status == (1 if "\n! " in output else 0)
    assert "is running, so" not in output


async def test_a_replay_of_a_paused_seller_has_failed_on_the_screen_and_in_the_topic(calm: System) -> None:
    _, seller, *_ = await systems.seller_ids(calm)
    now = await systems.platform_now(calm)
    span = ("--from", platform_time.format(now - timedelta(minutes=1)), "--to", platform_time.format(now))
    await calm.run("sellers", "pause", str(seller))
    try:
        status, output = await calm.try_run("replay", "--seller", str(seller), *span, "--id", "while-paused")
    finally:
        await calm.run("sellers", "resume", str(seller))
    assert status == 1
    assert "Replay while-paused: failed" in output
    assert "the seller is paused" in output
    (finished,) = [each for each in await outcomes(calm) if each.replay == "while-paused"]
    assert (finished.state, finished.seller_id, finished.orders_listed) == ("failed", seller, None)
    assert finished.error is not None
    assert finished.error.startswith("the seller is paused")


async def outcomes(system: System) -> list[ReplayFinished]:
    """The published outcomes of replays."""
    found = await systems.records(systems.kafka_settings(system), systems.registry(system).notifications)
    return [
        ReplayFinished.model_validate_json(each.value or b"")
        for each in found
        if cloud_events.attributes(each.headers)["type"] == ReplayFinished.event_type
    ]


def outcome(output: str) -> Mapping[str, str]:
    """The rows of the table that a replay prints."""
    return dict(re.findall(r"^([a-z ]+?)  +(\S+) *$", output, re.MULTILINE))
