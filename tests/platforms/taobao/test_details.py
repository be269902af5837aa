"""The port's details over the gateway: each answer is an outcome, or is raised."""

from __future__ import annotations

import orjson
import pytest
from pydantic import SecretStr

from tests.platforms.taobao.gateway import (
    SESSION,
    Gateway,
    Step,
    answers,
    answers_error,
    answers_html,
    ok,
    raw,
)
from tests.store.databases import at, platform_refund, platform_trade
from topsync.model.kind import Kind
from topsync.model.priority import Priority
from topsync.platforms.port import (
    ApplicationRefusedError,
    DetailAnswer,
    Flaw,
    NotThere,
    PlatformAwayError,
    PlatformError,
    Refused,
    SessionRefusedError,
    Shown,
    Unreadable,
)
from topsync.platforms.taobao.details import TaobaoDetails
from topsync.platforms.taobao.gateway.client import TopClient

TID = 4000000000000000101
REFUND = 180000000000000101
ATTEMPTS = 5
NO_RIGHT = "isv.permission-api-package-limit"


async def asked(gateway: Gateway, client: TopClient, kind: Kind, step: Step) -> DetailAnswer:
    gateway.script.extend([step] * ATTEMPTS)
    id_ = TID if kind is Kind.ORDER else REFUND
    return await TaobaoDetails(client).detail(kind, SecretStr(SESSION), id_, Priority.LIVE)


def answers_object(kind: Kind, **fields: object) -> Step:
    if kind is Kind.ORDER:
        return answers(lambda: ok("trade_fullinfo_get", {"trade": platform_trade(TID, 5) | fields}))
    return answers(lambda: ok("refund_get", {"refund": platform_refund(REFUND, TID, 5) | fields}))


kinds = pytest.mark.parametrize("kind", list(Kind))


@kinds
async def test_an_object_is_shown_with_its_order_and_its_time(
    gateway: Gateway, client: TopClient, kind: Kind
) -> None:
    shown = await asked(gateway, client, kind, answers_object(kind, x_new="secret"))
    assert isinstance(shown, Shown)
    assert (shown.order_id, shown.modified) == (TID, at(5))
    assert "secret" in str(orjson.loads(shown.original()))
    assert "secret" not in repr(shown.original)


@kinds
@pytest.mark.parametrize(
    ("fields", "flaw"),
    [({"modified": "soon"}, Flaw.MALFORMED), ({"modified": None}, Flaw.INCOMPLETE)],
    ids=str,
)
async def test_an_unreadable_object_is_kept_whole_with_what_is_wrong_with_it(
    gateway: Gateway, client: TopClient, kind: Kind, fields: dict[str, object], flaw: Flaw
) -> None:
    found = await asked(gateway, client, kind, answers_object(kind, title="secret", **fields))
    assert isinstance(found, Unreadable)
    assert found.flaw is flaw
    assert b"secret" in found.original
    assert "secret" not in repr(found)


@kinds
async def test_another_object_and_broken_json_are_no_object(
    gateway: Gateway, client: TopClient, kind: Kind
) -> None:
    other = answers_object(kind, tid=1, refund_id=1)
    for step in (other, answers(lambda: raw(b"<html>not JSON</html>"))):
        gateway.script.clear()
        found = await asked(gateway, client, kind, step)
        assert isinstance(found, Unreadable)
        assert found.flaw is Flaw.NO_OBJECT


@pytest.mark.parametrize(
    ("kind", "code", "sub_code", "answer"),
    [
        (Kind.ORDER, 15, "isv.trade-not-exist", NotThere()),
        (Kind.REFUND, 15, "isv.refund-not-exist", NotThere()),
        (Kind.ORDER, 15, "isv.invalid-permission", False),
        (Kind.ORDER, 12, None, False),
        (Kind.ORDER, 601, None, False),
        (Kind.REFUND, 41, "isv.invalid-parameter:refund_id", False),
        (Kind.REFUND, 11, NO_RIGHT, True),
        (Kind.REFUND, 15, "isv.invalid-permission", True),
    ],
)
async def test_a_refusal_says_whether_it_concerns_all_objects_of_the_kind(
    gateway: Gateway, client: TopClient, kind: Kind, code: int, sub_code: str | None, answer: NotThere | bool
) -> None:
    found = await asked(gateway, client, kind, answers_error(code, sub_code))
    if isinstance(answer, bool):
        assert isinstance(found, Refused)
        assert found.whole_kind is answer
        assert f"code {code}" in found.detail
    else:
        assert found == answer


@pytest.mark.parametrize(
    ("kind", "step", "error"),
    [
        *((kind, answers_error(27, "session-expired"), SessionRefusedError) for kind in Kind),
        *((kind, answers_error(25), ApplicationRefusedError) for kind in Kind),
        *((kind, answers_error(15, "isp.remote-service-timeout"), PlatformAwayError) for kind in Kind),
        *((kind, answers_html(502), PlatformAwayError) for kind in Kind),
        # Without the right to orders the process stops; the single orders are not the cause.
        (Kind.ORDER, answers_error(11, NO_RIGHT), PlatformError),
        (Kind.ORDER, answers_error(22), PlatformError),
    ],
)
async def test_an_answer_that_is_not_about_the_object_is_raised_as_the_ports_error(
    gateway: Gateway, client: TopClient, kind: Kind, step: Step, error: type[PlatformError]
) -> None:
    with pytest.raises(error):
        await asked(gateway, client, kind, step)
