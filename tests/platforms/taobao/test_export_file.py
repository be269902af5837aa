"""Reading an export: every line is counted, whatever is in the file (P5; docs/platform/gateway.md
4.3).
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.read_before import ReadBefore
from schemas.trade import Trade
from schemas.types import parse_instant
from tests.support.places import CASES, SAMPLES
from topsync.model.kind import Kind
from topsync.platforms.export_port import (
    ExportedObject,
    ExportFileError,
    ExportLine,
    RefusedLine,
    ToRepair,
)
from topsync.platforms.taobao import export_archive, export_file
from topsync.platforms.taobao.export_file import FORMS, read_line

MODIFIED = "2025-11-19 12:00:00"
CREATED = "2025-11-18 08:00:00"
ORDER_FORM, REFUND_FORM = FORMS[Kind.ORDER], FORMS[Kind.REFUND]


def trade(tid: object = 101, **fields: object) -> dict[str, object]:
    own = {"tid": tid, "created": CREATED, "modified": MODIFIED, "status": "TRADE_FINISHED"}
    return {**own, "orders": {"order": [{"oid": tid}]}, **fields}


def line(tid: object = 101, **fields: object) -> bytes:
    return orjson.dumps({"trade_fullinfo_get_response": {"trade": trade(tid, **fields)}})


def refund(refund_id: object = 501, tid: object = 101, **fields: object) -> dict[str, object]:
    return {"refund_id": refund_id, "tid": tid, "created": CREATED, "modified": MODIFIED, **fields}


def refund_line(refund_id: object = 501, tid: object = 101, **fields: object) -> bytes:
    return orjson.dumps({"refund_get_response": {"refund": refund(refund_id, tid, **fields)}})


def kind_line(kind: Kind, number: object, **fields: object) -> bytes:
    """A line of either kind with this id."""
    return line(number, **fields) if kind is Kind.ORDER else refund_line(number, 7, **fields)


def packed(folder: Path, *entries: bytes, names: list[str] | None = None, level: int = 6) -> Path:
    path = folder / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for number, content in enumerate(entries):
            archive.writestr(names[number] if names else f"{number}.txt", content)
    return path


def read(
    path: Path, kind: Kind = Kind.ORDER, *, max_bytes: int = 10**9, max_ratio: float = 200, skip: int = 0
) -> list[ExportLine]:
    return list(export_file.read(kind, path, max_bytes=max_bytes, max_ratio=max_ratio, skip=skip))


def tids(lines: list[ExportLine]) -> list[int]:
    return [row.id for row in lines if isinstance(row, ExportedObject)]


every_kind = pytest.mark.parametrize("kind", list(Kind))


def test_the_sample_file_is_read_whole_in_order_across_its_entries_and_directory() -> None:
    path = SAMPLES / "topats_export.zip"
    done = orjson.loads((SAMPLES / "topats_result_get_done.json").read_bytes())
    task = done["topats_result_get_response"]["task"]
    assert hashlib.md5(path.read_bytes()).hexdigest() == task["check_code"].lower()
    expected = [
        orjson.loads(text)["trade_fullinfo_get_response"]["trade"]
        for text in (SAMPLES / "topats_export_lines.ndjson").read_bytes().split(b"\n")
        if text.strip()
    ]
    lines = read(path)
    found = [row for row in lines if isinstance(row, ExportedObject)]
    assert [row.value.decode() for row in found] == [Trade.read(raw).text for raw in expected]
    assert [row.read_before for row in found] == [ReadBefore.of(Trade.read(raw)) for raw in expected]
    assert len(lines) == len(expected)


@every_kind
def test_an_object_that_cannot_be_read_is_handed_on_as_it_came(tmp_path: Path, kind: Kind) -> None:
    came = trade(1, status=None) if kind is Kind.ORDER else refund(1, 7, status=None)
    (found,) = read(packed(tmp_path, orjson.dumps(came)), kind)
    assert isinstance(found, ExportedObject)
    assert orjson.loads(found.value) == came
    assert found.read_before is None


@every_kind
@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\n\n", b"\r\r\n", b"\n  \n"])
def test_lines_end_with_any_mix_of_carriage_return_and_line_feed(
    tmp_path: Path, end: bytes, kind: Kind
) -> None:
    content = end.join(kind_line(kind, number) for number in (1, 2, 3))
    for tail in (b"", end):
        assert tids(read(packed(tmp_path, content + tail), kind)) == [1, 2, 3]


@every_kind
@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_a_message_is_not_split_at_characters_that_are_line_ends_only_for_python(
    tmp_path: Path, character: str, kind: Kind
) -> None:
    message = f"before{character}after"
    (found,) = read(packed(tmp_path, kind_line(kind, 1, reason=message)), kind)
    assert isinstance(found, ExportedObject)
    handed_on = orjson.loads(found.value)
    assert (handed_on if kind is Kind.REFUND else handed_on["platform_fields"])["reason"] == message


@every_kind
def test_a_line_says_whose_it_is_or_does_not(tmp_path: Path, kind: Kind) -> None:
    nicks = ("示例", "", None, 7)
    lines = [kind_line(kind, number, seller_nick=nick) for number, nick in enumerate(nicks, 1)]
    found = read(packed(tmp_path, b"\n".join(lines)), kind)
    assert [row.seller_nick for row in found if isinstance(row, ExportedObject)] == ["示例", None, None, None]


def test_line_ends_inside_a_message_are_escaped_and_do_not_split_it(tmp_path: Path) -> None:
    (order,) = read(packed(tmp_path, line(1, buyer_message="a\r\nb")))
    assert isinstance(order, ExportedObject)
    assert orjson.loads(order.value)["buyer_message"] == "a\r\nb"


@given(
    tids_=st.lists(st.integers(1, 10**18), max_size=20),
    kind=st.sampled_from(Kind),
    skip=st.integers(0, 25),
    ends=st.data(),
)
def test_every_line_is_read_once_wherever_the_chunks_are_cut_and_a_load_goes_on(
    tids_: list[int], kind: Kind, skip: int, ends: st.DataObject
) -> None:
    """Blank lines count for nothing: the same number of lines is passed over whatever lies between them."""
    separators = st.sampled_from([b"\r", b"\n", b"\r\n", b"\r\n \r\n"])
    content = b"".join(kind_line(kind, tid) + ends.draw(separators) for tid in tids_)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_file, "CHUNK_BYTES", ends.draw(st.integers(1, 200)))
        path = packed(Path(folder), content, content)
        assert tids(read(path, kind)) == tids_ * 2
        assert tids(read(path, kind, skip=skip)) == (tids_ * 2)[skip:]


def test_lines_that_are_passed_over_are_not_read(tmp_path: Path) -> None:
    path = packed(tmp_path, b"not json\n" + line(2))
    assert tids(read(path, skip=1)) == [2]
    assert len(read(path, skip=1)) == 1


def test_a_byte_order_mark_at_the_start_of_each_entry_is_no_part_of_its_first_line(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    assert tids(read(packed(tmp_path, mark + line(1), mark + line(2)))) == [1, 2]


def test_entries_without_a_line_end_are_not_joined(tmp_path: Path) -> None:
    assert tids(read(packed(tmp_path, line(1), b"", b"\r\n", line(2)))) == [1, 2]


@pytest.mark.parametrize(
    "form",
    [
        {"trade_fullinfo_get_response": {"trade": trade(7)}},
        {"trade": trade(7)},
        trade(7),
        {"trade_fullinfo_get_response": {"trade": trade("7"), "request_id": "x"}},
    ],
)
def test_a_trade_is_found_in_every_envelope(form: object) -> None:
    found = read_line(ORDER_FORM, orjson.dumps(form))
    assert isinstance(found, ExportedObject)
    assert (found.id, found.order_id) == (7, 7)
    assert (found.created, found.modified) == (parse_instant(CREATED), parse_instant(MODIFIED))
    assert orjson.loads(found.value)["status"] == "TRADE_FINISHED"


@pytest.mark.parametrize(
    "form",
    [
        {"refund_get_response": {"refund": refund("501", 7)}},
        {"refund_get_response": {"refund": refund(501, "7"), "request_id": "x"}},
        {"refund": refund(501, 7)},
        refund(501, 7),
    ],
)
def test_a_refund_is_found_in_every_envelope(form: object) -> None:
    found = read_line(REFUND_FORM, orjson.dumps(form))
    assert isinstance(found, ExportedObject)
    assert (found.id, found.order_id) == (501, 7)
    assert (found.created, found.modified) == (parse_instant(CREATED), parse_instant(MODIFIED))
    assert orjson.loads(found.value)["tid"] in (7, "7")


@every_kind
@pytest.mark.parametrize("created", [None, ""])
def test_a_line_without_a_time_of_creation_is_taken(kind: Kind, created: object) -> None:
    found = read_line(FORMS[kind], kind_line(kind, 9, created=created))
    assert isinstance(found, ExportedObject)
    assert found.created is None


@pytest.mark.parametrize(
    "broken",
    [
        line(4000000000000000101)[:-3],
        line(4000000000000000101).replace(b"TRADE", b"\xff\xfe"),
        line(4000000000000000101).replace(b"TRADE", b"\x01"),
        b'{"tid" : "4000000000000000101", "modified":',
        orjson.dumps({"trade": {"tid": 4000000000000000101}}),
        orjson.dumps({"error_response": {"code": 15}, "tid": "4000000000000000101"}),
        b'{"trade":{"tid":4000000000000000101,"modified":"soon"}}',
        line(4000000000000000101, modified=None),
        line(4000000000000000101, created="soon"),
        line(4000000000000000101)[:-3] + b',"odd":' + b"[" * 600 + b"]" * 600 + b"}}}",
    ],
)
def test_an_incomplete_order_that_has_its_id_is_repaired_by_its_id(broken: bytes) -> None:
    assert read_line(ORDER_FORM, broken) == ToRepair(4000000000000000101, 4000000000000000101)


@pytest.mark.parametrize(
    "broken",
    [
        refund_line(501, 7)[:-3],
        refund_line("501", "7", modified="soon"),
        refund_line(501, 7, created="soon"),
        refund_line(501, 7, modified=None),
        b'{"tid":7,"refund_id" : "501","modified":',
    ],
)
def test_an_incomplete_refund_that_has_its_ids_is_repaired_by_them(broken: bytes) -> None:
    assert read_line(REFUND_FORM, broken) == ToRepair(501, 7)


@pytest.mark.parametrize(
    "broken",
    [
        line(7),
        b'{"refund_id":501,"tid":',
        orjson.dumps({"refund": {"refund_id": 501, "modified": MODIFIED}}),
        orjson.dumps({"refund": {"tid": 7, "modified": MODIFIED}}),
        b'{"refund_id":0,"tid":7,',
        b"not json",
    ],
)
def test_a_line_with_only_one_of_a_refunds_ids_is_refused_whole(broken: bytes) -> None:
    found = read_line(REFUND_FORM, broken)
    assert isinstance(found, RefusedLine)
    assert found.line == broken


@pytest.mark.parametrize(
    "broken",
    [
        b"not json",
        b"[1,2]",
        b"null",
        b'"tid"',
        b'{"trade":null}',
        b'{"trade_fullinfo_get_response":{}}',
        b'{"error_response":{"code":15,"sub_code":"isv.trade-not-exist"}}',
        b'{"tid_str":"4000000000000000101",',
        b'{"tid":99999999999999999999,',
        b'{"tid":9223372036854775808,',
        b'{"tid":0,',
        b'{"tid":-5,',
        b'{"tid":1.5e18,',
        b'{"tid":40000000000',
    ],
)
def test_a_line_that_names_no_order_is_refused_whole_with_a_reason(broken: bytes) -> None:
    found = read_line(ORDER_FORM, broken)
    assert isinstance(found, RefusedLine)
    assert found.line == broken
    assert found.why


@given(content=st.lists(st.binary(max_size=60).filter(lambda piece: b"\xef\xbb\xbf" not in piece)))
def test_the_rows_add_up_whatever_the_file_holds(content: list[bytes]) -> None:
    """announced = published + repaired + refused: each line is exactly one of the three."""
    with tempfile.TemporaryDirectory() as folder:
        lines = read(packed(Path(folder), b"\n".join([*content, line(1)])))
    expected = [
        piece.strip()
        for text in content
        for piece in text.replace(b"\r", b"\n").split(b"\n")
        if piece.strip()
    ]
    kinds = [type(row) for row in lines]
    assert len(lines) == kinds.count(ExportedObject) + kinds.count(ToRepair) + kinds.count(RefusedLine)
    assert len(lines) - 1 == len(expected)


# Attacks and damage.


def test_a_file_that_unpacks_to_more_than_its_bound_is_refused_before_it_is_in_memory(tmp_path: Path) -> None:
    path = packed(tmp_path, (line(1) + b"\n") * 20_000)
    with pytest.raises(ExportFileError, match="more than 100000 bytes"):
        read(path, max_bytes=100_000)
    lines = iter(export_file.read(Kind.ORDER, path, max_bytes=2 * export_file.CHUNK_BYTES - 1, max_ratio=200))
    assert isinstance(next(lines), ExportedObject), "the part within the bound is streamed"
    assert len(read(path)) == 20_000


def test_a_compression_ratio_that_no_text_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_file, "RATIO_FLOOR_BYTES", 1000)
    bomb = packed(tmp_path, b"\n" * 3_000_000, level=9)
    assert bomb.stat().st_size * 200 < 3_000_000
    with pytest.raises(ExportFileError, match="unpacks to more than"):
        read(bomb)
    # Divided into several entries it is the same bomb.
    with pytest.raises(ExportFileError, match="unpacks to more than"):
        read(packed(tmp_path, *[b"\n" * 500_000] * 6, level=9))


def test_a_false_size_in_the_header_does_not_help_a_bomb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_file, "RATIO_FLOOR_BYTES", 1000)
    path = packed(tmp_path, b"\n" * 3_000_000, level=9)
    content = path.read_bytes()
    path.write_bytes(content.replace((3_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(ExportFileError):
        read(path, max_bytes=1_000_000)


def test_an_endless_line_is_refused_instead_of_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_file, "MAX_LINE_BYTES", 10_000)
    monkeypatch.setattr(export_file, "CHUNK_BYTES", 1_000)
    with pytest.raises(ExportFileError, match="longer than 10000 bytes"):
        read(packed(tmp_path, b"x" * 20_000))


@pytest.mark.parametrize(
    "name", ["../../evil.txt", "/etc/evil.txt", "a/../../evil.txt", "C:\\evil.txt", "con"]
)
def test_names_of_entries_are_never_used_as_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    path = packed(tmp_path, line(1), names=[name])
    before = sorted(tmp_path.rglob("*"))
    assert tids(read(path)) == [1]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    path.write_bytes(b"<html>error</html>")
    with pytest.raises(ExportFileError, match="not a readable zip"):
        read(path)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.99])
def test_a_zip_that_was_cut_short_is_refused(tmp_path: Path, keep: float) -> None:
    path = packed(tmp_path, b"\n".join(line(tid) for tid in range(1, 500)))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ExportFileError, match="not a readable zip"):
        read(path)


@pytest.mark.parametrize("where", [0.2, 0.5, 0.8])
def test_a_zip_with_damage_inside_is_refused(tmp_path: Path, where: float) -> None:
    path = packed(tmp_path, b"\n".join(line(tid, note=f"{tid * 7919 % 1000}") for tid in range(1, 500)))
    content = bytearray(path.read_bytes())
    for offset in range(8):
        content[int(len(content) * where) + offset] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ExportFileError, match="not a readable zip"):
        read(path)


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path, line(1))
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(ExportFileError, match="not a readable zip"):
        read(path)


@pytest.mark.parametrize(("name", "method"), [("bzip2", "bzip2"), ("lzma", "LZMA")])
def test_an_export_packed_by_another_method_is_refused_by_its_name_before_it_is_unpacked(
    name: str, method: str
) -> None:
    path = CASES / f"export_{name}.zip"
    tracemalloc.start()
    try:
        with pytest.raises(ExportFileError, match=rf"export_{name}\.zip is packed with {method}"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_stored_entry_is_read(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("trades.txt", line(1) + b"\n" + line(2))
    assert tids(read(path)) == [1, 2]


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_archive, "MAX_ENTRIES", 3)
    assert tids(read(packed(tmp_path, *map(line, (1, 2, 3))))) == [1, 2, 3]
    with pytest.raises(ExportFileError, match="more than 3 entries"):
        read(packed(tmp_path, *map(line, (1, 2, 3, 4))))


def test_an_endless_table_of_contents_is_not_read_whole(tmp_path: Path) -> None:
    path = packed(tmp_path, *[b""] * 70, names=["x" * 65_000 + str(number) for number in range(70)])
    with pytest.raises(ExportFileError, match="table of contents"):
        read(path)


WHOLE = io.BytesIO()
with zipfile.ZipFile(WHOLE, "w", zipfile.ZIP_DEFLATED) as _archive:
    for _name in ("a.txt", "b/", "c.txt"):
        _archive.writestr(_name, "" if _name.endswith("/") else line(1) + b"\n" + line(2))


@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(WHOLE.getvalue()) - 1), st.integers(0, 255)), min_size=1, max_size=4
    ),
    keep=st.integers(0, len(WHOLE.getvalue())),
)
def test_whatever_is_wrong_with_the_file_the_error_has_the_same_type(
    changes: list[tuple[int, int]], keep: int
) -> None:
    content = bytearray(WHOLE.getvalue())
    for place, value in changes:
        content[place] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export.zip"
        path.write_bytes(content[:keep] if keep % 2 else content)
        with suppress(ExportFileError):
            read(path)


def test_a_missing_file_is_no_error_of_the_platform(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "export.zip")


def test_an_empty_archive_holds_no_lines(tmp_path: Path) -> None:
    assert read(packed(tmp_path)) == []
