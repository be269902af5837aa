"""Where a parcel has been (docs/platform/gateway.md 3.13)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import Field, SecretStr

from schemas.platform_object import PlatformObject, UnreadableError
from schemas.types import Instant, ListOf, PlatformId
from topsync.model.priority import Priority
from topsync.platforms.taobao.gateway import platform_json
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import BadAnswerError, DroppedError, TradeNotExistError
from topsync.platforms.taobao.gateway.requests import ApiRequest, Parameter

MAX_LINES: Final = 50
"""How many order lines a call can ask for."""


class TransitStep(PlatformObject):
    """A step of a parcel's way. `action` is for machines, `status_desc` for people."""

    status_time: Instant | None = None
    status_desc: str | None = None
    action: str | None = None


class Trace(PlatformObject):
    """The way of a parcel so far, as `taobao.logistics.trace.search` gives it.

    `status` is text for people. For a parcel that was reported as shipped *offline* it says "signed" at once.
    """

    tid: PlatformId
    out_sid: str | None = None
    """The waybill."""
    company_name: str | None = None
    status: str | None = None
    trace_list: Annotated[list[TransitStep], ListOf("transit_step_info")] = Field(default_factory=list)


async def trace(
    client: TopClient, session: SecretStr, tid: int, *, oids: Sequence[int] = (), priority: Priority
) -> Trace:
    """The parcel of a trade; for a trade shipped in several parcels, the parcel of the given order lines.

    Raises:
        ValueError: more than 50 lines.
        TradeNotExistError: no such trade for this seller.
        RequestRefusedError: also when the trade has several parcels and no lines were given.
        BadAnswerError: the answer is not a trace.
    """
    if len(oids) > MAX_LINES:
        raise ValueError(f"at most {MAX_LINES} lines can be asked for")
    parameters: dict[str, Parameter] = {"tid": tid}
    if oids:
        parameters |= {"is_split": 1, "sub_tid": [str(oid) for oid in oids]}
    request = ApiRequest("taobao.logistics.trace.search", parameters)
    try:
        answer = await client.call(request, session=session, priority=priority)
    except DroppedError as error:
        raise TradeNotExistError("no such trade", api=request.api, answer=error.answer) from error
    try:
        return Trace.from_platform({name: value for name, value in answer.items() if name != "request_id"})
    except UnreadableError as error:
        raise BadAnswerError(str(error), api=request.api, body=platform_json.dumps(answer)) from None
