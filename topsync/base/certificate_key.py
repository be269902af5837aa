"""Signs certificates with an Ed25519 key from the settings, and checks signatures with public keys."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas import certificate as document
from schemas.certificate import Certificate, SignaturePart, WrittenCertificate
from topsync.base import masking
from topsync.base.errors import OperatorError
from topsync.base.settings import CertificateSettings, SettingsError

KEY_BYTES: Final = 32
KEY_ID_CHARACTERS: Final = 16
_UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm)
"""What the library says of text that is no key: wrong, under a password, of another kind."""


class PublicKeyError(OperatorError):
    """A file holds no public key."""


class SignatureState(Enum):
    """What can be said of a certificate's signature."""

    RIGHT = "right"
    WRONG = "wrong"
    """The document is not as it was signed."""
    UNKNOWN_KEY = "unknown key"
    """We do not have the public key that it names."""
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The half of a key that checks."""

    key: Ed25519PublicKey

    @property
    def id(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of its 32 bytes."""
        return hashlib.sha256(self.key.public_bytes_raw()).hexdigest()[:KEY_ID_CHARACTERS]

    @property
    def pem(self) -> str:
        """For openssl and others."""
        return self.key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()


@dataclass(frozen=True, slots=True)
class CertificateKey:
    """The half of a key that signs."""

    key: Ed25519PrivateKey

    @property
    def public(self) -> PublicKey:
        """The half that checks."""
        return PublicKey(self.key.public_key())


def configured(settings: CertificateSettings) -> CertificateKey | None:
    """The key of the settings; None where there is none.

    Raises:
        SettingsError: what is set is no Ed25519 private key.
    """
    if settings.certificate_key is None:
        return None
    text = settings.certificate_key.get_secret_value().strip()
    for line in text.splitlines():  # the line that holds the key, wherever it stands alone
        if not line.startswith("-----"):
            masking.hide(line)
    try:
        key = _private(text)
    except _UNREADABLE:
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(
            "TOPSYNC_CERTIFICATE_KEY: not an Ed25519 private key, as PEM without a password or as base64 of "
            "its 32 bytes. Make one with `topsync certificate key --new`."
        )
    return CertificateKey(key)


def _private(text: str) -> object:
    if text.startswith("-----"):
        return serialization.load_pem_private_key(text.encode(), password=None)
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(text, validate=True))


def new() -> str:
    """A fresh private key for TOPSYNC_CERTIFICATE_KEY, as PEM."""
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


def read_public(text: bytes) -> PublicKey:
    """A public key as PEM.

    Raises:
        PublicKeyError: it is none.
    """
    try:
        key = serialization.load_pem_public_key(text)
    except _UNREADABLE:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise PublicKeyError("that is no Ed25519 public key as PEM, such as `topsync certificate key` prints")
    return PublicKey(key)


def sign(certificate: Certificate, key: CertificateKey) -> Certificate:
    """The certificate with its signature, in place of any that it had."""
    named = certificate.model_copy(
        update={"signature": SignaturePart(algorithm="Ed25519", key_id=key.public.id, value="")}
    )
    signed = document.signed_bytes(document.document(named))
    value = base64.b64encode(key.key.sign(signed)).decode()
    return named.model_copy(
        update={"signature": SignaturePart(algorithm="Ed25519", key_id=key.public.id, value=value)}
    )


def by_id(keys: Iterable[PublicKey]) -> dict[str, PublicKey]:
    """Public keys as `check` takes them."""
    return {key.id: key for key in keys}


def check(written: WrittenCertificate, keys: Mapping[str, PublicKey]) -> SignatureState:
    """What the signature of a certificate is worth, given the public keys that are trusted, by their ids."""
    signature = written.content.signature
    if signature is None:
        return SignatureState.ABSENT
    key = keys.get(signature.key_id)
    if key is None:
        return SignatureState.UNKNOWN_KEY
    try:
        key.key.verify(base64.b64decode(signature.value, validate=True), written.signed)
    except (InvalidSignature, binascii.Error, ValueError):
        return SignatureState.WRONG
    return SignatureState.RIGHT
