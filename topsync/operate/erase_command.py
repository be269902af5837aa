"""`topsync sellers erase`: shows what will be erased, asks for confirmation, and erases it."""

from __future__ import annotations

import asyncio
import sys

from topsync.base import retry, settings, terminal
from topsync.base.errors import UnreachableError, first_of
from topsync.base.progress_bars import Bars
from topsync.base.settings import (
    BootstrapSettings,
    BudgetSettings,
    EnricherSettings,
    KafkaSettings,
)
from topsync.model.priority import Priority
from topsync.operate import seller_commands, seller_tables
from topsync.operate.seller_commands import Ask, SellerOperationError
from topsync.platforms.platform_port import OrderPlatform
from topsync.platforms.port import PLATFORM_FAILURES
from topsync.platforms.session_port import MessagesGoOn
from topsync.sellers import erasure
from topsync.sellers.erasure import Eraser, ErasureOutcome
from topsync.store import erasures, sellers
from topsync.store.database import OUTAGE_ERRORS, Pool
from topsync.store.sellers import Seller
from topsync.stream.group_progress import group_progress
from topsync.stream.producer import PublishError
from topsync.wiring import opening, parts, platforms

RETRIES = retry.Policy(max_attempts=3, max_elapsed_seconds=10.0, first_wait_seconds=0.3, max_wait_seconds=2.0)
"""How the platform is called: briefly, because the erasure need not wait for the platform."""


async def erase(name: str, confirmation: str | None, ask: Ask, *, stalled_after_seconds: float) -> int:
    """Erase all that is kept of a seller, once its nick or id is typed; 0 when all is done, otherwise 1.

    `confirmation` stands for what would be typed; without it, `ask` is called. It must name this seller and
    no
    other: a nick may be another seller's id. An erasure that was begun goes on.
    """
    async with parts.open_pool() as pool:
        seller = await seller_commands.find(pool, name)
        begun = await erasures.get(pool, seller.seller_id)
        if begun is not None and begun.finished_at is not None and begun.platform_notified:
            terminal.say(f"{seller.name} is erased already")
            return 0
        terminal.show(seller_tables.of_erasure(seller, await erasures.preview(pool, seller.seller_id)))
        if confirmation is None:
            confirmation = await ask(
                "This cannot be undone. To erase all of it, type the seller's nick or id: "
            )
        meant = await sellers.find(pool, confirmation.strip())
        if meant is None or meant.seller_id != seller.seller_id:
            raise SellerOperationError(f"that does not name {seller.name}: nothing is erased")
        try:
            outcome = await _erase(pool, seller, stalled_after_seconds)
        except (PublishError, *OUTAGE_ERRORS) as error:
            raise SellerOperationError(f"{error!r}; {erasure.GOES_ON}") from None
        except asyncio.CancelledError:
            terminal.say(f"interrupted; {erasure.GOES_ON}")
            raise
    terminal.say(*_erased(seller, outcome, settings.load(KafkaSettings)))
    return 0 if outcome.platform_notified else 1


async def _erase(pool: Pool, seller: Seller, stalled_after_seconds: float) -> ErasureOutcome:
    group = settings.load(EnricherSettings).enricher_group
    exports = settings.load(BootstrapSettings).export_files(seller.seller_id)
    # The settings for the platform: find a wrong setting before the seller is stopped.
    platform = platforms.chosen()
    platform.check_settings()
    settings.load(BudgetSettings)
    kafka, registry = await parts.open_topics()
    # First, so that a run that dies leaves no file behind. A bulk start under way deletes its own files.
    for path in exports:
        path.unlink(missing_ok=True)
    with Bars(sys.stderr, erasure.STEPS) as bars:
        async with (
            parts.open_producer(kafka) as producer,
            group_progress(kafka, group, [registry.changes, registry.snapshots]) as progress,
        ):
            eraser = Eraser(
                pool=pool,
                producer=producer,
                progress=progress,
                topics=registry,
                seller=seller,
                tell_platform=lambda: _tell_platform(platform, pool, seller),
                report=bars.reporter(seller.nick),
                say=bars.say,
                stalled_after_seconds=stalled_after_seconds,
            )
            return await eraser.run()


async def _tell_platform(platform: OrderPlatform, pool: Pool, seller: Seller) -> bool:
    """Stop the platform's messages of a seller; false when the platform does not answer."""
    answered = True
    try:
        async with opening.open_platform(platform, pool, retries=RETRIES, waits=False) as (opened, _):
            outcome = await opened.subscriptions.cancel(
                seller.seller_id, seller.nick, priority=Priority.OPERATOR
            )
        if isinstance(outcome, MessagesGoOn):
            terminal.say(
                f"on the platform, {outcome.why}; if any of {seller.seller_id} come, they are dropped"
            )
    except* (*PLATFORM_FAILURES, UnreachableError) as group:
        answered = False
        terminal.say(f"the platform could not be asked to stop its messages: {first_of(group)}")
    return answered


def _erased(seller: Seller, outcome: ErasureOutcome, kafka: KafkaSettings) -> list[str]:
    """What was done, and what stays."""
    short, long = kafka.changes_retention_hours / 24, kafka.notices_retention_hours / 24
    lines = [
        f"{seller.name} is erased: {outcome.orders} orders, {outcome.rows} other rows. What stays:",
        f"- in `changes`, ids: {short:g} days at most",
        f"- among the dead letters, perhaps whole orders; in the notifications, ids: {long:g} days at most",
        f"- in `orders`, until Kafka compacts it: {kafka.orders_compaction_lag_hours} hours at least",
        "- id, nick and state of the seller, and what backups, logs and subscribers have",
    ]
    if outcome.snapshots_kept is not None:
        lines.append(
            f"- in `snapshots`, whole orders: {short:g} days at most. They could not be deleted: "
            f"{outcome.snapshots_kept}"
        )
    if not outcome.platform_notified:
        lines.append("The platform may go on sending its messages, which are dropped: run the command again")
    lines.append("`topsync sellers add` adds it again; it begins anew then.")
    return lines
