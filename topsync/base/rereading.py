"""Settings that are read again while a process runs: a mounted secret is replaced without a restart."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Generic, TypeVar

from topsync.base import telemetry, tls_files
from topsync.base.settings import EnvironmentSettings, SettingsError, load

log = telemetry.get_logger(__name__)

S = TypeVar("S", bound=EnvironmentSettings)


class Latest(Generic[S]):
    """Settings as the environment and the files of secrets have them now; to be called at each use.

    A file may be half written, or hold a mistake. Then those that were read last stay in force, and the log
    says so once for each mistake. Settings that were not loaded, as in tests, stay what they are.
    """

    def __init__(self, own: S) -> None:
        self._latest = own
        self._problem: str | None = None

    def __call__(self) -> S:
        """The settings to use now."""
        if self._latest.is_from_environment:
            try:
                self._latest, self._problem = load(type(self._latest)), None
            except SettingsError as error:
                self._complain(str(error))
        return self._latest

    def _complain(self, problem: str) -> None:
        if problem != self._problem:
            log.warning("a setting cannot be read again; keeping the former", problem=problem)
        self._problem = problem


class LatestContext:
    """What checks servers' certificates, and shows our own, by what the files hold now."""

    def __init__(self, authorities: Path | None, certificate: Path | None, key: Path | None) -> None:
        self._authorities = authorities
        self._certificate = certificate
        self._key = key
        self._context: ssl.SSLContext | None = None
        self._made_of: object = None
        self._problem: str | None = None

    def __call__(self, key_password: str | None = None) -> ssl.SSLContext:
        """The context for the next connection; the same object as long as no file has changed.

        Raises:
            OSError: the files are unusable, and always were.
        """
        files = (self._authorities, self._certificate, self._key)
        made_of = (key_password, *map(_state, files))
        if self._context is None or made_of != self._made_of:
            try:
                self._context, self._made_of, self._problem = self._made(key_password), made_of, None
            except OSError as error:
                if self._context is None:
                    raise
                self._complain(str(error))
        return self._context

    def _made(self, key_password: str | None) -> ssl.SSLContext:
        context = tls_files.trusting(self._authorities)
        if self._certificate is not None and self._key is not None:
            tls_files.show(context, self._certificate, self._key, key_password)
        return context

    def _complain(self, problem: str) -> None:
        if problem != self._problem:
            log.warning("certificates cannot be read again; keeping the former", problem=problem)
        self._problem = problem


def _state(path: Path | None) -> tuple[int, int, int] | None:
    """What changes when a file is replaced or written; None where there is none."""
    try:
        found = None if path is None else path.stat()
    except OSError:
        found = None
    return None if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)
