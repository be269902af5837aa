"""A second platform goes through the product untouched: push, enricher, pull and audit know the port alone.

Its differences are listed in the package's docstring. Kafka and PostgreSQL are real.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest
from pydantic import SecretStr

from bootstrap.job import BootstrapFailedError, BootstrapJob
from consumer.enrich.bytes_in_flight import BytesInFlight
from consumer.enrich.dead_letter_share import Limit
from consumer.enrich.enricher import Enricher
from consumer.enrich.kinds.catalogue import KINDS
from consumer.enrich.read.batches import BatchReader
from consumer.enrich.read.bringing import Bringer
from consumer.enrich.read.fetching import Fetcher
from consumer.enrich.write.writer import Tools
from consumer.push.service import PushService
from schemas.change import Change, Source
from tests.budget.gates import local_gate
from tests.platforms.memory.platform import (
    LEFT_TAG,
    MemoryClient,
    MemoryDetails,
    MemoryGrants,
    MemoryLists,
    MemoryMessages,
    MemorySubscriptions,
    truth_served,
)
from tests.platforms.memory.shop import BAD_TOKEN, BUSY, TOO_OFTEN, MemoryShop
from tests.store.databases import SELLER, emptied
from tests.stream.clusters import create_topics, read_all, settings_for
from tests.support.eventually import eventually
from topsync.base.clock import ServerClock
from topsync.base.service import Lifetime
from topsync.base.settings import (
    BootstrapSettings,
    CoverageSettings,
    EnricherSettings,
    KafkaSettings,
    VaultSettings,
)
from topsync.base.vault import Vault, new_key
from topsync.budget.errors import CallLimitedError
from topsync.coverage.pull import Puller
from topsync.coverage.pull_request import PullRequest
from topsync.model.kind import Kind
from topsync.platforms.port import PlatformAwayError, SessionRefusedError
from topsync.sellers.session_refresh import SessionRefresher
from topsync.sellers.sessions import Sessions
from topsync.store import coverage, sellers
from topsync.store.database import Pool
from topsync.store.sellers import Life
from topsync.store.shared_table import SharedTables
from topsync.stream import producer as producers
from topsync.stream.topics import Registry
from topsync.verify.audit import Audit, Result

PARTITIONS = 2
ORDERS = 30
TOKEN = "memory-token"
LAG = timedelta(seconds=1)


@dataclass
class Installation:
    """The product around the platform."""

    shop: MemoryShop
    pool: Pool
    kafka: KafkaSettings
    topics: Registry
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
        )

    @asynccontextmanager
    async def enriching(self) -> AsyncIterator[None]:
        """With an enricher, put together as in production but for the platform's details."""
        clock, tables = self.puller.clock, SharedTables(self.pool)
        fetcher = Fetcher(self.puller.details, clock, self.sessions)
        enricher = Enricher(
            settings=EnricherSettings(enricher_group=self.kafka.topic_prefix),
            kafka=self.kafka,
            tools=Tools(
                topics=self.topics,
                clock=clock,
                pool=self.pool,
                tables=tables,
                batches=BatchReader(
                    *(self.pool, tables, Bringer(fetcher, clock, self.topics)), kinds=[KINDS[Kind.ORDER]]
                ),
                bytes_in_flight=BytesInFlight(1_000_000),
                limit=Limit(1.0, 1000, 50),
            ),
            owner="memory",
        )
        lifetime = Lifetime()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(enricher.run(lifetime))
            yield
            lifetime.stop()

    async def stored(self) -> dict[int, str]:
        """The states that the table has, by order."""
        rows = await self.pool.fetch("select tid, status from orders where published_revision = revision")
        return {row["tid"]: row["status"] for row in rows}

    async def audited(self) -> Result:
        """Platform, table and topic compared, order by order."""
        async with truth_served(self.shop) as address:
            audit = Audit(self.pool, self.kafka, self.topics, address, kinds=(Kind.ORDER,))
            return await audit.run(settle_seconds=20)

    async def hinted(self) -> set[int]:
        """The orders that `changes` names."""
        found = await read_all(self.kafka, self.topics.changes.name, PARTITIONS)
        return {Change.model_validate_json(record.value or b"").tid for record in found}


@pytest.fixture
async def installation(
    migrated_database_url: str, kafka_bootstrap_servers: str, topic_prefix: str
) -> AsyncIterator[Installation]:
    """Thirty orders of the last hour, none of which topsync knows yet."""
    shop = MemoryShop(SELLER, TOKEN, "memory-secret")
    for number in range(ORDERS):
        shop.order(number, ago=3600 - 100 * number)
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=PARTITIONS)
    topics, clock = await create_topics(kafka), ServerClock()
    vault = Vault(VaultSettings(token_keys=SecretStr(new_key())))
    async with emptied(migrated_database_url) as pool, producers.idempotent(kafka) as producer:
        await pool.execute("delete from sellers")
        await sellers.add(
            pool,
            seller_id=SELLER,
            nick="memory_one",
            session_cipher=vault.encrypt(SecretStr(TOKEN)),
            life=Life(refresh_cipher=vault.encrypt(SecretStr(shop.refresh_token))),
        )
        client = MemoryClient(shop, clock, local_gate())
        await client.sync_clock()
        puller = Puller(
            pool=pool,
            lists=MemoryLists(client),
            details=MemoryDetails(client),
            clock=clock,
            producer=producer,
            changes_topic=topics.changes.name,
            settings=CoverageSettings(visibility_allowance_seconds=60, stored_within_seconds=20),
            detail_lag=LAG,
            kinds=(Kind.ORDER,),
        )
        service = PushService(
            messages=MemoryMessages(shop, clock),
            kafka=kafka,
            topics=topics,
            pool=pool,
            detail_lag=LAG,
            proof_interval_seconds=0.05,
        )
        lifetime = Lifetime()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(service.run(lifetime))
            await eventually(lambda: shop.callback_url)
            sessions = Sessions(pool, vault, SessionRefresher(pool, vault, MemoryGrants(shop, clock), clock))
            yield Installation(shop, pool, kafka, topics, puller, sessions)
            lifetime.stop()


