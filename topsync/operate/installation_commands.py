"""The commands about the whole installation: a function per command, printing for people."""

from __future__ import annotations

from collections.abc import Sequence

from schemas import platform_time
from topsync.base import metrics, retry, settings, terminal
from topsync.base.errors import reaching
from topsync.base.settings import SimulatorAdminSettings
from topsync.base.terminal import Column, Table
from topsync.model.kind import Kind
from topsync.operate import audit_progress
from topsync.store import database, schema
from topsync.stream import topic_admin, topics
from topsync.stream.layout import LayoutError
from topsync.stream.producer import PublishError
from topsync.stream.topic_plan import Action, ByHand
from topsync.stream.topics import TopicsError
from topsync.verify.audit import Audit, Result
from topsync.wiring import parts, platforms

SPREADING = retry.Policy(max_attempts=10, first_wait_seconds=0.2, max_wait_seconds=2.0)


async def migrate() -> None:
    """Bring the schema up to date."""
    own = parts.database_settings()
    with reaching(database.SERVER, database.REFUSALS):
        applied = await schema.migrate(own)
    terminal.say(f"applied: {', '.join(applied)}" if applied else "the schema is up to date")


async def plan_topics() -> int:
    """Show how the cluster's topics differ from the registry; 1 when they differ, otherwise 0."""
    own = parts.kafka_settings()
    with reaching(topics.SERVER, topics.OUTAGES):
        actions = await topic_admin.plan(own)
    _show(actions)
    return 1 if actions else 0


async def apply_topics() -> int:
    """Change the topics and show it; 1 when something is left for people to do, otherwise 0."""
    own = parts.kafka_settings()
    with reaching(topics.SERVER, topics.OUTAGES):
        actions = await topic_admin.apply(own)
        left = [action for action in actions if isinstance(action, ByHand)]
        if not left:
            # The brokers learn of a new topic one after the other.
            await retry.run(
                lambda: topics.require(own),
                decide=lambda error, _: (
                    retry.Retry()
                    if actions and isinstance(error, TopicsError | LayoutError)
                    else retry.GIVE_UP
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


def has_simulator() -> bool:
    """Whether the platform is a simulator that shows its truth."""
    return settings.load(SimulatorAdminSettings).simulator_admin_url is not None


async def audit(*, settle_seconds: float, as_json: bool = False) -> int:
    """Audit and print a row per seller, then the line for machines; 0 only when all four counts are 0."""
    admin_url = str(settings.load(SimulatorAdminSettings).simulator_admin_url)
    kafka, registry = await parts.open_topics()
    async with parts.open_pool() as pool:
        kinds = parts.kinds(platforms.chosen())
        with audit_progress.showing() as reached, reaching(topics.SERVER, (PublishError,)):
            audit = Audit(pool, kafka, registry, admin_url, kinds, reached)
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
            *(Column(kind.plural, whole=True, rank=0 if kind.leads else 2) for kind in Kind),
            Column("missing", whole=True),
            Column("stale", whole=True),
            Column("holes", whole=True),
            Column("complete until (GMT+8)", whole=True, rank=1),
        ),
        title="Audit",
    )
    for seller_result in result.sellers:
        table.add(
            str(seller_result.seller.seller_id),
            seller_result.seller.nick,
            *(_count_of(seller_result.count(kind)) for kind in Kind),
            str(seller_result.missing),
            str(seller_result.stale),
            str(seller_result.holes),
            (
                platform_time.format(seller_result.complete_until)
                if seller_result.complete_until
                else "not bootstrapped"
            )
            + seller_result.proven_in,
        )
    terminal.show(table)
    terminal.say(*(f"  {loss}" for loss in result.losses))
    terminal.say(*(f"  {example}" for seller_result in result.sellers for example in seller_result.examples))
    if result.moved:
        terminal.say(f"{result.moved} differed at first and arrived since: they were on the move.")
    if result.agreeing:
        terminal.say(
            f"{result.agreeing} differ only in fields that nobody knows, or that the platform left out "
            "when they were fetched. They are not stale: the next change of each brings what it lacks."
        )
    if not result.witnessed:
        terminal.say(
            "No witness read the topic from its start: steps back are counted in what is left of it."
        )
    terminal.say(result.line())


def _count_of(kept: int | None) -> str:
    return "not kept" if kept is None else str(kept)


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
        "moved": result.moved,
        "agreeing": result.agreeing,
        "lost_topics": [str(loss) for loss in result.losses],
        "sellers": [
            {
                "seller_id": str(seller_result.seller.seller_id),
                "nick": seller_result.seller.nick,
                **{kind.plural: seller_result.count(kind) for kind in Kind},
                "missing": seller_result.missing,
                "stale": seller_result.stale,
                "holes": seller_result.holes,
                "complete_until": seller_result.complete_until,
                "examples": seller_result.examples,
            }
            for seller_result in result.sellers
        ],
    }


def show_settings() -> None:
    """Print all settings, by noun. Names and defaults are too long for a table on a screen of 80 columns."""
    for cls in settings.ALL:
        terminal.say("", (cls.__doc__ or "").strip())
        for name, field in cls.model_fields.items():
            default = "required" if field.is_required() else f"default {field.default}"
            terminal.say(f"  {settings.variable(cls, name)}  ({default})")
            terminal.say(*(f"      {line}" for line in terminal.filled(field.description or "", indent=6)))


def show_metrics() -> None:
    """Print all metrics, by subject, in the manner of the settings."""
    for section in metrics.sections():
        terminal.say("", section.title)
        for metric in section.metrics:
            labels = "".join(f", by {label.name}" for label in metric.labels)
            terminal.say(f"  {metric.name}  ({metric.kind}, {metric.unit}{labels})")
            for text in filter(None, (metric.meaning, metric.do)):
                terminal.say(*(f"      {line}" for line in terminal.filled(text, indent=6)))
