"""A slice that is exported: from asking the platform for its file until every line is handed over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from bootstrap.errors import BootstrapFailedError, ExportNotGivenError
from bootstrap.loading import Loader
from bootstrap.reach import within_reach
from bootstrap.start import Start
from schemas import platform_time
from topsync.base import failpoints, private_files, telemetry
from topsync.model.slice import LoadCounts, Slice, SliceState, SliceTask
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
    ExportState,
    ExportUnfinished,
    ExportWithoutFile,
)
from topsync.store import export_hints, slices

log = telemetry.get_logger(__name__)

MAX_ATTEMPTS = 3
"""How often a task or download of a slice that failed is asked for anew in the same run."""

SIZE_UNKNOWN = 1_000_000
"""How large a slice is taken to be that nobody has counted."""


@dataclass(slots=True)
class ExportedSlice:
    """Brings a slice by export."""

    start: Start
    export: BulkExport
    load_after: asyncio.Event | None = None
    """What has to be over before its file is fetched and loaded."""
    _why: str = ""
    """What the last attempt failed on."""

    async def load(self, of: Slice) -> Slice:
        """Go on where the slice stands, until all of it is loaded.

        Raises:
            ExportNotGivenError: the platform gives no export.
            OutOfReachError: nor any of the days.
            BootstrapFailedError: it cannot be had in this run.
            PlatformError, CallLimitedError, ErasedError, PublishError, ...: run it again later.
        """
        if of.state is SliceState.DOWNLOADED and _has_file(of) and not self.start.file_of(of).exists():
            # The folder of the former run is gone: the task still has the file.
            of = await self._to(of, SliceState.REQUESTED)
        for _ in range(MAX_ATTEMPTS):
            if of.state is SliceState.WAITING:
                of = await self._request(of)
                failpoints.reach("bootstrap.requested")
            if of.state in (SliceState.REQUESTED, SliceState.RUNNING):
                of = await self._take(of, await self._finished(of))
                failpoints.reach("bootstrap.downloaded")
            if of.state is SliceState.DOWNLOADED:
                async with self._turn(of):
                    of = await self._load(of)
            if of.state is SliceState.LOADED:
                return of
        raise BootstrapFailedError(
            f"the export failed {MAX_ATTEMPTS} times, the last time: {self._why}; run it again later"
        )

    async def _request(self, of: Slice) -> Slice:
        async with self.start.requests.turn():
            return await self._request_and_note(of)

    async def _request_and_note(self, of: Slice) -> Slice:
        of = await within_reach(self.start, of)
        asked_at = self.start.clock.now()
        answer = await self.export.request(
            of.kind,
            self.start.account.session,
            of.first_day,
            of.last_day,
            failed_before=of.failed_tasks,
            known_tasks=await slices.tasks(self.start.pool),
        )
        match answer:
            case ExportRefused(detail):
                raise ExportNotGivenError(detail)
            case ExportDuplicate(detail):
                self._failed(of, f"it exists already, and is not named: {detail}")
                await slices.task_failed(self.start.pool, of)
            case ExportAccepted(task_id) if of.task is not None and of.task.task_id == task_id:
                # It is lost, or came to nothing, and yet this request is answered with it.
                self._failed(of, f"the platform names the task {task_id} again, which was of no use")
                await slices.task_failed(self.start.pool, of)
            case ExportAccepted() as accepted:
                await self._note_task(of, accepted, asked_at)
        return await slices.get(self.start.pool, of)

    async def _note_task(self, of: Slice, task: ExportAccepted, asked_at: datetime) -> None:
        created_at = task.created_at or asked_at
        await slices.requested(
            self.start.pool,
            of,
            task_id=task.task_id,
            created_at=min(created_at, asked_at),
            created_on=platform_time.day_of(created_at),
            adopted=task.adopted,
        )
        log.info("export requested", **_names(of), task_id=task.task_id, adopted=task.adopted)

    async def _finished(self, of: Slice) -> ExportState:
        """How the slice's task has ended, or that its file is ready."""
        task, within = _task_of(of), self.start.settings.export_deadline_seconds
        try:
            async with asyncio.timeout(within) as deadline:
                with self.start.hints.of(of.seller_id) as ended:
                    return await self._polled(of, task.task_id, ended)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise BootstrapFailedError(
                f"the export {task.task_id} was not ready within {within:g} s; run the bootstrap again later"
            ) from None

    async def _polled(self, of: Slice, task_id: int, ended: asyncio.Event) -> ExportState:
        is_running = of.state is SliceState.RUNNING
        while True:
            state = await self.export.state(task_id)
            if not isinstance(state, ExportUnfinished):
                return state
            if state.running and not is_running:
                await slices.set_state(self.start.pool, of, SliceState.RUNNING)
                self._show(of, SliceState.RUNNING)
                is_running = True
            await export_hints.pause(ended, self.start.settings.export_poll_seconds)

    async def _take(self, of: Slice, state: ExportState) -> Slice:
        """Take what the task came to; a failure leads back to a new request, a bad download to a new URL."""
        match state:
            case ExportLost(detail):
                self._failed(of, f"it is lost: {detail}")
                await slices.set_state(self.start.pool, of, SliceState.WAITING)
            case ExportFailed():
                self._failed(of, "the platform gave it up")
                await slices.task_failed(self.start.pool, of)
            case ExportWithoutFile():
                await slices.downloaded(self.start.pool, of, check_code=None, file_bytes=0)
            case ExportReady():
                async with self._turn(of):
                    taken = await self._download_and_load(of)
                if taken is not None:
                    return taken
                # Without a turn, which others wait for.
                await asyncio.sleep(self.start.settings.export_poll_seconds)
            case ExportUnfinished():
                pass
        return await slices.get(self.start.pool, of)

    @asynccontextmanager
    async def _turn(self, of: Slice) -> AsyncIterator[None]:
        """A turn to fetch and load, once that may be."""
        if self.load_after is not None:
            await self.load_after.wait()
        async with self.start.loading.turn(size_of(of)):
            yield

    async def _download_and_load(self, of: Slice) -> Slice | None:
        """With a turn: so there are never more files than turns. None: there is no file, try again."""
        # Asked again: the URL works once, and not for ever, and the turn may have been long in coming.
        state = await self.export.state(_task_of(of).task_id)
        if not isinstance(state, ExportReady):
            self._failed(of, "its file is not there any more")
            return None
        file = self.start.file_of(of)
        try:
            private_files.make_folder(file.parent)
            size = await self.export.download(state, file)
        except OSError as error:
            raise BootstrapFailedError(
                f"the export cannot be written to {file.parent} ({error.strerror or error}): "
                "see to TOPSYNC_WORK_DIR, then run it again; it goes on where it stood"
            ) from error
        if isinstance(size, DownloadFailed):
            self._failed(of, f"download: {size.detail}")
            return None
        failpoints.reach("bootstrap.file_written")
        await slices.downloaded(self.start.pool, of, check_code=state.check_code, file_bytes=size)
        failpoints.reach("bootstrap.downloaded")
        return await self._load(await slices.get(self.start.pool, of))

    async def _load(self, of: Slice) -> Slice:
        """Publish every line that is left; the lines must add up, or nothing is claimed (P5)."""
        self._show(of, SliceState.DOWNLOADED)
        file, task = self.start.file_of(of), _task_of(of)
        counts = of.counts if _has_file(of) else LoadCounts()
        loader = Loader(self.start, of, task, counts)
        if _has_file(of):
            lines = self.export.lines(of.kind, file, skip=counts.lines)
            try:
                await loader.load(lines, lambda loaded: self._show(of, SliceState.DOWNLOADED, loaded))
            except ExportFileError as error:
                self._failed(of, str(error))
                await slices.task_failed(self.start.pool, of)
                file.unlink(missing_ok=True)
                return await slices.get(self.start.pool, of)
            except OSError as error:
                if file.exists():
                    raise BootstrapFailedError(
                        f"{file} cannot be read ({error.strerror or error}): see to TOPSYNC_WORK_DIR, then "
                        "run it again; it goes on where it stood"
                    ) from error
                # Somebody has taken it away: the task still has it.
                self._failed(of, f"its file is gone: {error}")
                return await self._to(of, SliceState.REQUESTED)
        if not loader.counts.comes_out:
            raise BootstrapFailedError(f"the export's lines do not add up: {loader.counts}")
        await slices.loaded(self.start.pool, of, loader.counts)
        file.unlink(missing_ok=True)
        failpoints.reach("bootstrap.loaded")
        self._show(of, SliceState.LOADED, loader.counts.lines)
        return await slices.get(self.start.pool, of)

    def _failed(self, of: Slice, why: str) -> None:
        """Note why an attempt failed; the next asks in other words, or for a new URL."""
        self._why = why
        log.warning("export failed; trying again", **_names(of), error=why)

    async def _to(self, of: Slice, state: SliceState) -> Slice:
        await slices.set_state(self.start.pool, of, state)
        return await slices.get(self.start.pool, of)

    def _show(self, of: Slice, state: SliceState, loaded: int | None = None) -> None:
        shown = self.start.progress.slices[of.number]
        shown.state = state
        if loaded is not None:
            shown.loaded = loaded


def _task_of(of: Slice) -> SliceTask:
    if of.task is None:
        raise BootstrapFailedError("the slice's state holds no task; run it again")
    return of.task


def _has_file(of: Slice) -> bool:
    return of.task is not None and bool(of.task.file_bytes)


def size_of(of: Slice) -> int:
    """How much there is to do, for turns."""
    return SIZE_UNKNOWN if of.expected is None else of.expected


def _names(of: Slice) -> dict[str, object]:
    """What the log calls a slice."""
    days = f"{of.first_day} to {of.last_day}"
    return {"seller_id": of.seller_id, "slice": of.number, "kind": of.kind.value, "days": days}