async def test_thirty_orders_go_through_push_enricher_pull_and_audit(installation: Installation) -> None:
    shop = installation.shop
    orders = list(shop.orders.values())
    async with installation.enriching():
        for order in orders[:3]:
            shop.move(order, 2)
        await shop.push(*orders[:10])

        async def are_stored(count: int) -> bool:
            return len(await installation.stored()) == count

        await eventually(lambda: are_stored(10))
        # Nobody has pushed the other twenty, and the message about this change is lost: the list finds them.
        shop.move(orders[4], 3)
        found = await installation.puller.pull(installation.request())
        assert found.listed == {Kind.ORDER: ORDERS}
        assert found.hinted[Kind.ORDER] >= ORDERS - 10 + 1
        assert len(await installation.stored()) == ORDERS
        (proven,) = (await coverage.proven(installation.pool))[SELLER]
        assert proven.end == found.proven_to
        shop.move(orders[20], 5)
        await shop.push(orders[20])
        result = await installation.audited()
    assert result.clean, result
    assert (result.line(), result.orders) == (
        f"AUDIT orders={ORDERS} missing=0 stale=0 backwards=0 holes=0",
        ORDERS,
    )
    states = Counter((await installation.stored()).values())
    assert states == {"UNPAID": 25, "TO_SHIP": 3, "ON_ITS_WAY": 1, "DONE": 1}


async def test_a_callback_is_answered_only_once_kafka_has_its_messages(installation: Installation) -> None:
    shop = installation.shop
    some = list(shop.orders.values())[:10]
    await shop.push(*some)
    assert shop.callbacks == 1
    assert await installation.hinted() == {int(order.order_id) for order in some}
    # The connection is a row that the reconciler opens gaps by.
    row = await installation.pool.fetchrow("select channel_group, lost_at from push_connections")
    assert row is not None
    assert (row["channel_group"], row["lost_at"]) == ("memory", None)


async def test_what_is_no_message_about_an_order_is_kept_as_what_it_is(installation: Installation) -> None:
    shop = installation.shop
    await shop.push_messages(
        shop.message_of("0", {}), shop.message_of("200", {"shop_id": SELLER}), shop.message_of("200", "x")
    )
    assert await installation.hinted() == set()
    letters = await read_all(installation.kafka, installation.topics.dead_letters.name, 1)
    notices = await read_all(installation.kafka, installation.topics.notifications.name, 1)
    assert (len(letters), len(notices)) == (2, 1)


async def test_a_seller_that_leaves_is_expired_before_a_call_is_refused(installation: Installation) -> None:
    shop = installation.shop
    await shop.push_messages(shop.message_of(LEFT_TAG, {"shop_id": SELLER}))

    async def is_expired() -> bool:
        state = await installation.pool.fetchval("select state from sellers where seller_id = $1", SELLER)
        return bool(state == "expired")

    await eventually(is_expired)


async def test_a_list_of_another_kind_names_each_order_once(installation: Installation) -> None:
    """It is deeper than the platform pages, so that its windows are halved."""
    found = await installation.puller.preview(installation.request())
    assert found.listed == found.hinted == {Kind.ORDER: ORDERS}
    parts, _ = await installation.puller.list_parts(installation.request())
    listed = {id_: modified for part in parts for id_, modified in part.orders.items()}
    assert {str(id_): int(modified.timestamp()) for id_, modified in listed.items()} == {
        order.order_id: order.updated for order in installation.shop.orders.values()
    }


async def test_what_the_platform_refuses_means_the_same_as_on_any_other(installation: Installation) -> None:
    with pytest.raises(SessionRefusedError):
        await installation.puller.preview(installation.request(token="stolen"))
    failures: dict[int, type[Exception]] = {
        BUSY: PlatformAwayError,
        TOO_OFTEN: CallLimitedError,
        BAD_TOKEN: SessionRefusedError,
    }
    for code, error in failures.items():
        installation.shop.fails_next.append(code)
        with pytest.raises(error):
            await installation.puller.preview(installation.request())


async def test_a_session_that_the_platform_refuses_is_refreshed(installation: Installation) -> None:
    sessions, shop = installation.sessions, installation.shop
    account = await sessions.get(SELLER)
    assert account is not None
    shop.token = "expired"
    with pytest.raises(SessionRefusedError):
        await installation.puller.preview(installation.request())
    refreshed = await sessions.refused(account)
    assert refreshed is not None
    found = await installation.puller.preview(
        installation.request(token=refreshed.session.get_secret_value())
    )
    assert found.listed == {Kind.ORDER: ORDERS}


async def test_a_bulk_start_refuses_a_platform_without_an_export_before_it_begins(
    installation: Installation,
) -> None:
    account = await installation.sessions.get(SELLER)
    assert account is not None
    job = BootstrapJob(
        account=account,
        subscriptions=MemorySubscriptions(),
        bulk_export=None,
        puller=installation.puller,
        topics=installation.topics,
        settings=BootstrapSettings(),
        report=lambda *_: None,
    )
    with pytest.raises(BootstrapFailedError, match="no bulk export"):
        await job.run()
    assert installation.shop.calls == []
    assert await installation.pool.fetchval("select count(*) from bootstraps") == 0
