"""The bulk start of a seller, step by step; each step is idempotent, and a new run goes on where it stood.

*subscribe* (push listens first), *request* the export up to yesterday 23:59:59, *download* it, *load* it
into `snapshots`, wait until all of it is *stored*, pull *today* and the refunds of all that time, *certify*,
live (docs/architecture.md). The day on
which the export is asked for, day zero, is fixed then and kept: the export holds the orders created before
it, the increments from its first second hold everything changed since (docs/platform/gateway.md 4.5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn

from bootstrap.loading import Loader
from schemas import platform_time
from schemas.change import Source
from schemas.notification import BootstrapBegun, BootstrapCompleted, ExportPart, Notification, TodayPart
from topsync.base import failpoints, private_files, telemetry
from topsync.base.clock import ServerClock
from topsync.base.errors import OperatorError
from topsync.base.settings import BootstrapSettings
from topsync.base.stall_timer import StallTimer
from topsync.coverage.pull import Puller, PullOutcome
from topsync.coverage.pull_request import PullRequest
from topsync.model.kind import Kind
from topsync.model.priority import Priority
from topsync.model.span import Span
from topsync.platforms.export_port import (
    BulkExport,
    DownloadFailed,
    ExportAccepted,
    ExportDuplicate,
    ExportFailed,
    ExportFileError,
    ExportLost,
    ExportReady,
    ExportRefused,
    ExportUnfinished,
    ExportWithoutFile,
)
from topsync.platforms.session_port import Subscriptions
from topsync.sellers.sessions import Account
from topsync.store import bootstraps
from topsync.store.bootstraps import Bootstrap, BootstrapStep, Export
from topsync.store.sellers import ErasedError
from topsync.stream import records
from topsync.stream.topics import Registry

log = telemetry.get_logger(__name__)

STORE_POLL_SECONDS = 0.2
COUNT_PAUSES = 100
"""After a count of what is stored, which reads every order, none follows for so many times its duration."""

MAX_EXPORT_ATTEMPTS = 3
"""How often a failed export or download is asked for anew in the same run."""

Report = Callable[[str, int, int | None], None]
"""Called with (step, done, total if known)."""


class BootstrapFailedError(OperatorError):
    """The bulk start cannot go on. The text says what to do; a new run goes on where this run stood."""


@dataclass(slots=True)
class BootstrapJob:
    """A seller's bulk start."""

    account: Account
    subscriptions: Subscriptions
    bulk_export: BulkExport
    puller: Puller
    topics: Registry
    settings: BootstrapSettings
    report: Report

    @property
    def _seller_id(self) -> int:
        return self.account.seller.seller_id

    @property
    def _clock(self) -> ServerClock:
        return self.puller.clock

    async def run(self) -> None:
        """Go through all steps that are not done yet.

        Raises:
            BootstrapFailedError: see there.
            PlatformError, CallLimitedError, NotStoredError, ...: the platform or the writers do not answer;
                run again later.
            ErasedError: the seller was erased meanwhile.
        """
        try:
            await self._go_through()
        except ErasedError:
            self._file.unlink(missing_ok=True)
            raise

    async def _go_through(self) -> None:
        state = await self._subscribe()
        failpoints.reach("bootstrap.subscribed")
        if (
            state.step is BootstrapStep.DOWNLOADED
            and _export_of(state).file_bytes
            and not self._file.exists()
        ):
            # The folder of the former run is gone: the task still has the file.
            await bootstraps.download_again(self.puller.pool, self._seller_id)
            state = await self._state()
        for _ in range(MAX_EXPORT_ATTEMPTS):
            if state.step is BootstrapStep.SUBSCRIBED:
                state = await self._request(state)
                failpoints.reach("bootstrap.requested")
            if state.step is BootstrapStep.REQUESTED:
                state = await self._fetch(state)
                failpoints.reach("bootstrap.downloaded")
            if state.step in (BootstrapStep.DOWNLOADED, BootstrapStep.LOADED):
                break
        else:
            raise BootstrapFailedError(f"the export failed {MAX_EXPORT_ATTEMPTS} times; run it again later")
        if state.step is BootstrapStep.DOWNLOADED:
            state = await self._load(state)
            failpoints.reach("bootstrap.loaded")
        export = _export_of(state)
        await self._wait_until_stored(export)
        failpoints.reach("bootstrap.stored")
        today = await self._pull_today(state)
        failpoints.reach("bootstrap.today_pulled")
        await self._certify(state, export, today)

    async def _subscribe(self) -> Bootstrap:
        """Messages first: from here on every change is pushed, and the age of the export does not matter."""
        self.report("subscribe", 0, 1)
        refused = await self.subscriptions.subscribe(self.account.session, priority=Priority.BOOTSTRAP)
        if refused is not None:
            raise BootstrapFailedError(f"the platform does not push the seller's messages: {refused.detail}")
        now = self._clock.now()
        day_zero = platform_time.day_of(now)
        state = await bootstraps.begin(
            self.puller.pool,
            self._seller_id,
            first_day=day_zero - timedelta(days=self.settings.export_days),
            day_zero=day_zero,
            at=now,
        )
        await self._notify(BootstrapBegun(seller_id=self._seller_id, day_zero=state.day_zero))
        self.report("subscribe", 1, 1)
        return state

    async def _request(self, state: Bootstrap) -> Bootstrap:
        self.report("export", 0, None)
        asked_at = self._clock.now()
        # Both ends follow from day zero, so that a request after midnight cannot reach back 91 days.
        task = await self.bulk_export.request(
            Kind.ORDER,
            self.account.session,
            state.first_day,
            state.day_zero - timedelta(days=1),
            failed_before=state.failed_exports,
            known_tasks=(),
        )
        match task:
            case ExportRefused(detail):
                raise BootstrapFailedError(f"the platform exports nothing: {detail}")
            case ExportDuplicate(detail):
                log.warning(
                    "export not found; asking in other words", seller_id=self._seller_id, error=detail
                )
                await bootstraps.export_failed(self.puller.pool, self._seller_id)
                return await self._state()
            case ExportAccepted():
                pass
        created_at = task.created_at or asked_at
        await bootstraps.requested(
            self.puller.pool,
            self._seller_id,
            task_id=task.task_id,
            created_at=min(created_at, asked_at),
            created_on=platform_time.day_of(created_at),
            adopted=task.adopted,
        )
        log.info("export requested", seller_id=self._seller_id, task_id=task.task_id, adopted=task.adopted)
        return await self._state()

    async def _fetch(self, state: Bootstrap) -> Bootstrap:
        """Wait for the export and download it; a failed export leads back to a new request."""
        export = _export_of(state)
        self.report("export", 0, None)
        match await self._poll(export):
            case ExportLost(detail):
                log.warning("export lost; asking for a new export", seller_id=self._seller_id, error=detail)
                await bootstraps.ask_again(self.puller.pool, self._seller_id)
            case ExportFailed():
                log.warning(
                    "export failed; asking in other words", seller_id=self._seller_id, task=export.task_id
                )
                await bootstraps.export_failed(self.puller.pool, self._seller_id)
            case ExportWithoutFile():
                self.report("export", 1, 1)
                await bootstraps.downloaded(self.puller.pool, self._seller_id, check_code=None, file_bytes=0)
            case ExportReady() as ready:
                self.report("export", 1, 1)
                await self._download(ready)
        return await self._state()

    async def _download(self, ready: ExportReady) -> None:
        """Fetch the file, and note that; a failed download leaves everything as it is."""
        try:
            private_files.make_folder(self._file.parent)
            size = await self.bulk_export.download(ready, self._file)
        except OSError as error:
            raise BootstrapFailedError(
                f"the export cannot be written to {self._file.parent} ({error.strerror or error}): "
                "see to TOPSYNC_WORK_DIR, then run it again; it goes on where it stood"
            ) from error
        if isinstance(size, DownloadFailed):
            log.warning("download failed; taking a new URL", seller_id=self._seller_id, error=size.detail)
            await asyncio.sleep(self.settings.export_poll_seconds)
            return
        failpoints.reach("bootstrap.file_written")
        await bootstraps.downloaded(
            self.puller.pool, self._seller_id, check_code=ready.check_code, file_bytes=size
        )

    async def _poll(self, export: Export) -> ExportLost | ExportFailed | ExportWithoutFile | ExportReady:
        try:
            async with asyncio.timeout(self.settings.export_deadline_seconds):
                while True:
                    state = await self.bulk_export.state(export.task_id)
                    if not isinstance(state, ExportUnfinished):
                        return state
                    await asyncio.sleep(self.settings.export_poll_seconds)
        except TimeoutError:
            raise BootstrapFailedError(
                f"the export {export.task_id} was not ready within "
                f"{self.settings.export_deadline_seconds:g} s; run the bootstrap again later"
            ) from None

    async def _load(self, state: Bootstrap) -> Bootstrap:
        """Publish every line; the row-count equation must come out, or nothing is claimed (P5)."""
        export = _export_of(state)
        puller = self.puller
        loader = Loader(self._seller_id, export, puller.pool, puller.producer, self.topics, self._clock)
        counts = loader.counts
        if export.file_bytes:
            try:
                await loader.load(
                    self.bulk_export.lines(Kind.ORDER, self._file),
                    lambda lines: self.report("load", lines, None),
                )
            except ExportFileError as error:
                await self._give_file_up(error)
        if counts["lines"] != counts["published"] + counts["repaired"] + counts["refused"]:
            raise BootstrapFailedError(f"the export's rows do not add up: {dict(counts)}")
        await bootstraps.loaded(
            self.puller.pool,
            self._seller_id,
            lines=counts["lines"],
            published=counts["published"],
            repaired=counts["repaired"],
            refused=counts["refused"],
        )
        self.report("load", counts["lines"], counts["lines"])
        self._file.unlink(missing_ok=True)
        return await self._state()

    async def _give_file_up(self, error: ExportFileError) -> NoReturn:
        """The file that the platform vouched for is of no use: the next run asks for another export."""
        await bootstraps.export_failed(self.puller.pool, self._seller_id)
        self._file.unlink(missing_ok=True)
        raise BootstrapFailedError(
            f"{error}; run it again: it asks the platform for a new export. What was loaded stays"
        ) from error

    async def _wait_until_stored(self, export: Export) -> None:
        pool, seller_id, created_at = self.puller.pool, self._seller_id, export.created_at
        total = await bootstraps.count_rows(pool, seller_id)
        within = self.puller.settings.stored_within_seconds
        loop = asyncio.get_running_loop()
        timer, stored_to, count_at = StallTimer(within), 0, loop.time()
        while True:
            # What is stored stays so: each order is looked at about once, however many there are.
            found = await bootstraps.first_unstored(pool, seller_id, created_at=created_at, after=stored_to)
            if found is None:
                break
            stored_to = found
            if (begun := loop.time()) >= count_at:
                missing = await bootstraps.count_unstored(pool, seller_id, created_at=created_at)
                self.report("store", total - missing, total)
                if timer.is_stalled(missing, at_seconds=loop.time()):
                    raise BootstrapFailedError(
                        f"{missing} of {total} exported orders are still not stored and nothing moved for "
                        f"{within:g} s; are the enrichers running? Dead letters name the orders that they "
                        "refused"
                    )
                count_at = loop.time() + COUNT_PAUSES * (loop.time() - begun)
            await asyncio.sleep(STORE_POLL_SECONDS)
        self.report("store", total, total)

    async def _pull_today(self, state: Bootstrap) -> PullOutcome:
        self.report("today", 0, None)
        return await self.puller.pull(
            PullRequest(
                seller_id=self._seller_id,
                session=self.account.session,
                start=self._seam(state),
                end=None,
                source=Source.BOOTSTRAP,
                reason="today",
                # The export holds no parts of orders (refunds): they are listed for all of its time.
                parts_from=platform_time.start_of(state.first_day),
            ),
            progress=lambda settled, listed: self.report("today", settled, listed),
        )

    async def _certify(self, state: Bootstrap, export: Export, today: PullOutcome) -> None:
        if export.refused:
            raise BootstrapFailedError(
                f"{export.refused} lines of the export name no order: they are dead letters; without them "
                "the copy is not proven complete"
            )
        now = self._clock.now()
        certificate = BootstrapCompleted(
            seller_id=self._seller_id,
            day_zero=state.day_zero,
            export=ExportPart.model_validate(
                {
                    "task_id": export.task_id,
                    "first_day": state.first_day,
                    "last_day": state.day_zero - timedelta(days=1),
                    "created_at": export.created_at,
                    "adopted": export.adopted,
                    "md5": export.check_code,
                    "file_bytes": export.file_bytes,
                    "lines": export.lines,
                    "published": export.published,
                    "repaired": export.repaired,
                    "refused": export.refused,
                    "orders": await bootstraps.count_rows(self.puller.pool, self._seller_id),
                    "digest": await bootstraps.digest(self.puller.pool, self._seller_id),
                }
            ),
            today=TodayPart(
                listed=today.listed[Kind.ORDER],
                hinted=today.hinted[Kind.ORDER],
                calls=today.calls,
                proven_to=today.proven_to,
                refunds=today.listed.get(Kind.REFUND),
            ),
            certified_at=now,
        )
        proven = Span(platform_time.start_of(state.first_day), self._seam(state))
        # Published first: after a crash in between it is published again, and nobody waits for it in vain.
        await self._notify(certificate)
        failpoints.reach("bootstrap.notified")
        await bootstraps.certify(
            self.puller.pool,
            self._seller_id,
            at=now,
            certificate=certificate.model_dump(mode="json", exclude_none=True),
            proven=proven,
        )
        failpoints.reach("bootstrap.certified")
        self.report("live", 1, 1)
        log.info("bootstrapped", seller_id=self._seller_id, orders=export.lines)

    def _seam(self, state: Bootstrap) -> datetime:
        """Where the increments take over: day zero's first second, minus the overlap for late orders."""
        start = platform_time.start_of(state.day_zero)
        return start - self.puller.settings.list_allowances.overlap(start, now=state.started_at)

    async def _notify(self, notification: Notification) -> None:
        record = records.notification(self.topics.notifications.name, notification, at=self._clock.now())
        await self.puller.producer.publish([record])

    async def _state(self) -> Bootstrap:
        return await bootstraps.under_way(self.puller.pool, self._seller_id)

    @property
    def _file(self) -> Path:
        return self.settings.export_file(self._seller_id)


def _export_of(state: Bootstrap) -> Export:
    if state.export is None:
        raise BootstrapFailedError("the bootstrap's state holds no export; run it again")
    return state.export
