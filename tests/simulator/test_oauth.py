"""Grants: codes that work once, sessions that end, refreshes that some apps may make (3.16)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlsplit

import orjson
import pytest

from tests.simulator.faults import connect
from tests.simulator.platform_client import Client, frozen_clock, small
from topsync.simulator.server import Simulator
from topsync.simulator.settings import OAuthSettings

BACK = "https://shop.example/callback?from=taobao"
DAY = 86400


@pytest.fixture
async def sold() -> AsyncIterator[Client]:
    """A platform whose app is sold on the service market, so that it may refresh."""
    settings = small(oauth=OAuthSettings(refreshable=True))
    async with Simulator(settings, frozen_clock()) as simulator, Client(simulator) as connected:
        yield connected


async def browse(client: Client, **query: str) -> tuple[int, str, str]:
    """What a browser gets from /authorize: status, address of the redirect, page."""
    asked = {"response_type": "code", "client_id": client.simulator.settings.app_key, "redirect_uri": BACK}
    url = f"{client.simulator.addresses.oauth_url}/authorize"
    async with client.http.get(url, params={**asked, **query}, allow_redirects=False) as response:
        return response.status, response.headers.get("Location", ""), await response.text()


async def code_of(client: Client, **query: str) -> str:
    _, back, _ = await browse(client, user_id=str(client.seller.user_id), **query)
    return parse_qs(urlsplit(back).query)["code"][0]


async def works(client: Client, session: str) -> bool:
    answer = await client.send(client.signed("taobao.tmc.user.permit", session=session))
    return "error_response" not in answer


async def session_of(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = (await client.admin("GET", "/sessions"))[0]
    return found


async def test_the_seller_chooses_on_a_page_and_is_sent_back_with_code_and_state(client: Client) -> None:
    status, _, page = await browse(client, state="ours")
    assert status == 200
    assert str(client.seller.user_id) in page
    status, back, _ = await browse(client, state="ours", user_id=str(client.seller.user_id))
    assert status == 302
    assert back.startswith(f"{BACK}&")
    assert parse_qs(urlsplit(back).query)["state"] == ["ours"]


@pytest.mark.parametrize("wrong", [{"response_type": "token"}, {"client_id": "1"}, {"redirect_uri": ""}])
async def test_a_malformed_request_gets_no_page(client: Client, wrong: dict[str, str]) -> None:
    assert (await browse(client, **wrong))[0] == 400


async def test_a_code_brings_a_session_as_documented_and_works_once(client: Client) -> None:
    code = await code_of(client)
    grant = await client.token("authorization_code", code=code, redirect_uri=BACK)
    assert await works(client, grant["access_token"])
    assert grant["token_type"] == "Bearer"
    assert (grant["expires_in"], grant["re_expires_in"]) == (90 * DAY, 0)
    assert grant["w2_expires_in"] == 1800
    assert grant["taobao_user_id"] == str(client.seller.user_id)
    assert grant["taobao_user_nick"] != client.seller.nick == unquote_plus(grant["taobao_user_nick"])
    again = await client.token("authorization_code", status=400, code=code, redirect_uri=BACK)
    assert set(again) == {"error", "error_description"}


async def test_a_sub_account_grants_for_the_shop(client: Client) -> None:
    code = await code_of(client, sub_user_id="2076000099")
    grant = await client.token("authorization_code", code=code, redirect_uri=BACK)
    assert (grant["taobao_user_id"], grant["sub_taobao_user_id"]) == (
        str(client.seller.user_id),
        "2076000099",
    )


async def test_a_code_is_refused_when_it_is_old_or_for_another_address(client: Client) -> None:
    late, elsewhere = await code_of(client), await code_of(client)
    await client.token("authorization_code", status=400, code=elsewhere, redirect_uri="https://other/")
    client.simulator.clock.advance(301)
    await client.token("authorization_code", status=400, code=late, redirect_uri=BACK)


async def test_a_wrong_secret_is_refused_before_anything_else(client: Client) -> None:
    code = await code_of(client)
    refusal = await client.token("authorization_code", status=400, code=code, client_secret="guessed")
    assert refusal["error"] == "invalid_client"
    await client.token("authorization_code", code=code, redirect_uri=BACK)


async def test_a_refresh_ends_the_old_session_at_once_unless_a_switch_says_otherwise(sold: Client) -> None:
    old, refreshed = sold.seller.session, (await sold.refreshed())["access_token"]
    assert not await works(sold, old)
    assert await works(sold, refreshed)
    kind = small(oauth=OAuthSettings(refreshable=True, renewal_ends_old_session=False))
    async with Simulator(kind, frozen_clock()) as simulator, Client(simulator) as client:
        refreshed = (await client.refreshed())["access_token"]
        assert await works(client, client.seller.session)
        assert await works(client, refreshed)


async def test_a_refresh_token_works_once(sold: Client) -> None:
    first = sold.simulator.authorisations.current(sold.seller).refresh_token
    await sold.token("refresh_token", refresh_token=first)
    await sold.token("refresh_token", status=400, refresh_token=first)


async def test_a_merchants_own_app_cannot_refresh_and_that_is_a_switch(client: Client) -> None:
    await client.refreshed(status=400)
    await client.admin("POST", "/oauth", {"refreshable": True})
    await client.refreshed()


async def test_a_session_ends_with_its_time_and_the_ledger_counts_grants(sold: Client) -> None:
    refreshed = (await sold.refreshed())["access_token"]
    sold.simulator.clock.advance(90 * DAY - 1)
    assert await works(sold, refreshed)
    sold.simulator.clock.advance(1)
    refusal = await sold.refused("taobao.tmc.user.permit", session=refreshed)
    assert (refusal["code"], refusal["sub_code"]) == (27, "session-expired")
    sold.simulator.clock.advance(30 * DAY)
    await sold.refreshed(status=400)
    ledger = await sold.admin("GET", "/ledger")
    assert ledger["oauth"] == {"refresh_token": 1, "refused invalid_grant": 1}
    assert "refresh_token" not in ledger["gateway"]["apis"]


async def test_the_admin_ends_a_session_with_or_without_its_refresh_token(sold: Client) -> None:
    path = f"/sessions/{sold.seller.user_id}/expire"
    await sold.admin("POST", path, {"in_seconds": 60})
    assert (await session_of(sold))["works"]
    sold.simulator.clock.advance(60)
    assert not (await session_of(sold))["works"]
    await sold.refreshed()
    await sold.admin("POST", path, {"refreshable": False})
    await sold.refreshed(status=400)


async def test_the_admin_gives_a_code_and_withdraws_an_authorisation(sold: Client) -> None:
    path = f"/sessions/{sold.seller.user_id}"
    await sold.admin("POST", f"{path}/cancel")
    await sold.refreshed(status=400)
    code = (await sold.admin("POST", f"{path}/grant", {"sub_user_id": 5}))["code"]
    grant = await sold.token("authorization_code", code=code)
    assert await works(sold, grant["access_token"])
    [first, _] = await sold.admin("GET", "/sellers")
    assert first["session"] == grant["access_token"]
    await sold.admin("POST", "/sessions/1/cancel", status=404)


async def test_the_gateway_exchanges_a_code_and_refreshes_as_well(sold: Client) -> None:
    code = (await sold.admin("POST", f"/sessions/{sold.seller.user_id}/grant"))["code"]
    granted = orjson.loads((await sold.call("taobao.top.auth.token.create", code=code))["token_result"])
    assert await works(sold, granted["access_token"])
    assert granted["taobao_user_id"] == str(sold.seller.user_id)
    asked = {"refresh_token": granted["refresh_token"]}
    refreshed = orjson.loads((await sold.call("taobao.top.auth.token.refresh", **asked))["token_result"])
    assert await works(sold, refreshed["access_token"])
    assert not await works(sold, granted["access_token"])
    for api, spent in (("create", {"code": code}), ("refresh", asked)):
        refusal = await sold.refused(f"taobao.top.auth.token.{api}", **spent)
        assert (refusal["code"], refusal["sub_code"]) == (15, "isv.invalid-grant")
    counts = (await sold.admin("GET", "/ledger"))["oauth"]
    assert counts == {"authorization_code": 1, "refresh_token": 1, "refused invalid_grant": 2}


@pytest.mark.parametrize("from_query", [True, False])
async def test_the_token_endpoint_reads_a_query_only_where_a_switch_says_so(from_query: bool) -> None:
    settings = small(oauth=OAuthSettings(token_from_query=from_query))
    async with Simulator(settings, frozen_clock()) as simulator, Client(simulator) as client:
        url = f"{simulator.addresses.oauth_url}/token"
        for verb, refused in (("GET", 405), ("POST", 400)):
            query = {
                "grant_type": "authorization_code",
                "client_id": settings.app_key,
                "client_secret": settings.app_secret,
                "code": simulator.authorisations.new_code(client.seller),
            }
            async with client.http.request(verb, url, params=query) as response:
                assert response.status == (200 if from_query else refused), verb


async def test_messages_stop_with_the_session_until_they_are_permitted_again(sold: Client) -> None:
    await sold.call("taobao.tmc.user.permit")
    raw = await connect(sold)
    await sold.admin("POST", f"/sessions/{sold.seller.user_id}/expire")
    await sold.order("create")
    refreshed = (await sold.refreshed())["access_token"]
    await sold.order("create")
    assert (await sold.admin("GET", "/ledger"))["channel"]["published"] == 0
    await sold.call("taobao.tmc.user.permit", session=refreshed)
    await sold.order("create", type="fixed")
    assert (await sold.admin("GET", "/ledger"))["channel"]["published"] > 0
    await raw.close()


def test_a_session_and_a_grant_show_no_token(client: Client) -> None:
    authorisations = client.simulator.authorisations
    session = authorisations.current(client.seller)
    assert session.token not in repr(session)
    assert session.refresh_token not in repr(session)
