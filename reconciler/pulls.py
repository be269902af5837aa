"""The pulls of the sellers that this process holds: who is due, and then pulled until it is proven."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from reconciler import plan
from reconciler.circuits import PullBrake
from reconciler.plan import Pull, PullRules, Turn, TurnKind
from reconciler.turns import PullTurns
from reconciler.under_way import UnderWay
from topsync.base import metrics, telemetry
from topsync.base.clock import ServerClock
from topsync.coverage.pull import Puller
from topsync.coverage.pull_request import PullRequest
from topsync.model import sweeping
from topsync.model.gap import Gap
from topsync.model.scheme import Scheme
from topsync.platforms.port import SessionRefusedError
from topsync.sellers import schemes
from topsync.sellers.sessions import Account, Sessions
from topsync.store import circuits, coverage, gaps, visibility, work_leases
from topsync.store.database import Pool
from topsync.store.work_leases import HeldLease, WorkLease

log = telemetry.get_logger(__name__)


@dataclass(slots=True)
class Pulls:
    """Everything that pulling the sellers needs."""

    rules: Callable[[datetime], PullRules]
    """Those of a platform time: the calendar has a say in them."""
    brake: PullBrake
    pool: Pool
    puller: Puller
    sessions: Sessions
    clock: ServerClock
    scheme: Scheme
    """The installation's."""
    under_way: UnderWay[int]
    turns: PullTurns
    learn: Callable[[timedelta], None] = lambda _: None
    """Is called at each look with the visibility allowance that was learnt."""
    _leases: dict[int, WorkLease] = field(default_factory=dict)
    _pulled_at: dict[int, datetime] = field(default_factory=dict)
    """When the sellers were last pulled, also where that failed."""
    _sweeping: set[int] = field(default_factory=set)
    _unreachable: frozenset[int] = frozenset()
    """The gaps that have ended of sellers that cannot be pulled."""
    _is_stretched: bool = False

    async def hold(self, held: Mapping[int, HeldLease]) -> None:
        """Note which sellers are pulled here from now on; what is under way under any other lease ends."""
        before = self._leases
        self._leases = {seller_id: each.lease for seller_id, each in held.items()}
        lost = [seller_id for seller_id in before if self._leases.get(seller_id) != before[seller_id]]
        await self.under_way.drop(lost)
        self._sweeping.difference_update(lost)
        for seller_id in lost:
            self._pulled_at.pop(seller_id, None)
        for seller_id, each in held.items():
            if before.get(seller_id) != each.lease and each.pulled_at is not None:
                self._pulled_at[seller_id] = each.pulled_at

    async def look(self) -> None:
        """See who is due."""
        open_gaps = await gaps.open_gaps_of(self.pool, self._leases.keys())
        usable = await self._usable(open_gaps)
        mine = usable.keys() & self._leases.keys()
        metrics.GAPS_OPEN.set(sum(map(len, open_gaps.values())))
        claimed = await coverage.last_proven(self.pool, mine)
        polled = {seller_id for seller_id in mine if schemes.is_polled(usable[seller_id].seller, self.scheme)}
        self.learn((await visibility.learned(self.pool)).allowance)
        now = self.clock.now()
        behind = [now - end for seller_id, end in claimed.items() if seller_id in polled]
        metrics.POLLED_BEHIND_SECONDS.set(max(behind, default=timedelta(0)).total_seconds())
        rules = self.rules(now)
        metrics.VISIBILITY_ALLOWANCE.set(rules.calendar.visibility_allowance(now).total_seconds())
        self._measure_sweeps(claimed.keys() - polled, rules.sweep_interval, now)
        self.brake.look(await circuits.all_of(self.pool), database_now=await circuits.now(self.pool))
        waiting = {}
        # Before its bulk start, there is nothing to pull for a seller.
        for seller_id in claimed:
            if seller_id in self.under_way:
                continue
            turn = plan.due(
                open_gaps.get(seller_id, ()),
                self._pulled_at.get(seller_id),
                rules,
                is_polled=seller_id in polled,
                now=now,
            )
            if turn is not None:
                waiting[seller_id] = turn
        self.turns.set_waiting(waiting)

    async def _usable(self, open_gaps: Mapping[int, Sequence[Gap]]) -> Mapping[int, Account]:
        """The sellers that can be pulled. One that is back has a gap that has ended: it is found by that, and
        need not wait until sessions are read again anyway.
        """
        usable = await self.sessions.usable()
        before = self._unreachable
        self._unreachable = frozenset(
            gap.id
            for seller_id, of_seller in open_gaps.items()
            if seller_id not in usable
            for gap in of_seller
            if gap.ended is not None
        )
        return usable if self._unreachable <= before else await self.sessions.read_again()

    def fill(self) -> None:
        """Begin pulls, as far as there is room for them."""
        while turn := self.turns.next(
            running=len(self.under_way), sweeping=len(self._sweeping), aside=self.under_way.aside
        ):
            seller_id, wanted = turn
            lease = self._leases.get(seller_id)
            if lease is None or not self.under_way.is_free(seller_id):
                continue
            if not self.brake.admits(seller_id, self._pulled_at.get(seller_id), now=self.clock.now()):
                continue
            if wanted.kind is TurnKind.SWEEP:
                self._sweeping.add(seller_id)
            self.under_way.start(seller_id, partial(self._pull, seller_id, wanted, lease))

    def reap(self) -> None:
        """Forget the pulls that have ended.

        Raises: see `UnderWay.reap`.
        """
        self._sweeping.difference_update(self.under_way.reap())

    async def drop_all(self) -> None:
        """End everything that is under way: this process holds no seller any more."""
        await self.under_way.drop_all()
        self._sweeping.clear()
        self._leases, self._pulled_at = {}, {}
        self.turns.set_waiting({})
        self._is_stretched = False
        for gauge in (metrics.POLLED_BEHIND_SECONDS, metrics.GAPS_OPEN, metrics.SWEEP_INTERVAL_SECONDS):
            gauge.set(0)

    async def _pull(self, seller_id: int, turn: Turn, lease: WorkLease) -> None:
        account = await self.sessions.get(seller_id)
        if account is None:
            return
        began_at = self.clock.now()
        # A pull that fails is due again only after the interval, like a pull that worked.
        self._pulled_at[seller_id] = began_at
        proven = await coverage.proven_of(self.pool, seller_id)
        pull = plan.pull(turn, proven, self.rules(began_at), now=began_at)
        if pull is None:
            return
        if turn.gaps:
            async with work_leases.fenced(self.pool, lease) as connection:
                await gaps.mark_pulled(connection, turn.gaps, began_at)
        await self._pull_with(account, pull, turn.kind, lease)
        await self._ended(seller_id, lease, began_at)

    async def _pull_with(self, account: Account, pull: Pull, kind: TurnKind, lease: WorkLease) -> None:
        request = PullRequest(
            seller_id=account.seller.seller_id,
            session=account.session,
            start=pull.start,
            end=None,
            source=pull.source,
            reason=pull.reason,
            comes_again=pull.comes_again,
            lease=lease,
        )

        def listed() -> None:
            if kind is not TurnKind.SWEEP:
                self.under_way.set_aside(request.seller_id)

        try:
            await self.puller.pull(request, listed=listed)
        except SessionRefusedError:
            await self.sessions.refused(account)
            raise

    async def _ended(self, seller_id: int, lease: WorkLease, began_at: datetime) -> None:
        """Note a pull that ended well, and close the gaps that are proven by now."""
        async with work_leases.fenced(self.pool, lease) as connection:
            await work_leases.note_pull(connection, lease, began_at)
            still_open = (await gaps.open_gaps_of(connection, [seller_id])).get(seller_id, [])
            proven = await coverage.proven_of(connection, seller_id)
            now = self.clock.now()
            closed = plan.closed(still_open, proven, self.rules(now), now=now)
            await gaps.close(connection, closed, now)
        _log_closed(closed)

    def _measure_sweeps(self, swept: Collection[int], wanted: timedelta, now: datetime) -> None:
        """Say how far sweeps are apart: where calls do not suffice, farther than wanted, for all alike."""
        if not wanted:
            return
        apart = sweeping.apart(
            (now - self._pulled_at[each] for each in swept if each in self._pulled_at), wanted
        )
        metrics.SWEEP_INTERVAL_SECONDS.set(apart.total_seconds())
        is_stretched = sweeping.is_stretched(apart, wanted)
        if is_stretched and not self._is_stretched:
            log.warning(
                "sweeps are stretched: the calls, or TOPSYNC_RECONCILE_PARALLEL_SELLERS, do not suffice",
                every_seconds=round(apart.total_seconds()),
                wanted_seconds=wanted.total_seconds(),
                sellers=len(swept),
            )
        elif self._is_stretched and not is_stretched:
            log.info("sweeps come as often as wanted again", wanted_seconds=wanted.total_seconds())
        self._is_stretched = is_stretched


def _log_closed(closed: Iterable[Gap]) -> None:
    for gap in closed:
        log.info("gap proven closed", seller_id=gap.seller_id, gap=gap.id)
