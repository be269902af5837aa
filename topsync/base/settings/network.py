"""How a process reaches the platform from within a company's network."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator

from topsync.base import tls_files
from topsync.base.settings.fields import EnvironmentSettings

_WITH_PORT: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*):\d+")
FORM: Final = "it must be http://host:port or http://user:password@host:port"


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """Where a proxy is, and who we are for it."""

    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)


class NetworkSettings(EnvironmentSettings):
    """The way to the platform through a company's network."""

    https_proxy: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("HTTPS_PROXY", "https_proxy"),
        description="A proxy for everything that goes to the platform, encrypted or not: calls, downloads, "
        "authorisations and the message channel. `http://host:port`, or `http://user:password@host:port`. "
        "Kafka and the database are reached without it.",
    )
    no_proxy: str = Field(
        "",
        validation_alias=AliasChoices("NO_PROXY", "no_proxy"),
        description="What is reached without the proxy, comma-separated: names, with all names below them, "
        "addresses, and networks as `10.0.0.0/8`; `*` is all. This machine always is.",
    )
    platform_ca_file: Path | None = Field(
        None,
        description="PEM file with authorities that are believed besides the usual ones when the platform "
        "shows its certificate: a company's own, whose proxy looks into what is encrypted.",
    )

    @field_validator("https_proxy")
    @classmethod
    def _is_a_proxy(cls, text: SecretStr | None) -> SecretStr | None:
        if text is None or not text.get_secret_value().strip():
            return None
        parse_proxy(text.get_secret_value())
        return text

    @field_validator("platform_ca_file")
    @classmethod
    def _holds_authorities(cls, path: Path | None) -> Path | None:
        if path is not None:
            tls_files.require_authorities(path)
        return path

    @property
    def proxy(self) -> ProxyAddress | None:
        """The proxy, if there is one."""
        return None if self.https_proxy is None else parse_proxy(self.https_proxy.get_secret_value())

    @property
    def exempt(self) -> tuple[str, ...]:
        """What is reached without it, each without a port and in small letters."""
        return tuple(
            _without_port(entry.strip().lower()) for entry in self.no_proxy.split(",") if entry.strip()
        )


def parse_proxy(text: str) -> ProxyAddress:
    """Where a proxy is.

    Raises:
        ValueError: it is no address of a proxy. The text quotes nothing of it.
    """
    parts = urlsplit(text.strip())
    try:
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        raise ValueError(FORM) from None
    if parts.scheme != "http" or not host or parts.path.strip("/") or parts.query:
        raise ValueError(FORM)
    user, password = (None if part is None else unquote(part) for part in (parts.username, parts.password))
    return ProxyAddress(host, port, user, password)


def _without_port(entry: str) -> str:
    found = _WITH_PORT.fullmatch(entry)
    return entry.strip("[]") if found is None else found["host"].strip("[]")
