"""The port's `DetailTasks` over `taobao.topats.trades.fullinfo.get` (docs/platform/gateway.md 3.7, 4.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from topsync.model.priority import Priority
from topsync.platforms.detail_task_port import (
    DetailsBrought,
    DetailTaskAccepted,
    DetailTaskFailed,
    DetailTaskRequested,
    DetailTasksRefused,
    DetailTaskState,
    DetailTaskUnfinished,
)
from topsync.platforms.taobao.calls import details, exports
from topsync.platforms.taobao.calls.exports import ExportStatus
from topsync.platforms.taobao.details import read_order
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import (
    DroppedError,
    RequestRefusedError,
    TaskDuplicateError,
    TaskNotExistError,
)


@dataclass(frozen=True, slots=True)
class TaobaoDetailTasks:
    """Batches of fullinfo. The platform runs them each half hour, between 01:00 and 23:00 (4.1)."""

    client: TopClient

    @property
    def max_orders(self) -> int:
        """See `topsync.platforms.detail_task_port.DetailTasks`."""
        return details.MAX_TRADES

    async def request(
        self, session: SecretStr, order_ids: Sequence[int], *, failed_before: int, priority: Priority
    ) -> DetailTaskRequested:
        """See `topsync.platforms.detail_task_port.DetailTasks`."""
        tids = request_order(order_ids, failed_before)
        try:
            task = await details.create(self.client, session, tids, priority=priority)
        except TaskDuplicateError:
            return DetailTaskFailed("the platform did not name the task that it has already")
        except DroppedError as error:
            return DetailTaskFailed(str(error))
        except RequestRefusedError as error:
            return DetailTasksRefused(str(error), whole_application=exports.closed_to_the_app(error))
        return DetailTaskAccepted(task.task_id, task.adopted)

    async def state(self, task_id: int, *, priority: Priority) -> DetailTaskState:
        """See `topsync.platforms.detail_task_port.DetailTasks`."""
        try:
            result = await details.result(self.client, task_id, priority=priority)
        except TaskNotExistError:
            return DetailTaskFailed("the platform has forgotten it")
        except (DroppedError, RequestRefusedError) as error:
            return DetailTaskFailed(str(error))
        if result.status in (ExportStatus.NEW, ExportStatus.DOING):
            return DetailTaskUnfinished()
        if result.status is ExportStatus.DONE and result.created_at is not None:
            # Those that failed are left out: by itself, each is asked for with all that may come of it.
            return DetailsBrought(
                result.created_at, {tid: read_order(raw) for tid, raw in result.trades.items()}
            )
        return DetailTaskFailed("it failed on the platform")


def request_order(tids: Sequence[int], failures: int) -> list[int]:
    """The ids as they are asked for: in another order after each failure.

    An identical request would be answered with the task that failed (docs/platform/gateway.md 4.2).
    """
    turn = failures % len(tids)
    return [*tids[turn:], *tids[:turn]]
