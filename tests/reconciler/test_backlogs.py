"""A backlog is drained from the simulated platform: few calls, and no loss when a process dies."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

import orjson
import pytest
from pydantic import SecretStr

from reconciler.backlog_plan import BacklogRules
from reconciler.backlogs import BulkDetails
from reconciler.refetching import Refetching
from schemas import cloud_events
from schemas.change import Change
from schemas.trade import Trade
from tests.budget.gates import local_gate
from tests.reconciler.late import Frozen, a_late_round
from tests.store.databases import at, emptied
from tests.stream.clusters import create_topics, read_all, settings_for
from tests.support.eventually import eventually
from topsync.base import retry
from topsync.base.clock import ServerClock
from topsync.base.settings import KafkaSettings, VaultSettings
from topsync.base.vault import Vault, new_key
from topsync.model.priority import Priority
from topsync.model.refetch import BACKLOG, IN_TASK, LATE, Refetch
from topsync.platforms.detail_task_port import (
    DetailTaskFailed,
    DetailTasks,
    DetailTasksRefused,
    DetailTaskState,
)
from topsync.platforms.taobao.calls import details, exports
from topsync.platforms.taobao.detail_tasks import TaobaoDetailTasks
from topsync.platforms.taobao.gateway.client import GatewayConfig, TopClient
from topsync.platforms.taobao.gateway.errors import BadAnswerError, RetryLaterError
from topsync.sellers.sessions import Sessions
from topsync.simulator.faults.base import Fault
from topsync.simulator.faults.calls import BanFault, Reset
from topsync.simulator.faults.exports import FailedExport
from topsync.simulator.ids import OrderKey, tid_of
from topsync.simulator.server import Simulator
from topsync.simulator.settings import ExportSettings, PlatformQuirks, SimulatorSettings
from topsync.store import detail_tasks, refetches, sellers
from topsync.store.database import Pool
from topsync.stream import producer as producers
from topsync.stream import records

CREATE, RESULT = "taobao.topats.trades.fullinfo.get", "taobao.topats.result.get"
ORDERS = 130
RULES = BacklogRules(
    from_seconds=1, tasks_at_once=10, calls_per_second=50, backlog_changes=1000, orders_per_task=100
)
NOBODYS = 4_000_000_999_999_999_900
REFUSED = 2_000_000_999
"""A seller whose session the platform does not know."""
PARTITIONS = 2


class DiedError(Exception):
    """A process ends here, without any further step."""


@dataclass
class Desk:
    """A backlog of a seller, with everything that it needs."""

    platform: Simulator
    pool: Pool
    kafka: KafkaSettings
    bulk: BulkDetails
    client: TopClient

    @property
    def seller(self) -> int:
        return self.platform.sellers[0].user_id

    def tids(self, count: int = ORDERS) -> list[int]:
        return [tid_of(OrderKey(0, number)) for number in range(count)]

    async def let_wait(self, tids: Sequence[int], **changes: object) -> None:
        original = Refetch(0, self.seller, "x", at(0), at(1), None, "push", BACKLOG)
        noted = [replace(original, tid=tid, **changes) for tid in tids]  # type: ignore[arg-type]
        await refetches.postpone(self.pool, noted, wait=timedelta(0))

    def calls(self, api: str) -> int:
        counts = cast("dict[str, dict[str, int]]", self.platform.ledger.as_json()["apis"])
        return counts.get(api, {}).get("total", 0)

    async def tasks(self) -> int:
        """How many tasks the platform has accepted."""
        now, span = self.bulk.clock.now(), timedelta(hours=1)
        session = SecretStr(self.platform.sellers[0].session)
        return len(await exports.tasks(self.client, session, now - span, now + span))

    def restarted(self) -> BulkDetails:
        """The same in a new process, which knows only what is stored."""
        return replace(
            self.bulk, _rests_until=-math.inf, _look_at=-math.inf, _not_before=-math.inf, _refused=set()
        )

    async def drained(self, bulk: BulkDetails | None = None) -> None:
        """Run rounds until no order is in the backlog or in a task."""

        async def over() -> bool:
            await (bulk or self.bulk).round()
            waiting = await refetches.backlogs(self.pool, sources=["push"])
            return not waiting and not await detail_tasks.open_tasks(self.pool)

        await eventually(over)

    async def snapshots(self) -> dict[int, Trade]:
        """The snapshots that the writers got, by order; a repetition counts once."""
        found = await read_all(self.kafka, self.bulk.topics.snapshots.name, PARTITIONS)
        return {
            trade.tid: trade
            for trade in (Trade.from_platform(orjson.loads(record.value or b"")) for record in found)
        }

    async def hinted(self) -> list[int]:
        found = await read_all(self.kafka, self.bulk.topics.changes.name, PARTITIONS)
        return sorted(Change.model_validate_json(record.value or b"").tid for record in found)

    async def reasons(self) -> set[str]:
        return {row["reason"] for row in await self.pool.fetch("select reason from refetches")}


@pytest.fixture
async def desk(
    migrated_database_url: str, kafka_bootstrap_servers: str, topic_prefix: str
) -> AsyncIterator[Desk]:
    async with desk_on(migrated_database_url, kafka_bootstrap_servers, topic_prefix) as desk:
        yield desk


@asynccontextmanager
async def desk_on(
    database_url: str,
    servers: str,
    prefix: str,
    *,
    quirks: PlatformQuirks | None = None,
    run_seconds: int = 0,
) -> AsyncIterator[Desk]:
    settings = SimulatorSettings(
        sellers=1,
        orders=400,
        quirks=quirks or PlatformQuirks(),
        exports=ExportSettings(schedule_seconds=1, office_hours=False, run_seconds=run_seconds),
    )
    kafka, clock = settings_for(servers, prefix, partitions=PARTITIONS), ServerClock()
    vault = Vault(VaultSettings(token_keys=SecretStr(new_key())))
    registry = await create_topics(kafka)
    async with (
        Simulator(settings) as platform,
        emptied(database_url) as pool,
        producers.idempotent(kafka) as producer,
    ):
        config = GatewayConfig(
            url=platform.addresses.gateway_url,
            app_key=settings.app_key,
            app_secret=SecretStr(settings.app_secret),
            retries=retry.Policy(max_attempts=1),
            max_inline_wait_seconds=0.0,
        )
        seller = platform.sellers[0]
        cipher = vault.encrypt(SecretStr(seller.session))
        await sellers.add(pool, seller_id=seller.user_id, nick=seller.nick, session_cipher=cipher)
        # The other sellers of the database have sessions that no key here can decrypt.
        await pool.execute("delete from sellers where seller_id <> $1", seller.user_id)
        async with TopClient(config, clock, local_gate()) as client:
            await client.sync_clock()
            sessions = Sessions(pool, vault)
            bulk = BulkDetails(
                *(pool, producer, registry, TaobaoDetailTasks(client), clock, sessions, RULES),
                poll_seconds=0.05,
                deadline_seconds=60,
            )
            yield Desk(platform, pool, kafka, bulk, client)


async def test_a_backlog_comes_by_a_task_for_each_hundred_orders(desk: Desk) -> None:
    before = desk.bulk.clock.now()
    await desk.let_wait(desk.tids(), traceparent=f"00-{'1' * 32}-{'1' * 16}-01")
    await desk.drained()
    assert (await desk.snapshots()).keys() == set(desk.tids())
    assert desk.calls(CREATE) == 2
    assert desk.calls("taobao.trade.fullinfo.get") == 0
    assert await desk.hinted() == []
    found = await read_all(desk.kafka, desk.bulk.topics.snapshots.name, PARTITIONS)
    headers = [cloud_events.attributes(record.headers) for record in found]
    assert {attributes["foundby"] for attributes in headers} == {"push"}
    assert {attributes["traceparent"].split("-")[1] for attributes in headers} == {"1" * 32}
    assert all(attributes["time"] >= before.isoformat()[:19] for attributes in headers)
    assert await desk.reasons() == {LATE}, "noted until they are stored"


async def test_a_small_backlog_is_asked_for_order_by_order_as_fast_as_the_writers_store_it(
    desk: Desk,
) -> None:
    tids = desk.tids(count=RULES.alone_at_once)
    await desk.let_wait(tids)
    for _ in range(3):
        await desk.bulk.round()
    assert await desk.hinted() == sorted(tids)
    await desk.let_wait(desk.tids(count=RULES.alone_at_once + 1)[-1:])
    await desk.bulk.round()
    assert len(await desk.hinted()) == len(tids), "the others come first"
    assert desk.calls(CREATE) == 0


async def test_operators_do_not_wait_for_tasks(desk: Desk) -> None:
    """Their replays give up after minutes without progress."""
    await desk.let_wait(desk.tids(), source="operator")
    await desk.bulk.round()
    assert len(await desk.hinted()) == RULES.alone_at_once
    assert desk.calls(CREATE) == 0


async def test_an_order_that_is_missing_in_a_task_is_asked_for_alone(desk: Desk) -> None:
    await desk.let_wait([*desk.tids(99), NOBODYS])
    await desk.drained()
    assert (await desk.snapshots()).keys() == set(desk.tids(99))
    bulk = desk.bulk
    await Refetching(desk.pool, bulk.producer, bulk.topics, bulk.clock, 5, hints_at_once=lambda: 1).round()
    assert await desk.hinted() == [NOBODYS]


async def test_a_change_while_a_task_runs_is_compared_with_its_result(desk: Desk) -> None:
    """The order stays in its task, and is then asked for alone because the task shows less than promised."""
    await desk.let_wait(desk.tids(100))
    await desk.bulk.round()
    (first, *others) = desk.tids(100)
    await desk.let_wait([first], modified=desk.bulk.clock.now() + timedelta(hours=1))
    assert await desk.reasons() == {IN_TASK}
    await desk.drained()
    assert (await desk.snapshots()).keys() == set(others)
    assert desk.calls(CREATE) == 1


async def test_an_order_that_was_erased_while_its_task_ran_does_not_come_back(desk: Desk) -> None:
    await desk.let_wait(desk.tids(100))
    await desk.bulk.round()
    await desk.pool.execute("delete from refetches where tid = any($1)", desk.tids(60))
    await desk.drained()
    assert (await desk.snapshots()).keys() == set(desk.tids(100)[60:])


STEPS: dict[str, Callable[[pytest.MonkeyPatch, Callable[..., object]], None]] = {
    "before its request": lambda patch, die: patch.setattr(details, "create", die),
    "before its number was noted": lambda patch, die: patch.setattr(detail_tasks, "requested", die),
    "before its state was asked for": lambda patch, die: patch.setattr(details, "result", die),
    "before its result was published": lambda patch, die: patch.setattr(records, "snapshot", die),
    "before its orders were handed over": lambda patch, die: patch.setattr(detail_tasks, "hand_over", die),
}


@pytest.mark.parametrize("step", STEPS)
async def test_a_process_that_dies_leaves_a_task_with_which_the_next_process_continues(
    desk: Desk, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: object, **__: object) -> object:
        raise DiedError

    def die_at_once(*_: object, **__: object) -> object:
        raise DiedError

    await desk.let_wait(desk.tids(100))
    with monkeypatch.context() as patch:
        STEPS[step](patch, die_at_once if "published" in step else die)
        with pytest.raises(DiedError):
            await desk.drained()
    next_one = desk.restarted()
    await desk.drained(next_one)
    assert (await desk.snapshots()).keys() == set(desk.tids(100))
    assert await desk.tasks() == 1, "never a second task for the same orders"
    assert await desk.hinted() == []


async def test_a_request_whose_answer_was_lost_finds_its_task_again(desk: Desk) -> None:
    desk.platform.conductor.strike(Reset(api=CREATE, when="after", times=1))
    await desk.let_wait(desk.tids(100))
    desk.bulk.poll_seconds = 60
    with pytest.raises(RetryLaterError):
        await desk.bulk.round()
    await desk.bulk.round()
    assert desk.calls(CREATE) == 1, "a platform that does not answer is left alone for a while"
    next_one = desk.restarted()
    next_one.poll_seconds = 0.05
    await desk.drained(next_one)
    assert (await desk.snapshots()).keys() == set(desk.tids(100))
    assert await desk.tasks() == 1


@pytest.mark.parametrize("failures", [1, 2])
async def test_a_task_that_fails_is_repeated_once_and_then_its_orders_are_asked_for_alone(
    desk: Desk, failures: int
) -> None:
    fault: Fault = FailedExport(times=failures)
    desk.platform.conductor.strike(fault)
    await desk.let_wait(desk.tids(100))
    if failures == 1:
        await desk.drained()
        assert (await desk.snapshots()).keys() == set(desk.tids(100))
        return

    async def all_alone() -> bool:
        await desk.bulk.round()
        return len(await desk.hinted()) == RULES.alone_at_once

    await eventually(all_alone)
    assert desk.calls(CREATE) == failures
    assert await detail_tasks.open_tasks(desk.pool) == []


async def test_a_task_that_is_never_ready_is_given_up(
    migrated_database_url: str, kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    async with desk_on(
        migrated_database_url, kafka_bootstrap_servers, topic_prefix, run_seconds=3600
    ) as desk:
        desk.bulk.deadline_seconds = 0.5
        await desk.let_wait(desk.tids(100))

        async def alone() -> bool:
            await desk.bulk.round()
            return bool(await desk.hinted())

        await eventually(alone)
        assert desk.calls(CREATE) == 1
        assert await detail_tasks.open_tasks(desk.pool) == []


async def test_during_a_ban_of_tasks_the_orders_are_asked_for_alone(desk: Desk) -> None:
    desk.platform.conductor.strike(BanFault(api=CREATE, scope="api", seconds=3600))
    await desk.let_wait(desk.tids(120))
    await desk.bulk.round()
    await desk.bulk.round()
    assert len(await desk.hinted()) == RULES.alone_at_once
    assert desk.calls(CREATE) == 1


async def test_an_application_without_the_right_drains_order_by_order_and_tries_a_task_once(
    migrated_database_url: str, kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    closed = PlatformQuirks(closed_apis=frozenset({CREATE}))
    async with desk_on(migrated_database_url, kafka_bootstrap_servers, topic_prefix, quirks=closed) as desk:
        await desk.let_wait(desk.tids())
        for _ in range(3):
            await desk.bulk.round()
        assert desk.calls(CREATE) == 1
        assert len(await desk.hinted()) == RULES.alone_at_once
        assert await detail_tasks.open_tasks(desk.pool) == []


class RefusingTasks:
    """The platform refuses its tasks for a seller; the simulator refuses an API to all sellers or to none."""

    max_orders = 100

    def __init__(self) -> None:
        self.requests = 0

    async def request(
        self, session: SecretStr, order_ids: Sequence[int], *, failed_before: int, priority: Priority
    ) -> DetailTasksRefused:
        self.requests += 1
        return DetailTasksRefused("not for this seller", whole_application=False)

    async def state(self, task_id: int, *, priority: Priority) -> DetailTaskState:
        raise AssertionError("there is no task")


async def test_a_seller_to_whom_tasks_are_refused_is_drained_order_by_order_and_asked_once(
    desk: Desk,
) -> None:
    tasks = RefusingTasks()
    bulk = replace(desk.bulk, tasks=tasks)
    await desk.let_wait(desk.tids())
    for _ in range(3):
        await bulk.round()
    assert tasks.requests == 1
    assert len(await desk.hinted()) == RULES.alone_at_once
    assert await detail_tasks.open_tasks(desk.pool) == []


async def test_a_seller_whose_session_is_refused_does_not_occupy_the_tasks(desk: Desk) -> None:
    """Otherwise its orders would fill the allowed tasks, and all others would wait until it is back."""
    cipher = desk.bulk.sessions.vault.encrypt(SecretStr("refused"))
    await sellers.add(desk.pool, seller_id=REFUSED, nick="refused", session_cipher=cipher)
    refused = range(NOBODYS, NOBODYS + 300)
    await desk.let_wait(refused, seller_id=REFUSED)
    await desk.let_wait(desk.tids(100))
    desk.bulk.rules = replace(RULES, tasks_at_once=2)
    await desk.drained()
    assert (await desk.snapshots()).keys() == set(desk.tids(100))
    assert (await refetches.reasons(desk.pool, refused)).keys() == set(refused), "they are still noted"
    assert desk.calls(CREATE) == 2


@pytest.mark.parametrize("call", ["create", "result"])
async def test_a_task_without_an_answer_delays_no_other_task(
    desk: Desk, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage of a seller, or an unreadable answer."""
    first, rest = desk.tids(100), desk.tids(200)[100:]
    answered, unanswered = getattr(details, call), list[object]()

    async def answer(client: TopClient, *what: object, **how: object) -> object:
        asked_for = what[1] if call == "create" else what[0]
        if not unanswered:
            unanswered.append(asked_for)
        if asked_for == unanswered[0]:
            raise BadAnswerError("not to be read")
        return await answered(client, *what, **how)

    monkeypatch.setattr(details, call, answer)
    await desk.let_wait(first)
    desk.bulk.poll_seconds = 0.01

    async def are_brought() -> bool:
        with suppress(RetryLaterError):
            await desk.bulk.round()
        return set((await refetches.reasons(desk.pool, rest)).values()) == {LATE}

    await eventually(lambda: is_raised(desk))
    await desk.let_wait(rest)
    await eventually(are_brought)
    assert (await desk.snapshots()).keys() == set(rest)
    desk.bulk.deadline_seconds = 0
    await eventually(lambda: is_raised(desk))
    assert await detail_tasks.open_tasks(desk.pool) == []
    waiting = await refetches.reasons(desk.pool, first)
    assert waiting == dict.fromkeys(first, BACKLOG), "order by order, when its time is up"


