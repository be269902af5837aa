"""Finds what is wrong with a database's address without asking the server. Waiting would not help.

The driver reads certificates and the user's name as it connects, and what it then says looks like an outage.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

FILES: Final = {
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
}
"""Parameters of the address that name a file, each with the environment variable that stands in for it."""

MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def check(url: str, environment: Mapping[str, str]) -> None:
    """Check a database's address.

    Raises:
        ValueError: what is wrong with it. The text holds no password.
    """
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    named = {name: query.get(name) or environment.get(variable) for name, variable in FILES.items()}
    for name, path in named.items():
        if path is not None:
            _require_readable(name, Path(path))
    mode = query.get("sslmode") or environment.get("PGSSLMODE") or "prefer"
    if mode not in MODES:
        raise ValueError(f"sslmode must be one of {', '.join(MODES)}")
    if mode in ("verify-ca", "verify-full") and named["sslrootcert"] is None:
        raise ValueError(f"sslmode={mode} needs sslrootcert=/path/of/the/authority's/certificate beside it")
    if "@" not in parts.netloc and not query.get("user") and not environment.get("PGUSER"):
        _require_user()


def _require_readable(name: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"{name} is {path}, which cannot be read: {error.strerror}") from None


def _require_user() -> None:
    """In a container, the user id often belongs to nobody."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        raise ValueError("it names no user, and this process's own has no name: write user@host") from None
