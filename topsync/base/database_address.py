"""Finds what is wrong with a database's address without asking the server. Waiting would not help.

The driver reads certificates and the user's name as it connects, and what it then says looks like an outage.
And it takes any server for the right one, unless the address says that it is to be checked.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from topsync.base import loopback, tls_files

FILES: Final = {
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
}
"""Parameters of the address that name a file, each with the environment variable that stands in for it."""

MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

CHECKED: Final = "verify-full"
"""The only mode in which the server must show a certificate of a known authority, made out for its name."""


def check(url: str, environment: Mapping[str, str], *, may_be_unverified: bool) -> None:
    """Check a database's address.

    Args:
        url: the address.
        environment: may stand in for what the address does not say.
        may_be_unverified: whether a server on another machine needs no certificate that we check.

    Raises:
        ValueError: what is wrong with it. The text holds no password.
    """
    parts = urlsplit(url)
    query = _query(url)
    named = {name: query.get(name) or environment.get(variable) for name, variable in FILES.items()}
    for name, path in named.items():
        if path is not None:
            try:
                tls_files.require_readable(Path(path))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    mode = _mode(url, environment)
    if mode not in MODES:
        raise ValueError(f"sslmode must be one of {', '.join(MODES)}")
    if mode in ("verify-ca", "verify-full") and named["sslrootcert"] is None:
        raise ValueError(f"sslmode={mode} needs sslrootcert=/path/of/the/authority's/certificate beside it")
    if not may_be_unverified and (remote := unverified(url, environment)):
        raise ValueError(
            f"{remote[0]} is another machine: it needs sslmode=verify-full and sslrootcert=/path/of/the/"
            "authority's/certificate, or TOPSYNC_DATABASE_UNVERIFIED=true if those on the way may read "
            "and change everything"
        )
    if "@" not in parts.netloc and not query.get("user") and not environment.get("PGUSER"):
        _require_user()


def unverified(url: str, environment: Mapping[str, str]) -> list[str]:
    """The hosts of the address that are other machines, and whose certificates are not checked."""
    if _mode(url, environment) == CHECKED:
        return []
    netloc = urlsplit(url).netloc
    hosts = (netloc.partition("@")[2] if "@" in netloc else netloc).split(",")  # as the driver does it
    names = [host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0] for host in hosts]
    return [name for name in map(unquote, names) if not loopback.is_own(name)]


def _query(url: str) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}


def _mode(url: str, environment: Mapping[str, str]) -> str:
    return _query(url).get("sslmode") or environment.get("PGSSLMODE") or "prefer"


def _require_user() -> None:
    """In a container, the user id often belongs to nobody."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        raise ValueError("it names no user, and this process's own has no name: write user@host") from None
