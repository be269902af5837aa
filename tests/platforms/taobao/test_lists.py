"""The port's lists over the gateway: each answer is an outcome of the question, or is raised."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import SecretStr

from schemas import platform_time
from tests.platforms.taobao.gateway import SESSION, Gateway, Step, answers, answers_error, ok
from tests.store.databases import at
from topsync.budget.errors import CallLimitedError
from topsync.model.kind import Kind
from topsync.model.priority import Priority
from topsync.model.span import Span
from topsync.platforms.port import (
    ApplicationRefusedError,
    ListAnswer,
    ListPage,
    PlatformAwayError,
    Refused,
    SessionRefusedError,
    WindowTooWide,
)
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.lists import RULES, TaobaoLists
from topsync.platforms.taobao.sessions import TaobaoSubscriptions

TID = 4000000000000000101
REFUND = 180000000000000101
ATTEMPTS = 5
NO_RIGHT = "isv.permission-api-package-limit"

kinds = pytest.mark.parametrize("kind", list(Kind))


async def listed(
    gateway: Gateway, client: TopClient, kind: Kind, step: Step, *, counting: bool = True
) -> ListAnswer:
    gateway.script.extend([step] * ATTEMPTS)
    return await TaobaoLists(client).list_page(
        kind,
        SecretStr(SESSION),
        Span(at(0), at(3600)),
        page_no=1,
        page_size=RULES.max_page_size,
        counting=counting,
        priority=Priority.SWEEP,
    )


def answers_rows(kind: Kind) -> Step:
    times = [(0, platform_time.format(at(9))), (1, platform_time.format(at(5)))]
    if kind is Kind.ORDER:
        trades = [{"tid": TID + number, "modified": modified} for number, modified in times]
        return answers(
            lambda: ok("trades_sold_increment_get", {"trades": {"trade": trades}, "total_results": 7})
        )
    refunds = [{"refund_id": REFUND + number, "tid": TID, "modified": modified} for number, modified in times]
    return answers(lambda: ok("refunds_receive_get", {"refunds": {"refund": refunds}, "total_results": 7}))


async def test_a_page_has_the_changed_orders_newest_first(gateway: Gateway, client: TopClient) -> None:
    page = await listed(gateway, client, Kind.ORDER, answers_rows(Kind.ORDER))
    assert page == ListPage(7, {TID: at(9), TID + 1: at(5)}, {})
    assert isinstance(page, ListPage)
    assert list(page.modified) == [TID, TID + 1]


async def test_a_page_of_refunds_names_their_orders(gateway: Gateway, client: TopClient) -> None:
    page = await listed(gateway, client, Kind.REFUND, answers_rows(Kind.REFUND))
    assert page == ListPage(7, {REFUND: at(9), REFUND + 1: at(5)}, {REFUND: TID, REFUND + 1: TID})


@kinds
@pytest.mark.parametrize("counting", [True, False])
async def test_the_total_is_requested_only_where_it_is_needed(
    gateway: Gateway, client: TopClient, kind: Kind, counting: bool
) -> None:
    await listed(gateway, client, kind, answers_rows(kind), counting=counting)
    assert gateway.calls()[-1].form["use_has_next"] == str(not counting).lower()


@kinds
async def test_a_window_that_is_too_wide_is_an_outcome_with_a_wait(
    gateway: Gateway, client: TopClient, kind: Kind
) -> None:
    answer = await listed(gateway, client, kind, answers_error(520, "isv.trade-service-rejection"))
    assert answer == WindowTooWide(needs_rest=True)


@kinds
async def test_a_missing_right_is_an_outcome(gateway: Gateway, client: TopClient, kind: Kind) -> None:
    answer = await listed(gateway, client, kind, answers_error(11, NO_RIGHT))
    assert isinstance(answer, Refused)
    assert answer.whole_kind
    assert NO_RIGHT in answer.detail


@kinds
@pytest.mark.parametrize(
    ("step", "error"),
    [
        (answers_error(15, "isp.remote-service-timeout"), PlatformAwayError),
        (answers_error(27), SessionRefusedError),
        (answers_error(25), ApplicationRefusedError),
        (
            answers_error(
                7, "accesscontrol.limited-by-app-access-count", "ban will last for 600 more seconds"
            ),
            CallLimitedError,
        ),
    ],
)
async def test_errors_that_do_not_depend_on_the_question_are_raised(
    gateway: Gateway, client: TopClient, kind: Kind, step: Step, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await listed(gateway, client, kind, step)


def test_lists_reach_ninety_days_back_from_the_platforms_today() -> None:
    oldest = RULES.oldest(platform_time.parse("2025-11-20 00:00:00"))
    assert oldest == platform_time.parse("2025-08-22 00:00:00")
    assert RULES.oldest(platform_time.parse("2025-11-20 23:59:59")) == oldest
    assert RULES.longest == timedelta(days=1)


async def test_a_subscription_that_the_platform_refuses_is_an_outcome(
    gateway: Gateway, client: TopClient
) -> None:
    subscriptions = TaobaoSubscriptions(client)
    gateway.script.append(answers(lambda: ok("tmc_user_permit", {"is_success": True})))
    assert await subscriptions.subscribe(SecretStr(SESSION), priority=Priority.GAP) is None
    gateway.script.append(answers(lambda: ok("tmc_user_permit", {"is_success": False})))
    refused = await subscriptions.subscribe(SecretStr(SESSION), priority=Priority.GAP)
    assert isinstance(refused, Refused)
