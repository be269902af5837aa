"""The asynchronous APIs: tasks, their schedule, files with one-time addresses, and batches of details.

Reference: docs/platform/gateway.md 3.6 to 3.9 and 4. A result shows orders as they stand when the task
*runs*, not as they stood before.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import orjson
import structlog

from schemas import platform_time
from topsync.simulator import details
from topsync.simulator.dice import Dice
from topsync.simulator.errors import ApiError, business
from topsync.simulator.export_worker import ExportJob, WrittenExport, job_to_json
from topsync.simulator.faults.base import DOWNLOAD, EXPORT_RUN, REFUNDS_EXPORT, Visit
from topsync.simulator.faults.effects import ExportRun
from topsync.simulator.sellers import SimulatedSeller
from topsync.simulator.settings import DuplicateScope, ExportSettings, PlatformQuirks
from topsync.simulator.wire import JsonObject, time_text
from topsync.simulator.world import World

_log = structlog.get_logger(module=__name__)

_FIRST_TASK_ID = 37_600_001
_WORKERS = 1
"""Files written at the same time; few, because the gateway runs on the same machine."""
_OPENS = timedelta(hours=1)
_CLOSES = timedelta(hours=23)
_PACKAGE_ROOT = Path(__file__).parents[2]
_TOKEN_DIGITS = 32
_MAX_TASKS = 10_000
_MAX_ADDRESSES = 100_000
"""Unused addresses to keep; the oldest are dropped first."""
_NO_REASON = "the export worker gave no reason"
_LISTED_BACK_SECONDS = 3 * 86400
_LISTED_AHEAD_SECONDS = 86400
"""How far `topats.tasks.get` looks (docs/platform/gateway.md 3.9)."""


class TaskStatus(StrEnum):
    """How far a task is; the value is that of `status`."""

    NEW = "new"
    DOING = "doing"
    DONE = "done"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What makes two requests the same task: app, user, method and parameters."""

    app_key: str
    seller: SimulatedSeller
    method: str
    fields: str


@dataclass(frozen=True, slots=True)
class FileRequest(ExportRequest):
    """A file of the orders created, or of the refunds changed, on these platform days, both included."""

    first_day: date
    last_day: date


@dataclass(frozen=True, slots=True)
class DetailsRequest(ExportRequest):
    """Some orders in full, each as a subtask; the tids as they were given."""

    tids: tuple[str, ...]


@dataclass(slots=True)
class Task:
    """One export."""

    id: int
    request: ExportRequest
    created: int
    schedule: int
    status: TaskStatus = TaskStatus.NEW
    result: WrittenExport | None = None
    subtasks: list[JsonObject] = field(default_factory=list)
    finished: int | None = None
    nth: int = 0
    """Which of the seller's files it is, from 1 in the order of creation; 0 for a batch of details."""

    def visit(self, moment: str) -> Visit:
        """For faults: that it runs, or that its file is fetched."""
        parameters = {"method": self.request.method}
        if isinstance(request := self.request, FileRequest):
            days = {"start_time": f"{request.first_day:%Y%m%d}", "end_time": f"{request.last_day:%Y%m%d}"}
            parameters |= {"nth": str(self.nth), **days}
        return Visit(moment, self.request.seller, parameters)

    def as_json(self) -> JsonObject:
        """The `task` of `topats.result.get`, without the fields of a finished task."""
        return {
            "task_id": self.id,
            "method": self.request.method,
            "created": time_text(self.created),
            "schedule": time_text(self.schedule),
            "status": self.status.value,
        }


class ExportFailedError(RuntimeError):
    """The worker wrote no file."""


def schedule_of(created: int, settings: ExportSettings) -> int:
    """When a task created at this second runs: at the next full interval within the hours."""
    moment = datetime.fromtimestamp(created, platform_time.CHINA)
    midnight = platform_time.start_of(moment.date()).astimezone(platform_time.CHINA)
    passed = int((moment - midnight).total_seconds()) // settings.schedule_seconds
    due = timedelta(seconds=(passed + 1) * settings.schedule_seconds)
    if settings.office_hours:
        if due < _OPENS:
            due = _OPENS
        elif due >= _CLOSES:
            due = timedelta(days=1) + _OPENS
    return int((midnight + due).timestamp())


