"""Reading settings from the environment, and saying what is wrong with them."""

from __future__ import annotations

import os
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import AliasChoices, SecretStr, ValidationError
from pydantic_settings import SettingsError as UnreadableError

from topsync.base import masking
from topsync.base.errors import OperatorError
from topsync.base.settings.fields import PREFIX, EnvironmentSettings

S = TypeVar("S", bound=EnvironmentSettings)


class SettingsError(OperatorError):
    """A setting is missing or wrong. The text is one line: the setting, its problem, the fix."""


def load(cls: type[S]) -> S:
    """Read a class of settings from the environment.

    Raises:
        SettingsError: one line that names the first wrong setting, its problem and the fix.
    """
    try:
        loaded = cls(_secrets_dir=os.environ.get(f"{PREFIX}SECRETS_DIR"))
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        raise SettingsError(_explain(cls, str(problem["loc"][0]), problem["msg"])) from None
    except (UnreadableError, OSError) as error:
        # A file in the folder is not text, or may not be read. The error's own text may quote the file.
        cause = error.__cause__ or error
        is_kept_away = isinstance(cause, OSError) and cause.strerror
        what = is_kept_away or "a file in it is not text in UTF-8"
        raise SettingsError(f"{PREFIX}SECRETS_DIR: {what}. See docs/reference/settings.md.") from None
    _hide_secrets(loaded)
    return loaded.as_loaded()


def wrong(cls: type[EnvironmentSettings], name: str, problem: str) -> SettingsError:
    """The error for a field that only whoever uses it can find wrong: a line like those of `load`."""
    return SettingsError(_explain(cls, name, f"Value error, {problem}"))


def _hide_secrets(loaded: EnvironmentSettings) -> None:
    """Keep this process's secrets out of every log line from now on, whoever writes it."""
    for name in type(loaded).model_fields:
        value = getattr(loaded, name)
        if isinstance(value, SecretStr):
            secret = value.get_secret_value()
            for part in (secret, *secret.split(","), unquote(urlsplit(secret).password or "")):
                masking.hide(part)


def variable(cls: type[EnvironmentSettings], name: str) -> str:
    """The environment variable of a field."""
    alias = cls.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return PREFIX + name.upper()


def _explain(cls: type[EnvironmentSettings], where: str, problem: str) -> str:
    name = next(
        (field for field in cls.model_fields if where.upper() in {field.upper(), variable(cls, field)}), where
    )
    field = cls.model_fields.get(name)
    if field is None:
        return f"{where}: {problem}. See docs/reference/settings.md."
    if field.is_required():
        return f"{variable(cls, name)}: {_PROBLEMS.get(problem, problem)}. Set it: {field.description}"
    if field.default is None:
        return f"{variable(cls, name)}: {problem}. Unset it, or set: {field.description}"
    return (
        f"{variable(cls, name)}: {problem}. Unset it for the default, {field.default}, or set: "
        f"{field.description}"
    )


_PROBLEMS = {"Field required": "it is not set"}
"""What pydantic calls a problem, and what an operator does."""
