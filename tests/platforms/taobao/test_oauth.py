"""OAuth in the platform's form: grants, refusals, addresses, and no secret in any text (3.16)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.platforms.taobao.gateway import APP_KEY, APP_SECRET, serving
from tests.support import pace
from topsync.platforms.session_port import GrantRefused
from topsync.platforms.taobao.gateway import oauth
from topsync.platforms.taobao.gateway.errors import BadAnswerError, GrantRefusedError, TransportError
from topsync.platforms.taobao.gateway.oauth import CallbackError, OAuthClient, OAuthConfig
from topsync.platforms.taobao.gateway.transport import HttpConfig
from topsync.platforms.taobao.sessions import TaobaoAuthorisation

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ANSWER: dict[str, object] = {
    "access_token": "6100SECRET",
    "token_type": "Bearer",
    "expires_in": 7776000,
    "refresh_token": "6101SECRET",
    "re_expires_in": 10368000,
    "r1_expires_in": 7776000,
    "w1_expires_in": "7776000",
    "w2_expires_in": 1800,
    "taobao_user_id": "2200000000001",
    "taobao_user_nick": "%E7%A4%BA%E4%BE%8B+%E5%8D%96%E5%AE%B6",
    "expire_time": 1775000000000,
}
CONFIG = OAuthConfig(
    url="https://oauth.example/",
    app_key=APP_KEY,
    app_secret=SecretStr(APP_SECRET),
    redirect_url="https://shop.example/callback?from=taobao",
)


class Endpoint:
    """A token endpoint with scripted answers, which stores its requests."""

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []
        self.status = 200
        self.body = orjson.dumps(ANSWER)
        self.hangs = False

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(dict(await request.post()))
        if self.hangs:
            await asyncio.Event().wait()
        headers = {"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}
        return web.Response(body=self.body, status=self.status, headers=headers)


@pytest.fixture
async def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
async def client(endpoint: Endpoint) -> AsyncIterator[OAuthClient]:
    async with serving(endpoint.handle, "/token") as address:
        config = OAuthConfig(
            url=address,
            app_key=APP_KEY,
            app_secret=SecretStr(APP_SECRET),
            redirect_url=CONFIG.redirect_url,
            read_seconds=pace.seconds(0.2),
            http=HttpConfig(connect_seconds=pace.seconds(0.2)),
        )
        async with OAuthClient(config) as client:
            yield client


async def test_a_code_is_exchanged_as_documented(client: OAuthClient, endpoint: Endpoint) -> None:
    grant = await client.exchange(SecretStr("the code"))
    assert endpoint.asked == [
        {
            "grant_type": "authorization_code",
            "client_id": APP_KEY,
            "client_secret": APP_SECRET,
            "code": "the code",
            "redirect_uri": CONFIG.redirect_url,
        }
    ]
    assert (grant.seller_id, grant.nick) == (2200000000001, "示例 卖家")
    assert grant.session.get_secret_value() == "6100SECRET"
    assert grant.authorised_at == NOW, "by the clock of the answering machine"
    assert grant.ends_at == NOW + timedelta(days=90)
    assert grant.refresh_ends_at == NOW + timedelta(days=120)
    assert grant.facts["level_seconds"] == {"r1": 7776000, "w1": 7776000, "w2": 1800}


async def test_a_refresh_is_requested_as_documented(client: OAuthClient, endpoint: Endpoint) -> None:
    await client.refresh(SecretStr("6101SECRET"))
    assert endpoint.asked == [
        {
            "grant_type": "refresh_token",
            "client_id": APP_KEY,
            "client_secret": APP_SECRET,
            "refresh_token": "6101SECRET",
        }
    ]


@pytest.mark.parametrize("status", [200, 400, 401])
async def test_a_refusal_is_reported_by_its_name_alone(
    client: OAuthClient, endpoint: Endpoint, status: int
) -> None:
    endpoint.status = status
    endpoint.body = b'{"error": "invalid_grant", "error_description": "6101SECRET is spent"}'
    with pytest.raises(GrantRefusedError) as refused:
        await client.refresh(SecretStr("6101SECRET"))
    assert str(refused.value) == "oauth: the platform grants no session: invalid_grant"
    assert not refused.value.concerns_app


async def test_a_refusal_of_the_app_says_nothing_about_a_token(
    client: OAuthClient, endpoint: Endpoint
) -> None:
    endpoint.body = b'{"error": "invalid_client"}'
    with pytest.raises(GrantRefusedError) as refused:
        await client.refresh(SecretStr("6101SECRET"))
    assert refused.value.concerns_app
    answer = await TaobaoAuthorisation(client).refresh(SecretStr("6101SECRET"))
    assert isinstance(answer, GrantRefused)
    assert answer.concerns_app
    assert answer.detail.endswith("invalid_client; check TOPSYNC_APP_KEY and TOPSYNC_APP_SECRET")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (502, b"<html>6100SECRET</html>"),
        (500, orjson.dumps(ANSWER)),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
    ],
)
async def test_a_broken_answer_decides_nothing_and_is_not_shown(
    client: OAuthClient, endpoint: Endpoint, status: int, body: bytes
) -> None:
    endpoint.status, endpoint.body = status, body
    with pytest.raises(TransportError) as failed:
        await client.exchange(SecretStr("the code"))
    assert "SECRET" not in f"{failed.value}{failed.value!r}"


async def test_an_endpoint_that_hangs_is_given_up_in_time(client: OAuthClient, endpoint: Endpoint) -> None:
    endpoint.hangs = True
    async with asyncio.timeout(5):
        with pytest.raises(TransportError):
            await client.refresh(SecretStr("6101SECRET"))
    assert len(endpoint.asked) == 1, "a refresh may have worked: whether to repeat it is not decided here"


@pytest.mark.parametrize("without", [{"re_expires_in": 0}, {"refresh_token": ""}, {"refresh_token": None}])
def test_a_grant_that_cannot_be_refreshed_has_no_refresh_token(without: dict[str, object]) -> None:
    grant = oauth.read_grant(orjson.dumps({**ANSWER, **without}), answered_at=NOW)
    assert (grant.refresh_token, grant.refresh_ends_at) == (None, None)


def test_a_grant_by_a_sub_account_belongs_to_the_shop() -> None:
    grant = oauth.read_grant(orjson.dumps({**ANSWER, "sub_taobao_user_id": 5}), answered_at=NOW)
    assert (grant.seller_id, grant.facts["sub_user_id"]) == (2200000000001, "5")


def test_no_stored_or_sent_object_shows_a_secret() -> None:
    grant = oauth.read_grant(orjson.dumps(ANSWER), answered_at=NOW)
    shown = f"{grant!r}{grant}{CONFIG!r}{oauth.read_callback('the-code')!r}"
    for secret in ("6100SECRET", "6101SECRET", APP_SECRET, "the-code"):
        assert secret not in shown


JUNK: st.SearchStrategy[object] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text("0123456789abc-%")
    | st.just([])
)


@given(st.dictionaries(st.sampled_from(sorted(ANSWER)), JUNK))
def test_any_answer_gives_a_grant_or_an_error_of_the_tree(changed: dict[str, object]) -> None:
    with suppress(BadAnswerError):
        oauth.read_grant(orjson.dumps({**ANSWER, **changed}), answered_at=NOW)


def test_the_address_to_open_has_the_parameters_that_the_platform_needs() -> None:
    state = oauth.new_state(CONFIG, 7, now=NOW)
    parts = urlsplit(oauth.authorise_url(CONFIG, state))
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "https://oauth.example/authorize"
    assert parse_qs(parts.query) == {
        "response_type": ["code"],
        "client_id": [APP_KEY],
        "redirect_uri": [CONFIG.redirect_url],
        "state": [state],
        "view": ["web"],
    }


def test_a_state_is_valid_for_a_single_seller_and_for_an_hour() -> None:
    state = oauth.new_state(CONFIG, 7, now=NOW)
    oauth.check_state(CONFIG, state, 7, now=NOW + timedelta(hours=1))
    for text, seller, when in (
        (state, 8, NOW),
        (state, 7, NOW + timedelta(hours=1, seconds=1)),
        (state.replace("7.", "8.", 1), 8, NOW),
        ("", 7, NOW),
        ("7.9999999999.", 7, NOW),
        (state + "ü", 7, NOW),
    ):
        with pytest.raises(CallbackError):
            oauth.check_state(CONFIG, text, seller, now=when)


@pytest.mark.parametrize(
    ("text", "code", "state"),
    [
        ("  abc\n", "abc", None),
        ("https://shop.example/callback?from=taobao&code=abc&state=s.1", "abc", "s.1"),
        ("http://127.0.0.1/?code=a%2Bb", "a+b", None),
    ],
)
def test_a_callback_is_read_from_the_code_or_from_the_whole_address(
    text: str, code: str, state: str | None
) -> None:
    callback = oauth.read_callback(text)
    assert (callback.code.get_secret_value(), callback.state) == (code, state)
