"""An export that cannot be used as a whole: topsync reports it, and claims nothing that was not loaded.

With real PostgreSQL, Kafka, files and a gateway over sockets; no enricher runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import SecretStr

from bootstrap import loading
from bootstrap.certifying import Certifier
from bootstrap.counted_spans import LongestCount
from bootstrap.errors import BootstrapFailedError
from bootstrap.exporting import MAX_ATTEMPTS
from bootstrap.job import BootstrapJob
from bootstrap.progress import SellerProgress
from bootstrap.pulse import Pulse
from bootstrap.start import Start
from bootstrap.turns import LoadingTurns
from schemas import cloud_events, platform_time
from schemas.certificate import read
from schemas.change import Change
from schemas.notification import BootstrapBegun
from tests.coverage.pulling import NO_RIGHT, ListGateway, pulling
from tests.platforms.taobao.gateway import SESSION, error, ok, raw, serving
from tests.platforms.taobao.test_export_file import line, packed
from tests.store.databases import SELLER
from tests.stream.clusters import settings_for
from tests.support import systems
from tests.support.places import CASES
from topsync.base.settings import BootstrapSettings, CoverageSettings, KafkaSettings
from topsync.coverage.created import CreatedLister
from topsync.model.equations import problems
from topsync.model.scheme import Scheme
from topsync.model.slice import LoadCounts, Slice, SliceState
from topsync.platforms.taobao.created import TaobaoCreatedLists
from topsync.platforms.taobao.export import TaobaoExport
from topsync.platforms.taobao.gateway.download import DownloadConfig
from topsync.platforms.taobao.sessions import TaobaoSubscriptions
from topsync.sellers.sessions import Account
from topsync.store import certificates, sellers, slices
from topsync.store.export_hints import ExportHints
from topsync.store.export_requests import ExportRequests
from topsync.stream.records import Record
from topsync.stream.topics import Topic

TID = 4000000000000000101


class ExportGateway(ListGateway):
    """Has done each export as soon as it is asked for; its file is what a test put there. Lists are empty."""

    def __init__(self) -> None:
        super().__init__()
        self.file = b""
        self.files_url = ""
        self.refuses_to_count = False
        self.names_tasks = 0
        """So many requests are answered with a task that is said to exist."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        match form["method"]:
            case "taobao.tmc.user.permit":
                return ok("tmc_user_permit", {"is_success": True})
            case "taobao.topats.trades.sold.get":
                if len(self.asked_for) <= self.names_tasks:
                    return error(15, "isv.task-duplicate", f"TaskId={len(self.asked_for)}")
                return ok("topats_trades_sold_get", {"task": self._task(len(self.asked_for))})
            case "taobao.topats.result.get":
                code = hashlib.md5(self.file, usedforsecurity=False).hexdigest()
                done = {"status": "done", "download_url": f"{self.files_url}/file", "check_code": code}
                return ok("topats_result_get", {"task": {**self._task(int(str(form["task_id"]))), **done}})
            case "taobao.trades.sold.get":
                if self.refuses_to_count:
                    return error(11, NO_RIGHT)
                counted = {"total_results": 0} if form["use_has_next"] == "false" else {"has_next": False}
                return ok("trades_sold_get", {"trades": {"trade": []}, **counted})
        return await super().answer(request)

    async def give_file(self, request: web.Request) -> web.StreamResponse:
        del request
        return raw(self.file, content_type="application/octet-stream")

    @property
    def asked_for(self) -> list[str]:
        """The fields of each export that was asked for."""
        return [seen.form["fields"] for seen in self.calls("taobao.topats.trades.sold.get")]

    def _task(self, task_id: int) -> dict[str, object]:
        return {"task_id": task_id, "created": platform_time.format(self.now())}


@dataclass
class Bad:
    """A bulk start of a single slice, whose file a test puts there."""

    start: Start
    gateway: ExportGateway
    kafka: KafkaSettings
    job: Callable[[], BootstrapJob]
    folder: Path

    def put(self, *lines: bytes) -> None:
        self.gateway.file = packed(self.folder, *lines).read_bytes()

    def line(self, tid: int, **fields: object) -> bytes:
        """An order of yesterday's."""
        text = platform_time.format(self.gateway.now() - timedelta(days=1))
        return line(tid, **{"created": text, "modified": text, **fields})

    async def fail(self) -> str:
        with pytest.raises(BootstrapFailedError) as failure:
            await self.job().run()
        return str(failure.value)

    async def slice(self) -> Slice:
        (found,) = await slices.of_seller(self.start.pool, SELLER)
        return found

    async def published(self, topic: Topic) -> list[Record]:
        return await systems.records(self.kafka, topic)


