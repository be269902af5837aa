"""A certificate: what is written is right, and nothing in it can be changed without being noticed."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from schemas import certificate as document
from schemas import events, json_schema
from schemas.certificate import Certificate, CertificateError
from schemas.types import parse_instant, write_instant
from tests.support import certificates, pages
from topsync.base import certificate_key
from topsync.base.certificate_key import SignatureState
from topsync.base.settings import CertificateSettings, SettingsError
from topsync.model import equations
from topsync.model.certificate import CertifiedStart, certificate
from topsync.model.row_digest import NumberedRow, RowDigest, RowSums

Path_ = tuple[str | int, ...]


def key_of(text: str) -> certificate_key.CertificateKey:
    found = certificate_key.configured(CertificateSettings.model_validate({"certificate_key": text}))
    assert found is not None
    return found


KEY = key_of(certificate_key.new())
KEYS = certificate_key.by_id([KEY.public])
STARTS = {
    "exported": certificates.START,
    "listed": certificates.LISTED,
    "older task": certificates.OLDER_TASK,
}
each_start = pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)


def signed(start: CertifiedStart) -> Certificate:
    return certificate_key.sign(certificate(start), KEY)


def leaves(value: object, path: Path_ = ()) -> Iterator[Path_]:
    """The path to each value that is no object and no array."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from leaves(inner, (*path, at))
    else:
        yield path


def place_of(written: Any, path: Path_) -> Any:
    for step in path[:-1]:
        written = written[step]
    return written


def other_values(value: object) -> list[object]:
    """Other values of the same form, near and far."""
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1, *([value - 1] if value else [])]
        case str() if len(value) == len("2025-11-20") and value.count("-") == 2:
            return [(date.fromisoformat(value) + timedelta(days=days)).isoformat() for days in (-1, 1)]
        case str() if value.endswith("Z"):
            moved = (
                parse_instant(value) + timedelta(seconds=seconds) for seconds in (-1, 1, -40_000, 40_000)
            )
            return [write_instant(moment) for moment in moved]
        case str():
            words = {"order", "refund"} | {"export", "list"} | {"start", "task"}
            pair = next((pair for pair in WORDS if value in pair), None)
            if pair is not None:
                return [word for word in pair if word != value]
            assert value not in words
            last = "0" if value[-1] != "0" else "1"
            return [value[:-1] + last]
    raise AssertionError(f"{value!r} is of no form that a certificate has")


WORDS = (("order", "refund"), ("export", "list"), ("start", "task"), ("three", "auto", "two", "one"))


def forgeries(written: dict[str, Any]) -> Iterator[tuple[Path_, str]]:
    """The document with a single value changed, or left out, for each value in it."""
    for path in leaves(written):
        for other in other_values(place_of(written, path)[path[-1]]):
            changed = copy.deepcopy(written)
            place_of(changed, path)[path[-1]] = other
            yield path, json.dumps(changed)
        changed = copy.deepcopy(written)
        del place_of(changed, path)[path[-1]]
        yield path, json.dumps(changed)


@each_start
def test_a_certificate_of_a_real_start_is_right(start: CertifiedStart) -> None:
    made = signed(start)
    text = document.write(made)
    read = document.read(text)
    assert read.content == made
    assert certificate_key.check(read, KEYS) is SignatureState.RIGHT
    assert equations.problems(read.content) == []
    Draft7Validator(json_schema.of(Certificate, events.CERTIFICATE_SCHEMA)).validate(json.loads(text))


def test_layout_and_escapes_make_no_difference_to_the_signature() -> None:
    written = json.loads(document.write(signed(certificates.LISTED)))
    text = json.dumps(dict(reversed(written.items())), indent=3, ensure_ascii=True)
    assert certificate_key.check(document.read(text), KEYS) is SignatureState.RIGHT


