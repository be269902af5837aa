"""Certificates and keys in files, checked before anybody connects: waiting would not mend them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

_NO_PAIR: Final = "KEY_VALUES_MISMATCH"
"""OpenSSL's word for a key that is not the certificate's."""


def require_readable(path: Path) -> None:
    """Check that a file is there, and that this process may read it.

    Raises:
        ValueError: neither.
    """
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def require_authorities(path: Path) -> None:
    """Check that a file holds certificates of authorities.

    Raises:
        ValueError: it cannot be read, or holds no certificate as PEM.
    """
    require_readable(path)
    try:
        trusting(path)
    except ssl.SSLError:
        raise ValueError(f"{path} holds no certificate as PEM") from None


def require_pair(certificate: Path, key: Path, password: str | None) -> None:
    """Check that a certificate and a private key belong together.

    Raises:
        ValueError: they do not, or a file cannot be read. The text holds neither key nor password.
    """
    require_readable(certificate)
    require_readable(key)
    try:
        show(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, key, password)
    except ssl.SSLError as error:
        if error.reason == _NO_PAIR:
            raise ValueError(f"{key} is not the private key of the certificate in {certificate}") from None
        raise ValueError(
            f"{certificate} and {key} are no certificate and its private key as PEM, or the key has another "
            "password"
        ) from None


def trusting(authorities: Path | None) -> ssl.SSLContext:
    """What checks a server's certificate and the name in it: by these authorities, or by the system's.

    Raises:
        OSError: the file cannot be read, or holds no certificate as PEM.
    """
    return ssl.create_default_context(cafile=None if authorities is None else str(authorities))


def show(context: ssl.SSLContext, certificate: Path, key: Path, password: str | None) -> None:
    """Let a context show this certificate to servers that ask for it.

    Raises:
        OSError: they cannot be read, or do not belong together.
    """
    # Without a password, OpenSSL would ask for the password at the terminal, and wait for ever.
    context.load_cert_chain(certificate, key, password=lambda: password or "")
