"""`topsync certificate`: shown and checked, with a database, with a file alone, and against the topics."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from schemas import certificate as document
from schemas import platform_time
from tests.store.databases import at, emptied
from tests.stream.clusters import create_topics
from tests.support.certificates import LISTED, SELLER, START, keep_rows
from topsync.base import certificate_key, settings, telemetry
from topsync.base.certificate_key import CertificateKey
from topsync.base.errors import OperatorError
from topsync.base.settings import CertificateSettings, KafkaSettings
from topsync.model.certificate import CertifiedStart, certificate
from topsync.model.scheme import Scheme
from topsync.operate import certificate_commands, cli
from topsync.operate.certificate_commands import AskedChecks
from topsync.store import bootstraps, certificates
from topsync.store.database import Pool

PEM, OTHER_PEM = certificate_key.new(), certificate_key.new()


def key_of(pem: str) -> CertificateKey:
    found = certificate_key.configured(CertificateSettings.model_validate({"certificate_key": pem}))
    assert found is not None
    return found


def signed(start: CertifiedStart = START, pem: str = PEM) -> str:
    return document.write(certificate_key.sign(certificate(start), key_of(pem)))


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in settings.ALL:
        for name in cls.model_fields:
            monkeypatch.delenv(settings.variable(cls, name), raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TOPSYNC_CERTIFICATE_KEY", PEM)


@pytest.fixture
async def pool(migrated_database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    """The database for checks; the commands take everything from the environment."""
    monkeypatch.setenv("TOPSYNC_DATABASE_URL", migrated_database_url)
    async with emptied(migrated_database_url) as pool:
        yield pool


async def keep(pool: Pool, text: str, second: float = 1) -> None:
    async with pool.acquire() as connection:
        await certificates.write(connection, SELLER, certified_at=at(second), document=text)


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """What the entry point does: status, output, errors."""
    monkeypatch.setattr(sys, "argv", ["topsync", "certificate", *arguments])
    monkeypatch.setattr(telemetry, "configure_logging", lambda *_, **__: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    written = capsys.readouterr()
    return int(ended.value.code or 0), written.out, written.err


async def test_a_certificate_is_shown_with_its_slices_and_its_equations_written_out(
    pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await keep(pool, signed())
    await certificate_commands.show(str(SELLER), every=False, as_json=False)
    shown = capsys.readouterr().out
    for said in (
        "2025-11-11 up to day zero, 2025-11-20, fixed by the start",
        f"right, by the key {key_of(PEM).public.id}",
        "9002 adopted",
        "orders: 5 lines = 4 published + 1 repaired + 0 refused",
        "orders: 2 counted by the platform + 1 unlisted = 3 objects of 2 slices, 1 of them fetched by id",
        "orders: 4 objects + 1 in two slices = 5 objects of 3 slices",
        "refunds: 2 lines = 0 published + 2 repaired + 0 refused",
        START.slices[0].digest[:12] if START.slices[0].digest else "",
    ):
        assert said in shown, shown


async def test_the_document_is_printed_as_it_was_signed_and_with_all_of_them_one_a_line(
    pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = signed(LISTED), signed()
    await keep(pool, first, 1)
    await keep(pool, second, 2)
    await certificate_commands.show(str(SELLER), every=False, as_json=True)
    assert document.read(capsys.readouterr().out) == document.read(second)
    await certificate_commands.show("demo_one", every=True, as_json=True)
    lines = capsys.readouterr().out.splitlines()
    assert [document.read(line) for line in lines] == [document.read(first), document.read(second)]


async def test_a_seller_without_a_certificate_is_one_line_that_says_what_to_run(pool: Pool) -> None:
    for call in (
        certificate_commands.show(str(SELLER), every=False, as_json=False),
        certificate_commands.verify(str(SELLER), AskedChecks(), (), as_json=False),
    ):
        with pytest.raises(OperatorError, match=f"no certificate.*topsync bootstrap --seller {SELLER}"):
            await call


async def test_a_seller_is_checked_against_the_table_unless_the_document_alone_is_wanted(
    pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await keep(pool, signed())
    await keep_rows(pool)
    assert await certificate_commands.verify(str(SELLER), AskedChecks(), (), as_json=False) == 1
    said = capsys.readouterr().out
    assert "document: right" in said
    assert "table: WRONG" in said
    assert "4 orders are missing in the table" in said
    assert "leaves open whether the topic still has it" in said
    alone = AskedChecks(document_only=True)
    assert await certificate_commands.verify(str(SELLER), alone, (), as_json=False) == 0
    said = capsys.readouterr().out
    assert "table:" not in said
    assert "proves that whoever has the private key wrote exactly this" in said


async def test_the_checks_are_a_document_for_machines(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    await keep(pool, signed())
    await keep_rows(pool)
    assert await certificate_commands.verify(str(SELLER), AskedChecks(), (), as_json=True) == 1
    found = orjson.loads(capsys.readouterr().out)
    assert (found["seller_id"], found["key_id"], found["right"]) == (
        str(SELLER),
        key_of(PEM).public.id,
        False,
    )
    of_document, of_table = found["checks"]
    assert (of_document["against"], of_document["right"], of_document["problems"]) == ("document", True, [])
    assert (of_table["against"], of_table["right"]) == ("table", False)
    assert of_table["objects"]["orders"] == dict.fromkeys(of_table["objects"]["orders"], 0) | {"missing": 4}


async def test_a_certificate_is_checked_against_the_topics(
    pool: Pool, kafka_of_commands: KafkaSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    await create_topics(kafka_of_commands)
    await keep(pool, signed())
    await keep_rows(pool)
    asked = AskedChecks(topic=True)
    assert await certificate_commands.verify(str(SELLER), asked, (), as_json=False) == 1
    said = capsys.readouterr().out
    assert "2 refunds are missing in the topic" in said
    assert "table:" not in said


async def test_rows_that_a_later_bulk_start_replaces_are_not_called_missing(
    pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await keep(pool, signed())
    began = START.certified_at + timedelta(days=1)
    day = platform_time.day_of(began)
    await bootstraps.begin(pool, SELLER, scheme=Scheme.AUTO, first_day=day, day_zero=day, at=began)
    assert await certificate_commands.verify(str(SELLER), AskedChecks(), (), as_json=False) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"began at {platform_time.format(began)} (GMT+8) is under way and replaces the rows" in said
    assert "missing" not in said
    await pool.execute("update bootstraps set state = 'live'")
    assert await certificate_commands.verify(str(SELLER), AskedChecks(), (), as_json=False) == 1
    assert "has rows of its own: verify its certificate" in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "certificate.json").write_text(signed(), "utf-8")
    (tmp_path / "public.pem").write_text(key_of(PEM).public.pem)
    (tmp_path / "other.pem").write_text(key_of(OTHER_PEM).public.pem)
    return tmp_path / "certificate.json"


def test_a_file_is_checked_without_database_and_kafka(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said, _ = run(monkeypatch, capsys, "verify", str(file))
    assert status == 0, said
    file.write_text(file.read_text("utf-8").replace('"lines":3', '"lines":4'), "utf-8")
    status, said, _ = run(monkeypatch, capsys, "verify", str(file), "--document-only")
    assert status == 1
    assert "its signature is WRONG" in said
    assert "slice 0: 4 lines are not 2 published + 1 repaired + 0 refused" in said
    assert "proves" not in said


def test_a_key_that_is_not_here_is_named_and_a_former_one_may_be_handed_in(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = f"signed with the key {key_of(PEM).public.id}"
    monkeypatch.setenv("TOPSYNC_CERTIFICATE_KEY", OTHER_PEM)
    status, said, _ = run(monkeypatch, capsys, "verify", str(file))
    assert (status, needed in said) == (1, True)
    assert key_of(OTHER_PEM).public.id in said
    monkeypatch.delenv("TOPSYNC_CERTIFICATE_KEY")
    status, said, _ = run(monkeypatch, capsys, "verify", str(file))
    assert (status, "there is no key to check it with" in said) == (1, True)
    keys = [f"--public-key={file.parent / name}" for name in ("other.pem", "public.pem")]
    assert run(monkeypatch, capsys, "verify", str(file), *keys)[0] == 0


def test_what_is_not_signed_is_wrong_unless_that_is_wanted(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(document.write(certificate(START)), "utf-8")
    status, said, _ = run(monkeypatch, capsys, "verify", str(file))
    assert (status, "it is NOT SIGNED: anybody could have written it" in said) == (1, True)
    status, said, _ = run(monkeypatch, capsys, "verify", str(file), "--unsigned")
    assert (status, "NOT SIGNED" in said) == (0, True)
    assert "whoever has the private key" not in said


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (("verify", "no/such/file.json"), 1, "there is no file no/such/file.json"),
        (("verify", "certificate.json", "--public-key", "certificate.json"), 1, "no Ed25519 public key"),
        (("verify", "certificate.json", "--public-key", "gone.pem"), 1, "gone.pem: No such file"),
        (("verify", "public.pem"), 1, "public.pem: it is not JSON"),
        (("verify", "certificate.json", "--document-only", "--table"), 2, "goes without --table"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    status: int,
    complaint: str,
) -> None:
    monkeypatch.chdir(file.parent)
    ended, _, errors = run(monkeypatch, capsys, *arguments)
    assert (ended, complaint in errors) == (status, True), errors


def test_the_keys_are_printed_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, printed, beside = run(monkeypatch, capsys, "key")
    assert (status, printed, beside) == (0, key_of(PEM).public.pem, f"key id {key_of(PEM).public.id}\n")
    status, printed, beside = run(monkeypatch, capsys, "key", "--new")
    assert (status, beside) == (0, "")
    assert key_of(printed).public.id != key_of(PEM).public.id
    monkeypatch.delenv("TOPSYNC_CERTIFICATE_KEY")
    status, printed, beside = run(monkeypatch, capsys, "key")
    assert (status, printed) == (1, "")
    assert "topsync certificate key --new" in beside
    monkeypatch.setenv("TOPSYNC_CERTIFICATE_KEY", "not-a-key-at-all")
    status, _, beside = run(monkeypatch, capsys, "key")
    assert (status, "not-a-key" in beside) == (2, False)
