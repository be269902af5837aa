"""Named fail points: the places between two steps at which a test lets a process die (P4).

We promise to survive a crash at any instruction. Only crashes of the real process, between known
instructions, can show that. So the code calls `reach` there. In production that does nothing: a point is
armed only from the environment, by two variables together:

- `TOPSYNC_FAIL_POINT`, a point, or `point:3` for the third time that it is reached;
- `TOPSYNC_FAIL_POINT_REACHED`, a file. The process writes the point's name to it before it dies, so that a
  test knows where it died.

A process that is given only one of the two refuses to start. They are no settings: nobody who runs topsync
should find them among those.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, get_args

from topsync.base.errors import OperatorError

POINT_VARIABLE: Final = "TOPSYNC_FAIL_POINT"
REACHED_VARIABLE: Final = "TOPSYNC_FAIL_POINT_REACHED"

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


class FailPointError(OperatorError):
    """The environment names an unknown fail point, or sets only one of the two variables."""


class _Armed:
    def __init__(self, point: Point, times: int, reached: Path) -> None:
        self.point = point
        self.times = times
        self.reached = reached


_armed: _Armed | None = None


def arm(environment: Mapping[str, str]) -> None:
    """Arm the point that the environment names, if it names one. Called once, as a process starts.

    Raises:
        FailPointError: see there.
    """
    global _armed  # noqa: PLW0603 -- a process dies as a whole
    _armed = None
    asked, reached = environment.get(POINT_VARIABLE), environment.get(REACHED_VARIABLE)
    if asked is None and reached is None:
        return
    if not asked or not reached:
        raise FailPointError(f"{POINT_VARIABLE} and {REACHED_VARIABLE} are for tests, and only together")
    name, _, times = asked.partition(":")
    point = next((point for point in POINTS if point == name), None)
    if point is None or not (times or "1").isdecimal():
        raise FailPointError(f"{POINT_VARIABLE}: no such point as {asked}; there are {', '.join(POINTS)}")
    _armed = _Armed(point, int(times or "1"), Path(reached))


def reach(point: Point) -> None:
    """Go on; or, where this point is armed and its time has come, die as by SIGKILL."""
    if _armed is None or _armed.point != point:
        return
    _armed.times -= 1
    if _armed.times <= 0:
        _armed.reached.write_text(point)
        os.kill(os.getpid(), signal.SIGKILL)
