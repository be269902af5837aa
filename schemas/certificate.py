"""The certificate of a bulk start: one JSON document, signed, that anybody can check without topsync.

What is signed is the document without the value of its signature, as canonical JSON: UTF-8, names sorted, no
blanks, no line end, and nothing escaped in texts but quotation marks, backslashes and control characters.
Texts are signed as they are: no Unicode normalisation (NFC) is applied. As all names are ASCII and all
numbers are integers below 2^53, that is RFC 8785 (JCS). docs/reference/certificate.md has lines to check it
with openssl.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Final, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas import validation
from schemas.types import Instant, PlatformId

VERSION: Final = 1
"""Of the document. A reader of another version cannot know what it would overlook, and refuses it."""

ALGORITHM: Final = "Ed25519"

MAX_DOCUMENT_BYTES: Final = 64 * 1024 * 1024
"""A hundred slices and some thousand windows have a megabyte."""

MAX_INTEGER: Final = 2**53 - 1
"""Larger integers lose digits in readers whose numbers are floating-point; ids are text."""

MAX_TEXT_CHARACTERS: Final = 500

Natural = Annotated[int, Field(strict=True, ge=0, le=MAX_INTEGER)]
PlainText = Annotated[str, Field(pattern=r"^[^\u0000-\u001f\u007f]*$", max_length=MAX_TEXT_CHARACTERS)]
"""Without control characters, which programs escape in different ways."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
KindWord = Literal["order", "refund"]


class CertificateError(ValueError):
    """This is no certificate, or a certificate of a version that we cannot read. The text says why."""


class CertificatePart(BaseModel):
    """What all parts of the document share."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class DayZero(CertificatePart):
    """How day zero was fixed: lists of changes bring what changed from that day on, the slices what was
    before.
    """

    day: date
    """Day zero, a day of the platform (GMT+8): the day of `started_at`, or of the oldest task if that is
    earlier."""
    fixed_by: Literal["start", "task"]
    """`start`: by the day on which the bulk start began. `task`: by an adopted task that is older."""
    first_day: date
    """The first day of the slices."""
    started_at: Instant
    """When the bulk start began, by the platform's clock."""
    first_task_at: Instant | None = None
    """When the first of the slices' tasks was created, by the platform's clock; absent where none was."""
    adopted_tasks: tuple[PlatformId, ...] = ()
    """Tasks that the platform had already, from an identical request."""


class TaskPart(CertificatePart):
    """The platform's task for a slice, and its file."""

    task_id: PlatformId
    created_at: Instant
    """No state in the file is older than this, by the platform's clock."""
    adopted: bool
    """The platform had it already, from an identical request."""
    md5: Md5 | None = None
    """The platform's check code, which the file matched; absent where nothing happened on these days."""
    file_bytes: Natural
    """0 where there was no file, because nothing happened on these days."""


class CountsPart(CertificatePart):
    """lines = published + repaired + refused."""

    lines: Natural
    """Lines of the file, or ids of the lists."""
    published: Natural
    """Whole objects, for the writers."""
    repaired: Natural
    """Objects of which only the id was had: they were fetched by it."""
    refused: Natural
    """Lines that name no object. There are some only where the platform's list names every object instead."""


class BalancePart(CertificatePart):
    """counted + unlisted = objects, where the platform counts them."""

    objects: Natural
    """Distinct objects that were handed over, those fetched by id with them."""
    counted: Natural | None = None
    """How many the platform says there are; absent where it does not count them."""
    counted_at: Instant | None = None
    missing: Natural
    """Listed, and not in the file: fetched by id."""
    unlisted: Natural
    """In the file, and not listed."""


class SlicePart(CertificatePart):
    """Some days of one kind, had as one piece."""

    number: Natural
    """Grows within `slices`; a number is missing where a list took the place of an export."""
    kind: KindWord
    way: Literal["export", "list"]
    """From a file that the platform made, or from its lists and single calls."""
    first_day: date
    """Of orders the day of creation, of refunds the day of the last change (GMT+8), from this ..."""
    last_day: date
    """... up to and including this."""
    expected: Natural | None = None
    """How many objects the platform counted when the slices were cut; absent where it did not count."""
    task: TaskPart | None = None
    """Absent where it was listed."""
    counts: CountsPart
    balance: BalancePart
    digest: Digest
    """SHA-256 over the line `id modified` of each object; see the totals."""


class WindowPart(CertificatePart):
    """A window of the lists of changes, pulled after the slices: everything listed in it is stored."""

    kind: KindWord
    start: Instant
    end: Instant
    listed: Natural
    """How many objects the platform lists in it."""
    hinted: Natural
    """How many of these were missing or older in the copy, and were fetched."""
    proven_to: Instant | None = None
    """Up to when nothing of it can be missing any more, as lists are late; absent where that is nothing."""
    pulled_at: Instant


