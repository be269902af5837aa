"""The platform says that an export is good, but it is useless: topsync reports it and requests another."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from bootstrap import job
from bootstrap.job import BootstrapFailedError, BootstrapJob
from schemas import platform_time
from tests.coverage.pulling import pulling
from tests.platforms.taobao.gateway import SESSION, Gateway, answers, ok
from tests.platforms.taobao.test_export_file import line, packed
from tests.store.databases import SELLER
from tests.stream.clusters import settings_for
from tests.support.places import CASES
from topsync.base.settings import BootstrapSettings, CoverageSettings
from topsync.platforms.taobao.export import TaobaoExport
from topsync.platforms.taobao.gateway.download import DownloadConfig
from topsync.platforms.taobao.sessions import TaobaoSubscriptions
from topsync.sellers.sessions import Account
from topsync.store import bootstraps, sellers
from topsync.store.bootstraps import BootstrapStep


@dataclass
class Start:
    """A bulk start whose export has been downloaded, but is not there yet."""

    job: BootstrapJob
    file: Path

    async def state(self) -> tuple[BootstrapStep, int]:
        found = await bootstraps.under_way(self.job.puller.pool, SELLER)
        return found.step, found.failed_exports


@pytest.fixture
async def start(
    migrated_database_url: str, kafka_bootstrap_servers: str, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Start]:
    kafka, gateway = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=2), Gateway()
    own = BootstrapSettings(work_dir=tmp_path)
    async with pulling(gateway, migrated_database_url, kafka, CoverageSettings()) as (puller, client, topics):
        pool = puller.pool
        gateway.script.append(answers(lambda: ok("tmc_user_permit", {"is_success": True})))
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
    monkeypatch.setattr(job, "LINES_AT_ONCE", 1)
    content = bytearray(packed(tmp_path, line(1), line(2)).read_bytes())
    content[content.rindex(b"PK\x03\x04")] ^= 0xFF
    start.file.write_bytes(content)
    with pytest.raises(BootstrapFailedError, match="not a readable zip"):
        await start.job.run()
    assert await start.state() == (BootstrapStep.SUBSCRIBED, 1)
    assert await bootstraps.count_rows(start.job.puller.pool, SELLER) == 1