@dataclass(slots=True)
class Exports:
    """All export tasks of a platform. `run` must be running, or no task makes progress."""

    world: World
    settings: ExportSettings
    quirks: PlatformQuirks
    folder: Path
    """The folder of the files; they are deleted with their tasks."""
    completed: Callable[[SimulatedSeller, int], None]
    """Called with the seller and the task id when a task is done."""
    met: Callable[[Visit], ExportRun]
    """Called when a task runs, for what faults make of that; raises ApiError when they make it fail."""
    download_base: str = ""
    """Address in front of `/download`."""
    _tasks: dict[int, Task] = field(default_factory=dict)
    _tokens: dict[str, int] = field(default_factory=dict)
    _accepted: asyncio.Queue[Task] = field(default_factory=asyncio.Queue)
    _workers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_WORKERS))
    _numbers: int = 0
    _files: Counter[int] = field(default_factory=Counter)
    """How many files have been asked for, by seller."""
    _addresses: int = 0

    def create(self, request: ExportRequest) -> Task:
        """Accept a task.

        Raises:
            ApiError: the same task exists already (its id is in the text), or there are too many.
        """
        self._forget_old_tasks()
        for task in self._tasks.values():
            if task.request == request and self._counts_as_duplicate(task):
                raise business("isv.task-duplicate", f"相同的任务已经存在：TaskId={task.id}")
        if len(self._tasks) >= _MAX_TASKS:
            raise business("isp.topats-service-unavailable", "任务过多，请稍后再试")
        now = self.world.clock.second()
        task = Task(_FIRST_TASK_ID + self._numbers, request, now, schedule_of(now, self.settings))
        self._numbers += 1
        if isinstance(request, FileRequest):
            self._files[request.seller.user_id] += 1
            task.nth = self._files[request.seller.user_id]
        self._tasks[task.id] = task
        self._accepted.put_nowait(task)
        return task

    def result(self, app_key: str, task_id: int) -> JsonObject:
        """The answer of `topats.result.get`; each answer about a finished task has a new address.

        Raises:
            ApiError: unknown, forgotten or another app's task; or it is done and found nothing.
        """
        self._forget_old_tasks()
        task = self._task(app_key, task_id)
        answer = task.as_json()
        if task.status is TaskStatus.DONE and task.result is not None:
            if not task.result.lines:
                raise business("isv.task-result-empty", "异步任务结果为空")
            answer["download_url"] = f"{self.download_base}/download?id={self._new_token(task)}"
            answer["check_code"] = task.result.check_code
        if task.subtasks:
            answer["subtasks"] = {"subtask": task.subtasks}
        return answer

    def delete(self, app_key: str, task_id: int) -> None:
        """Forget a task and its result; if it has not run, it never will.

        Raises:
            ApiError: unknown, forgotten or another app's task.
        """
        self._forget_old_tasks()
        self._forget(self._task(app_key, task_id))

    def scheduled(self, app_key: str, first: int, last: int) -> list[JsonObject]:
        """The app's tasks that run in [first, last], seconds since the epoch, in that order.

        Raises:
            ApiError: the span reaches too far back or ahead.
        """
        now = self.world.clock.second()
        if first < now - _LISTED_BACK_SECONDS:
            raise business("isv.invalid-parameter:start_time", "最早为三天前")
        if last > now + _LISTED_AHEAD_SECONDS:
            raise business("isv.invalid-parameter:end_time", "最晚为一天后")
        self._forget_old_tasks()
        tasks = [task for task in self._tasks.values() if task.request.app_key == app_key]
        found = [task for task in tasks if first <= task.schedule <= last]
        return [task.as_json() for task in sorted(found, key=lambda task: (task.schedule, task.id))]

    def visit(self, token: str) -> Visit:
        """For faults: that the file of a download address, or nothing when it does not work, is fetched."""
        task = self._tasks.get(self._tokens.get(token, 0))
        return Visit(DOWNLOAD) if task is None else task.visit(DOWNLOAD)

    def spend(self, token: str) -> Task | None:
        """The task whose file a download address leads to; the address does not work again."""
        task_id = self._tokens.pop(token, None)
        return None if task_id is None else self._tasks.get(task_id)

    def restore(self, token: str, task: Task) -> None:
        """Make a spent address work again, after a download that failed."""
        self._tokens[token] = task.id

    def file_of(self, task: Task) -> Path:
        """Where a task's file is, or will be."""
        return self.folder / f"{task.id}.zip"

    async def run(self) -> None:
        """Carry out accepted tasks, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._carry_out(await self._accepted.get()))

    async def _carry_out(self, task: Task) -> None:
        clock = self.world.clock
        await clock.wait_until(task.schedule)
        async with self._workers:
            if task.id not in self._tasks:
                return
            task.status = TaskStatus.DOING
            began = clock.second()
            try:
                run = self.met(task.visit(EXPORT_RUN))
                if run.is_lost:
                    self._forget(task)
                    return
                await self._run(task, run)
            except (ApiError, ExportFailedError, TimeoutError) as error:
                _log.error("export.failed", task_id=task.id, reason=str(error))
                task.status, task.finished = TaskStatus.FAIL, clock.second()
                return
        await clock.wait_until(began + self.settings.run_seconds + run.extra_seconds)
        if task.id not in self._tasks:
            self._forget(task)
            return
        task.status, task.finished = TaskStatus.DONE, clock.second()
        self.completed(task.request.seller, task.id)

    async def _run(self, task: Task, run: ExportRun) -> None:
        match task.request:
            case FileRequest() as request:
                task.result = await self._write(job_to_json(self._job(task, request, run)))
            case DetailsRequest() as request:
                task.subtasks = details.subtasks(
                    self.world, self.quirks, request.seller, request.tids, request.fields
                )

    async def _write(self, job: bytes) -> WrittenExport:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "topsync.simulator.export_worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=_PACKAGE_ROOT,
        )
        try:
            async with asyncio.timeout(self.settings.worker_timeout_seconds):
                output, complaint = await process.communicate(job)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode:
            raise ExportFailedError(complaint.decode(errors="replace").strip() or _NO_REASON)
        return WrittenExport(**orjson.loads(output))

    def _job(self, task: Task, request: FileRequest, run: ExportRun) -> ExportJob:
        book = self.world.book(request.seller)
        later = timedelta(days=run.days_later)
        start = platform_time.start_of(request.first_day + later)
        end = platform_time.start_of(request.last_day + later + timedelta(days=1))
        first = int(start.timestamp())
        return ExportJob(
            world=self.world.settings,
            seller=request.seller.index,
            is_of_refunds=request.method == REFUNDS_EXPORT,
            first=first,
            last=first - 1 if run.is_empty else int(end.timestamp()) - 1,
            oldest_created=self.world.oldest_reachable(),
            fields=request.fields,
            ids_as_strings=self.quirks.ids_as_strings,
            refund_ids_as_numbers=self.quirks.refund_ids_as_numbers,
            bad_lines=run.bad_lines,
            nameless_lines=run.nameless_lines,
            lives=list(book.live().items()),
            path=str(self.file_of(task).absolute()),  # the worker runs elsewhere
            folder=str(task.id),
            written_at=self.world.clock.second(),
            lines_per_file=self.settings.lines_per_file,
            line_separator=self.settings.line_separator,
        )

    def _counts_as_duplicate(self, task: Task) -> bool:
        return self.quirks.duplicate_scope is DuplicateScope.RETAINED or task.finished is None

    def _task(self, app_key: str, task_id: int) -> Task:
        task = self._tasks.get(task_id)
        if task is None or task.request.app_key != app_key:
            raise business("isv.task-not-exist", "任务不存在")
        return task

    def _new_token(self, task: Task) -> str:
        self._addresses += 1
        token = Dice(self.world.settings.seed, b"download", self._addresses).token(_TOKEN_DIGITS)
        self._tokens[token] = task.id
        if len(self._tokens) > _MAX_ADDRESSES:
            del self._tokens[next(iter(self._tokens))]
        return token

    def _forget_old_tasks(self) -> None:
        now = self.world.clock.second()
        for task in list(self._tasks.values()):
            if task.finished is not None and task.finished + self.settings.retention_seconds < now:
                self._forget(task)

    def _forget(self, task: Task) -> None:
        self._tasks.pop(task.id, None)
        self.file_of(task).unlink(missing_ok=True)
        self._tokens = {token: task_id for token, task_id in self._tokens.items() if task_id != task.id}
