"""Secrets and certificates that are replaced while a process runs hold from the next use on."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr

from tests.support.authorities import Authority
from topsync.base import settings
from topsync.base.rereading import Latest, LatestContext
from topsync.base.settings import VaultSettings


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TOPSYNC_TOKEN_KEYS", raising=False)
    monkeypatch.setenv("TOPSYNC_SECRETS_DIR", str(tmp_path))
    path = tmp_path / "TOPSYNC_TOKEN_KEYS"
    path.write_text("first")
    return path


def test_a_secret_is_what_its_file_holds_now(secret: Path) -> None:
    latest = Latest(settings.load(VaultSettings))
    assert latest().token_keys == SecretStr("first")
    secret.write_text("second\n")
    assert latest().token_keys == SecretStr("second")


def test_a_secret_that_cannot_be_read_keeps_the_last_and_is_said_once(secret: Path) -> None:
    latest = Latest(settings.load(VaultSettings))
    secret.write_text("second")
    latest()
    with structlog.testing.capture_logs() as lines:
        secret.write_bytes(b"half\xff")
        assert [latest().token_keys for _ in range(3)] == [SecretStr("second")] * 3
        assert [line["log_level"] for line in lines] == ["warning"]
        secret.unlink()
        assert latest().token_keys == SecretStr("second")
        assert len(lines) == 2
        secret.write_text("third")
        assert latest().token_keys == SecretStr("third")
    assert "second" not in str(lines)


def test_settings_that_were_not_loaded_stay_what_they_are(secret: Path) -> None:
    own = VaultSettings(token_keys=SecretStr("given"))
    assert Latest(own)() is own


def test_certificates_are_read_again_only_when_a_file_has_changed(tmp_path: Path) -> None:
    """Reading the authorities costs as much as many connections."""
    authority = Authority(tmp_path)
    pair = authority.issue("own")
    context = LatestContext(authority.file, pair.certificate, pair.key)
    first = context()
    assert context() is first
    authority.issue("own")
    second = context()
    assert second is not first
    Authority(tmp_path)
    assert context() is not second


def test_certificates_that_cannot_be_read_keep_the_former_and_are_said_once(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = LatestContext(authority.file, None, None)
    first = context()
    authority.file.write_text("half a certi")
    with structlog.testing.capture_logs() as lines:
        assert context() is first
        assert context() is first
    assert [line["event"] for line in lines] == ["certificates cannot be read again; keeping the former"]
    with pytest.raises(ssl.SSLError):
        LatestContext(authority.file, None, None)()
