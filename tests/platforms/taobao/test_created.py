"""The port's lists by creation over the gateway: each answer is an outcome of the question, or is raised."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from schemas import platform_time
from tests.platforms.taobao.gateway import SESSION, Gateway, Step, answers, answers_error, answers_sample, ok
from tests.store.databases import at
from topsync.budget.errors import CallLimitedError
from topsync.model.priority import Priority
from topsync.model.span import Span
from topsync.platforms.created_port import CreatedAnswer, CreatedOrder, CreatedPage
from topsync.platforms.port import (
    ApplicationRefusedError,
    PlatformAwayError,
    Refused,
    SessionRefusedError,
    WindowTooWide,
)
from topsync.platforms.taobao.catalogue import ALL_TRADE_TYPES
from topsync.platforms.taobao.created import CREATED_RULES, TaobaoCreatedLists
from topsync.platforms.taobao.gateway.client import TopClient

TID = 4000000000000000101
ATTEMPTS = 5
NO_RIGHT = "isv.permission-api-package-limit"


async def listed(
    gateway: Gateway, client: TopClient, step: Step, *, counting: bool = False, page_no: int = 1
) -> CreatedAnswer:
    gateway.script.extend([step] * ATTEMPTS)
    return await TaobaoCreatedLists(client).created_page(
        SecretStr(SESSION),
        Span(at(0), at(86400 * 30)),
        page_no=page_no,
        page_size=CREATED_RULES.max_page_size,
        counting=counting,
        priority=Priority.BOOTSTRAP,
    )


def answers_trades(*trades: dict[str, object], **rest: object) -> Step:
    return answers(lambda: ok("trades_sold_get", {"trades": {"trade": list(trades)}, **rest}))


async def test_a_page_has_the_created_orders_newest_first(gateway: Gateway, client: TopClient) -> None:
    rows = [
        {"tid": TID, "created": platform_time.format(at(9)), "modified": platform_time.format(at(50))},
        {"tid": TID - 1, "created": platform_time.format(at(5)), "modified": platform_time.format(at(70))},
    ]
    page = await listed(gateway, client, answers_trades(*rows, has_next=True))
    orders = {TID: CreatedOrder(at(9), at(50)), TID - 1: CreatedOrder(at(5), at(70))}
    assert page == CreatedPage(total=None, has_next=True, orders=orders)
    assert isinstance(page, CreatedPage)
    assert list(page.orders) == [TID, TID - 1]


async def test_a_row_that_does_not_say_when_it_was_created_is_listed_all_the_same(
    gateway: Gateway, client: TopClient
) -> None:
    row = {"tid": TID, "modified": platform_time.format(at(50))}
    page = await listed(gateway, client, answers_trades(row, total_results=1), counting=True)
    assert page == CreatedPage(total=1, has_next=None, orders={TID: CreatedOrder(None, at(50))})


async def test_a_page_that_the_platform_documents_is_read(gateway: Gateway, client: TopClient) -> None:
    page = await listed(gateway, client, answers_sample("trades_sold_get_page.json"), counting=True)
    assert isinstance(page, CreatedPage)
    assert (page.total, len(page.orders)) == (3, 3)


@pytest.mark.parametrize("counting", [True, False])
async def test_the_total_is_requested_only_where_it_is_needed(
    gateway: Gateway, client: TopClient, counting: bool
) -> None:
    await listed(gateway, client, answers_trades(), counting=counting, page_no=3)
    form = gateway.calls()[-1].form
    assert form["use_has_next"] == str(not counting).lower()
    assert (form["page_no"], form["page_size"]) == ("3", "100")


async def test_orders_of_all_types_are_asked_for_with_as_few_fields_as_can_be(
    gateway: Gateway, client: TopClient
) -> None:
    await listed(gateway, client, answers_trades())
    form = gateway.calls()[-1].form
    assert form["type"] == ",".join(ALL_TRADE_TYPES)
    assert form["fields"] == "tid,created,modified,status"
    assert (form["start_created"], form["end_created"]) == (
        platform_time.format(at(0)),
        platform_time.format(at(86400 * 30)),
    )


async def test_a_window_that_is_too_wide_is_an_outcome_with_a_wait(
    gateway: Gateway, client: TopClient
) -> None:
    answer = await listed(gateway, client, answers_error(520, "isv.trade-service-rejection"))
    assert answer == WindowTooWide(needs_rest=True)


@pytest.mark.parametrize(
    ("step", "sub_code", "whole_kind"),
    [
        (answers_error(11, NO_RIGHT), NO_RIGHT, True),
        (
            answers_error(15, "isv.invalid-parameter:start_created"),
            "isv.invalid-parameter:start_created",
            False,
        ),
    ],
)
async def test_a_refusal_is_an_outcome_that_says_why(
    gateway: Gateway, client: TopClient, step: Step, sub_code: str, whole_kind: bool
) -> None:
    answer = await listed(gateway, client, step)
    assert isinstance(answer, Refused)
    assert answer.whole_kind is whole_kind
    assert sub_code in answer.detail


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
    gateway: Gateway, client: TopClient, step: Step, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await listed(gateway, client, step)


def test_the_list_reaches_ninety_days_back_from_the_platforms_today() -> None:
    now = platform_time.parse("2025-11-20 23:59:59")
    assert CREATED_RULES.oldest(now) == platform_time.parse("2025-08-22 00:00:00")
