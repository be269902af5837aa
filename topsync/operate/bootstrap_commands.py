"""The commands about bulk starts: what they would cost, and how far they are."""

from __future__ import annotations

from collections.abc import Sequence

from bootstrap import board, estimates
from bootstrap.board import Rates
from bootstrap.estimates import Estimate
from bootstrap.planning import Plan
from bootstrap.progress import Phase, SellerProgress
from topsync.base import settings, terminal
from topsync.base.settings import BootstrapSettings, BudgetSettings
from topsync.base.terminal import Column, Table
from topsync.model.kind import Kind
from topsync.model.slice import Slice, SliceState, Way
from topsync.operate.seller_commands import find
from topsync.store import sellers, slices
from topsync.store.database import Pool
from topsync.store.sellers import Seller
from topsync.wiring import bootstrap, parts


async def plan(names: Sequence[str], *, as_json: bool) -> int:
    """Show what the bulk start of these sellers would do, or of all that are new.

    Raises:
        BootstrapFailedError: a name means no seller that can be started.
    """
    planned = await bootstrap.plan(names)
    own, calls = settings.load(BootstrapSettings), settings.load(BudgetSettings)
    found = [
        (
            seller,
            plan,
            estimates.estimate(
                plan.slices,
                orders=plan.orders,
                calls_per_second=calls.calls_per_second,
                poll_seconds=own.export_poll_seconds,
                files_at_once=own.bootstrap_parallel_slices,
            ),
        )
        for seller, plan in planned
    ]
    if as_json:
        for seller, made, cost in found:
            terminal.write_json(_plan_document(seller, made, cost))
        return 0
    if not found:
        terminal.say("no seller is new; name the sellers to start them anew")
        return 0
    for seller, made, _ in found:
        terminal.show(_plan_table(seller, made))
        if made.listed_because:
            terminal.say(f"  by lists: {made.listed_because}")
    costs = [(seller, cost) for seller, _, cost in found]
    terminal.show(_cost_table(costs, files_at_once=own.bootstrap_parallel_slices))
    return 0


def _plan_table(seller: Seller, made: Plan) -> Table:
    table = Table(
        (
            Column("what"),
            Column("by"),
            Column("from", whole=True),
            Column("to", whole=True),
            Column("counted", whole=True),
        ),
        title=f"{seller.name}: {len(made.slices)} slices",
    )
    for each in _merged(made.slices):
        counted = "?" if each.expected is None else f"{each.expected:,}"
        table.add(
            each.kind.plural, each.way.value, each.first_day.isoformat(), each.last_day.isoformat(), counted
        )
    return table


def _merged(found: Sequence[Slice]) -> list[Slice]:
    """Slices that are exported, one by one; those that are listed are many, and shown as one."""
    exported = [each for each in found if each.way is Way.EXPORT]
    for kind in Kind:
        listed = [each for each in found if each.way is Way.LIST and each.kind is kind]
        if not listed:
            continue
        counts = [each.expected for each in listed if each.expected is not None]
        exported.append(
            Slice(
                seller_id=listed[0].seller_id,
                number=listed[0].number,
                kind=kind,
                way=Way.LIST,
                first_day=min(each.first_day for each in listed),
                last_day=max(each.last_day for each in listed),
                expected=sum(counts) if len(counts) == len(listed) else None,
            )
        )
    return exported


def _cost_table(costs: Sequence[tuple[Seller, Estimate]], *, files_at_once: int) -> Table:
    table = Table(
        (
            Column("seller"),
            Column("calls", whole=True),
            Column("minutes", whole=True),
            Column("room for files", whole=True),
        ),
        title="What it costs",
    )
    for seller, cost in costs:
        table.add(seller.nick, *_cost_cells(cost))
    if len(costs) > 1:
        of_all = estimates.total([cost for _, cost in costs], files_at_once=files_at_once)
        table.add("all", *_cost_cells(of_all))
    return table


def _cost_cells(cost: Estimate) -> tuple[str, str, str]:
    return f"{cost.calls:,}", f"{cost.minutes:,.0f}", f"{cost.file_bytes / 1024**2:,.0f} MiB"


def _plan_document(seller: Seller, made: Plan, cost: Estimate) -> dict[str, object]:
    return {
        "seller_id": seller.seller_id,
        "nick": seller.nick,
        "orders": made.orders,
        "listed_because": made.listed_because,
        "calls": cost.calls,
        "minutes": round(cost.minutes, 1),
        "file_bytes": cost.file_bytes,
        "slices": [
            {
                "kind": each.kind.value,
                "way": each.way.value,
                "first_day": each.first_day,
                "last_day": each.last_day,
                "expected": each.expected,
            }
            for each in made.slices
        ],
    }


async def status(name: str | None, *, as_json: bool) -> int:
    """Show the bulk starts that are under way, or that of one seller; 1 where a slice has failed."""
    async with parts.open_pool() as pool:
        only = None if name is None else await find(pool, name)
        found = [
            await _progress(pool, seller, under_way)
            for seller_id, under_way in (await slices.of_all(pool)).items()
            if (only is None or only.seller_id == seller_id)
            and (seller := await sellers.get(pool, seller_id)) is not None
        ]
    if as_json:
        for each in found:
            terminal.write_json(board.document(each, Rates()))
    elif not found:
        terminal.say("no bulk start is under way" if only is None else f"{only.name}: none is under way")
    else:
        terminal.show(board.table(found, Rates()))
        for each in found:
            if each.failure:
                terminal.say(f"{each.nick}: {each.failure}")
    return 1 if any(each.failure for each in found) else 0


async def _progress(pool: Pool, seller: Seller, under_way: Sequence[Slice]) -> SellerProgress:
    progress = SellerProgress(seller.seller_id, seller.nick, Phase.SLICES)
    progress.take(under_way)
    for each in under_way:
        if each.state is not SliceState.STORED:
            stored = await slices.count_rows(pool, each) - await slices.count_unstored(pool, each)
            progress.slices[each.number].stored = stored
    failures = [each for each in under_way if each.failure]
    if failures:
        first = failures[0]
        progress.failure = (
            f"{len(failures)} of {len(under_way)} slices failed in the last run, first the "
            f"{first.kind.plural} of {first.first_day} to {first.last_day}: {first.failure}"
        )
    elif all(each.state is SliceState.STORED for each in under_way):
        progress.phase = Phase.TODAY
    return progress
