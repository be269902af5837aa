"""The product works with a second platform unchanged: services and commands, as they are put together.

Its differences are listed in the package's docstring. Kafka and PostgreSQL are real. The services run in the
test's process, because the platform does; in every other way they are those of an installation.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from schemas.change import Change, Source
from tests.platforms.memory.platform import LEFT_TAG, truth_served
from tests.platforms.memory.process import MemoryPlatform, choose
from tests.platforms.memory.shop import BAD_TOKEN, BUSY, TOO_OFTEN, MemoryShop
from tests.store.databases import SELLER, emptied
from tests.stream.clusters import create_topics, read_all, settings_for
from tests.support.eventually import eventually
from topsync.base import live_calendar
from topsync.base.errors import OperatorError
from topsync.base.service import Lifetime
from topsync.base.settings import KafkaSettings
from topsync.base.vault import Vault, new_key
from topsync.budget.errors import CallLimitedError
from topsync.coverage.pull import Puller
from topsync.coverage.pull_request import PullRequest
from topsync.model.kind import Kind
from topsync.model.scheme import Scheme
from topsync.model.span import Span
from topsync.operate import erase_command, installation_commands, seller_commands
from topsync.platforms.platform_port import NotOfferedError
from topsync.platforms.port import PlatformAwayError, SessionRefusedError
from topsync.sellers.sessions import Sessions
from topsync.store import coverage, sellers
from topsync.store.database import Pool
from topsync.store.sellers import Life, SellerState
from topsync.stream.topics import Registry
from topsync.wiring import bootstrap, enrich, opening, parts, platforms, push, reconcile, witness

PARTITIONS = 2
ORDERS = 30
TOKEN = "memory-token"
NICK = "memory_one"

Run = Callable[[Lifetime], Coroutine[Any, Any, None]]


@dataclass
class Installation:
    """The product around the platform."""

    shop: MemoryShop
    pool: Pool
    kafka: KafkaSettings
    topics: Registry

    async def stored(self) -> dict[int, str]:
        """The states that the table has, by order."""
        rows = await self.pool.fetch("select tid, status from orders where published_revision = revision")
        return {row["tid"]: row["status"] for row in rows}

    async def has_stored(self, count: int) -> bool:
        return len(await self.stored()) == count

    async def hinted(self) -> set[int]:
        """The orders that `changes` names."""
        found = await read_all(self.kafka, self.topics.changes.name, PARTITIONS)
        return {Change.model_validate_json(record.value or b"").tid for record in found}

    async def state(self) -> SellerState:
        seller = await sellers.get(self.pool, SELLER)
        assert seller is not None
        return seller.state


@dataclass
class Pulling:
    """The parts that the reconciler pulls with, made as it makes them."""

    puller: Puller
    sessions: Sessions

    def request(self, *, token: str = TOKEN) -> PullRequest:
        return PullRequest(
            seller_id=SELLER,
            session=SecretStr(token),
            start=self.puller.clock.now() - timedelta(hours=2),
            end=None,
            source=Source.SWEEP,
            reason="sweep",
            comes_again=True,
        )


@asynccontextmanager
async def running(*services: Run) -> AsyncIterator[None]:
    """Run services beside the test; each ends in good order."""
    lifetimes = [Lifetime() for _ in services]
    async with asyncio.TaskGroup() as tasks:
        for service, lifetime in zip(services, lifetimes, strict=True):
            tasks.create_task(service(lifetime))
        yield
        for lifetime in lifetimes:
            lifetime.stop()


@asynccontextmanager
async def pushing(shop: MemoryShop) -> AsyncIterator[None]:
    """With a push service that the platform can reach."""
    async with running(push.run):
        await eventually(lambda: shop.callback_url)
        yield


@pytest.fixture
async def installation(
    migrated_database_url: str,
    kafka_bootstrap_servers: str,
    topic_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Installation]:
    """Thirty orders of the last hour, none of which topsync knows yet, and what an operator would set."""
    shop = MemoryShop(SELLER, TOKEN, "memory-secret")
    for number in range(ORDERS):
        shop.order(number, ago=3600 - 100 * number)
    choose(MemoryPlatform(shop), monkeypatch)
    for name, value in {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap_servers,
        "TOPSYNC_DATABASE_URL": migrated_database_url,
        "TOPSYNC_TOPIC_PREFIX": topic_prefix,
        "TOPSYNC_PARTITIONS": str(PARTITIONS),
        "TOPSYNC_REPLICATION_FACTOR": "1",
        "TOPSYNC_TOKEN_KEYS": new_key(),
        "TOPSYNC_ENRICHER_GROUP": topic_prefix,
        "TOPSYNC_CALLS_PER_SECOND": "1000",
        "TOPSYNC_VISIBILITY_ALLOWANCE_SECONDS": "60",
        "TOPSYNC_STORED_WITHIN_SECONDS": "20",
        "TOPSYNC_PUSH_PROOF_INTERVAL_SECONDS": "0.05",
        "TOPSYNC_RECONCILE_POLL_SECONDS": "0.1",
    }.items():
        monkeypatch.setenv(name, value)
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=PARTITIONS)
    topics, vault = await create_topics(kafka), parts.vault()
    async with emptied(migrated_database_url) as pool:
        await pool.execute("delete from sellers")
        await add_seller(pool, vault, shop)
        yield Installation(shop, pool, kafka, topics)


async def add_seller(pool: Pool, vault: Vault, shop: MemoryShop) -> None:
    await sellers.add(
        pool,
        seller_id=SELLER,
        nick=NICK,
        session_cipher=vault.encrypt(SecretStr(TOKEN)),
        life=Life(refresh_cipher=vault.encrypt(SecretStr(shop.refresh_token))),
    )


@pytest.fixture
async def pulling(installation: Installation) -> AsyncIterator[Pulling]:
    platform, pool = platforms.chosen(), installation.pool
    async with (
        opening.open_platform(platform, pool) as (opened, clock),
        parts.open_sessions(platform, pool, clock, parts.vault()) as sessions,
        parts.open_producer(installation.kafka) as producer,
    ):
        yield Pulling(
            parts.puller(
                platform, opened, pool, clock, producer, installation.topics, live_calendar.configured()
            ),
            sessions,
        )


async def test_thirty_orders_go_through_all_services_and_the_audit(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop, pool = installation.shop, installation.pool
    orders = list(shop.orders.values())
    # There is no bulk start to begin the ledger.
    now = await pool.fetchval("select date_trunc('second', now())")
    before = Span(now - timedelta(hours=3), now - timedelta(hours=2))
    async with pool.acquire() as connection:
        await coverage.prove(connection, SELLER, before)

    async def is_swept() -> bool:
        (proven,) = (await coverage.proven(pool))[SELLER]
        return bool(proven.end > now - timedelta(seconds=60))

    # Without a witness, the audit would wait for one.
    async with pushing(shop), running(enrich.run, witness.run):
        for order in orders[:3]:
            shop.move(order, 2)
        await shop.push(*orders[:10])
        await eventually(lambda: installation.has_stored(10))
        # No message named the other twenty, and the message about this change is lost: the list finds them.
        shop.move(orders[4], 3)
        async with running(reconcile.run):
            await eventually(is_swept)
            swept = await pool.fetchrow("select sum(listed) as listed, sum(hinted) as hinted from windows")
            assert swept is not None
            assert swept["listed"] >= ORDERS
            assert swept["hinted"] >= ORDERS - 10 + 1
            assert len(await installation.stored()) == ORDERS
            shop.move(orders[20], 5)
            await shop.push(orders[20])
            async with truth_served(shop) as address:
                monkeypatch.setenv("TOPSYNC_SIMULATOR_ADMIN_URL", address)
                assert await installation_commands.audit(settle_seconds=20) == 0
    assert f"AUDIT orders={ORDERS} missing=0 stale=0 backwards=0 holes=0" in capsys.readouterr().out
    states = Counter((await installation.stored()).values())
    assert states == {"UNPAID": 25, "TO_SHIP": 3, "ON_ITS_WAY": 1, "DONE": 1}
    counted = await pool.fetch("select api, sum(calls) as calls from api_calls group by api")
    assert {row["api"]: row["calls"] for row in counted} == Counter(shop.calls)


async def test_a_callback_is_answered_only_once_kafka_has_its_messages(installation: Installation) -> None:
    shop = installation.shop
    some = list(shop.orders.values())[:10]
    async with pushing(shop):
        await shop.push(*some)
        assert shop.callbacks == 1
        assert await installation.hinted() == {int(order.order_id) for order in some}
        # The connection is a row that the reconciler opens gaps by.
        row = await installation.pool.fetchrow("select channel_group, lost_at from push_connections")
    assert row is not None
    assert (row["channel_group"], row["lost_at"]) == ("memory", None)


async def test_other_messages_are_kept_as_what_they_are(installation: Installation) -> None:
    """The last of them says that the seller has left: it is expired before a call is refused."""
    shop = installation.shop
    async with pushing(shop):
        await shop.push_messages(
            shop.message_of("0", {}), shop.message_of("200", {"shop_id": SELLER}), shop.message_of("200", "x")
        )
        assert await installation.hinted() == set()
        letters = await read_all(installation.kafka, installation.topics.dead_letters.name, 1)
        notices = await read_all(installation.kafka, installation.topics.notifications.name, 1)
        assert (len(letters), len(notices)) == (2, 1)

        async def is_expired() -> bool:
            return await installation.state() is SellerState.EXPIRED

        await shop.push_messages(shop.message_of(LEFT_TAG, {"shop_id": SELLER}))
        await eventually(is_expired)


async def test_a_list_of_another_kind_names_each_order_once(
    installation: Installation, pulling: Pulling
) -> None:
    """It is deeper than the platform pages, so that its windows are halved."""
    found = await pulling.puller.preview(pulling.request())
    assert found.listed == found.hinted == {Kind.ORDER: ORDERS}
    listing, _ = await pulling.puller.list_parts(pulling.request())
    listed = {id_: modified for part in listing for id_, modified in part.orders.items()}
    assert {str(id_): int(modified.timestamp()) for id_, modified in listed.items()} == {
        order.order_id: order.updated for order in installation.shop.orders.values()
    }


async def test_what_the_platform_refuses_means_the_same_as_on_any_other(
    installation: Installation, pulling: Pulling
) -> None:
    with pytest.raises(SessionRefusedError):
        await pulling.puller.preview(pulling.request(token="stolen"))
    failures: dict[int, type[Exception]] = {
        BUSY: PlatformAwayError,
        TOO_OFTEN: CallLimitedError,
        BAD_TOKEN: SessionRefusedError,
    }
    for code, error in failures.items():
        installation.shop.fails_next.append(code)
        with pytest.raises(error):
            await pulling.puller.preview(pulling.request())


async def test_a_session_that_the_platform_refuses_is_refreshed(
    installation: Installation, pulling: Pulling
) -> None:
    sessions, shop = pulling.sessions, installation.shop
    account = await sessions.get(SELLER)
    assert account is not None
    shop.token = "expired"
    with pytest.raises(SessionRefusedError):
        await pulling.puller.preview(pulling.request())
    refreshed = await sessions.refused(account)
    assert refreshed is not None
    found = await pulling.puller.preview(pulling.request(token=refreshed.session.get_secret_value()))
    assert found.listed == {Kind.ORDER: ORDERS}


async def test_a_seller_authorises_in_the_platforms_own_way(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = installation.shop
    shop.token = "another"

    async def agree(_: str) -> str:
        assert f"https://memory.example/{SELLER}" in capsys.readouterr().out
        return shop.agree()

    await seller_commands.authorise(NICK, None, agree)
    seller = await sellers.get(installation.pool, SELLER)
    assert seller is not None
    assert parts.vault().decrypt(seller.session_cipher) == SecretStr("another")
    for wrong, why in (("letters", "it is no code"), ("code-0", "a code works once")):
        with pytest.raises(OperatorError, match=why):
            await seller_commands.authorise(NICK, wrong, agree)


async def test_a_seller_is_erased_although_the_platform_goes_on_with_its_messages(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    async def nobody(_: str) -> str:
        raise AssertionError("nothing was to be asked")

    async with running(enrich.run):
        assert await erase_command.erase(NICK, NICK, nobody, stalled_after_seconds=30) == 0
    assert "on the platform, messages come for as long as" in capsys.readouterr().out
    assert await installation.state() is SellerState.ERASED


async def test_push_is_idle_until_a_seller_has_messages_by_its_scheme(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPSYNC_SCHEME", "two")
    monkeypatch.setattr(push, "LOOK_SECONDS", 0.1)
    lifetime = Lifetime()
    running_push = asyncio.create_task(push.run(lifetime))

    async def is_ready() -> bool:
        return lifetime.ready

    async def has_connected() -> bool:
        return bool(await installation.pool.fetchval("select count(*) from push_connections"))

    await eventually(is_ready)
    assert not await has_connected()
    await sellers.set_scheme(installation.pool, SELLER, Scheme.THREE)
    await eventually(has_connected)
    lifetime.stop()
    await running_push


async def test_an_idle_push_ends_when_it_is_asked_to(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPSYNC_SCHEME", "one")
    async with running(push.run):
        pass
    assert await installation.pool.fetchval("select count(*) from push_connections") == 0


def refused(why: str) -> pytest.RaisesGroup[NotOfferedError]:
    """In a group of the tasks beside it, of which `service.run` shows one line."""
    return pytest.RaisesGroup(pytest.RaisesExc(NotOfferedError, match=why))


async def test_what_the_platform_lacks_is_refused_in_words_before_it_begins(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refused("neither exports orders nor lists them by creation"):
        await bootstrap.run(Lifetime(), [])
    assert await installation.pool.fetchval("select count(*) from bootstraps") == 0
    choose(MemoryPlatform(installation.shop, pushes=False), monkeypatch)
    with refused("pushes no messages"):
        await push.run(Lifetime())
    assert installation.shop.calls == []
    monkeypatch.setenv("TOPSYNC_LINGER", "unhurried")
    with pytest.raises(OperatorError, match=r"TOPSYNC_LINGER: .*no messages of this platform may wait"):
        await enrich.run(Lifetime())
