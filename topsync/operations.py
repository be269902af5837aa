"""What operators do from the command line: one function per command, printing for people."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

from schemas import platform_time
from topsync import overview, overview_tables, retry, runtime, settings, terminal
from topsync.audit import Audit, Result
from topsync.errors import OperatorError, reaching
from topsync.settings import DatabaseSettings, KafkaSettings, PlatformSettings, SimulatorAdminSettings
from topsync.store import database, replay_jobs, sellers
from topsync.store.replay_jobs import ReplayJob, State
from topsync.stream import topic_admin, topics
from topsync.stream.producer import PublishError
from topsync.stream.topic_plan import Action, ByHand
from topsync.stream.topics import TopicsError
from topsync.terminal import Column, Table

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
    terminal.say(told)


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
        terminal.say(str(action))
    if not actions:
        terminal.say("all topics are as they should be")


async def status(*, as_json: bool = False) -> None:
    """Show how things stand."""
    async with runtime.open_pool() as pool:
        seen = await overview.look(pool)
    if as_json:
        terminal.write_json(overview_tables.document(seen))
        return
    for table in overview_tables.of(seen):
        terminal.show(table)
        terminal.say("")
    wrong = overview.problems(seen)
    terminal.say(*(f"! {problem}" for problem in wrong) if wrong else ("nothing is wrong",))


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
        terminal.say(f"replay {job.id} is still under way; ask again with --id {job.id}")
        return 1
    table = terminal.facts(f"Replay {done.id}: {done.state.value}")
    for name, value in (done.outcome or {}).items():
        table.add(name.replace("_", " "), str(value))
    terminal.show(table)
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


async def audit(*, settle_seconds: float, as_json: bool = False) -> int:
    """Audit and print: a row per seller, then the one line; 0 only when all four counts are 0."""
    admin_url = str(settings.load(SimulatorAdminSettings).simulator_admin_url)
    kafka, registry = await runtime.open_topics()
    async with runtime.open_pool() as pool:
        with_refunds = settings.load(PlatformSettings).refunds
        audit = Audit(pool, kafka, registry, admin_url, with_refunds)
        result = await audit.run(settle_seconds=settle_seconds)
    if as_json:
        terminal.write_json(audit_document(result))
    else:
        print_audit(result)
    return 0 if result.clean else 1


def print_audit(result: Result) -> None:
    """The audit for people, and its last line for machines."""
    table = Table(
        (
            Column("id", whole=True, rank=3),
            Column("seller"),
            Column("orders", whole=True),
            Column("refunds", whole=True, rank=2),
            Column("missing", whole=True),
            Column("stale", whole=True),
            Column("holes", whole=True),
            Column("complete until (GMT+8)", whole=True, rank=1),
        ),
        title="Audit",
    )
    for one in result.sellers:
        table.add(
            str(one.seller.seller_id),
            one.seller.nick,
            str(one.orders),
            "not kept" if one.refunds is None else str(one.refunds),
            str(one.missing),
            str(one.stale),
            str(one.holes),
            platform_time.format(one.complete_until) if one.complete_until else "not bootstrapped",
        )
    terminal.show(table)
    terminal.say(*(f"  {example}" for one in result.sellers for example in one.examples))
    if not result.witnessed:
        terminal.say(
            "No witness read the topic from its start: steps back are counted in what is left of it."
        )
    terminal.say(result.line())


def audit_document(result: Result) -> dict[str, object]:
    """The audit for machines. The keys are a contract (docs/operations.md)."""
    return {
        "clean": result.clean,
        "orders": result.orders,
        "missing": result.missing,
        "stale": result.stale,
        "backwards": result.backwards,
        "holes": result.holes,
        "witnessed": result.witnessed,
        "sellers": [
            {
                "seller_id": str(one.seller.seller_id),
                "nick": one.seller.nick,
                "orders": one.orders,
                "refunds": one.refunds,
                "missing": one.missing,
                "stale": one.stale,
                "holes": one.holes,
                "complete_until": one.complete_until,
                "examples": one.examples,
            }
            for one in result.sellers
        ],
    }


def show_settings() -> None:
    """All settings, by noun. Names and defaults are too long for a table on a screen of 80 columns."""
    for cls in settings.ALL:
        terminal.say("", (cls.__doc__ or "").strip())
        for name, field in cls.model_fields.items():
            default = "required" if field.is_required() else f"default {field.default}"
            terminal.say(f"  {settings.variable(cls, name)}  ({default})")
            terminal.say(*(f"      {line}" for line in terminal.filled(field.description or "", indent=6)))
