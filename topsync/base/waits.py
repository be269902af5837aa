"""Waits of hot paths: what asyncio has for all cases costs several times as much as these cases need."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

X = TypeVar("X")


async def together(calls: Sequence[Coroutine[Any, Any, X]]) -> list[X]:
    """Await all at the same time; their results, in order. A single one runs in the task that waits.

    Raises:
        ExceptionGroup: of what failed first, and of what failed while the others were cancelled; see
            `asyncio.TaskGroup`.
    """
    if len(calls) <= 1:
        try:
            return [await call for call in calls]
        except Exception as error:  # noqa: BLE001 -- as the group does
            raise ExceptionGroup("a call has failed", [error]) from None
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


async def until_set(event: asyncio.Event, *, latest: float | None) -> None:
    """Wait until an event is set. At a moment of the event loop's clock, it is set anyway; None: never."""
    timer = None if latest is None else asyncio.get_running_loop().call_at(latest, event.set)
    try:
        await event.wait()
    finally:
        if timer is not None:
            timer.cancel()
