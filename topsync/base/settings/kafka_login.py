"""What belongs together in the settings of Kafka's encryption and login, checked before anybody connects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, cast

from pydantic import SecretStr

from topsync.base import tls_files

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER"]

ENCRYPTED: Final = frozenset[Protocol]({"SSL", "SASL_SSL"})
WITH_LOGIN: Final = frozenset[Protocol]({"SASL_PLAINTEXT", "SASL_SSL"})
WITH_PASSWORD: Final = frozenset[Mechanism]({"SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"})

PROTOCOL: Final = "TOPSYNC_KAFKA_SECURITY_PROTOCOL"
MECHANISM: Final = "TOPSYNC_KAFKA_SASL_MECHANISM"

TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750 2.1. Anything else could say more to the broker than a token does."""

Known = Mapping[str, object]
"""The fields that were right so far, by name."""


def check_mechanism(mechanism: Mechanism | None, known: Known) -> None:
    """A login needs a mechanism, and a mechanism a protocol with a login."""
    protocol = known.get("kafka_security_protocol")
    if protocol in WITH_LOGIN and mechanism is None:
        raise ValueError(f"{PROTOCOL} is {protocol}, which needs it")
    if protocol is not None and protocol not in WITH_LOGIN and mechanism is not None:
        raise ValueError(f"it would not be used: {PROTOCOL} is {protocol}")


def check_name(text: str | SecretStr | None, known: Known) -> None:
    """User and password go with the mechanisms that have both."""
    mechanism = _mechanism(known)
    if mechanism in WITH_PASSWORD and not text:
        raise ValueError(f"{MECHANISM} is {mechanism}, which needs it")
    if text is not None and mechanism not in WITH_PASSWORD and "kafka_sasl_mechanism" in known:
        raise ValueError(f"it would not be used: {MECHANISM} is {mechanism or 'not set'}")
    plain = text.get_secret_value() if isinstance(text, SecretStr) else text
    if plain and "\0" in plain:
        raise ValueError("it must not hold a zero byte")


def check_token_file(path: Path | None, known: Known) -> None:
    """A token goes with the mechanism that has one."""
    mechanism = _mechanism(known)
    if mechanism == "OAUTHBEARER" and path is None:
        raise ValueError(f"{MECHANISM} is OAUTHBEARER, which needs it")
    if path is not None:
        if mechanism != "OAUTHBEARER" and "kafka_sasl_mechanism" in known:
            raise ValueError(f"it would not be used: {MECHANISM} is {mechanism or 'not set'}")
        read_token(path)


def read_token(path: Path) -> str:
    """The token that a file holds now.

    Raises:
        ValueError: it cannot be read, or holds no token. The text quotes nothing of it.
    """
    tls_files.require_readable(path)
    token = path.read_text("utf-8", errors="replace").strip()
    if not TOKEN.fullmatch(token):
        raise ValueError(f"{path} holds no token, or more than one")
    return token


def check_authorities(path: Path | None, known: Known) -> None:
    """Authorities are there to check the certificates of an encrypted connection."""
    if path is not None:
        _require_encryption(known)
        tls_files.require_authorities(path)


def check_certificate(path: Path | None, known: Known) -> None:
    """A certificate of our own is shown on an encrypted connection."""
    if path is not None:
        _require_encryption(known)
        tls_files.require_readable(path)


def check_key(path: Path | None, known: Known) -> None:
    """A private key belongs to a certificate, and a certificate to its private key."""
    certificate = known.get("kafka_certificate_file")
    if certificate is None and path is not None and "kafka_certificate_file" in known:
        raise ValueError("it needs its certificate: set TOPSYNC_KAFKA_CERTIFICATE_FILE")
    if isinstance(certificate, Path) and path is None:
        raise ValueError("TOPSYNC_KAFKA_CERTIFICATE_FILE is set, which needs its private key")
    if isinstance(certificate, Path) and path is not None:
        password = known.get("kafka_key_password")
        plain = password.get_secret_value() if isinstance(password, SecretStr) else None
        tls_files.require_pair(certificate, path, plain)


def _mechanism(known: Known) -> Mechanism | None:
    return cast("Mechanism | None", known.get("kafka_sasl_mechanism"))


def _require_encryption(known: Known) -> None:
    protocol = known.get("kafka_security_protocol")
    if protocol is not None and protocol not in ENCRYPTED:
        raise ValueError(f"it would not be used: {PROTOCOL} is {protocol}. SSL and SASL_SSL encrypt")
