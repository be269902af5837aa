"""Named fail points: the places between two steps at which a test lets a process die (P4).

We promise to survive a crash at any instruction. Only crashes of the real process, between known
instructions, can show that. So the code calls `reach` there. It does nothing, unless something has asked by
`on_reach` to be called. In a checkout `topsync.local.arming` asks, where the environment arms a point. The
image of a release does not contain that module, so that no environment variable can arm a point there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

Point = Literal[
    # An enricher takes a partition over,
    "takeover.epoch_raised",
    "takeover.former_fenced",
    "takeover.leftovers_published",
    "takeover.readers_placed",
    # and leads a batch through the pipeline.
    "enricher.taken",
    "enricher.known_read",
    "enricher.fetched",
    "enricher.stored",
    "enricher.postponed_noted",
    "enricher.publishing",
    "enricher.records_sent",
    "enricher.offsets_sent",
    "enricher.published",
    "enricher.marked",
    # With a batch go refunds,
    "refunds.stored",
    "refunds.orders_marked",
    # what is to wait or is given up,
    "postponing.lingering_noted",
    "postponing.given_up_noted",
    # and what an erased seller had.
    "erasure.removed",
    "erasure.tombstones_forgotten",
    # What an operator asked to be published once more.
    "republishing.published",
    "republishing.noted",
    # Push: from the channel into Kafka.
    "push.received",
    "push.sent",
    "push.acknowledged",
    "push.confirmed",
    # A pull, whoever asked for it.
    "pull.listed",
    "pull.hinted",
    "pull.stored",
    "pull.claimed",
    # A reconciler takes its share of the work.
    "sharing.renewed",
    "sharing.shared",
    # An operator's replay.
    "replay.planned",
    "replay.orders_noted",
    "replay.orders_hinted",
    "replay.piece_noted",
    "replay.notified",
    # The comparison with the platform.
    "comparison.differences_noted",
    "comparison.doubted",
    "comparison.hinted",
    "comparison.settled",
    "comparison.day_noted",
    "comparison.notified",
    # Asking again for what was not shown as promised, or was parked.
    "refetching.answered_forgotten",
    "refetching.lingering_hinted",
    "refetching.hinted",
    "refetching.asked_noted",
    "refetching.given_up",
    "refetching.forgotten",
    # Draining a backlog: by a task of a hundred orders,
    "bulk.begun",
    "bulk.created",
    "bulk.requested",
    "bulk.published",
    "bulk.handed_over",
    "bulk.failed",
    "bulk.given_back",
    # or separately.
    "bulk.brought",
    "bulk.hinted",
    # Erasing a seller: the command.
    "erasure.begun",
    "erasure.platform_notified",
    "erasure.platform_noted",
    "erasure.asked",
    "erasure.orders_gone",
    "erasure.snapshots_deleted",
    "erasure.rows_cleared",
    "erasure.notified",
    # Trying dead letters again: the command.
    "deadletters.forgotten",
    "deadletters.hinted",
    "deadletters.marked",
    # The bulk start of a seller.
    "bootstrap.subscribed",
    "bootstrap.planned",
    "bootstrap.requested",
    "bootstrap.file_written",
    "bootstrap.downloaded",
    "bootstrap.rows_noted",
    "bootstrap.rows_published",
    "bootstrap.loaded",
    "bootstrap.repaired",
    "bootstrap.stored",
    "bootstrap.today_pulled",
    "bootstrap.notified",
    "bootstrap.certified",
]

POINTS: Final[tuple[Point, ...]] = get_args(Point)

Reached = Callable[[Point], None]

_reached: Reached | None = None


def on_reach(reached: Reached | None) -> None:
    """Have this called at each point from now on, in the whole process; with None, nothing is called."""
    global _reached  # noqa: PLW0603 -- a process dies as a whole
    _reached = reached


def reach(point: Point) -> None:
    """Go on; or, where this point is armed and its time has come, die as by SIGKILL."""
    if _reached is not None:
        _reached(point)