async def is_raised(desk: Desk) -> bool:
    """Whether a round got no answer."""
    try:
        await desk.bulk.round()
    except RetryLaterError:
        return True
    return False


async def test_a_seller_without_a_session_keeps_its_backlog(desk: Desk) -> None:
    await desk.let_wait(desk.tids())
    await sellers.pause(desk.pool, desk.seller, "because")
    await desk.bulk.round()
    assert desk.calls(CREATE) == 0
    assert await desk.hinted() == []
    assert await desk.reasons() == {BACKLOG}


async def test_a_former_holder_that_finds_a_failure_late_counts_it_not_again(desk: Desk) -> None:
    """Otherwise it would have the platform run a third task, while the second runs."""
    desk.platform.conductor.strike(FailedExport(times=1))
    await desk.let_wait(desk.tids(100))
    await desk.bulk.round()
    tasks = Frozen(desk.bulk.tasks, "state", lambda answer: isinstance(answer, DetailTaskFailed))
    late = replace(desk.restarted(), tasks=cast("DetailTasks", tasks))

    async def has_failed_once() -> bool:
        await desk.bulk.round()
        return desk.calls(CREATE) == 2

    async def until_failed() -> None:
        while not tasks.reached.is_set():
            await late.round()

    async with a_late_round(until_failed, tasks):
        await eventually(has_failed_once)
        (before,) = await detail_tasks.open_tasks(desk.pool)
    (after,) = await detail_tasks.open_tasks(desk.pool)
    assert (after.task_id, after.failures) == (before.task_id, 1)
    await desk.drained()
    assert desk.calls(CREATE) == 2


async def test_a_former_holder_that_hands_over_late_takes_nothing_from_another_task(desk: Desk) -> None:
    await desk.let_wait(desk.tids(100))
    await desk.bulk.round()
    (task,) = await detail_tasks.open_tasks(desk.pool)
    await detail_tasks.give_back(desk.pool, task)
    another = await detail_tasks.begin(
        desk.pool, desk.seller, sources=["push"], limit=100, asked_at=task.asked_at
    )
    assert another is not None
    await detail_tasks.hand_over(desk.pool, task, {})
    assert len(await detail_tasks.wanted(desk.pool, another)) == 100
    await detail_tasks.requested(desk.pool, another, 2)
    await detail_tasks.failed(desk.pool, another)
    await detail_tasks.requested(desk.pool, another, 2)
    (left,) = await detail_tasks.open_tasks(desk.pool)
    assert (left.task_id, left.failures) == (None, 1), "the request of before the failure comes late"
