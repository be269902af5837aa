"""What Kafka's refusals mean, in words for the operator: of a certificate, a login, or a right. Pure."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from typing import Final

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)

NO_LOGIN: Final = (ValueError, KeyError, AssertionError)
"""What the client library raises where an answer to a login proves that the broker does not know the
password, or makes no sense."""

RIGHTS: Final = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
"""The user has logged in, and lacks a right. An administrator of the cluster can give it at any moment."""

_ALERT: Final = "ALERT"
"""In OpenSSL's words for what the other side said before it ended the connection."""


def why(error: BaseException, *, with_login: bool) -> str | None:
    """Why there is no connection, where certificate or login were refused; None for any other failure."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate is refused: {cause.verify_message.rstrip('.')}. TOPSYNC_KAFKA_CA_FILE must "
                "name its authority, and the certificate the host"
            )
        if isinstance(cause, ssl.SSLError):
            return _of_tls(cause)
        if isinstance(cause, UnsupportedSaslMechanismError | IllegalSaslStateError):
            return f"it has no login by TOPSYNC_KAFKA_SASL_MECHANISM: {_first_line(cause)}"
        if isinstance(cause, SaslAuthenticationFailed):
            return f"it refuses the login: {_first_line(cause)}"
    if with_login and isinstance(error, NO_LOGIN):
        return "its answer to the login is wrong: it does not know the password"
    return None


def outage(error: Exception, *, is_encrypted: bool) -> str:
    """What to say of any other failure to connect."""
    if any(isinstance(cause, asyncio.IncompleteReadError | ConnectionResetError) for cause in _causes(error)):
        if not is_encrypted:
            return "it closed the connection: it may expect encryption (TOPSYNC_KAFKA_SECURITY_PROTOCOL)"
        return (
            "it closed the connection: it may want a certificate (TOPSYNC_KAFKA_CERTIFICATE_FILE), or no "
            "encryption (TOPSYNC_KAFKA_SECURITY_PROTOCOL)"
        )
    return _first_line(error) or type(error).__name__


def _of_tls(error: ssl.SSLError) -> str:
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if _ALERT in (error.reason or ""):
        return f"it refuses our certificate, or wants one (TOPSYNC_KAFKA_CERTIFICATE_FILE): {reason}"
    return f"it does not encrypt as TOPSYNC_KAFKA_SECURITY_PROTOCOL says: {reason}"


def lacking_right(error: Exception) -> str:
    """A line for a right that the user lacks, as `RIGHTS` say it."""
    return (
        f"Kafka refuses a right: {_first_line(error)}. docs/security.md lists the rights that topsync needs"
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
