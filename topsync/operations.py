"""What operators do from the command line: one function per command, printing for people."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import uuid4

from rich.console import Console
from rich.table import Table

from schemas import platform_time
from topsync import retry, runtime, settings, standing
from topsync.audit import Audit, Result
from topsync.errors import OperatorError, reaching
from topsync.settings import (
    BudgetSettings,
    DatabaseSettings,
    KafkaSettings,
    PlatformSettings,
    ReconcilerSettings,
    SimulatorAdminSettings,
)
from topsync.store import api_calls, call_budget, database, push_connections, replay_jobs, sellers
from topsync.store.replay_jobs import ReplayJob, State
from topsync.stream import topic_admin, topics
from topsync.stream.producer import PublishError
from topsync.stream.topic_plan import Action, ByHand
from topsync.stream.topics import TopicsError

console = Console(highlight=False)

SPREADING = retry.Policy(max_attempts=10, first_wait_seconds=0.2, max_wait_seconds=2.0)

OUTCOME_POLL_SECONDS = 0.3


class OperationError(OperatorError):
    """What was asked for cannot be done."""


async def migrate() -> None:
    """Bring the schema up to date."""
    own = settings.load(DatabaseSettings)
    with reaching(database.SERVER, database.REFUSALS):
        async with database.connect(own) as pool:
            applied = await database.migrate(pool)
    told = f"applied: {', '.join(applied)}" if applied else "the schema is up to date"
    console.print(told, soft_wrap=True)


async def plan_topics() -> int:
    """Show how the cluster's topics differ from the registry; 0 when they do not, 1 when they do."""
    own = settings.load(KafkaSettings)
    with reaching(topics.SERVER, (PublishError,)):
        actions = await topic_admin.plan(own)
    _show(actions)
    return 1 if actions else 0


async def apply_topics() -> int:
    """Do it and show it; 1 when something is left that is never done here, else 0."""
    own = settings.load(KafkaSettings)
    with reaching(topics.SERVER, (PublishError,)):
        actions = await topic_admin.apply(own)
    left = [action for action in actions if isinstance(action, ByHand)]
    if not left:
        # The brokers learn of a new topic one after another.
        await retry.run(
            lambda: topics.require(own),
            decide=lambda error, _: (
                retry.Retry() if actions and isinstance(error, TopicsError) else retry.GIVE_UP
            ),
            policy=SPREADING,
        )
    _show(actions)
    return 1 if left else 0


def _show(actions: Sequence[Action]) -> None:
    for action in actions:
        console.print(str(action), markup=False, soft_wrap=True)
    if not actions:
        console.print("all topics are as they should be")


async def status() -> None:
    """Show how things stand."""
    silent_for = timedelta(seconds=settings.load(ReconcilerSettings).push_lost_after_seconds)
    async with runtime.open_pool() as pool:
        table = Table(
            "seller", "state", "orders", "complete until (GMT+8)", "holes", "open gaps", title="Sellers"
        )
        for one in await standing.of_all(pool):
            table.add_row(
                one.seller.nick,
                one.seller.state.value,
                str(one.orders),
                _until(one.complete_until) + _without_refunds(one),
                str(len(one.holes)),
                str(len(one.open_gaps)),
            )
        connections = Table("group", "connected since (GMT+8)", "last proof", title="Push connections")
        for up in await push_connections.up(pool, silent_for=silent_for):
            connections.add_row(
                up.channel_group,
                platform_time.format(up.connected_at),
                platform_time.format(up.last_proof_at),
            )
        calls = Table("API", "calls", title="Gateway calls, latest day")
        for api, count in (await api_calls.by_api(pool)).items():
            calls.add_row(api, str(count))
        allowed = await _budget_table(pool)
    for shown in (table, connections, allowed, calls):
        console.print(shown)


async def _budget_table(pool: database.Pool) -> Table:
    limits = settings.load(BudgetSettings).limits
    spent = await call_budget.spent_today(pool)
    table = Table(title="Call budget of all processes", show_header=False)
    table.add_row("calls a second", f"{limits.calls_per_second:g}")
    for api, calls_per_second in limits.api_calls_per_second.items():
        table.add_row(f"  {api}", f"{calls_per_second:g}")
    table.add_row("leased today", str(spent))
    if limits.calls_per_day is not None:
        left = max(0, limits.calls_per_day - spent)
        table.add_row("left today", f"{left}, the last {limits.live_reserve} for live changes")
    for ban in await call_budget.bans(pool):
        table.add_row(f"[bold red]closed[/]: {ban.scope}", f"until {platform_time.format(ban.until)} (GMT+8)")
    return table


