"""What one process has read of a platform's object, for another process that need not read it again.

Reading an object takes more time than anything else that a bulk start does with it. Whoever loads an exported
file has to look into each object anyway: so it hands on what is to be stored, with its digest, and says by
which rules it was read. A process with other rules, of another release, reads the same bytes for itself: an
object as on the wire is a form of the platform's object, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple, Self

import orjson

from schemas import content
from schemas.platform_object import PlatformObject, WireForm

RULES_BYTES = 8


@cache
def rules() -> str:
    """By which rules this release reads: a digest of the code that reads, so that any change makes others."""
    sources = [each for each in resources.files(__package__).iterdir() if each.name.endswith(".py")]
    digest = hashlib.blake2b(digest_size=RULES_BYTES)
    for source in sorted(sources, key=lambda each: each.name):
        digest.update(source.read_bytes())
    return digest.hexdigest()


class ReadBefore(NamedTuple):
    """What was found out about an object by these rules, beside its form on the wire."""

    content_hash: bytes
    may_be_odd: bool
    """See `WireForm`."""

    @classmethod
    def of(cls, form: WireForm) -> Self:
        """Of an object that was read here."""
        return cls(content.hash_of(form), form.may_be_odd)

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, str]) -> Self | None:
        """What the attributes of an event say; None where it was not read by the rules of this release.

        Raises:
            KeyError, ValueError: it was, and they do not say what was found out.
        """
        if attributes.get("readby") != rules():
            return None
        return cls(bytes.fromhex(attributes["contenthash"]), "odd" in attributes)

    def attributes(self) -> dict[str, str]:
        """The attributes of an event that hands the object on."""
        odd = {"odd": "true"} if self.may_be_odd else {}
        return {"readby": rules(), "contenthash": self.content_hash.hex()} | odd

    def form(self, model: type[PlatformObject], text: bytes) -> WireForm:
        """The object that was handed on.

        Raises:
            ValueError: this is no object as on the wire.
        """
        written = orjson.loads(text)
        if not isinstance(written, dict) or not model.always_there <= written.keys() <= model.on_the_wire:
            raise ValueError(f"no {model.__name__.lower()} as on the wire")
        return WireForm(model, written, text.decode(), self.may_be_odd, self.content_hash)
