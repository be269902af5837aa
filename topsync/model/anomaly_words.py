"""What is said of anomalies, in notifications and in `topsync status`: names and numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from topsync.model.anomaly import Anomaly, AnomalyKind

DO: Final[Mapping[AnomalyKind, str]] = {
    AnomalyKind.UNKNOWN_CODE: "look at the log of the process that met it, and give the code a rule",
    AnomalyKind.UNKNOWN_FIELD: "nothing is lost, it is carried as it comes; see what it means, and update "
    "topsync",
    AnomalyKind.UNKNOWN_TYPE: "have the type named in list calls: until then only messages and details bring "
    "such orders",
    AnomalyKind.UNLISTED_TYPE: "see the report (`topsync report list`), and have the type named in list "
    "calls",
    AnomalyKind.SILENT_SHOP: "ask the shop whether it sells; if it does, see `topsync sellers show`, and "
    "pull its day with `topsync replay`",
    AnomalyKind.BEHIND_ANSWERS: "topsync asks again by itself; where it lasts, lengthen "
    "TOPSYNC_DETAIL_LAG_ALLOWANCE_SECONDS",
}
"""What to do about each kind. docs/operations.md says more."""


def what(each: Anomaly) -> str:
    """What an anomaly is, in a few words."""
    match each.kind:
        case AnomalyKind.UNKNOWN_CODE:
            return f"no rule names the error {each.name}, which came {_times(each.seen)}"
        case AnomalyKind.UNKNOWN_FIELD:
            return f"nobody knows the field {each.name}, which came {_times(each.seen)}"
        case AnomalyKind.UNKNOWN_TYPE:
            return f"lists are not asked for the trade type {each.name}, which came {_times(each.seen)}"
        case AnomalyKind.UNLISTED_TYPE:
            return f"the platform's lists leave out {each.seen} of the orders with the trade type {each.name}"
        case AnomalyKind.SILENT_SHOP:
            return f"the shop is silent: {each.seen} orders, {_usually(each)}"
        case AnomalyKind.BEHIND_ANSWERS:
            return f"{each.seen} of {each.among} answers with an order in full were behind, {_usually(each)}"


def _usually(each: Anomaly) -> str:
    usual, deviation = each.expected or 0, each.deviation or 0
    return f"where {usual:.0f} are usual at this hour of the week (deviation {deviation:.0f})"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
