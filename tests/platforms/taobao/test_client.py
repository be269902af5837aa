"""The client against a real server that behaves as the real gateway did."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from tests.budget.gates import local_gate
from tests.platforms.taobao.gateway import (
    APP_SECRET,
    SESSION,
    Gateway,
    answers,
    answers_error,
    answers_gzip,
    answers_html,
    answers_sample,
    drips,
    never_answers,
    raw,
    resets,
    sample,
    serving,
)
from tests.support import pace
from tests.support.places import CASES
from topsync.base import retry
from topsync.base.clock import ServerClock
from topsync.base.errors import OperatorError
from topsync.budget.circuit import CallVerdict
from topsync.budget.errors import CallLimitedError, Scope
from topsync.model.priority import Priority
from topsync.platforms.platform_port import CallRecord
from topsync.platforms.session_port import SellerSession
from topsync.platforms.taobao.gateway.client import GatewayConfig, TopClient, decide
from topsync.platforms.taobao.gateway.errors import (
    VERDICTS,
    BadAnswerError,
    CallOutcome,
    ClockRefusedError,
    RequestRefusedError,
    ServiceUnavailableError,
    SessionInvalidError,
    TopApplicationRefusedError,
    TopCallLimitedError,
    TopError,
    TradeNotExistError,
    TransportError,
    WindowTooWideError,
)
from topsync.platforms.taobao.gateway.requests import ApiRequest, Read
from topsync.platforms.taobao.gateway.sign import SignMethod
from topsync.platforms.taobao.gateway.transport import HttpConfig
from topsync.platforms.taobao.network import Network

FULLINFO = ApiRequest("taobao.trade.fullinfo.get", {"fields": "tid", "tid": 4000000000000000201})

GOOD = "trade_fullinfo_get_presale_step.json"


async def fullinfo(client: TopClient) -> Mapping[str, object]:
    return await client.call(FULLINFO, session=SecretStr(SESSION), priority=Priority.LIVE)


async def tid_of(client: TopClient) -> object:
    trade = (await fullinfo(client))["trade"]
    assert isinstance(trade, dict)
    return trade["tid"]


@pytest.mark.parametrize("method", SignMethod)
async def test_a_signed_call_is_answered(gateway: Gateway, config: GatewayConfig, method: SignMethod) -> None:
    gateway.script.append(answers_sample(GOOD))
    async with TopClient(
        dataclasses.replace(config, sign_method=method), ServerClock(), local_gate()
    ) as client:
        assert await tid_of(client) == 4000000000000000201
    (seen,) = gateway.calls()
    assert seen.form["session"] == SESSION
    assert seen.form["format"] == "json"
    assert seen.headers["Content-Type"] == "application/x-www-form-urlencoded;charset=utf-8"
    assert "Cookie" not in seen.headers


async def test_text_in_any_script_survives_signing_and_sending(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_sample(GOOD))
    request = ApiRequest("taobao.trade.fullinfo.get", {"memo": "加急 & 100% +=\n😀"})
    await client.call(request, priority=Priority.LIVE)
    assert gateway.calls()[0].form["memo"] == "加急 & 100% +=\n😀"


async def test_a_compressed_answer_is_read(gateway: Gateway, client: TopClient) -> None:
    gateway.script.append(answers_gzip)
    assert await tid_of(client) == 4000000000000000201


@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [
        (answers_html(502), CallOutcome.TRANSPORT),
        (answers_html(200), CallOutcome.BAD_ANSWER),
        (answers(lambda: raw(b'{"trade_fullinfo')), CallOutcome.BAD_ANSWER),
        (never_answers, CallOutcome.TRANSPORT),
        (drips, CallOutcome.TRANSPORT),
        (resets, CallOutcome.TRANSPORT),
        (answers_sample("error_isp_remote_timeout.json"), CallOutcome.UNAVAILABLE),
        (answers_sample("error_isp_unavailable_code50.json"), CallOutcome.UNAVAILABLE),
        (answers_error(15), CallOutcome.UNAVAILABLE),
    ],
)
async def test_a_transient_failure_is_tried_again(
    gateway: Gateway,
    config: GatewayConfig,
    records: list[CallRecord],
    trouble: object,
    outcome: CallOutcome,
) -> None:
    config = dataclasses.replace(
        config, http=HttpConfig(connect_seconds=pace.seconds(0.2)), read_seconds=pace.seconds(0.3)
    )
    gateway.script.extend([trouble, answers_sample(GOOD)])  # type: ignore[list-item]
    async with TopClient(config, ServerClock(), local_gate(), observer=records.append) as client:
        assert await tid_of(client) == 4000000000000000201
    made = [record for record in records if record.api == FULLINFO.api]
    assert [(record.outcome, record.attempt) for record in made] == [(outcome, 1), (CallOutcome.OK, 2)]


async def test_on_a_sale_day_a_failure_of_the_platforms_own_is_not_repeated_soon(
    gateway: Gateway, config: GatewayConfig
) -> None:
    """A call without an answer is: the way to the platform is no busier than usual."""
    waits = {
        failure: decide(failure, 1, max_inline_wait_seconds=60, failure_wait_seconds=60)
        for failure in (ServiceUnavailableError("isp"), TransportError("reset"))
    }
    assert list(waits.values()) == [retry.Retry(60), retry.Retry(None)]
    wait_seconds = pace.seconds(0.5)
    quick = retry.Policy(max_attempts=2, first_wait_seconds=0.001)
    gateway.script.extend([answers_sample("error_isp_remote_timeout.json"), answers_sample(GOOD)])
    async with TopClient(
        dataclasses.replace(config, retries=quick),
        ServerClock(),
        local_gate(),
        failure_wait_seconds=lambda: wait_seconds,
    ) as client:
        await tid_of(client)
    failed, repeated = gateway.calls()
    assert repeated.at - failed.at >= wait_seconds


@pytest.mark.parametrize(
    ("trouble", "attempts", "kind"),
    [
        (answers(lambda: raw(b"", status=502)), 5, TransportError),
        (resets, 5, TransportError),
        (answers(lambda: raw(b"{")), 3, BadAnswerError),
        (answers_error(10), 5, ServiceUnavailableError),
        (answers_error(15), 3, ServiceUnavailableError),
    ],
)
async def test_a_lasting_failure_is_raised_after_a_bounded_number_of_attempts(
    gateway: Gateway, client: TopClient, trouble: object, attempts: int, kind: type[TopError]
) -> None:
    gateway.script.extend([trouble] * 9)  # type: ignore[list-item]
    with pytest.raises(kind) as caught:
        await fullinfo(client)
    assert type(caught.value) is kind
    assert caught.value.api == FULLINFO.api
    assert len(gateway.calls()) == attempts


async def test_a_missing_gateway_is_a_transport_failure(config: GatewayConfig) -> None:
    async with serving(never_answers) as address:
        url = f"{address}/router/rest"
    clock = ServerClock()
    async with TopClient(dataclasses.replace(config, url=url), clock, local_gate()) as client:
        with pytest.raises(TransportError):
            await fullinfo(client)


async def test_a_list_page_may_take_longer_than_a_single_read(
    gateway: Gateway, config: GatewayConfig
) -> None:
    async def slow(request: object) -> object:
        await asyncio.sleep(pace.seconds(0.4))
        return raw(sample("trades_sold_get_page.json"))

    config = dataclasses.replace(
        config, read_seconds=pace.seconds(0.1), list_read_seconds=60.0, http=HttpConfig(connect_seconds=60.0)
    )
    gateway.script.append(slow)  # type: ignore[arg-type]
    async with TopClient(config, ServerClock(), local_gate()) as client:
        await client.call(ApiRequest("taobao.trades.sold.get", {}, Read.LIST), priority=Priority.GAP)
    assert len(gateway.calls()) == 1


async def test_an_answer_that_is_too_large_is_not_read_to_its_end(
    gateway: Gateway, client: TopClient
) -> None:
    gateway.script.extend([answers(lambda: raw(b" " * 200_000))] * 5)
    with pytest.raises(TransportError, match="larger"):
        await fullinfo(client)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("error_invalid_session.json", SessionInvalidError),
        ("error_w2_security_authorize.json", SessionInvalidError),
        ("error_isv_trade_not_exist.json", TradeNotExistError),
        ("error_isv_parameters_mismatch.json", RequestRefusedError),
        ("error_invalid_signature.json", TopApplicationRefusedError),
        ("error_isv_service_rejection.json", WindowTooWideError),
        ("error_app_call_limited_app_daily.json", TopCallLimitedError),
    ],
)
async def test_a_failure_that_a_retry_cannot_repair_is_asked_once(
    gateway: Gateway, client: TopClient, name: str, kind: type[TopError]
) -> None:
    gateway.script.extend([answers_sample(name)] * 5)
    with pytest.raises(kind) as caught:
        await fullinfo(client)
    assert len(gateway.calls()) == 1
    assert caught.value.request_id == "demo0err00001"


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        (GOOD, CallVerdict.ANSWERED),
        ("error_isp_unavailable_code50.json", CallVerdict.FAILED),
        ("error_isv_trade_not_exist.json", CallVerdict.ANSWERED),
        ("error_isv_parameters_mismatch.json", CallVerdict.ANSWERED),
        ("error_isv_service_rejection.json", CallVerdict.SAYS_NOTHING),
        ("error_app_call_limited_app_daily.json", CallVerdict.SAYS_NOTHING),
        ("error_invalid_session.json", CallVerdict.SELLER_REFUSED),
    ],
)
async def test_a_call_says_whose_it_was_and_whether_the_platform_is_to_blame(
    gateway: Gateway, client: TopClient, records: list[CallRecord], name: str, verdict: CallVerdict
) -> None:
    gateway.script.extend([answers_sample(name)] * 5)
    with suppress(TopError):
        await client.call(FULLINFO, session=SellerSession(SESSION, 7), priority=Priority.LIVE)
    first = next(record for record in records if record.api == FULLINFO.api)
    assert (first.seller_id, first.verdict) == (7, verdict)


def test_every_outcome_has_a_verdict() -> None:
    assert VERDICTS.keys() == set(CallOutcome)


async def test_an_unknown_application_is_asked_about_once_and_the_operator_reads_what_to_check(
    gateway: Gateway, client: TopClient
) -> None:
    """Otherwise each call would be tried for ever, like after any other failure of the platform itself."""
    gateway.script.extend([answers(lambda: raw((CASES / "error_unknown_app.json").read_bytes()))] * 5)
    # For an operator's error a process writes its text, a single line, and ends.
    with pytest.raises(OperatorError, match="does not know the application: check TOPSYNC_APP_KEY") as caught:
        await fullinfo(client)
    assert isinstance(caught.value, TopApplicationRefusedError)
    assert "TOPSYNC_GATEWAY_URL" in str(caught.value)
    assert len(gateway.calls()) == 1


async def test_an_empty_session_asks_for_authorisation_without_a_call(
    gateway: Gateway, client: TopClient
) -> None:
    with pytest.raises(SessionInvalidError):
        await client.call(FULLINFO, session=SecretStr(""), priority=Priority.LIVE)
    assert gateway.seen == []


async def test_a_ban_of_one_second_is_waited_out_for_two_seconds_and_then_the_call_is_made_once(
    gateway: Gateway, client: TopClient, records: list[CallRecord]
) -> None:
    gateway.script.extend([answers_sample("error_app_call_limited_api_seconds.json"), answers_sample(GOOD)])
    assert await tid_of(client) == 4000000000000000201
    banned, answered = gateway.calls()
    assert 2.0 <= answered.at - banned.at < 2.5
    outcomes = [record.outcome for record in records if record.api == FULLINFO.api]
    assert outcomes == [CallOutcome.LIMITED, CallOutcome.OK]


async def test_a_ban_stops_all_callers_and_makes_a_single_call(
    gateway: Gateway, config: GatewayConfig
) -> None:
    ban = answers_error(
        7, "accesscontrol.limited-by-api-access-count", "This ban will last for 0 more seconds"
    )
    gateway.script.append(ban)
    gateway.script.extend([answers_sample(GOOD)] * 20)
    async with TopClient(config, ServerClock(), local_gate(max_in_flight=1)) as client:
        await client.sync_clock()
        await asyncio.gather(*(fullinfo(client) for _ in range(20)))
    first, *others = gateway.calls()
    assert len(others) == 20
    assert min(seen.at for seen in others) - first.at >= 1.0


async def test_a_daily_ban_stops_the_whole_app_without_further_calls(
    gateway: Gateway, client: TopClient
) -> None:
    gateway.script.append(answers_sample("error_app_call_limited_app_daily.json"))
    with pytest.raises(CallLimitedError):
        await fullinfo(client)
    with pytest.raises(CallLimitedError) as caught:
        await client.call(ApiRequest("taobao.trades.sold.get"), priority=Priority.LIVE)
    assert caught.value.scope is Scope.APP
    assert 31_000 < caught.value.wait_seconds < 31_064
    assert len(gateway.calls()) == 1


@pytest.mark.parametrize("skew", [timedelta(hours=-3), timedelta(minutes=-11), timedelta(minutes=11)])
async def test_the_clock_is_set_even_when_this_machine_is_far_off(
    gateway: Gateway, config: GatewayConfig, skew: timedelta
) -> None:
    gateway.skew = skew
    clock = ServerClock()
    async with TopClient(config, clock, local_gate()) as client:
        await client.sync_clock()
    assert len(gateway.calls("taobao.time.get")) == 2
    assert timedelta(0) <= gateway.now() - clock.now() < timedelta(seconds=2)


async def test_a_clock_within_ten_minutes_needs_a_single_call_for_the_time(
    gateway: Gateway, client: TopClient
) -> None:
    gateway.skew = timedelta(minutes=9, seconds=50)
    await client.sync_clock()
    assert len(gateway.seen) == 1


async def test_without_a_date_the_refusal_is_raised(gateway: Gateway, client: TopClient) -> None:
    gateway.skew, gateway.reads_date = timedelta(hours=1), False
    with pytest.raises(ClockRefusedError):
        await client.sync_clock()


async def test_a_refused_timestamp_sets_the_clock_again_and_is_retried_once(
    gateway: Gateway, client: TopClient
) -> None:
    await client.sync_clock()
    gateway.skew = timedelta(hours=1)
    gateway.script.append(answers_sample(GOOD))
    assert await tid_of(client) == 4000000000000000201
    assert len(gateway.calls()) == 2


async def test_a_timestamp_that_stays_refused_fails(gateway: Gateway, client: TopClient) -> None:
    gateway.script.extend([answers_error(31)] * 9)
    with pytest.raises(ClockRefusedError):
        await fullinfo(client)
    assert len(gateway.calls()) == 2


async def test_callers_share_a_single_call_for_the_time(gateway: Gateway, client: TopClient) -> None:
    gateway.script.extend([answers_sample(GOOD)] * 10)
    await asyncio.gather(*(fullinfo(client) for _ in range(10)))
    assert len(gateway.calls("taobao.time.get")) == 1


async def test_cancelling_a_call_ends_it_at_once_and_frees_its_slot(
    gateway: Gateway, config: GatewayConfig
) -> None:
    arrived = asyncio.Event()

    async def hang(request: object) -> object:
        arrived.set()
        await asyncio.sleep(120)
        raise AssertionError("not reached")

    gateway.script.append(hang)  # type: ignore[arg-type]
    gateway.script.append(answers_sample(GOOD))
    config = dataclasses.replace(config, read_seconds=120)
    async with TopClient(config, ServerClock(), local_gate(max_in_flight=1)) as client:
        task = asyncio.create_task(fullinfo(client))
        await arrived.wait()
        begun = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - begun < pace.AT_ONCE_SECONDS
        assert await tid_of(client) == 4000000000000000201


async def test_no_secret_is_in_any_text(gateway: Gateway, client: TopClient, config: GatewayConfig) -> None:
    gateway.script.extend(
        [
            answers_error(25, "isv.x", f"session {SESSION} of 示例 13800000000"),
            *[resets] * 5,
            answers_error(27),
        ]
    )
    texts = [repr(config), repr(client), repr(FULLINFO)]
    for _ in range(3):
        with pytest.raises(TopError) as caught:
            await fullinfo(client)
        error: BaseException | None = caught.value
        while error is not None:
            texts += [str(error), repr(error)]
            error = error.__cause__
    for text in texts:
        assert SESSION not in text
        assert APP_SECRET not in text
        assert "13800000000" not in text


async def test_proxies_of_the_environment_are_ignored(
    gateway: Gateway, client: TopClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    gateway.script.append(answers_sample(GOOD))
    assert await tid_of(client) == 4000000000000000201


async def test_an_untrusted_certificate_is_refused(
    config: GatewayConfig, server_certificate: tuple[ssl.SSLContext, str]
) -> None:
    context, ca_file = server_certificate
    gateway = Gateway()
    async with serving(gateway.handle, ssl_context=context) as address:
        url = f"{address}/router/rest"
        async with TopClient(dataclasses.replace(config, url=url), ServerClock(), local_gate()) as client:
            with pytest.raises(TransportError):
                await client.sync_clock()
        assert gateway.seen == []
        trusting = dataclasses.replace(config, url=url, http=HttpConfig(network=Network(ca_file=ca_file)))
        async with TopClient(trusting, ServerClock(), local_gate()) as client:
            await client.sync_clock()
        assert len(gateway.seen) == 1


async def test_a_closed_client_says_so(config: GatewayConfig) -> None:
    clock = ServerClock()
    clock.observe(datetime.now(UTC), sent=clock.monotonic(), received=clock.monotonic())
    with pytest.raises(RuntimeError, match="async with"):
        await fullinfo(TopClient(config, clock, local_gate()))


def test_the_caller_decides_the_rule_of_a_sellers_limit() -> None:
    error = CallLimitedError("x", scope=Scope.SELLER, wait_seconds=1, max_inline_wait_seconds=60)
    assert decide(error, 1, max_inline_wait_seconds=60) == decide(ValueError(), 1, max_inline_wait_seconds=60)
