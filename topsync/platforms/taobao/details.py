"""The port's `Details` over the typed calls: the gateway's errors become outcomes of the one question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr

from schemas.platform_object import UnreadableError
from schemas.trade import Trade
from topsync.model.kind import Kind
from topsync.model.priority import Priority
from topsync.platforms.port import DetailAnswer, Flaw, NotThere, Refused, Shown, Unreadable
from topsync.platforms.taobao.calls import refunds, trades
from topsync.platforms.taobao.gateway import platform_json
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import (
    BadAnswerError,
    RefundNotExistError,
    RequestRefusedError,
    TradeNotExistError,
)

_GATEWAYS_OWN_CODES: Final = range(100)
"""Codes that come from the gateway itself (docs/platform/gateway.md 2.2)."""

_NOT_THE_APPLICATION: Final = frozenset({12, 15, 40, 41, 50})
"""Those of them that do not refuse the application: a seller's account, arguments, a service's answer."""


@dataclass(frozen=True, slots=True)
class TaobaoDetails:
    """Orders and refunds in full, by `taobao.trade.fullinfo.get` and `taobao.refund.get`."""

    client: TopClient

    async def detail(self, kind: Kind, session: SecretStr, id_: int, priority: Priority) -> DetailAnswer:
        """See `topsync.platforms.port.Details`.

        An order may be refused for the application, whichever the order: that is raised, so that it stops
        the process and no order is set aside for it. Refunds have a right of their own, without which
        everything else goes on.
        """
        match kind:
            case Kind.ORDER:
                return await self._order(session, id_, priority)
            case Kind.REFUND:
                return await self._refund(session, id_, priority)

    async def _order(self, session: SecretStr, tid: int, priority: Priority) -> DetailAnswer:
        try:
            raw = await trades.fullinfo(self.client, session, tid, priority)
        except TradeNotExistError:
            return NotThere()
        except BadAnswerError as error:
            return Unreadable(Flaw.NO_OBJECT, str(error), error.body)
        except RequestRefusedError as error:
            if not _concerns_one_order(error):
                raise
            return Refused(str(error), whole_kind=False)
        return read_order(raw)

    async def _refund(self, session: SecretStr, refund_id: int, priority: Priority) -> DetailAnswer:
        try:
            refund = await refunds.get(self.client, session, refund_id, priority=priority)
        except RefundNotExistError:
            return NotThere()
        except BadAnswerError as error:
            return Unreadable(_flaw(error.__cause__), str(error), error.body)
        except RequestRefusedError as error:
            return Refused(str(error), whole_kind=refunds.refuses_all(error))
        return Shown(refund, refund.id("tid"), refund.time("modified"), refund.text.encode)


def read_order(raw: Mapping[str, object]) -> Shown | Unreadable:
    """A complete trade as the platform sent it, whichever call brought it."""
    try:
        trade = Trade.read(raw)
    except UnreadableError as error:
        return Unreadable(_flaw(error), str(error), platform_json.dumps(raw))
    return Shown(trade, trade.id("tid"), trade.time("modified"), lambda: platform_json.dumps(raw))


def _flaw(error: BaseException | None) -> Flaw:
    match error:
        case UnreadableError(is_incomplete=True):
            return Flaw.INCOMPLETE
        case UnreadableError():
            return Flaw.MALFORMED
    return Flaw.NO_OBJECT


def _concerns_one_order(error: RequestRefusedError) -> bool:
    """Whether other orders may fare better."""
    return error.code is not None and (
        error.code not in _GATEWAYS_OWN_CODES or error.code in _NOT_THE_APPLICATION
    )
