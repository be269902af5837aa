"""Encrypts the session tokens that are stored, with Fernet keys from the settings that can be rotated."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from pydantic import SecretStr

from topsync.base import telemetry
from topsync.base.rereading import Latest
from topsync.base.settings import SettingsError, VaultSettings

log = telemetry.get_logger(__name__)

_NO_KEYS: Final = "not a list of Fernet keys. Make one with `topsync new-key`."


@dataclass(frozen=True, slots=True)
class Key:
    """A configured key."""

    id: str
    """Lets people distinguish keys; the key cannot be computed from it."""
    fernet: Fernet


class Vault:
    """Encrypts with the first key, decrypts with any. docs/sellers.md says how a key is changed.

    The keys are those that the settings have now: a mounted secret is replaced without a restart.
    """

    def __init__(self, settings: VaultSettings) -> None:
        self._latest = Latest(settings)
        self._text = settings.token_keys
        try:
            self._known = _keys(settings.token_keys)
        except ValueError:
            raise SettingsError(f"TOPSYNC_TOKEN_KEYS: {_NO_KEYS}") from None

    @property
    def _keys(self) -> list[Key]:
        text = self._latest().token_keys
        if text != self._text:
            self._text = text
            try:
                self._known = _keys(text)
            except ValueError:
                log.warning("the token keys cannot be read again; keeping the former", problem=_NO_KEYS)
            else:
                log.info("the token keys have changed", keys=[key.id for key in self._known])
        return self._known

    @property
    def key_ids(self) -> list[str]:
        """The configured keys, in their order."""
        return [key.id for key in self._keys]

    def encrypt(self, session: SecretStr) -> bytes:
        """The ciphertext to store."""
        return self._keys[0].fernet.encrypt(session.get_secret_value().encode())

    def decrypt(self, cipher: bytes) -> SecretStr | None:
        """The session token; None when no key opens it."""
        found = self._open(cipher)
        return None if found is None else found[1]

    def key_of(self, cipher: bytes) -> str | None:
        """The id of the key that opens it; None when no key does."""
        found = self._open(cipher)
        return None if found is None else found[0].id

    def _open(self, cipher: bytes) -> tuple[Key, SecretStr] | None:
        for key in self._keys:
            try:
                return key, SecretStr(key.fernet.decrypt(cipher).decode())
            except InvalidToken:
                continue
        return None

    def is_current(self, cipher: bytes) -> bool:
        """Whether the first key opens it, so that no older key is needed."""
        return self.key_of(cipher) == self._keys[0].id

    def reencrypt(self, cipher: bytes) -> bytes | None:
        """The same token under the first key; None when no key opens it."""
        token = self.decrypt(cipher)
        return None if token is None else self.encrypt(token)


def _keys(texts: SecretStr) -> list[Key]:
    """Raises ValueError where one of them is no key."""
    return [_key(text.strip()) for text in texts.get_secret_value().split(",")]


def _key(text: str) -> Key:
    return Key(hashlib.sha256(text.encode()).hexdigest()[:8], Fernet(text))


def new_key() -> str:
    """A fresh key for TOPSYNC_TOKEN_KEYS."""
    return Fernet.generate_key().decode()
