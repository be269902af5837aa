"""Bulk starts of several sellers at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from bootstrap import board
from bootstrap.errors import BootstrapFailedError
from bootstrap.job import BootstrapJob
from bootstrap.progress import Phase, SellerProgress
from topsync.base import telemetry
from topsync.base.errors import OperatorError
from topsync.base.service import Lifetime
from topsync.coverage.pull import PULL_FAILURES, NotStoredError
from topsync.platforms.port import SessionRefusedError
from topsync.sellers import session_rules
from topsync.sellers.sessions import Account, Sessions
from topsync.store import coverage, push_connections, sellers
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.seller_locks import SellerLocks
from topsync.store.sellers import Seller, SellerState
from topsync.stream import producer as producers

log = telemetry.get_logger(__name__)

SELLER_FAILURES = (
    OperatorError,
    *PULL_FAILURES,
    producers.PublishError,
    *OUTAGE_ERRORS,
)
"""What ends a seller's bulk start and leaves the others alone; a new run goes on where it stood."""

MAX_SESSIONS = 3
"""After so many refused sessions, the age of a session is not the cause."""

PUSH_WAIT_SECONDS = 30.0
"""How long a bulk start waits for the push service before it refuses to begin."""

PUSH_POLL_SECONDS = 0.2

NO_PUSH = (
    f"no connection to the message channel for {PUSH_WAIT_SECONDS:g} s: start `topsync push` first, so that "
    "no change is missed while the export runs; only sellers whose scheme needs no messages are started"
)
"""Why sellers are left out that wait for push."""

MakeJob = Callable[[Account, SellerProgress], BootstrapJob]
"""A seller's bulk start, with the session that it has now."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Starts sellers, all at the same time; a seller that fails does not stop the others.

    Hundreds at once do no harm: the call budget orders their calls, and what takes room or time of its own
    has turns, which the smaller sellers get first.
    """

    pool: Pool
    sessions: Sessions
    locks: SellerLocks
    job: MakeJob
    needs_push: Callable[[Seller], bool]
    """Whether messages are to be pushed for a seller."""
    push_silent_for: timedelta
    """How long push may be silent and still count as running."""
    as_json: bool = False
    """Whether progress is for machines."""

    async def run(self, lifetime: Lifetime, names: Sequence[str]) -> None:
        """Start the named sellers, or all that are not live yet.

        Raises:
            BootstrapFailedError: at least one bulk start did not come to its end; the others did.
        """
        accounts = chosen(await self.sessions.usable(), names)
        failures = [] if names else await self._left_out(can_start_others=bool(accounts))
        waiting = [account for account in accounts if self.needs_push(account.seller)]
        if waiting and not await self._push_is_up(lifetime):
            failures.append(NO_PUSH)
            accounts = [account for account in accounts if account not in waiting]
        if accounts:
            lifetime.set_ready()
            failures += await self._run_all(accounts, lifetime)
        elif not failures:
            log.info("no seller is new; nothing to do")
        if failures:
            raise BootstrapFailedError("; ".join(failures))

    async def _left_out(self, *, can_start_others: bool) -> list[str]:
        """Sellers without a bulk start that cannot begin it now, as far as that is a failure, and why."""
        passed_over = await _passed_over(self.pool)
        if passed_over:
            log.warning("paused or expired sellers are not started", sellers=passed_over)
        failures = _new_without_session(self.sessions)
        if passed_over and not can_start_others:
            failures.append(
                f"nothing is started: paused or expired: {', '.join(map(str, passed_over))}; see "
                "`topsync sellers list`"
            )
        return failures

    async def _run_all(self, accounts: Sequence[Account], lifetime: Lifetime) -> list[str]:
        """Run all of them; which failed, and why.

        Raises:
            BootstrapFailedError: the process was asked to end before they were done.
        """
        failures = list[str]()
        progress = {
            account.seller.seller_id: SellerProgress(account.seller.seller_id, account.seller.nick)
            for account in accounts
        }

        async def run_one(account: Account) -> None:
            shown = progress[account.seller.seller_id]
            try:
                async with self.locks.held(account.seller):
                    await self._run_with_fresh_sessions(account, shown)
            except SELLER_FAILURES as error:
                shown.phase, shown.failure = Phase.FAILED, str(error) or type(error).__name__
                failures.append(f"{account.seller.nick}: {shown.failure}")

        async with board.showing(list(progress.values()), as_json=self.as_json), asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(run_one(account)) for account in accounts]
            stopper = tasks.create_task(_cancel_on_stop(lifetime, running))
            await asyncio.wait(running)
            stopper.cancel()
        if not failures and any(task.cancelled() for task in running):
            failures.append("ended before it was done; run it again, and it goes on where it stood")
        return failures

    async def _run_with_fresh_sessions(self, account: Account, shown: SellerProgress) -> None:
        """Run a bulk start to its end; when its session is refused, go on with a newer session, if any.

        Raises:
            BootstrapFailedError: also where the seller lost its session.
            TopError, NotStoredError, ...: see `BootstrapJob.run`.
        """
        for _ in range(MAX_SESSIONS):
            try:
                return await self.job(account, shown).run()
            except SessionRefusedError:
                refreshed = await self.sessions.refused(account)
            except (NotStoredError, BootstrapFailedError):
                # Perhaps the platform refused the writers; what they could not fetch is not stored.
                current = await sellers.get(self.pool, account.seller.seller_id)
                if current is None or current.state is not SellerState.EXPIRED:
                    raise
                refreshed = None
            if refreshed is None:
                break
            account = refreshed
        raise BootstrapFailedError(
            "the platform refuses the seller's session: run `topsync sellers authorise "
            f"{account.seller.seller_id}`, then the bootstrap again; it goes on where it stood"
        )

    async def _push_is_up(self, lifetime: Lifetime) -> bool:
        """Messages first: a change between export and increments would otherwise wait for the next sweep."""
        deadline = asyncio.get_running_loop().time() + PUSH_WAIT_SECONDS
        while not lifetime.stopping:
            if await push_connections.up(self.pool, silent_for=self.push_silent_for):
                return True
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await lifetime.sleep(PUSH_POLL_SECONDS)
        return True


