"""Where traces go, and which are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from pydantic import Field, HttpUrl, SecretStr, field_validator

from topsync.base import tls_files
from topsync.base.settings.fields import EnvironmentSettings, PositiveSeconds

NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""RFC 9110 5.6.2: what a header's name is made of."""

FORM: Final = "it must be name=value, or several of them with commas between"


class TracesSettings(EnvironmentSettings):
    """Traces (docs/traces.md)."""

    traces_url: HttpUrl | None = Field(
        None,
        description="Whole address of a collector that takes spans by OTLP over HTTP, as "
        "`http://collector:4318/v1/traces`. Needs the extra `topsync[traces]`. Unset: no span is recorded. "
        "It is reached without `HTTPS_PROXY`.",
    )
    traces_headers: SecretStr | None = Field(
        None,
        description="Headers for the collector, as `authorization=Bearer%20...,x-team=orders`: values are "
        "percent-encoded.",
    )
    traces_ca_file: Path | None = Field(
        None,
        description="PEM file with the authorities that are believed when the collector shows its "
        "certificate, in place of the usual ones.",
    )
    traces_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of the traces that is kept whole. Whoever begins a trace decides, and marks its "
        "records.",
    )
    traces_slow_seconds: PositiveSeconds = Field(
        5.0,
        description="Of other traces, each process keeps its part where it took longer than this, or failed. "
        "A message counts from the moment at which the platform reports it.",
    )
    traces_unsampled_per_second: float = Field(
        10.0,
        ge=1,
        le=1000,
        description="So many orders that are slow or failed a process keeps each second at most: in an "
        "outage, all are.",
    )
    traces_order_ids: bool = Field(
        False,
        description="Whether spans name the order and the seller (`topsync.tid`, `topsync.seller_id`). "
        "Whoever reads the traces then sees who sells how much.",
    )

    @field_validator("traces_headers")
    @classmethod
    def _has_headers(cls, text: SecretStr | None) -> SecretStr | None:
        if text is not None:
            parse_headers(text.get_secret_value())
        return text

    @field_validator("traces_ca_file")
    @classmethod
    def _holds_authorities(cls, path: Path | None) -> Path | None:
        if path is not None:
            tls_files.require_authorities(path)
        return path

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers for the collector. Their values are secrets."""
        return {} if self.traces_headers is None else parse_headers(self.traces_headers.get_secret_value())


def parse_headers(text: str) -> dict[str, str]:
    """Headers by name.

    Raises:
        ValueError: the text holds no headers. The error quotes nothing of it.
    """
    headers: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (part.strip() for part in entry.partition("="))
        value = unquote(value)
        if not equals or not NAME.fullmatch(name) or not value.isprintable() or not value.isascii():
            raise ValueError(FORM)
        headers[name] = value
    return headers
