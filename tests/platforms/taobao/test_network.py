"""Through a company's proxy and with its authority: calls, downloads, authorisations and the channel."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import SecretStr

from tests.budget.gates import local_gate
from tests.platforms.taobao import gateway as gateways
from tests.platforms.taobao.channel import platform as channels
from tests.platforms.taobao.gateway import APP_KEY, APP_SECRET, Gateway
from tests.support.authorities import Authority
from tests.support.connect_proxy import PASSWORD, USER, ConnectProxy, encrypted
from tests.support.eventually import eventually
from topsync.base import retry, settings
from topsync.base.clock import ServerClock
from topsync.base.settings import NetworkSettings, SettingsError
from topsync.platforms.export_port import ExportReady
from topsync.platforms.taobao.channel.websocket import SocketOptions, open_websocket
from topsync.platforms.taobao.gateway.errors import TransportError
from topsync.platforms.taobao.network import Network, Proxy
from topsync.wiring.taobao import OpenTaobao, TaobaoPlatform

HOSTS = ("gw.api.taobao.com", "oauth.taobao.com", "download.api.taobao.com", "mc.api.taobao.com")
FILE = gateways.sample("topats_export.zip")
CHECK_CODE = "401f0ff90ae07fa9b520858309473a97"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "TOPSYNC_SECRETS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TOPSYNC_APP_KEY", APP_KEY)
    monkeypatch.setenv("TOPSYNC_APP_SECRET", APP_SECRET)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "company")


class Platform:
    """The platform's hosts, encrypted with certificates of a company's authority."""

    def __init__(self) -> None:
        self.gateway = Gateway()
        self.others: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/router/rest":
            return await self.gateway.handle(request)
        self.others.append(request.path)
        if request.path == "/token":
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.Response(body=FILE, content_type="application/octet-stream")


@pytest.fixture
async def platform(authority: Authority) -> AsyncIterator[tuple[Platform, int]]:
    """And its port on this machine."""
    platform, pair = Platform(), authority.issue("taobao", HOSTS)
    async with (
        gateways.serving(platform.handle) as address,
        encrypted(int(address.rpartition(":")[2]), pair) as port,
    ):
        yield platform, port


@pytest.fixture
async def proxy(platform: tuple[Platform, int]) -> AsyncIterator[ConnectProxy]:
    made = ConnectProxy({f"{host}:443": platform[1] for host in HOSTS})
    async with made.open():
        yield made


@pytest.fixture
def configured(
    proxy: ConnectProxy, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Sets the variables of a process in the company's network."""

    def configure(*, password: str = PASSWORD, ca_file: Path | None = authority.file) -> None:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{USER}:{password}@127.0.0.1:{proxy.port}")
        if ca_file is not None:
            monkeypatch.setenv("TOPSYNC_PLATFORM_CA_FILE", str(ca_file))

    return configure


@asynccontextmanager
async def opened() -> AsyncIterator[OpenTaobao]:
    """The platform as a process has it."""
    async with TaobaoPlatform().open(
        ServerClock(),
        local_gate(),
        observer=lambda _: None,
        retries=retry.Policy(max_attempts=1),
        failure_wait_seconds=lambda: 0.0,
    ) as taobao:
        yield taobao