async def _cancel_on_stop(lifetime: Lifetime, running: Sequence[asyncio.Task[None]]) -> None:
    await lifetime.wait_for_stop()
    for task in running:
        task.cancel()


def chosen(usable: dict[int, Account], names: Sequence[str]) -> list[Account]:
    """The named sellers among those that can be started; without names, those that are new.

    Raises:
        BootstrapFailedError: a name means none of them.
    """
    if not names:
        return [account for account in usable.values() if account.seller.state == "new"]
    known = [account.seller for account in usable.values()]
    meant = {name: sellers.choose(known, name) for name in names}
    unknown = [name for name, seller in meant.items() if seller is None]
    if unknown:
        raise BootstrapFailedError(
            f"not known, paused, expired or erased, or no key opens their session: {', '.join(unknown)}; "
            "see `topsync sellers list`"
        )
    return [
        usable[seller_id] for seller_id in {seller.seller_id: seller for seller in meant.values() if seller}
    ]


async def _passed_over(pool: Pool) -> list[int]:
    """Sellers without a bulk start that cannot begin it now."""
    proven = await coverage.proven(pool)
    away = [
        seller
        for seller in await sellers.all_of(pool)
        if seller.state in (SellerState.PAUSED, SellerState.EXPIRED)
    ]
    return [seller.seller_id for seller in away if not proven.get(seller.seller_id)]


def _new_without_session(sessions: Sessions) -> list[str]:
    """New sellers that have to be left out, and why: the others go on."""
    return [
        f"{seller.nick}: {session_rules.UNREADABLE}"
        for seller in sessions.unreadable
        if seller.state is SellerState.NEW
    ]
