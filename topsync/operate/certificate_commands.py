"""The commands about certificates: a function per command, printing for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from schemas import certificate as document
from schemas.certificate import Certificate, CertificateError, WrittenCertificate
from topsync.base import certificate_key, settings, terminal
from topsync.base.certificate_key import PublicKey
from topsync.base.errors import OperatorError, reaching
from topsync.base.progress_bars import looking
from topsync.base.settings import CertificateSettings
from topsync.operate import certificate_tables, seller_commands
from topsync.store import bootstraps, certificates
from topsync.store.certificates import KeptCertificate
from topsync.store.database import Pool
from topsync.stream import topics
from topsync.verify import certificates as checks
from topsync.verify.certificates import CertificateCheck, CheckedAgainst
from topsync.verify.certified_rows import RowsCompared, compare_table, compare_topic
from topsync.wiring import parts

MAX_KEY_BYTES = 64 * 1024
"""A public key has a hundred characters."""


class CertificateCommandError(OperatorError):
    """A command about certificates cannot be carried out."""


@dataclass(frozen=True, slots=True)
class AskedChecks:
    """What a certificate is to be checked against, as typed."""

    document_only: bool = False
    table: bool = False
    topic: bool = False
    may_be_unsigned: bool = False

    def against_table(self, *, of_file: bool) -> bool:
        """Whether the table is looked at: by default, where a seller was named."""
        return self.table or not (of_file or self.document_only or self.topic)


async def show(name: str, *, every: bool, as_json: bool) -> None:
    """Show a seller's last certificate, or all of them, the oldest first."""
    async with parts.open_pool() as pool:
        kept = await _kept(pool, name, every=every)
    if as_json:
        for each in kept:
            terminal.write_json(orjson.loads(each.document))
        return
    keys = _keys(())
    for each in kept:
        written = _read(each.document, f"the certificate of {each.certified_at}")
        for table in certificate_tables.of_certificate(written, keys):
            terminal.show(table)
            terminal.say("")
        terminal.say(*certificate_tables.equations(written.content))


async def verify(target: str, asked: AskedChecks, public_keys: Sequence[Path], *, as_json: bool) -> int:
    """Check a seller's last certificate, or the one in a file; 0 where nothing is wrong, otherwise 1."""
    keys = _keys(public_keys)
    of_file = _of_file(target)
    if of_file is None:
        async with parts.open_pool() as pool:
            written = await _last(pool, target)
    else:
        written = of_file
    found = [checks.of_document(written, keys, may_be_unsigned=asked.may_be_unsigned)]
    against_table = asked.against_table(of_file=of_file is not None)
    if against_table or asked.topic:
        async with parts.open_pool() as pool:
            bootstrap = await bootstraps.get(pool, written.content.seller_id)
            why = checks.superseded(written.content, bootstrap)
            if against_table:
                found.append(await _against_table(pool, written.content, why))
            if asked.topic:
                found.append(await _against_topic(pool, written.content, why))
    if as_json:
        terminal.write_json(certificate_tables.checks_document(written.content, found))
    else:
        _print_checks(written, found)
    return 1 if any(check.problems for check in found) else 0


def print_key(*, new: bool) -> None:
    """Print the public key and, apart from it, its id; or a fresh private key, and nothing else."""
    if new:
        terminal.write(certificate_key.new())
        return
    key = certificate_key.configured(settings.load(CertificateSettings))
    if key is None:
        raise CertificateCommandError(
            "TOPSYNC_CERTIFICATE_KEY is not set: certificates are not signed. `topsync certificate key "
            "--new` prints a key for the secret store"
        )
    terminal.write(key.public.pem)
    terminal.complain(f"key id {key.public.id}")


async def _kept(pool: Pool, name: str, *, every: bool) -> list[KeptCertificate]:
    seller = await seller_commands.find(pool, name)
    if every:
        found = await certificates.all_of(pool, seller.seller_id)
    else:
        last = await certificates.last(pool, seller.seller_id)
        found = [] if last is None else [last]
    if not found:
        raise CertificateCommandError(
            f"{seller.name} has no certificate: no bulk start of it came to its end. Run `topsync bootstrap "
            f"--seller {seller.seller_id}`"
        )
    return found


def _of_file(target: str) -> WrittenCertificate | None:
    """The certificate in a file; None where a seller is meant."""
    path = Path(target)
    if path.is_file():
        return _read(_bytes_of(path, document.MAX_DOCUMENT_BYTES + 1), target)
    if "/" in target:
        raise CertificateCommandError(f"there is no file {target}")
    return None


async def _last(pool: Pool, name: str) -> WrittenCertificate:
    (kept,) = await _kept(pool, name, every=False)
    return _read(kept.document, f"the certificate of {kept.certified_at}")


async def _against_table(pool: Pool, certificate: Certificate, why_not: str | None) -> CertificateCheck:
    if why_not is not None:
        return checks.not_compared(CheckedAgainst.TABLE, why_not)
    compared = []
    for kind in checks.kinds(certificate):
        with looking(f"{kind.plural} in the table") as progress:
            compared.append(await compare_table(pool, certificate, kind, progress=progress))
    return checks.of_rows(CheckedAgainst.TABLE, compared)


async def _against_topic(pool: Pool, certificate: Certificate, why_not: str | None) -> CertificateCheck:
    if why_not is not None:
        return checks.not_compared(CheckedAgainst.TOPIC, why_not)
    kafka, registry = await parts.open_topics()
    compared: list[RowsCompared] = []
    with reaching(topics.SERVER, topics.OUTAGES):
        for kind in checks.kinds(certificate):
            with looking(f"topic {kind.plural}") as progress:
                compared.append(
                    await compare_topic(pool, kafka, registry, certificate, kind, progress=progress)
                )
    return checks.of_rows(CheckedAgainst.TOPIC, compared)


def _print_checks(written: WrittenCertificate, found: Sequence[CertificateCheck]) -> None:
    terminal.say(certificate_tables.title(written.content))
    for check in found:
        terminal.say("", f"{check.against.value}: {'WRONG' if check.problems else 'right'}")
        terminal.say(*(f"  ! {problem}" for problem in check.problems))
        if check.compared:
            terminal.show(certificate_tables.of_fates(check.compared))
        if check.against is CheckedAgainst.DOCUMENT and written.content.signature is None:
            terminal.say(f"  NOT SIGNED: {checks.UNSIGNED}")
        if not check.problems:
            terminal.say(*_indented(f"proves {check.meaning.proves}"))
        terminal.say(*_indented(f"leaves open {check.meaning.leaves_open}"))


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in terminal.filled(text, indent=2)]


def _keys(paths: Sequence[Path]) -> Mapping[str, PublicKey]:
    """The public keys to trust: those in the files, or without any that of the settings."""
    if paths:
        return certificate_key.by_id(_public_key(path) for path in paths)
    own = certificate_key.configured(settings.load(CertificateSettings))
    return certificate_key.by_id([] if own is None else [own.public])


def _public_key(path: Path) -> PublicKey:
    text = _bytes_of(path, MAX_KEY_BYTES)
    try:
        return certificate_key.read_public(text)
    except certificate_key.PublicKeyError as error:
        raise CertificateCommandError(f"{path}: {error}") from None


def _read(text: str | bytes, what: str) -> WrittenCertificate:
    try:
        return document.read(text)
    except CertificateError as error:
        raise CertificateCommandError(f"{what}: {error}") from None


def _bytes_of(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise CertificateCommandError(f"{path}: {error.strerror}") from None
