"""Certificates in the store: the text as it was written, one for each bulk start, and the slices' rows."""

from __future__ import annotations

import pytest

from schemas import certificate as document
from tests.store.databases import SELLER, at
from tests.support.certificates import ROWS, START, keep_rows, sums
from topsync.model.certificate import certificate
from topsync.model.kind import Kind
from topsync.model.row_digest import RowSums
from topsync.store import certificates, erasures
from topsync.store.certificates import KeptCertificate
from topsync.store.database import Pool
from topsync.store.sellers import ErasedError

TEXT = document.write(certificate(START))
AS_WRITTEN = TEXT.replace(",", " ,\n").replace("three", "\\u0074hree")
"""In a layout, an order of names and with an escape that jsonb would not keep."""


async def write(pool: Pool, second: float, text: str) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await certificates.write(connection, SELLER, certified_at=at(second), document=text)


async def test_a_certificate_is_kept_as_it_was_written_and_each_start_adds_one(pool: Pool) -> None:
    assert await certificates.last(pool, SELLER) is None
    await write(pool, 2, AS_WRITTEN)
    await write(pool, 1, TEXT)
    await write(pool, 1, TEXT)
    older, newer = KeptCertificate(SELLER, at(1), TEXT), KeptCertificate(SELLER, at(2), AS_WRITTEN)
    assert await certificates.all_of(pool, SELLER) == [older, newer]
    assert await certificates.last(pool, SELLER) == newer
    assert await certificates.all_of(pool, SELLER + 1) == []


async def test_nothing_is_certified_of_an_erased_seller(pool: Pool) -> None:
    await erasures.begin(pool, SELLER)
    with pytest.raises(ErasedError):
        await write(pool, 1, TEXT)
    assert await certificates.all_of(pool, SELLER) == []


@pytest.mark.parametrize("at_once", [1, 2, 1000])
async def test_the_rows_of_slices_come_by_id_some_at_a_time(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(certificates, "ROWS_AT_ONCE", at_once)
    await keep_rows(pool)
    for kind, numbers in ((Kind.ORDER, [0, 1, 2]), (Kind.REFUND, [3, 4])):
        pieces = [some async for some in certificates.rows(pool, SELLER, numbers)]
        assert [row for some in pieces for row in some] == ROWS[kind]
        assert max(map(len, pieces)) <= at_once
        assert outline(await certificates.sums(pool, SELLER, numbers)) == outline(sums(kind))


def outline(of: RowSums) -> tuple[int, int, str, list[str]]:
    return of.objects, of.repeated, of.digest, [of.digest_of(number) for number in range(5)]


async def test_who_is_erased_is_known_while_the_seller_is_and_by_its_tombstones(pool: Pool) -> None:
    await pool.execute(
        "insert into tombstones (kind, id, tid, seller_id, revision, erased_at) "
        "values ('order', 1, 1, $1, 2, now())",
        SELLER + 1,
    )
    assert await certificates.erased_among(pool, SELLER, Kind.ORDER, [1, 2]) == {1}
    assert await certificates.erased_among(pool, SELLER, Kind.REFUND, [1, 2]) == set()
    await erasures.begin(pool, SELLER)
    assert await certificates.erased_among(pool, SELLER, Kind.REFUND, [1, 2]) == {1, 2}