@each_start
def test_the_signature_shows_each_value_that_was_changed_or_left_out(start: CertifiedStart) -> None:
    written = json.loads(document.write(signed(start)))
    tried = 0
    for path, text in forgeries(written):
        tried += 1
        try:
            read = document.read(text)
        except CertificateError:
            continue
        assert certificate_key.check(read, KEYS) is not SignatureState.RIGHT, path
    assert tried > 300


def test_the_signature_covers_what_this_release_does_not_know() -> None:
    made = json.loads(document.write(signed(certificates.START)))
    made["slices"][0]["note"] = "added"
    assert certificate_key.check(document.read(json.dumps(made)), KEYS) is SignatureState.WRONG


def name_of(path: Path_) -> str:
    """A path as the page names it."""
    return "".join("[]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def test_what_is_forged_and_signed_is_caught_by_the_equations_but_for_what_the_page_lists() -> None:
    """By someone who has the key, or in a document without a signature."""
    passed: set[str] = set()
    for start in STARTS.values():
        for path, text in forgeries(json.loads(document.write(certificate(start)))):
            try:
                made = document.read(text).content
            except CertificateError:
                continue
            if not equations.problems(made):
                passed.add(name_of(path))
    page = pages.read("docs/reference/certificate.md")
    _, _, table = page.partition("## What only the signature protects")
    listed = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
    assert passed == listed


Change = tuple[CertifiedStart, dict[str, object], str]
EXPORTED, LISTED = certificates.START, certificates.LISTED
NOTHING = hashlib.sha256(b"").hexdigest()
FORGED: dict[str, Change] = {
    "a line went nowhere": (EXPORTED, {"slices.0.counts.lines": 4}, "4 lines are not 2 published"),
    "a line was refused": (
        EXPORTED,
        {
            "slices.0.counts.refused": 1,
            "slices.0.counts.repaired": 0,
            "slices.0.balance.counted": None,
        },
        "1 lines name no order",
    ),
    "an order is missing": (
        EXPORTED,
        {"slices.0.balance.counted": 5},
        "5 counted + 1 unlisted are not 3 objects",
    ),
    "counted at no time": (EXPORTED, {"slices.0.balance.counted_at": None}, "does not say when"),
    "counted long before": (
        EXPORTED,
        {"slices.0.balance.counted_at": "2025-11-19T03:00:00Z"},
        "not between start and certificate",
    ),
    "more missing than counted": (
        EXPORTED,
        {"slices.0.balance.missing": 3},
        "3 of 2 counted objects are missing",
    ),
    "missing without a count": (EXPORTED, {"slices.2.balance.missing": 1}, "it was not counted"),
    "objects from nowhere": (
        EXPORTED,
        {"slices.2.balance.objects": 3},
        "3 objects cannot come from 2 lines",
    ),
    "lines without objects": (
        EXPORTED,
        {"slices.2.balance.objects": 0},
        "0 objects cannot come from 2 lines",
    ),
    "a slice's digest of nothing": (
        EXPORTED,
        {"slices.0.digest": NOTHING},
        "its digest is not of 3 objects",
    ),
    "a slice elsewhere": (EXPORTED, {"slices.1.number": 0}, "slice 0 comes behind slice 0"),
    "a day is missing": (EXPORTED, {"slices.1.first_day": "2025-11-17"}, "is a hole or an overlap"),
    "a day is there twice": (EXPORTED, {"slices.0.last_day": "2025-11-16"}, "is a hole or an overlap"),
    "a slice of less than a day": (
        EXPORTED,
        {"slices.1.last_day": "2025-11-15"},
        "it ends on 2025-11-15, before it begins",
    ),
    "the slices begin late": (
        EXPORTED,
        {"slices.0.first_day": "2025-11-12"},
        "orders: the slices begin on 2025-11-12",
    ),
    "the refunds end early": (
        EXPORTED,
        {"slices.4.last_day": "2025-11-18"},
        "refunds: the slices end on 2025-11-18",
    ),
    "the refunds are left out": (
        EXPORTED,
        {"slices": document.document(certificate(EXPORTED))["slices"][:3]},  # type: ignore[index]
        "no slice has the refunds from 2025-11-11 on",
    ),
    "whole objects of a list": (
        LISTED,
        {"slices.0.counts.published": 1},
        "lists bring only ids, and 1 lines are whole objects",
    ),
    "an export without a task": (EXPORTED, {"slices.0.task": None}, "has a task exactly when"),
    "lines of no file": (
        EXPORTED,
        {"slices.2.task.file_bytes": 0, "slices.2.task.md5": None},
        "2 lines of no file",
    ),
    "a file that was never vouched for": (EXPORTED, {"slices.0.task.md5": None}, "both or neither"),
    "a task older than the start": (
        EXPORTED,
        {"slices.0.task.created_at": "2025-11-20T00:30:00Z"},
        "older than the start, and not adopted",
    ),
    "a task younger than the certificate": (
        EXPORTED,
        {"slices.0.task.created_at": "2025-11-20T09:00:00Z"},
        "younger than the certificate",
    ),
    "a first task at another time": (EXPORTED, {"day_zero.first_task_at": None}, "first_task_at is None"),
    "another day zero": (
        EXPORTED,
        {"day_zero.day": "2025-11-19"},
        "start and tasks fix it to 2025-11-20",
    ),
    "fixed otherwise": (EXPORTED, {"day_zero.fixed_by": "task"}, "day zero is not fixed by the task"),
    "an adoption that is kept quiet": (EXPORTED, {"day_zero.adopted_tasks": []}, "adopted_tasks are []"),
    "no day before day zero": (
        EXPORTED,
        {"day_zero.first_day": "2025-11-20"},
        "the first day 2025-11-20 is not before",
    ),
    "certified before it began": (EXPORTED, {"certified_at": "2025-11-19T03:00:00Z"}, "before it began"),
    "an unknown scheme": (EXPORTED, {"scheme": "four"}, "'four' is no scheme"),
    "exports in scheme one": (EXPORTED, {"scheme": "one"}, "which scheme one does not have"),
    "lists in scheme three": (LISTED, {"scheme": "three"}, "which scheme three does not allow"),
    "lists without a reason": (LISTED, {"listed_because": None}, "listed_because is there exactly"),
    "push in scheme two": (EXPORTED, {"scheme": "two"}, "it names a push connection"),
    "a proof before the connection": (
        EXPORTED,
        {"push.last_proof_at": "2025-11-01T00:00:00Z"},
        "after its last proof",
    ),
    "a proof after the certificate": (
        EXPORTED,
        {"push.last_proof_at": "2025-11-20T09:00:00Z"},
        "that it worked, after the certificate",
    ),
    "a seam after the beginning of day zero": (
        EXPORTED,
        {"pull.seam": "2025-11-19T17:00:00Z"},
        "after day zero has begun",
    ),
    "windows that begin late": (
        EXPORTED,
        {"pull.seam": "2025-11-19T15:00:00Z"},
        "not at the seam",
    ),
    "proven beyond the certificate": (
        EXPORTED,
        {"pull.proven_to": "2025-11-20T09:00:00Z"},
        "not between seam and certificate",
    ),
    "proven less than said": (
        EXPORTED,
        {"pull.proven_to": "2025-11-20T02:55:00Z"},
        "orders: the windows prove everything up to",
    ),
    "refunds proven less": (
        EXPORTED,
        {"pull.windows.2.proven_to": "2025-11-20T01:00:00Z"},
        "refunds: the windows prove only what is before",
    ),
    "a hole between windows": (
        EXPORTED,
        {"pull.windows.1.start": "2025-11-19T18:00:00Z"},
        "between the windows up to",
    ),
    "windows in another order": (
        EXPORTED,
        {"pull.windows.1.start": "2025-11-19T15:00:00Z"},
        "orders: the windows are not in order",
    ),
    "no windows of refunds": (
        EXPORTED,
        {"pull.windows": document.document(certificate(EXPORTED))["pull"]["windows"][:2]},  # type: ignore[index]
        "no window has the changes of refunds",
    ),
    "a window that ends before it begins": (
        EXPORTED,
        {"pull.windows.0.end": "2025-11-19T15:00:00Z"},
        "before it begins",
    ),
    "more hinted than listed": (EXPORTED, {"pull.windows.0.hinted": 8}, "8 of 7 listed were hinted"),
    "a window pulled later": (
        EXPORTED,
        {"pull.windows.0.pulled_at": "2025-11-20T09:00:00Z"},
        "not between start and certificate",
    ),
    "a window proven beyond its pull": (
        EXPORTED,
        {"pull.windows.1.proven_to": "2025-11-20T03:59:59Z"},
        "not within what had passed",
    ),
    "a sum is wrong": (EXPORTED, {"totals.0.lines": 9}, "the total of lines is 9, and they are 5"),
    "a digest of nothing": (EXPORTED, {"totals.1.digest": NOTHING}, "the digest is not of 2 objects"),
    "another digest than the slice's": (
        EXPORTED,
        {"totals.1.digest": "0" * 64},
        "the digest is not that of the only slice",
    ),
    "fewer objects than a slice has": (
        EXPORTED,
        {"totals.0.objects": 2, "totals.0.repeated": 3},
        "2 objects are fewer than a single slice has",
    ),
    "totals in another order": (EXPORTED, {"totals.0.kind": "refund"}, "there is one of each kind"),
    "no total of a kind": (
        EXPORTED,
        {"totals": document.document(certificate(EXPORTED))["totals"][:1]},  # type: ignore[index]
        "there is no total of refunds",
    ),
}


def forged(start: CertifiedStart, changes: dict[str, object]) -> Certificate:
    """The certificate of a start with these values changed, or left out, by their paths."""
    written = json.loads(document.write(certificate(start)))
    for name, value in changes.items():
        path = tuple(int(step) if step.isdigit() else step for step in name.split("."))
        place_of(written, path)[path[-1]] = value
    return document.read(json.dumps(written)).content


@pytest.mark.parametrize(("start", "changes", "problem"), FORGED.values(), ids=FORGED)
def test_each_equation_says_in_words_what_does_not_come_out_although_it_is_signed(
    start: CertifiedStart, changes: dict[str, object], problem: str
) -> None:
    made = document.read(document.write(certificate_key.sign(forged(start, changes), KEY)))
    assert certificate_key.check(made, KEYS) is SignatureState.RIGHT
    found = equations.problems(made.content)
    assert any(problem in sentence for sentence in found), found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not JSON"),
        (b"\xff{}", "not JSON"),
        (b"[]", "another document"),
        (b"{}", "another document"),
        (b'{"certificate": 2}', "version 2, and this release reads version 1"),
        (b'{"certificate": true}', "version True"),
        (b'{"certificate": 1}', "seller_id: Field required"),
        (b'{"certificate": 1, "certificate": 1}', "a name twice"),
        (b'{"certificate": 1, "x": 1.0}', "1.0 in it is no integer"),
        (b'{"certificate": 1, "x": NaN}', "NaN in it is no integer"),
        (b'{"certificate": 1, "x": "\\ud800"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_certificate_of_this_version_is_refused_with_the_reason(text: bytes, why: str) -> None:
    with pytest.raises(CertificateError, match=why):
        document.read(text)


def test_without_a_key_nothing_is_signed_and_with_another_key_its_id_is_named() -> None:
    unsigned = document.read(document.write(certificate(certificates.START)))
    assert certificate_key.check(unsigned, KEYS) is SignatureState.ABSENT
    read = document.read(document.write(signed(certificates.START)))
    other = key_of(certificate_key.new()).public
    assert certificate_key.check(read, certificate_key.by_id([other])) is SignatureState.UNKNOWN_KEY
    # A rotated key goes on checking what it signed.
    assert certificate_key.check(read, certificate_key.by_id([other, KEY.public])) is SignatureState.RIGHT


def test_a_key_is_pem_or_32_bytes_in_base64_and_anything_else_is_one_line() -> None:
    raw = base64.b64encode(KEY.key.private_bytes_raw()).decode()
    assert key_of(raw).public.id == key_of(certificate_pem()).public.id == KEY.public.id
    assert len(KEY.public.id) == 16
    for wrong in ("x" * 44, "AAAA", KEY.public.pem, "-----BEGIN PRIVATE KEY-----\n" + "A" * 64):
        with pytest.raises(SettingsError, match=r"TOPSYNC_CERTIFICATE_KEY: not an Ed25519 private key"):
            key_of(wrong)


def certificate_pem() -> str:
    from cryptography.hazmat.primitives import serialization

    return KEY.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def lines_of_the_page(language: str) -> str:
    page = pages.read("docs/reference/certificate.md")
    return page.partition(f"```{language}\n")[2].partition("```")[0]


@pytest.fixture
def handed_over(tmp_path: Path) -> Path:
    """A folder with a certificate and the public key, as somebody has it who knows nothing of topsync."""
    (tmp_path / "certificate.json").write_text(document.write(signed(certificates.LISTED)), "utf-8")
    (tmp_path / "public.pem").write_text(KEY.public.pem)
    return tmp_path


def run(program: Sequence[str], folder: Path) -> tuple[int, str]:
    ended = subprocess.run(program, cwd=folder, capture_output=True, timeout=60, check=False, text=True)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("is_forged", [False, True])
def test_the_lines_of_the_page_check_a_signature_without_topsync(handed_over: Path, is_forged: bool) -> None:
    assert shutil.which("openssl"), "install openssl: the page uses it"
    if is_forged:
        file = handed_over / "certificate.json"
        file.write_text(file.read_text("utf-8").replace("权限", "权利"), "utf-8")
    status, said = run(["bash", "-e", "-c", lines_of_the_page("sh")], handed_over)
    assert ("Signature Verified Successfully" in said, status) == (not is_forged, int(is_forged)), said
    status, said = run(["python3", "-c", lines_of_the_page("python")], handed_over)
    assert (status == 0) == (not is_forged), said


def test_a_slice_that_is_not_stored_is_not_certified() -> None:
    waiting = replace(certificates.SLICES[0], balance=None)
    with pytest.raises(ValueError, match="slice 0 of seller 2200000000001 is not stored"):
        certificate(replace(certificates.START, slices=[waiting]))


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 6), st.none() | st.integers(0, 9)),
        unique_by=lambda row: row[:2],
    ),
    at_once=st.integers(1, 4),
)
def test_the_sums_of_slices_are_those_of_their_union_however_they_come(
    rows: list[tuple[int, int, int | None]], at_once: int
) -> None:
    ordered = [
        NumberedRow(number, id_, None if second is None else certificates.STARTED + timedelta(seconds=second))
        for number, id_, second in sorted(rows, key=lambda row: (row[1], row[0]))
    ]
    sums, seen = RowSums(), []
    for start in range(0, len(ordered), at_once):
        seen += sums.add(ordered[start : start + at_once])
    seen += sums.finish()
    union: dict[int, datetime | None] = {}
    for row in ordered:
        known = [moment for moment in (union.get(row.id), row.modified) if moment is not None]
        union[row.id] = max(known, default=None)
    assert seen == sorted(union.items())
    assert (sums.objects, sums.repeated) == (len(union), len(ordered) - len(union))
    assert sums.digest == digest_of(sorted(union.items()))
    for number in range(3):
        own = [(row.id, row.modified) for row in ordered if row.slice == number]
        assert sums.digest_of(number) == digest_of(own)


def digest_of(rows: Sequence[tuple[int, datetime | None]]) -> str:
    """As the page says it, in other words."""
    lines = "".join(f"{id_} {'-' if at is None else at.isoformat()}\n" for id_, at in rows)
    digest = RowDigest()
    for row in rows:
        digest.add(*row)
    assert digest.hexdigest() == hashlib.sha256(lines.encode()).hexdigest()
    return digest.hexdigest()
