"""Session tokens at rest: encrypted with Fernet keys from the environment, rotation possible."""

from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from topsync.errors import OperatorError
from topsync.settings import SettingsError, VaultSettings


class VaultError(OperatorError):
    """A stored session cannot be decrypted with the configured keys."""


class Vault:
    """Encrypts with the first key, decrypts with any: put a new key in front to rotate."""

    def __init__(self, settings: VaultSettings) -> None:
        try:
            keys = [Fernet(key.strip()) for key in settings.token_keys.get_secret_value().split(",")]
        except ValueError:
            raise SettingsError(
                "TOPSYNC_TOKEN_KEYS: not a list of Fernet keys. Make one with `topsync new-key`."
            ) from None
        self._fernet = MultiFernet(keys)
        self._newest = keys[0]

    def encrypt(self, session: SecretStr) -> bytes:
        """The ciphertext to store."""
        return self._fernet.encrypt(session.get_secret_value().encode())

    def decrypt(self, cipher: bytes) -> SecretStr:
        """The session token.

        Raises:
            VaultError: none of the keys fits.
        """
        try:
            return SecretStr(self._fernet.decrypt(cipher).decode())
        except InvalidToken:
            raise VaultError(
                "a stored session does not fit any key in TOPSYNC_TOKEN_KEYS: add the key it was stored with"
            ) from None

    def is_current(self, cipher: bytes) -> bool:
        """Whether the first key opens it: then no older key is needed for it."""
        try:
            self._newest.decrypt(cipher)
        except InvalidToken:
            return False
        return True

    def reencrypt(self, cipher: bytes) -> bytes:
        """The same token under the first key.

        Raises:
            VaultError: none of the keys fits.
        """
        return self.encrypt(self.decrypt(cipher))


def new_key() -> str:
    """A fresh key for TOPSYNC_TOKEN_KEYS."""
    return Fernet.generate_key().decode()
