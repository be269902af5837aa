"""Settings of Kafka's encryption and login that do not fit together are refused before anybody connects."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.authorities import Authority
from topsync.base import settings
from topsync.base.settings import KafkaSettings, SettingsError

SECRET = "very-secret-value-0001"
SASL = {
    "SECURITY_PROTOCOL": "SASL_SSL",
    "SASL_MECHANISM": "SCRAM-SHA-512",
    "USERNAME": "topsync",
    "PASSWORD": SECRET,
}
TOKEN = {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "OAUTHBEARER"}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KafkaSettings.model_fields:
        monkeypatch.delenv(settings.variable(KafkaSettings, name), raising=False)
    monkeypatch.delenv("TOPSYNC_SECRETS_DIR", raising=False)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka-1:9093")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Names that stand for the paths of files below."""
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    pair, locked = authority.issue("own"), authority.issue("locked", key_password=SECRET)
    made = {
        "<ca>": authority.file,
        "<certificate>": pair.certificate,
        "<key>": pair.key,
        "<other key>": other.issue("foreign").key,
        "<locked certificate>": locked.certificate,
        "<locked key>": locked.key,
        "<text>": tmp_path / "text",
        "<empty>": tmp_path / "empty",
        "<nowhere>": tmp_path / "nowhere.pem",
        "<token>": tmp_path / "token",
        "<two tokens>": tmp_path / "tokens",
    }
    made["<text>"].write_text("no certificate")
    made["<empty>"].touch()
    made["<token>"].write_text("eyJ.abc.def-_~+/==\n")
    made["<two tokens>"].write_text("one\ntwo")
    return {name: str(path) for name, path in made.items()}


def given(monkeypatch: pytest.MonkeyPatch, files: dict[str, str], values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"TOPSYNC_KAFKA_{name}", files.get(value, value))


@pytest.mark.parametrize(
    ("values", "setting", "problem"),
    [
        ({"SECURITY_PROTOCOL": "TLS"}, "SECURITY_PROTOCOL", "Input should be 'PLAINTEXT', 'SSL', "),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL"},
            "SASL_MECHANISM",
            "SECURITY_PROTOCOL is SASL_SSL, which needs it",
        ),
        ({"SASL_MECHANISM": "PLAIN"}, "SASL_MECHANISM", "would not be used: .* is PLAINTEXT"),
        ({"SECURITY_PROTOCOL": "SSL", "SASL_MECHANISM": "PLAIN"}, "SASL_MECHANISM", "would not be used"),
        (SASL | {"SASL_MECHANISM": "GSSAPI"}, "SASL_MECHANISM", "Input should be 'SCRAM-SHA-512', "),
        (SASL | {"USERNAME": ""}, "USERNAME", "SASL_MECHANISM is SCRAM-SHA-512, which needs it"),
        ({**TOKEN, "SASL_MECHANISM": "PLAIN", "USERNAME": "x"}, "PASSWORD", "is PLAIN, which needs it"),
        (TOKEN, "TOKEN_FILE", "is OAUTHBEARER, which needs it"),
        (TOKEN | {"TOKEN_FILE": "<nowhere>"}, "TOKEN_FILE", "nowhere.pem cannot be read: No such file"),
        (TOKEN | {"TOKEN_FILE": "<two tokens>"}, "TOKEN_FILE", "holds no token, or more than one"),
        (TOKEN | {"TOKEN_FILE": "<empty>"}, "TOKEN_FILE", "holds no token, or more than one"),
        (TOKEN | {"TOKEN_FILE": "<token>", "USERNAME": "x"}, "USERNAME", "would not be used"),
        (SASL | {"TOKEN_FILE": "<token>"}, "TOKEN_FILE", "would not be used"),
        ({"USERNAME": "x"}, "USERNAME", "would not be used: .*SASL_MECHANISM is not set"),
        ({"CA_FILE": "<ca>"}, "CA_FILE", "would not be used: .* is PLAINTEXT. SSL and SASL_SSL encrypt"),
        (SASL | {"CA_FILE": "<nowhere>"}, "CA_FILE", "nowhere.pem cannot be read: No such file"),
        (SASL | {"CA_FILE": "<text>"}, "CA_FILE", "text holds no certificate as PEM"),
        (SASL | {"CA_FILE": "<key>"}, "CA_FILE", "own.key holds no certificate as PEM"),
        (SASL | {"CERTIFICATE_FILE": "<certificate>"}, "KEY_FILE", "which needs its private key"),
        (SASL | {"KEY_FILE": "<key>"}, "KEY_FILE", "needs its certificate"),
        (
            SASL | {"CERTIFICATE_FILE": "<certificate>", "KEY_FILE": "<other key>"},
            "KEY_FILE",
            "foreign.key is not the private key of the certificate in .*own.pem",
        ),
        (
            SASL | {"CERTIFICATE_FILE": "<locked certificate>", "KEY_FILE": "<locked key>"},
            "KEY_FILE",
            "or the key has another password",
        ),
        (
            SASL | {"CERTIFICATE_FILE": "<certificate>", "KEY_FILE": "<text>"},
            "KEY_FILE",
            "are no certificate and its private key as PEM",
        ),
    ],
)
def test_what_does_not_fit_together_is_one_line_with_the_setting(
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    values: dict[str, str],
    setting: str,
    problem: str,
) -> None:
    given(monkeypatch, files, values)
    with pytest.raises(SettingsError, match=rf"^TOPSYNC_KAFKA_{setting}: .*{problem}") as refused:
        settings.load(KafkaSettings)
    line = str(refused.value)
    assert "\n" not in line
    assert SECRET not in line
    assert "set: " in line


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"SECURITY_PROTOCOL": "SSL"},
        SASL | {"CA_FILE": "<ca>"},
        TOKEN | {"TOKEN_FILE": "<token>"},
        SASL | {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "PLAIN"},
        {"SECURITY_PROTOCOL": "SSL", "CERTIFICATE_FILE": "<certificate>", "KEY_FILE": "<key>"},
        {
            "SECURITY_PROTOCOL": "SSL",
            "CERTIFICATE_FILE": "<locked certificate>",
            "KEY_FILE": "<locked key>",
            "KEY_PASSWORD": SECRET,
        },
    ],
)
def test_what_fits_together_is_taken(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], values: dict[str, str]
) -> None:
    given(monkeypatch, files, values)
    assert SECRET not in repr(settings.load(KafkaSettings))


@pytest.mark.parametrize(
    ("servers", "protocol", "remote"),
    [
        ("kafka-1:9092,127.0.0.1:9092", "PLAINTEXT", ["kafka-1"]),
        ("localhost:9092, [::1]:9092", "PLAINTEXT", []),
        ("kafka-1:9093", "SSL", []),
    ],
)
def test_brokers_on_other_machines_without_encryption_are_known(
    monkeypatch: pytest.MonkeyPatch, servers: str, protocol: str, remote: list[str]
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", servers)
    monkeypatch.setenv("TOPSYNC_KAFKA_SECURITY_PROTOCOL", protocol)
    assert settings.load(KafkaSettings).unencrypted_hosts == remote
