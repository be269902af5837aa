"""Certificates as tables for people, and their checks as a document for machines. No I/O.

Times and days are shown in GMT+8; in documents for machines times are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from schemas import platform_time
from schemas.certificate import Certificate, KindTotal, SlicePart, WrittenCertificate
from topsync.base import certificate_key
from topsync.base.certificate_key import PublicKey, SignatureState
from topsync.base.terminal import Cell, Column, Styled, Table, facts
from topsync.model.kind import Kind
from topsync.verify.certificates import CertificateCheck
from topsync.verify.certified_rows import RowFate, RowsCompared

DIGEST_CHARACTERS: Final = 12
"""Enough to compare two by eye."""

Document = dict[str, object]


def title(certificate: Certificate) -> str:
    """Which certificate it is."""
    return f"Certificate of seller {certificate.seller_id}, of {_time(certificate.certified_at)} (GMT+8)"


def of_certificate(written: WrittenCertificate, keys: Mapping[str, PublicKey]) -> list[Table]:
    """What it says; `keys` are those that its signature is checked with."""
    return [_facts(written, keys), _slices(written.content.slices)]


def _facts(written: WrittenCertificate, keys: Mapping[str, PublicKey]) -> Table:
    certificate = written.content
    zero, pull, push = certificate.day_zero, certificate.pull, certificate.push
    table = facts(title(certificate))
    table.add("scheme", certificate.scheme)
    if certificate.listed_because is not None:
        table.add("past from lists", certificate.listed_because)
    table.add("days", f"{zero.first_day} up to day zero, {zero.day}, fixed by the {zero.fixed_by}")
    table.add("begun", _time(zero.started_at))
    if zero.first_task_at is not None:
        table.add("first task", _time(zero.first_task_at))
    if zero.adopted_tasks:
        table.add("adopted tasks", ", ".join(map(str, zero.adopted_tasks)))
    proven_to = "nothing proven yet" if pull.proven_to is None else f"proven up to {_time(pull.proven_to)}"
    table.add("pull", f"{len(pull.windows)} windows from {_time(pull.seam)} on, {proven_to}")
    table.add(
        "push",
        "none"
        if push is None
        else f"connected {_time(push.connected_at)}, worked at {_time(push.last_proof_at)}",
    )
    for total in certificate.totals:
        table.add(f"digest of {Kind(total.kind).plural}", total.digest)
    table.add(
        "written by", f"topsync {certificate.versions.code}, schema {certificate.versions.schema_number}"
    )
    table.add("signature", _signature(written, keys))
    return table


def _signature(written: WrittenCertificate, keys: Mapping[str, PublicKey]) -> Cell:
    signature = written.content.signature
    match certificate_key.check(written, keys):
        case SignatureState.ABSENT:
            return Styled("NOT SIGNED", "bold red")
        case SignatureState.WRONG:
            return Styled("WRONG: it is not as it was signed", "bold red")
        case SignatureState.UNKNOWN_KEY:
            assert signature is not None
            return Styled(f"by the key {signature.key_id}, which is not here: not checked", "yellow")
        case SignatureState.RIGHT:
            assert signature is not None
            return Styled(f"right, by the key {signature.key_id}", "green")


def _slices(slices: Sequence[SlicePart]) -> Table:
    table = Table(
        (
            Column("slice", whole=True),
            Column("kind", whole=True),
            Column("way", whole=True, rank=3),
            Column("from", whole=True),
            Column("to", whole=True),
            Column("task", whole=True, rank=6),
            Column("lines", whole=True, rank=2),
            Column("repaired", whole=True, rank=4),
            Column("counted", whole=True, rank=1),
            Column("unlisted", whole=True, rank=5),
            Column("objects", whole=True),
            Column("digest", whole=True, rank=7),
        ),
        title="Slices (days of the platform, both included)",
    )
    for each in slices:
        counted = each.balance.counted
        table.add(
            str(each.number),
            each.kind,
            each.way,
            str(each.first_day),
            str(each.last_day),
            "" if each.task is None else f"{each.task.task_id}{' adopted' if each.task.adopted else ''}",
            str(each.counts.lines),
            str(each.counts.repaired),
            "not" if counted is None else str(counted),
            str(each.balance.unlisted),
            str(each.balance.objects),
            each.digest[:DIGEST_CHARACTERS],
        )
    return table


def equations(certificate: Certificate) -> list[str]:
    """The row-count equation of each kind, written out over all its slices."""
    return [line for total in certificate.totals for line in _equation(certificate, total)]


def _equation(certificate: Certificate, total: KindTotal) -> list[str]:
    slices = [each for each in certificate.slices if each.kind == total.kind]
    plural = Kind(total.kind).plural
    counts = [each.counts for each in slices]
    lines = (
        f"{plural}: {total.lines} lines = {sum(each.published for each in counts)} published + "
        f"{sum(each.repaired for each in counts)} repaired + {sum(each.refused for each in counts)} refused"
    )
    balances = [each.balance for each in slices if each.balance.counted is not None]
    objects = (
        f"{plural}: {total.objects} objects + {total.repeated} in two slices = "
        f"{sum(each.balance.objects for each in slices)} objects of {total.slices} slices"
    )
    if not balances:
        return [lines, objects]
    counted = (
        f"{plural}: {sum(each.counted or 0 for each in balances)} counted by the platform + "
        f"{sum(each.unlisted for each in balances)} unlisted = {sum(each.objects for each in balances)} "
        f"objects of {len(balances)} slices, {sum(each.missing for each in balances)} of them fetched by id "
        "because the file lacked them"
    )
    return [lines, counted, objects]


def of_fates(compared: Sequence[RowsCompared]) -> Table:
    """What has become of the certified objects."""
    table = Table(
        (
            Column("", whole=True),
            *(Column(how.value, whole=True, rank=0 if how.is_problem else 1) for how in RowFate),
        )
    )
    for each in compared:
        table.add(
            each.kind.plural,
            *(
                Styled(str(each.fates[how]), "bold red")
                if how.is_problem and each.fates[how]
                else str(each.fates[how])
                for how in RowFate
            ),
        )
    return table


def checks_document(certificate: Certificate, found: Sequence[CertificateCheck]) -> Document:
    """The checks for machines. The keys are a contract (docs/reference/certificate.md)."""
    signature = certificate.signature
    return {
        "seller_id": str(certificate.seller_id),
        "certified_at": certificate.certified_at,
        "key_id": None if signature is None else signature.key_id,
        "right": not any(check.problems for check in found),
        "checks": [
            {
                "against": check.against.value,
                "right": not check.problems,
                "problems": list(check.problems),
                "proves": check.meaning.proves,
                "leaves_open": check.meaning.leaves_open,
                "objects": {
                    each.kind.plural: {how.value: each.fates[how] for how in RowFate}
                    for each in check.compared
                },
            }
            for check in found
        ],
    }


def _time(moment: datetime) -> str:
    return platform_time.format(moment)
