"""Checks a certificate: its document alone, against the table, and against the compacted topics.

Each check says what it proves and what it leaves open, so that nobody takes one for another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from schemas import platform_time
from schemas.certificate import Certificate, WrittenCertificate
from topsync.base import certificate_key
from topsync.base.certificate_key import PublicKey, SignatureState
from topsync.model import equations
from topsync.model.kind import Kind
from topsync.store.bootstraps import Bootstrap, BootstrapStep
from topsync.verify.certified_rows import RowsCompared


class CheckedAgainst(StrEnum):
    """What a certificate is checked against."""

    DOCUMENT = "document"
    """Itself alone."""
    TABLE = "table"
    TOPIC = "topic"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a check is worth."""

    proves: str
    leaves_open: str


OF_UNSIGNED: Final = Meaning(
    "that its counts, days and times agree with each other",
    "who wrote it, whether it was changed, whether the numbers were true, and whether the orders are still "
    "there",
)

MEANINGS: Final[Mapping[CheckedAgainst, Meaning]] = {
    CheckedAgainst.DOCUMENT: Meaning(
        "that whoever has the private key wrote exactly this, and that its counts, days and times agree with "
        "each other",
        "whether the numbers were true, and whether the orders are still there",
    ),
    CheckedAgainst.TABLE: Meaning(
        "that the rows of the slices are those of the certificate, and that the table has each of them in "
        "the certified state or a newer one, and has published it",
        "whether the topic still has it, and what an order that changed since is like on the platform",
    ),
    CheckedAgainst.TOPIC: Meaning(
        "that a subscriber who reads the compacted topics from their start finds each certified order and "
        "refund in the certified state or a newer one",
        "whether the table has the same, and what an order that changed since is like on the platform",
    ),
}


@dataclass(frozen=True, slots=True)
class CertificateCheck:
    """What a check of a certificate found."""

    against: CheckedAgainst
    problems: Sequence[str]
    """Sentences; empty where all is right."""
    meaning: Meaning
    """What it is worth, where it found nothing."""
    compared: Sequence[RowsCompared] = ()
    """Of each kind, what became of its objects; none for the document alone."""


def of_document(
    written: WrittenCertificate, keys: Mapping[str, PublicKey], *, may_be_unsigned: bool
) -> CertificateCheck:
    """Check signature and equations; `keys` are the public keys that are trusted, by their ids."""
    problems = signature_problems(written, keys, may_be_unsigned=may_be_unsigned)
    meaning = OF_UNSIGNED if written.content.signature is None else MEANINGS[CheckedAgainst.DOCUMENT]
    return CertificateCheck(
        CheckedAgainst.DOCUMENT, [*problems, *equations.problems(written.content)], meaning
    )


def signature_problems(
    written: WrittenCertificate, keys: Mapping[str, PublicKey], *, may_be_unsigned: bool
) -> list[str]:
    """What is wrong with the signature; empty where it is right."""
    signature = written.content.signature
    match certificate_key.check(written, keys):
        case SignatureState.RIGHT:
            return []
        case SignatureState.ABSENT:
            return [] if may_be_unsigned else [f"it is NOT SIGNED: {UNSIGNED}"]
        case SignatureState.WRONG:
            return ["its signature is WRONG: it is not as it was signed"]
        case SignatureState.UNKNOWN_KEY:
            assert signature is not None
            have = f"there are only {', '.join(sorted(keys))}" if keys else "there is no key to check it with"
            return [f"it is signed with the key {signature.key_id}, and {have}: hand in its public key"]


UNSIGNED: Final = "anybody could have written it, and nothing would show a change"


def of_rows(against: CheckedAgainst, compared: Sequence[RowsCompared]) -> CertificateCheck:
    """What a comparison of the rows says."""
    problems = [problem for each in compared for problem in each.problems]
    return CertificateCheck(against, problems, MEANINGS[against], compared)


def superseded(certificate: Certificate, bootstrap: Bootstrap | None) -> str | None:
    """Why its rows are not there to be compared, as far as a later bulk start explains it; otherwise None."""
    if bootstrap is None or bootstrap.started_at <= certificate.certified_at:
        return None
    began = f"a bulk start that began at {platform_time.format(bootstrap.started_at)} (GMT+8)"
    if bootstrap.step is BootstrapStep.LIVE:
        return f"{began} has rows of its own: verify its certificate"
    return (
        f"{began} is under way and replaces the rows: verify its certificate when there is one (`topsync "
        "bootstrap status`)"
    )


def not_compared(against: CheckedAgainst, why: str) -> CertificateCheck:
    """A check that could not be made."""
    return CertificateCheck(against, [why], MEANINGS[against])


def kinds(certificate: Certificate) -> list[Kind]:
    """The kinds that a certificate speaks of."""
    return [Kind(total.kind) for total in certificate.totals]
