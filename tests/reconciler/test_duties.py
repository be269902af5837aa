"""A duty is carried out again and again by its holder, one round of each part at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from reconciler.duties import Duties
from reconciler.under_way import UnderWay
from tests.support.eventually import eventually
from topsync.store.database import DatabaseAwayError


@dataclass
class Work:
    """A part of a duty."""

    rounds: int = 0
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Exception | None = None
    forgotten: int = 0

    async def round(self) -> None:
        self.rounds += 1
        await self.may_end.wait()
        if self.failure is not None:
            raise self.failure

    def forget(self) -> None:
        self.forgotten += 1


def duties_of(**known: list[Work]) -> Duties:
    return Duties(known, UnderWay(lambda: None))


async def ended(duties: Duties) -> None:
    async def are_ended() -> bool:
        duties.under_way.reap()
        return not len(duties.under_way)

    await eventually(are_ended)


async def test_a_part_that_takes_long_holds_up_no_other_part() -> None:
    slow, quick, other = Work(), Work(), Work()
    quick.may_end.set()
    duties = duties_of(replays=[slow, quick], push=[other])
    for _ in range(3):
        duties.look(["replays"])
        await asyncio.sleep(0)
        duties.under_way.reap()
    assert (slow.rounds, quick.rounds, other.rounds) == (1, 3, 0)
    assert not duties.is_idle("replays")
    assert duties.is_idle("push")
    await duties.drop(duties.known)


async def test_what_went_to_another_process_is_cancelled_and_its_figures_are_forgotten() -> None:
    work = Work()
    duties = duties_of(backlog=[work])
    duties.look(["backlog"])
    await asyncio.sleep(0)
    await duties.drop(["backlog"])
    assert duties.is_idle("backlog")
    assert work.forgotten == 1


async def test_an_outage_holds_back_what_failed_in_it_and_nothing_else() -> None:
    failing, healthy = Work(failure=DatabaseAwayError("away")), Work()
    failing.may_end.set()
    healthy.may_end.set()
    duties = duties_of(backlog=[failing], push=[healthy])
    for _ in range(3):
        duties.look(["backlog", "push"])
        await ended(duties)
    assert (failing.rounds, healthy.rounds) == (1, 3)
