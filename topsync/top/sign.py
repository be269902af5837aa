"""The gateway's request signature. Source: reference/top-api.md 1.4 (vectors 0, A and B are tests)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from enum import StrEnum


class SignMethod(StrEnum):
    """How the canonical string is digested; the value is what `sign_method` carries."""

    MD5 = "md5"
    HMAC = "hmac"
    HMAC_SHA256 = "hmac-sha256"


def canonical_string(parameters: Mapping[str, str]) -> str:
    """Names and raw values, sorted by name in byte order, without separators.

    `sign` itself and parameters with an empty name or value are left out.
    """
    return "".join(
        [
            name + parameters[name]
            for name in sorted(parameters)  # by code point, which is the byte order of UTF-8
            if name and name != "sign" and parameters[name]
        ]
    )


def sign(parameters: Mapping[str, str], secret: str, method: SignMethod) -> str:
    """Upper-case hexadecimal signature over every parameter that is sent."""
    text = canonical_string(parameters).encode()
    key = secret.encode()
    match method:
        case SignMethod.MD5:
            digest = hashlib.md5(key + text + key, usedforsecurity=False).hexdigest()
        case SignMethod.HMAC:
            digest = hmac.digest(key, text, "md5").hex()
        case SignMethod.HMAC_SHA256:
            digest = hmac.digest(key, text, "sha256").hex()
    return digest.upper()
