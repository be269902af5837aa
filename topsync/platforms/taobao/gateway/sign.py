"""The gateway's request signature. Source: docs/platform/gateway.md 1.4 (vectors 0, A and B are tests)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache


class SignMethod(StrEnum):
    """How the canonical string is digested; the value is sent as `sign_method`."""

    MD5 = "md5"
    HMAC = "hmac"
    HMAC_SHA256 = "hmac-sha256"


def canonical_string(parameters: Mapping[str, str]) -> str:
    """Names and raw values, sorted by name in byte order, without separators.

    `sign` itself and parameters with an empty name or value are left out.
    """
    # Sorted by code point, which is the byte order of UTF-8.
    return "".join(
        [name + text for name, text in sorted(parameters.items()) if name and text and name != "sign"]
    )


def sign(parameters: Mapping[str, str], secret: str, method: SignMethod) -> str:
    """Upper-case hexadecimal signature over every parameter that is sent."""
    return digest(canonical_string(parameters), secret, method)


def digest(canonical: str, secret: str, method: SignMethod) -> str:
    """The signature of a canonical string."""
    text = canonical.encode()
    if method is SignMethod.MD5:
        key = secret.encode()
        return hashlib.md5(key + text + key, usedforsecurity=False).hexdigest().upper()
    keyed = _keyed(secret, method).copy()
    keyed.update(text)
    return keyed.hexdigest().upper()


@lru_cache(maxsize=8)
def _keyed(secret: str, method: SignMethod) -> hmac.HMAC:
    """A digest that has taken in the key, to be copied: making a new digest costs more than all the rest."""
    return hmac.new(secret.encode(), digestmod="md5" if method is SignMethod.HMAC else "sha256")
