"""What the classes of settings are made of: types of fields, and where values come from."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, TypeAdapter, UrlConstraints
from pydantic_core import MultiHostUrl, Url
from pydantic_settings import BaseSettings, SettingsConfigDict

from topsync.base import database_address

PREFIX = "TOPSYNC_"

DATABASE_URL = TypeAdapter(
    Annotated[MultiHostUrl, UrlConstraints(allowed_schemes=["postgresql", "postgres"], host_required=True)]
)


def _is_database_url(secret: SecretStr) -> SecretStr:
    DATABASE_URL.validate_python(secret.get_secret_value())
    database_address.check(secret.get_secret_value(), os.environ)
    return secret


DatabaseUrl = Annotated[SecretStr, AfterValidator(_is_database_url)]
"""A database's address. It holds a password, so it is never shown."""
ChannelUrl = Annotated[Url, UrlConstraints(allowed_schemes=["ws", "wss"])]
Seconds = Annotated[float, Field(ge=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]


class EnvironmentSettings(BaseSettings):
    """A class of settings, one per noun; each process loads the classes it needs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True, populate_by_name=True
    )
