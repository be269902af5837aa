"""A gateway and a client for it."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from tests.budget.gates import local_gate
from tests.platforms.taobao.gateway import APP_KEY, APP_SECRET, Gateway, serving
from tests.support import pace
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
    """A server's context with a self-signed certificate for 127.0.0.1, and the file that makes it trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test gateway")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = tmp_path / "certificate.pem", tmp_path / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, private)
    return context, str(chain)