@pytest.fixture
async def bad(
    migrated_database_url: str, kafka_bootstrap_servers: str, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Bad]:
    kafka, gateway = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=2), ExportGateway()
    own = BootstrapSettings(work_dir=tmp_path, export_days=9, export_poll_seconds=0.01)
    async with (
        serving(gateway.give_file) as gateway.files_url,
        pulling(gateway, migrated_database_url, kafka, CoverageSettings(stored_within_seconds=1)) as made,
    ):
        puller, client, topics = made
        seller = await sellers.get(puller.pool, SELLER)
        assert seller is not None
        config = DownloadConfig(allowed_hosts=frozenset({"127.0.0.1"}))
        start = Start(
            account=Account(seller, SecretStr(SESSION)),
            puller=puller,
            bulk_export=TaobaoExport(client, config, own.export_max_ratio),
            created=CreatedLister(puller.clock, TaobaoCreatedLists(client), puller.settings),
            detail_tasks=None,
            hints=ExportHints(puller.pool),
            topics=topics,
            settings=own,
            requests=ExportRequests(puller.pool),
            pulse=Pulse(),
            loading=LoadingTurns(1),
            pulling=LoadingTurns(1),
            longest_count=LongestCount(),
            progress=SellerProgress(SELLER, seller.nick),
        )

        def job() -> BootstrapJob:
            certifier = Certifier(None, timedelta(seconds=15))
            return BootstrapJob(start, Scheme.AUTO, TaobaoSubscriptions(client), certifier)

        folder = tmp_path / "made"
        folder.mkdir()
        yield Bad(start, gateway, kafka, job, folder)


async def test_an_export_that_cannot_be_read_is_asked_for_anew_in_the_same_run(bad: Bad) -> None:
    bad.gateway.file = (CASES / "export_bzip2.zip").read_bytes()
    failure = await bad.fail()
    assert "the export failed 3 times, the last time: " in failure
    assert "packed with bzip2" in failure
    of = await bad.slice()
    assert (of.state, of.failed_tasks) == (SliceState.WAITING, MAX_ATTEMPTS)
    assert len(set(bad.gateway.asked_for)) == MAX_ATTEMPTS, "each in other words"
    assert bad.start.settings.export_files(SELLER) == []


async def test_an_adopted_export_of_another_seller_is_not_loaded_and_a_new_one_is_the_sellers_own(
    bad: Bad,
) -> None:
    bad.put(bad.line(1), bad.line(2, seller_nick="demo_two"))
    bad.gateway.names_tasks = MAX_ATTEMPTS
    assert "the adopted task 3 holds orders of demo_two, not of demo_one" in await bad.fail()
    assert await bad.published(bad.start.topics.snapshots) == []
    assert await slices.count_rows(bad.start.pool, await bad.slice()) == 0
    # A new task is the seller's: after a change of nick, the lines have the new one.
    bad.gateway.names_tasks = 0
    assert "2 of 2 orders are still not stored" in await bad.fail()
    assert len(await bad.published(bad.start.topics.snapshots)) == 2


async def test_an_export_that_breaks_in_the_middle_keeps_what_was_loaded(
    bad: Bad, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "LINES_AT_ONCE", 1)
    bad.put(bad.line(1), bad.line(2))
    content = bytearray(bad.gateway.file)
    content[content.rindex(b"PK\x03\x04")] ^= 0xFF
    bad.gateway.file = bytes(content)
    assert "not a readable zip" in await bad.fail()
    assert (await bad.slice()).state is SliceState.WAITING
    assert await slices.count_rows(bad.start.pool, await bad.slice()) == 1
    assert {record.key for record in await bad.published(bad.start.topics.snapshots)} == {b"1"}


async def test_a_line_that_only_names_its_order_is_fetched_and_waited_for(bad: Bad) -> None:
    """The order is fetched like a changed order; until it is stored, the bulk start is not done."""
    bad.put(bad.line(TID, modified=None))
    assert "1 of 1 orders are still not stored" in await bad.fail()
    hints = await bad.published(bad.start.topics.changes)
    changes = [Change.model_validate_json(hint.value or b"") for hint in hints]
    assert {(each.tid, each.seller_id, each.source) for each in changes} == {(TID, SELLER, "bootstrap")}
    assert await bad.published(bad.start.topics.snapshots) == []
    of = await bad.slice()
    assert (of.state, of.counts) == (SliceState.LOADED, LoadCounts(lines=1, repaired=1))


async def test_a_line_that_names_no_order_is_a_dead_letter_and_without_a_list_there_is_no_certificate(
    bad: Bad,
) -> None:
    bad.gateway.refuses_to_count = True
    bad.put(b"not json")
    for _ in range(2):
        assert "1 lines of the export name no order" in await bad.fail()
    (letter,) = await bad.published(bad.start.topics.dead_letters)
    assert letter.value == b"not json"
    assert cloud_events.attributes(letter.headers)["reason"] == "unreadable_export_line"
    assert (await bad.slice()).state is SliceState.LOADED
    notifications = await bad.published(bad.start.topics.notifications)
    types = {cloud_events.attributes(record.headers)["type"] for record in notifications}
    assert types == {BootstrapBegun.event_type}


async def test_with_a_list_that_names_every_order_such_a_line_is_no_obstacle(bad: Bad) -> None:
    bad.put(b"not json")
    await bad.job().run()
    of = await bad.slice()
    assert (of.state, of.counts) == (SliceState.STORED, LoadCounts(lines=1, refused=1))
    assert of.balance is not None
    assert (of.balance.counted, of.balance.objects) == (0, 0)
    found = await certificates.last(bad.start.pool, SELLER)
    assert found is not None
    assert problems(read(found.document).content) == []