async def test_calls_downloads_and_authorisations_go_through_the_proxy_and_trust_the_company(
    platform: tuple[Platform, int], proxy: ConnectProxy, configured: Callable[..., None], tmp_path: Path
) -> None:
    configured()
    async with opened() as taobao:
        await taobao.client.sync_clock()
        await taobao.client.sync_clock()
        ready = ExportReady("https://download.api.taobao.com/download?id=ONEUSETOKEN", CHECK_CODE)
        assert await taobao.bulk_export.download(ready, tmp_path / "export.zip") == len(FILE)
    assert (tmp_path / "export.zip").read_bytes() == FILE
    async with TaobaoPlatform().authorisation() as grants:
        await grants.exchange(SecretStr("a code"), 2200000000001)
    assert proxy.asked == [
        "gw.api.taobao.com:443",  # a connection serves several calls
        "download.api.taobao.com:443",
        "oauth.taobao.com:443",
    ]
    assert len(platform[0].gateway.seen) == 2
    assert platform[0].others == ["/download", "/token"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"password": "wrong-pass-0002"}, r"the proxy 127.0.0.1:\d+ \(HTTPS_PROXY\) answers 407 to CONNECT"),
        ({"ca_file": None}, "its certificate is refused: unable to get local issuer certificate"),
    ],
)
async def test_what_stops_us_on_the_way_is_said_without_a_password(
    configured: Callable[..., None],
    given: dict[str, str | None],
    why: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    configured(**given)
    async with opened() as taobao:
        with pytest.raises(TransportError, match=f"no complete answer: {why}") as raised:
            await taobao.client.sync_clock()
    said = f"{raised.value!r} {raised.value} {caplog.text} {settings.load(NetworkSettings)!r}"
    assert PASSWORD not in said
    assert "wrong-pass-0002" not in said


async def test_a_certificate_for_another_name_is_refused_behind_the_proxy_too(
    proxy: ConnectProxy,
    platform: tuple[Platform, int],
    configured: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configured()
    proxy.places = {"gw.other.example:443": platform[1]}
    monkeypatch.setenv("TOPSYNC_GATEWAY_URL", "https://gw.other.example/router/rest")
    async with opened() as taobao:
        with pytest.raises(TransportError, match=r"Hostname mismatch.*'gw.other.example'"):
            await taobao.client.sync_clock()
    assert platform[0].gateway.seen == []


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_the_channel_goes_through_the_proxy_and_believes_no_acknowledgement_of_it(
    authority: Authority, scheme: str
) -> None:
    """The proxy's TCP acknowledges what we write, whatever becomes of it: only frames prove anything."""
    pair = authority.issue("channel", HOSTS)
    async with channels.serving() as (channel, uri):
        plain = int(uri.rstrip("/").rpartition(":")[2])
        async with encrypted(plain, pair) as port:
            proxy = ConnectProxy({"mc.api.taobao.com:443": port, "mc.api.taobao.com:80": plain})
            async with proxy.open():
                way = Proxy("127.0.0.1", proxy.port, _authorization())
                network = Network(way, str(authority.file))
                async with channels.connected(f"{scheme}://mc.api.taobao.com/", network=network) as peer:
                    channel.publish(channels.message(1))
                    await eventually(lambda: peer.tids == ["1"])
                websocket = await open_websocket(
                    f"{scheme}://mc.api.taobao.com/",
                    SocketOptions(60),
                    max_message_bytes=1000,
                    close_timeout_seconds=1,
                    network=network,
                )
                await websocket.ping()
                websocket._is_direct = not websocket._is_direct
                await eventually(lambda: websocket.is_acknowledged)
                websocket._is_direct = not websocket._is_direct
                assert not websocket.is_acknowledged
                websocket.abort()
                await websocket.closed()
    assert set(proxy.asked) == {f"mc.api.taobao.com:{443 if scheme == 'wss' else 80}"}


async def test_a_channel_whose_proxy_is_away_or_refuses_says_so() -> None:
    proxy = ConnectProxy({}, needs_password=False)
    async with proxy.open():
        network = Network(Proxy("127.0.0.1", proxy.port))
        async with channels.client("ws://mc.api.taobao.com/", network=network) as peer:
            await eventually(lambda: "answers 403 to CONNECT" in str(peer.status.ending))


def _authorization() -> str:
    return "Basic dG9wc3luYzpwcm94eS1wYXNzLTAwMDE="


@pytest.mark.parametrize(
    ("host", "exempt", "passes"),
    [
        ("gw.api.taobao.com", (), True),
        ("gw.api.taobao.com", ("taobao.com",), False),
        ("gw.api.taobao.com", (".taobao.com",), False),
        ("gw.api.taobao.com", ("*.taobao.com",), False),
        ("nottaobao.com", ("taobao.com",), True),
        ("GW.API.TAOBAO.COM.", ("gw.api.taobao.com",), False),
        ("gw.api.taobao.com", ("*",), False),
        ("10.1.2.3", ("10.0.0.0/8",), False),
        ("11.1.2.3", ("10.0.0.0/8",), True),
        ("10.1.2.3", ("10.1.2.3", "example.com"), False),
        ("[2001:db8::1]", ("2001:db8::/32",), False),
        ("127.0.0.1", (), False),
        ("localhost", (), False),
        ("[::1]", (), False),
    ],
)
def test_what_is_exempt_is_reached_without_the_proxy(
    host: str, exempt: tuple[str, ...], passes: bool
) -> None:
    assert Proxy("proxy", 3128, exempt=exempt).passes_on(host) is passes


@pytest.mark.parametrize(
    ("text", "host", "port", "user", "password"),
    [
        ("http://proxy.company.example:3128", "proxy.company.example", 3128, None, None),
        ("http://proxy/", "proxy", 80, None, None),
        ("http://user:p%40ss@[2001:db8::1]:8080", "2001:db8::1", 8080, "user", "p@ss"),
    ],
)
def test_a_proxy_is_read_as_it_is_usually_written(
    monkeypatch: pytest.MonkeyPatch, text: str, host: str, port: int, user: str | None, password: str | None
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", text)
    found = settings.load(NetworkSettings).proxy
    assert found is not None
    assert (found.host, found.port, found.user, found.password) == (host, port, user, password)


def test_exempt_hosts_are_read_without_ports_and_no_proxy_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", " Example.com:443, .svc,10.0.0.0/8,[2001:db8::1]:80,2001:db8::2 ,")
    monkeypatch.setenv("HTTPS_PROXY", "")
    own = settings.load(NetworkSettings)
    assert own.exempt == ("example.com", ".svc", "10.0.0.0/8", "2001:db8::1", "2001:db8::2")
    assert own.proxy is None


@pytest.mark.parametrize(
    "text",
    [
        "proxy:3128",
        "https://user:secret-word@proxy:3128",
        "socks5://user:secret-word@proxy",
        "http://user:secret-word@proxy:99999",
        "http://user:secret-word@proxy/path",
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_line_without_its_password(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", text)
    with pytest.raises(SettingsError, match=r"^HTTPS_PROXY: .*it must be http://host:port") as refused:
        settings.load(NetworkSettings)
    assert "secret-word" not in str(refused.value)
    assert "\n" not in str(refused.value)
