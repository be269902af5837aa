"""An export that cannot be used as a whole: topsync reports it, and claims nothing that was not loaded."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from bootstrap import loading
from bootstrap.job import BootstrapFailedError, BootstrapJob
from schemas import cloud_events, platform_time
from schemas.change import Change
from schemas.notification import BootstrapBegun
from tests.coverage.pulling import ListGateway, pulling
from tests.platforms.taobao.gateway import SESSION, answers, ok
from tests.platforms.taobao.test_export_file import line, packed
from tests.store.databases import SELLER
from tests.stream.clusters import settings_for
from tests.support import systems
from tests.support.places import CASES
from topsync.base.settings import BootstrapSettings, CoverageSettings, KafkaSettings
from topsync.platforms.taobao.export import TaobaoExport
from topsync.platforms.taobao.gateway.download import DownloadConfig
from topsync.platforms.taobao.sessions import TaobaoSubscriptions
from topsync.sellers.sessions import Account
from topsync.store import bootstraps, sellers
from topsync.store.bootstraps import BootstrapStep
from topsync.stream.records import Record
from topsync.stream.topics import Topic

PERMITTED = answers(lambda: ok("tmc_user_permit", {"is_success": True}))


@dataclass
class Start:
    """A bulk start whose export has been downloaded, but is not there yet."""

    job: BootstrapJob
    file: Path
    gateway: ListGateway
    kafka: KafkaSettings

    async def state(self) -> tuple[BootstrapStep, int]:
        found = await bootstraps.under_way(self.job.puller.pool, SELLER)
        return found.step, found.failed_exports

    async def published(self, topic: Topic) -> list[Record]:
        return await systems.records(self.kafka, topic)


@pytest.fixture
async def start(
    migrated_database_url: str, kafka_bootstrap_servers: str, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Start]:
    kafka, gateway = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=2), ListGateway()
    quick = CoverageSettings(stored_within_seconds=1)
    own = BootstrapSettings(work_dir=tmp_path)
    async with pulling(gateway, migrated_database_url, kafka, quick) as (puller, client, topics):
        pool = puller.pool
        gateway.script.append(PERMITTED)
        seller = await sellers.get(pool, SELLER)
        assert seller is not None
        now = puller.clock.now()
        today = platform_time.day_of(now)
        await bootstraps.begin(pool, SELLER, first_day=today - timedelta(days=9), day_zero=today, at=now)
        await bootstraps.requested(pool, SELLER, task_id=1, created_at=now, created_on=today, adopted=False)
        await bootstraps.downloaded(pool, SELLER, check_code="0" * 32, file_bytes=217)
        file = own.export_file(SELLER)
        file.parent.mkdir()
        account = Account(seller, SecretStr(SESSION))
        yield Start(
            BootstrapJob(
                account=account,
                subscriptions=TaobaoSubscriptions(client),
                bulk_export=TaobaoExport(client, DownloadConfig(), own.export_max_ratio),
                puller=puller,
                topics=topics,
                settings=own,
                report=lambda *_: None,
            ),
            file,
            gateway,
            kafka,
        )


async def test_an_export_that_cannot_be_read_leads_back_to_a_new_request(start: Start) -> None:
    shutil.copy(CASES / "export_bzip2.zip", start.file)
    with pytest.raises(BootstrapFailedError, match=r"packed with bzip2; .* run it again"):
        await start.job.run()
    assert await start.state() == (BootstrapStep.SUBSCRIBED, 1)
    assert not start.file.exists()


async def test_an_export_that_breaks_in_the_middle_leads_back_to_a_new_request_too(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "LINES_AT_ONCE", 1)
    content = bytearray(packed(tmp_path, line(1), line(2)).read_bytes())
    content[content.rindex(b"PK\x03\x04")] ^= 0xFF
    start.file.write_bytes(content)
    with pytest.raises(BootstrapFailedError, match="not a readable zip"):
        await start.job.run()
    assert await start.state() == (BootstrapStep.SUBSCRIBED, 1)
    assert await bootstraps.count_rows(start.job.puller.pool, SELLER) == 1


async def test_a_line_that_only_names_its_order_is_asked_for_and_waited_for(
    start: Start, tmp_path: Path
) -> None:
    """The order is fetched like a changed order; until it is stored, the bulk start is not done."""
    broken = line(4000000000000000101, modified=None)
    start.file.write_bytes(packed(tmp_path, broken).read_bytes())
    with pytest.raises(BootstrapFailedError, match="1 of 1 exported orders are still not stored"):
        await start.job.run()
    (hint,) = await start.published(start.job.topics.changes)
    change = Change.model_validate_json(hint.value or b"")
    assert (change.tid, change.seller_id, change.source) == (4000000000000000101, SELLER, "bootstrap")
    assert await start.published(start.job.topics.snapshots) == []


async def test_a_line_that_names_no_order_is_a_dead_letter_and_there_is_no_certificate(
    start: Start, tmp_path: Path
) -> None:
    start.file.write_bytes(packed(tmp_path, b"not json").read_bytes())
    for _ in range(2):
        with pytest.raises(BootstrapFailedError, match="1 lines of the export name no order"):
            await start.job.run()
        start.gateway.script = deque([PERMITTED])
    (letter,) = await start.published(start.job.topics.dead_letters)
    assert letter.value == b"not json"
    assert cloud_events.attributes(letter.headers)["reason"] == "unreadable_export_line"
    assert (await start.state())[0] is BootstrapStep.LOADED
    notifications = await start.published(start.job.topics.notifications)
    types = {cloud_events.attributes(record.headers)["type"] for record in notifications}
    assert types == {BootstrapBegun.event_type}
