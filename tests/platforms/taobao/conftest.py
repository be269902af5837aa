"""A gateway and a client for it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.budget.gates import local_gate
from tests.platforms.taobao.gateway import APP_KEY, APP_SECRET, Gateway, serving
from tests.support import pace
from tests.support.authorities import Authority
from topsync.base import retry
from topsync.base.clock import ServerClock
from topsync.platforms.platform_port import CallRecord
from topsync.platforms.taobao.gateway.client import GatewayConfig, TopClient
from topsync.platforms.taobao.gateway.transport import HttpConfig


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway()
    async with serving(gateway.handle, "/router/rest") as address:
        gateway.url = f"{address}/router/rest"
        yield gateway


@pytest.fixture
def config(gateway: Gateway) -> GatewayConfig:
    """As in production, with short waits."""
    return GatewayConfig(
        url=gateway.url,
        app_key=APP_KEY,
        app_secret=SecretStr(APP_SECRET),
        read_seconds=pace.seconds(0.5),
        list_read_seconds=1.0,
        retries=retry.Policy(max_attempts=5, first_wait_seconds=0.01, max_wait_seconds=0.02),
        http=HttpConfig(connect_seconds=1.0, max_answer_bytes=100_000),
    )


@pytest.fixture
def records() -> list[CallRecord]:
    return []


@pytest.fixture
async def client(config: GatewayConfig, records: list[CallRecord]) -> AsyncIterator[TopClient]:
    async with TopClient(config, ServerClock(), local_gate(), observer=records.append) as client:
        yield client


@pytest.fixture
def server_certificate(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """A server's context with a certificate for 127.0.0.1, and the file of its authority."""
    authority = Authority(tmp_path)
    pair = authority.issue("gateway")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context, str(authority.file)
