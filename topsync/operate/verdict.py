"""The one sentence that `topsync status` begins with: it can be read out on the phone. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from topsync.base import durations
from topsync.operate.findings import Finding, Severity
from topsync.operate.overview import Overview
from topsync.sellers.status import SellerStatus

MOST_NAMED: Final = 3
"""Sellers and findings that the sentence names; of others, only the number."""


def of(seen: Overview, found: Sequence[Finding]) -> str:
    """How far the copy is complete, and what it lacks."""
    broken = [finding for finding in found if finding.severity is Severity.BROKEN]
    said = [_complete(seen, found)]
    said += [_besides(broken, seen.now)] if broken else []
    return "; ".join(said)


def _complete(seen: Overview, found: Sequence[Finding]) -> str:
    """How far every seller is complete but for those that are named."""
    if not seen.sellers:
        return "no seller has been added: run `topsync sellers authorise`"
    held_up = [finding for finding in found if finding.severity is Severity.HELD_UP and finding.seller_id]
    excepted = {finding.seller_id for finding in held_up}
    rest = [stands for stands in seen.sellers if stands.seller.seller_id not in excepted]
    started = [stands for stands in rest if stands.complete_until is not None]
    not_started = len(rest) - len(started)
    said = _until(started, seen.now)
    exceptions = [_named(finding, seen.now) for finding in held_up[:MOST_NAMED]]
    if len(held_up) > MOST_NAMED:
        exceptions.append(f"{_sellers(len(held_up) - MOST_NAMED, 'more ')} (below)")
    if not_started:
        exceptions.append(f"{_sellers(not_started)} without a finished bulk start")
    if not exceptions:
        return said
    named = ", and for ".join(exceptions)
    return f"{said}, but for {named}" if started else f"{said}: {', and '.join(exceptions)}"


def _until(started: Sequence[SellerStatus], now: datetime) -> str:
    ends = [stands.complete_until for stands in started if stands.complete_until is not None]
    if not ends:
        return "no seller is complete"
    lost = any(stands for stands in started if stands.holes)
    ago = durations.text(max(0.0, (now - min(ends)).total_seconds()))
    return f"complete up to {ago} ago" + (" (with holes behind that, see below)" if lost else "")


def _named(finding: Finding, now: datetime) -> str:
    return finding.text(now).replace(f" ({finding.seller_id})", "", 1)


def _besides(broken: Sequence[Finding], now: datetime) -> str:
    texts = [finding.in_short(now) for finding in broken[:MOST_NAMED]]
    if len(broken) > MOST_NAMED:
        texts.append(f"{len(broken) - MOST_NAMED} more (below)")
    return "but " + "; ".join(texts)


def _sellers(count: int, more: str = "") -> str:
    return f"1 {more}seller" if count == 1 else f"{count} {more}sellers"