class PullPart(CertificatePart):
    """The pull after the slices: its windows join the slices to the time in which the seller is live."""

    seam: Instant
    """From here on the lists of changes take over: day zero's first second, less the overlap."""
    proven_to: Instant | None = None
    """Every change from the seam up to here is stored and published."""
    windows: tuple[WindowPart, ...]
    """Of each kind, oldest first; neighbours share their boundary second."""


class PushPart(CertificatePart):
    """The push connection that brings the seller's messages."""

    connected_at: Instant
    last_proof_at: Instant
    """The last moment at which it provably worked."""


class KindTotal(CertificatePart):
    """A kind's slices and windows, together."""

    kind: KindWord
    slices: Natural
    lines: Natural
    """The sum of the slices' lines."""
    objects: Natural
    """Distinct objects of all slices."""
    repeated: Natural
    """The sum of the slices' objects is larger by so many: they are in more than one slice."""
    digest: Digest
    """SHA-256 over a line for each object, by id: id, blank, `modified` in ISO 8601 with `+00:00`, line feed;
    in place of an unknown `modified` there is `-`."""
    listed: Natural
    """The sum of the windows' `listed`: what is in two windows counts twice."""
    hinted: Natural
    """The sum of the windows' `hinted`."""


class VersionsPart(CertificatePart):
    """What wrote the certificate."""

    code: PlainText
    """Of topsync."""
    schema_number: Natural
    """The number of the database's last migration."""


class SignaturePart(CertificatePart):
    """The signature over all of the document but `value`."""

    algorithm: Literal["Ed25519"]
    key_id: KeyId
    """The first 16 hexadecimal digits of the SHA-256 of the raw public key, of 32 bytes."""
    value: str
    """Base64, of 64 bytes."""


class Certificate(CertificatePart):
    """What a bulk start brought, with the numbers that must agree.

    It says which orders were created, and which refunds were changed, from the first day on, as far as the
    platform has shown them; each was stored and published when it was certified.
    """

    certificate: Literal[1]
    """The version of this document."""
    seller_id: PlatformId
    scheme: PlainText
    """How the seller's orders are had: `auto`, `three`, `two` or `one`."""
    listed_because: PlainText | None = None
    """Why orders of the past came from lists; absent where they came from exports."""
    day_zero: DayZero
    slices: tuple[SlicePart, ...]
    pull: PullPart
    push: PushPart | None = None
    """Absent in schemes without push, and where no connection was up."""
    totals: tuple[KindTotal, ...]
    """Of each kind that is kept, orders first."""
    versions: VersionsPart
    certified_at: Instant
    signature: SignaturePart | None = None
    """Absent where the installation has no key: then anybody may have written it."""


@dataclass(frozen=True, slots=True)
class WrittenCertificate:
    """A certificate as it was read, with the bytes that its signature is over.

    They come from the text itself, so that a signature protects what this release does not know as well.
    """

    content: Certificate
    signed: bytes


def canonical(value: object) -> bytes:
    """JSON in the one form that is signed; see the module."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def signed_bytes(written: Mapping[str, object]) -> bytes:
    """What the signature of a document is over: all of it but the signature's value."""
    signature = written.get("signature")
    if not isinstance(signature, Mapping):
        return canonical(written)
    named = {name: value for name, value in signature.items() if name != "value"}
    return canonical({**written, "signature": named})


def document(certificate: Certificate) -> dict[str, object]:
    """The document, as JSON that is not written yet; absent values are left out."""
    return certificate.model_dump(mode="json", exclude_none=True)


def write(certificate: Certificate) -> str:
    """The document in one line, in the form that is signed."""
    return canonical(document(certificate)).decode()


def read(text: str | bytes) -> WrittenCertificate:
    """Read a document in any layout.

    Raises:
        CertificateError: it is not JSON that reads in one way only, lacks something, or has another version.
    """
    if len(text) > MAX_DOCUMENT_BYTES:
        raise CertificateError(f"larger than {MAX_DOCUMENT_BYTES} bytes: no certificate is")
    try:
        written = json.loads(text, object_pairs_hook=_once, parse_float=_no_number, parse_constant=_no_number)
        signed = signed_bytes(written) if isinstance(written, dict) else b""
    except CertificateError:
        raise
    except (ValueError, RecursionError) as error:  # also text that is no UTF-8
        raise CertificateError(f"it is not JSON: {error}") from None
    if not isinstance(written, dict) or "certificate" not in written:
        raise CertificateError("it has no `certificate`: this is another document")
    if written["certificate"] != VERSION or type(written["certificate"]) is not int:
        raise CertificateError(
            f"it is a certificate of version {written['certificate']!r}, and this release reads version "
            f"{VERSION}: check it with a release of topsync that knows the other"
        )
    try:
        return WrittenCertificate(Certificate.model_validate(written), signed)
    except ValidationError as error:
        raise CertificateError(f"it is no certificate: {validation.problems(error)}") from None


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """An object whose names are all different: of two values, another reader may take the other."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise CertificateError("an object in it has a name twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise CertificateError(f"{text[:20]} in it is no integer")
