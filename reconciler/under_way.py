"""What a reconciler has under way: each piece of work at most once, through every outage."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from topsync.base import telemetry
from topsync.base.outages import Outage
from topsync.coverage.pull import PULL_FAILURES
from topsync.store.database import OUTAGE_ERRORS
from topsync.store.work_leases import LeaseLostError
from topsync.stream.producer import PublishError

log = telemetry.get_logger(__name__)

FAILED = "pull failed; nothing is claimed, trying again"

PASSING_ERRORS = (PublishError, *PULL_FAILURES)
"""Failures that a later attempt repairs: nothing was claimed, so nothing is lost."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class UnderWay(Generic[Key]):
    """Tasks by what they are about."""

    ended: Callable[[], None]
    """Called when a task has ended, or was set aside: there is room for another."""
    _tasks: dict[Key, asyncio.Task[None]] = field(default_factory=dict)
    _aside: set[Key] = field(default_factory=set)
    _outages: dict[Key, Outage] = field(default_factory=dict)
    _not_before: dict[Key, float] = field(default_factory=dict)
    """When what failed in an outage may be tried again, by the loop's time."""

    def __contains__(self, key: Key) -> bool:
        return key in self._tasks

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def aside(self) -> int:
        """How many of the tasks are set aside."""
        return len(self._aside)

    def set_aside(self, key: Key) -> None:
        """Note that a task, from now to its end, only waits for what others do."""
        if key in self._tasks:
            self._aside.add(key)
            self.ended()

    def is_free(self, key: Key) -> bool:
        """Whether this may be begun: it is not under way, and an outage does not hold it back."""
        return key not in self._tasks and self._not_before.get(key, 0.0) <= asyncio.get_running_loop().time()

    def start(self, key: Key, work: Callable[[], Awaitable[None]]) -> None:
        """Begin something that is free."""
        task = self._tasks[key] = asyncio.create_task(self._guarded(key, work), name=f"reconcile-{key}")
        task.add_done_callback(lambda _: self.ended())

    async def _guarded(self, key: Key, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except OUTAGE_ERRORS as error:
            outage = self._outages.setdefault(key, Outage(FAILED))
            self._not_before[key] = asyncio.get_running_loop().time() + outage.failed(error)
        except LeaseLostError as error:
            log.warning("lease lost; nothing more is written", key=str(key), reason=str(error))
        except PASSING_ERRORS as error:
            log.warning(FAILED, key=str(key), error=str(error))
        else:
            self._outages.pop(key, None)
            self._not_before.pop(key, None)

    def reap(self) -> list[Key]:
        """Forget what has ended; returns its keys.

        Raises:
            Exception: what a task raised that is no failure that passes.
        """
        ended = [key for key, task in self._tasks.items() if task.done()]
        self._aside.difference_update(ended)
        for key in ended:
            self._tasks.pop(key).result()
        return ended

    async def drop(self, keys: Iterable[Key]) -> None:
        """Cancel what is under way of these, and wait until it has ended."""
        dropped = [key for key in keys if key in self._tasks]
        self._aside.difference_update(dropped)
        tasks = [self._tasks.pop(key) for key in dropped]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def drop_all(self) -> None:
        """Cancel everything."""
        await self.drop(list(self._tasks))
