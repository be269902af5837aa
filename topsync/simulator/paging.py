"""What all list calls share: which page and fields are wanted, and the form of the answer.

Reference: docs/platform/gateway.md 1.6, 3.1 and 3.10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from topsync.simulator.arguments import Arguments
from topsync.simulator.errors import business, invalid
from topsync.simulator.fields import FieldMask
from topsync.simulator.life import TradeType
from topsync.simulator.settings import OldWindow, PageBeyondEnd, PlatformQuirks, UnknownType
from topsync.simulator.wire import JsonObject

KNOWN_TYPES = frozenset(
    {
        *("guarantee_trade", "auto_delivery", "ec", "cod", "step", "fixed", "auction"),
        *("independent_simple_trade", "independent_shop_trade", "game_equipment", "shopex_trade"),
        *("netcn_trade", "external_trade", "instant_trade", "b2c_cod", "hotel_trade", "super_market_trade"),
        *("super_market_cod_trade", "taohua", "waimai", "o2o_offlinetrade", "nopaid", "eticket"),
        *("tmall_i18n", "insurance_plus", "finance", "pre_auth_type", "lazada", "fenxiao", "travel"),
    }
)

MAX_SPAN_SECONDS = 86400
_MAX_PAGE_SIZE = 100
_DEFAULT_PAGE_SIZE = 40
_MAX_PAGE = 1_000_000


@dataclass(frozen=True, slots=True)
class ListView:
    """The view of a result that a list call asks for: fields, page, and a count or only `has_next`."""

    fields: FieldMask
    page_no: int
    page_size: int
    use_has_next: bool


def wanted(arguments: Arguments) -> ListView:
    """The view that the arguments ask for."""
    return ListView(
        fields=arguments.fields(),
        page_no=arguments.number_within("page_no", 1, _MAX_PAGE, 1),
        page_size=arguments.number_within("page_size", 1, _MAX_PAGE_SIZE, _DEFAULT_PAGE_SIZE),
        use_has_next=arguments.flag("use_has_next"),
    )


def types(arguments: Arguments, default: frozenset[str], quirks: PlatformQuirks) -> frozenset[TradeType]:
    """The types that `type` asks for; `default` without it (docs/platform/gateway.md 5.5)."""
    asked = arguments.names("type") or default
    if quirks.unknown_type is UnknownType.REFUSED and not asked <= KNOWN_TYPES:
        raise invalid("type", "未知的交易类型")
    if "guarantee_trade" in asked:  # only in queries: means these two types
        asked |= {"fixed", "auction"}
    return frozenset(type_ for type_ in TradeType if type_.value in asked)


def check_age(name: str, first: int, oldest: int, quirks: PlatformQuirks) -> None:
    """Refuse a window that begins too long ago, if the platform does."""
    if first < oldest and quirks.old_window is OldWindow.REFUSED:
        raise business(f"isv.invalid-parameter:{name}", "只能查询三个月以内的数据")


def offset(wish: ListView, total: int, quirks: PlatformQuirks) -> int:
    """The offset of the page; a quirk decides about pages beyond the end."""
    offset = (wish.page_no - 1) * wish.page_size
    if offset < total or offset == 0 or quirks.page_beyond_end is PageBeyondEnd.EMPTY:
        return offset
    if quirks.page_beyond_end is PageBeyondEnd.REFUSED:
        raise business("isv.invalid-parameter:page_no", "页码超出范围")
    return max(0, (total - 1) // wish.page_size * wish.page_size)


def answer(
    wish: ListView, begin: int, total: int, plural: str, item: str, rows: Sequence[object]
) -> JsonObject:
    """The answer with these rows, which begin at `begin` of `total`."""
    answer_json: JsonObject = (
        {"has_next": begin + len(rows) < total} if wish.use_has_next else {"total_results": total}
    )
    if rows:  # an empty list has no key at all
        answer_json[plural] = {item: list(rows)}
    return answer_json
