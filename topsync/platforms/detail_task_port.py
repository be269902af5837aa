"""The part of the port by which a platform brings many orders in full with one task, which it runs later.

Optional. Where a platform has no such thing, every order is asked for by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic import SecretStr

from topsync.model.priority import Priority
from topsync.platforms.port import DetailAnswer


@dataclass(frozen=True, slots=True)
class DetailTaskAccepted:
    """The platform has a task for these orders."""

    task_id: int
    adopted: bool
    """It had the task already, from an identical request."""


@dataclass(frozen=True, slots=True)
class DetailTaskFailed:
    """The task came to nothing. Another request for the same orders may fare better."""

    detail: str


@dataclass(frozen=True, slots=True)
class DetailTasksRefused:
    """The platform gives no tasks, and asking again will not help."""

    detail: str
    whole_application: bool
    """It refuses every seller's."""


@dataclass(frozen=True, slots=True)
class DetailTaskUnfinished:
    """The platform is at it."""


@dataclass(frozen=True, slots=True)
class DetailsBrought:
    """The task is done."""

    created_at: datetime
    """When the task was created, in whole seconds. The states are as of its run, which is later."""
    orders: Mapping[int, DetailAnswer]
    """By id. An order that is not in it, or not shown, has to be asked for by itself."""


DetailTaskRequested = DetailTaskAccepted | DetailTaskFailed | DetailTasksRefused
DetailTaskState = DetailTaskUnfinished | DetailTaskFailed | DetailsBrought


class DetailTasks(Protocol):
    """Orders in full, many at once."""

    @property
    def max_orders(self) -> int:
        """The most orders of one task."""
        ...

    async def request(
        self, session: SecretStr, order_ids: Sequence[int], *, failed_before: int, priority: Priority
    ) -> DetailTaskRequested:
        """Ask for these orders, of one seller. The same request again finds the same task.

        `failed_before` counts the requests for them that came to nothing: where the platform answers an
        identical request with the failed task, another one must be worded otherwise.

        Raises:
            PlatformAwayError, SessionRefusedError, CallLimitedError, ...: as for any call.
        """
        ...

    async def state(self, task_id: int, *, priority: Priority) -> DetailTaskState:
        """Where a task stands; when done, its orders. May be asked again: nothing is spent by it.

        Raises:
            PlatformAwayError, CallLimitedError, ...: as for any call.
        """
        ...
