"""What the classes of settings are made of: types of fields, and where values come from."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, PrivateAttr, UrlConstraints
from pydantic_core import Url
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "TOPSYNC_"

ChannelUrl = Annotated[Url, UrlConstraints(allowed_schemes=["ws", "wss"])]
Seconds = Annotated[float, Field(ge=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]


class EnvironmentSettings(BaseSettings):
    """A class of settings, one per noun; each process loads the classes it needs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True, populate_by_name=True
    )
    _is_from_environment: bool = PrivateAttr(default=False)

    @property
    def is_from_environment(self) -> bool:
        """Whether they were loaded, and so can be read again (`topsync/base/rereading.py`)."""
        return self._is_from_environment

    def as_loaded(self) -> Self:
        """These settings, once they have been loaded from the environment."""
        self._is_from_environment = True
        return self
