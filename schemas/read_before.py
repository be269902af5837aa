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
from typing import Any, Final, NamedTuple, Self

import orjson

from schemas import content, delta
from schemas.delta import TransitionWord
from schemas.platform_object import PlatformObject, UnreadContent, WireForm
from schemas.refund import Refund
from schemas.refund_transitions import RefundTransition
from schemas.trade import Trade
from schemas.transitions import Transition

RULES_BYTES = 8

_BEGINNING: Final = b'{"platform_fields":{'
"""Of each object as on the wire: the first field of every model."""

_WORDS: Final[Mapping[type[PlatformObject], type[TransitionWord]]] = {
    Trade: Transition,
    Refund: RefundTransition,
}


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
    head: Mapping[str, Any]
    """What it has of the fields in `PlatformObject.head`."""
    happened: tuple[str, ...]
    """See `WireForm`."""

    @classmethod
    def of(cls, form: WireForm) -> Self:
        """Of an object that was read here."""
        written = form.content
        head = {name: written[name] for name in form.model.head if name in written}
        happened = delta.happened(_WORDS[form.model], None, written)
        return cls(content.hash_of(form), form.may_be_odd, head, happened)

    @classmethod
    def from_headers(cls, headers: Mapping[str, bytes | None]) -> Self | None:
        """What the headers of an event say; None where it was not read by the rules of this release.

        Raises:
            KeyError, ValueError: it was, and they do not say what was found out.
        """
        if headers.get("ce_readby") != rules().encode():
            return None
        head = orjson.loads(headers["ce_head"] or b"")
        happened, digest = headers["ce_happened"], headers["ce_contenthash"]
        if not isinstance(head, dict) or not happened or not digest:
            raise ValueError("they say that it was read, and not what was found out")
        return cls(
            bytes.fromhex(digest.decode()), "ce_odd" in headers, head, tuple(happened.decode().split(","))
        )

    def attributes(self) -> dict[str, str]:
        """The attributes of an event that hands the object on."""
        odd = {"odd": "true"} if self.may_be_odd else {}
        return {
            "readby": rules(),
            "contenthash": self.content_hash.hex(),
            "head": orjson.dumps(self.head).decode(),
            "happened": ",".join(self.happened),
        } | odd

    def form(self, model: type[PlatformObject], text: bytes) -> WireForm:
        """The object that was handed on. Where its head says all that is needed now, it is not read.

        Raises:
            ValueError: this is no object as on the wire.
        """
        whole, words = text.decode(), _WORDS[model]
        if self.may_be_odd or not model.head <= self.head.keys():
            written = model.content_of(whole)
        elif text.startswith(_BEGINNING):
            written = UnreadContent(model, self.head, whole)
        else:
            raise ValueError(f"no {model.__name__.lower()} as on the wire")
        happened = tuple(map(words, self.happened))
        return WireForm(model, written, whole, self.may_be_odd, self.content_hash, happened)