async def replay(
    seller: str,
    start: datetime,
    end: datetime,
    *,
    dry_run: bool,
    request_id: str | None,
    wait_seconds: float,
) -> int:
    """Ask for a replay and show its outcome; 0 when it is done, 1 when it failed or is still under way."""
    if start >= end:
        raise OperationError("--from must be before --to")
    async with runtime.open_pool() as pool:
        found = await sellers.find(pool, seller)
        if found is None:
            raise OperationError(f"no seller {seller}; see `topsync sellers list`")
        if found.state is sellers.State.ERASED:
            raise OperationError(f"{found.nick} {found.reason}")
        job = ReplayJob(
            id=request_id or uuid4().hex[:12],
            seller_id=found.seller_id,
            start=start.replace(tzinfo=platform_time.CHINA),
            end=end.replace(tzinfo=platform_time.CHINA),
            dry_run=dry_run,
        )
        await replay_jobs.request(pool, job)
        done = await _wait_for_outcome(pool, job.id, wait_seconds)
    if done is None:
        console.print(f"replay {job.id} is still under way; ask again with --id {job.id}")
        return 1
    table = Table(title=f"Replay {done.id}: {done.state.value}", show_header=False)
    for name, value in (done.outcome or {}).items():
        table.add_row(name.replace("_", " "), str(value))
    console.print(table)
    return 0 if done.state is State.DONE else 1


async def _wait_for_outcome(pool: database.Pool, id: str, wait_seconds: float) -> ReplayJob | None:  # noqa: A002
    deadline = time.monotonic() + wait_seconds
    while True:
        job = await replay_jobs.get(pool, id)
        if job is not None and job.state in (State.DONE, State.FAILED):
            return job
        if time.monotonic() >= deadline:
            return None
        await asyncio.sleep(OUTCOME_POLL_SECONDS)


async def audit(*, settle_seconds: float) -> int:
    """Audit and print: a table per seller, then the one line; 0 only when all four counts are 0."""
    admin_url = str(settings.load(SimulatorAdminSettings).simulator_admin_url)
    kafka, registry = await runtime.open_topics()
    async with runtime.open_pool() as pool:
        with_refunds = settings.load(PlatformSettings).refunds
        audit = Audit(pool, kafka, registry, admin_url, with_refunds)
        result = await audit.run(settle_seconds=settle_seconds)
    print_audit(result, console)
    return 0 if result.clean else 1


def print_audit(result: Result, out: Console) -> None:
    """The audit for people, and its last line for machines."""
    table = Table(
        "seller", "orders", "refunds", "missing", "stale", "holes", "complete until (GMT+8)", title="Audit"
    )
    for one in result.sellers:
        table.add_row(
            one.seller.nick,
            str(one.orders),
            "not kept" if one.refunds is None else str(one.refunds),
            str(one.missing),
            str(one.stale),
            str(one.holes),
            _until(one.complete_until),
        )
    out.print(table)
    for example in [example for one in result.sellers for example in one.examples]:
        out.print(f"  {example}", markup=False)
    if result.agreeing:
        out.print(
            f"{result.agreeing} differ only in fields that nobody knows, or that the platform left out "
            "when they were fetched. They are not stale: the next change of each brings what it lacks."
        )
    if not result.witnessed:
        out.print("No witness read the topic from its start: steps back are counted in what is left of it.")
    out.print(result.line(), markup=False, soft_wrap=True)


def _until(complete_until: datetime | None) -> str:
    return platform_time.format(complete_until) if complete_until else "not bootstrapped"


def _without_refunds(one: standing.Standing) -> str:
    return "" if one.with_refunds or one.complete_until is None else ", without refunds"


def show_settings() -> None:
    """All settings, as a table per noun."""
    for cls in settings.ALL:
        table = Table("variable", "default", "meaning", title=(cls.__doc__ or "").strip())
        for name, field in cls.model_fields.items():
            default = "required" if field.is_required() else str(field.default)
            table.add_row(settings.variable(cls, name), default, field.description)
        console.print(table)
