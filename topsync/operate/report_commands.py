"""The commands about reports of the comparison with the platform: a function per command."""

from __future__ import annotations

from topsync.base import terminal
from topsync.base.errors import OperatorError
from topsync.operate import report_tables
from topsync.store import comparisons, sellers
from topsync.wiring import parts


class NoReportError(OperatorError):
    """There is no such report."""


async def list_reports(*, limit: int, as_json: bool) -> None:
    """Show the newest reports, the newest first."""
    async with parts.open_pool() as pool:
        found = [
            (report, await comparisons.counts(pool, report.id), await comparisons.failures(pool, report.id))
            for report in await comparisons.newest(pool, limit)
        ]
    if as_json:
        for report, counts, failures in found:
            terminal.write_json(report_tables.document(report, counts, failures))
    elif found:
        terminal.show(
            report_tables.of_all(
                (report, counts, len({each.seller_id for each in failures}))
                for report, counts, failures in found
            )
        )
    else:
        terminal.say("nothing has been compared with the platform yet")


async def show(id_: str, *, limit: int, as_json: bool) -> int:
    """Show a report with what differed; 0 when nothing is left of it, otherwise 1.

    Raises:
        NoReportError: there is none.
    """
    async with parts.open_pool() as pool:
        report = await comparisons.get(pool, id_)
        if report is None:
            raise NoReportError(f"no report {id_}; see `topsync report list`")
        counts, failures = await comparisons.counts(pool, id_), await comparisons.failures(pool, id_)
        found = await comparisons.differences(pool, id_, limit=limit)
        everybody = {seller.seller_id: seller for seller in await sellers.all_of(pool)}
    summary = report_tables.document(report, counts, failures)
    if as_json:
        terminal.write_json({**summary, "differences": list(map(report_tables.as_json, found))})
    else:
        named = {each.seller_id for each in counts} | {each.seller_id for each in failures}
        terminal.say(
            f"report {report.id}: {report_tables.standing(report)}, {report.days} days of sellers compared"
        )
        if named:
            of = [everybody[seller_id] for seller_id in sorted(named & everybody.keys())]
            terminal.show(report_tables.of_sellers(counts, failures, of))
        if found:
            nicks = {seller_id: seller.nick for seller_id, seller in everybody.items()}
            terminal.show(report_tables.of_differences(found, nicks))
        else:
            terminal.say("nothing differed")
        if sum(each.objects for each in counts) > len(found):
            terminal.say(f"(the first {len(found)}: --limit shows more)")
    return 1 if summary["left"] or failures else 0
