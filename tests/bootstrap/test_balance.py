"""The platform's count of a slice against what was had of it, with the numbers in the certificate (P5)."""

from __future__ import annotations

from datetime import timedelta

from schemas.certificate import Certificate, SlicePart
from tests.bootstrap.platform import FIRST_DAY, TID, Bench
from topsync.model.scheme import Scheme


def second(certificate: Certificate) -> SlicePart:
    """The slice of the orders 2 and 3."""
    (found,) = [each for each in certificate.slices if each.first_day == FIRST_DAY + timedelta(days=2)]
    return found


async def test_what_the_file_lacks_is_fetched(bench: Bench) -> None:
    bench.platform.not_exported.add(TID + 3)
    of = second(await bench.run())
    assert (of.balance.counted, of.balance.objects) == (2, 2)
    assert (of.counts.lines, of.balance.missing, of.balance.unlisted) == (1, 1, 0)
    assert bench.writing.hints == [TID + 3]


async def test_what_the_list_lacks_is_kept(bench: Bench) -> None:
    bench.platform.not_listed.add(TID + 3)
    certificate = await bench.run()
    assert sum(each.balance.unlisted for each in certificate.slices) == 1
    assert sum(each.balance.objects for each in certificate.slices) == 10
    assert bench.writing.hints == []


async def test_an_export_without_a_file_is_not_believed_where_orders_are_counted(bench: Bench) -> None:
    bench.platform.not_exported.update({TID + 2, TID + 3})
    of = second(await bench.run())
    assert (of.counts.lines, of.balance.counted, of.balance.missing) == (0, 2, 2)
    assert of.task is not None
    assert of.task.file_bytes == 0
    assert sorted(bench.writing.hints) == [TID + 2, TID + 3]


async def test_a_list_that_is_refused_counts_nothing(bench: Bench) -> None:
    bench.platform.list_refused = "no right to lists"
    certificate = await bench.run()
    assert [each.balance.counted for each in certificate.slices] == [None]
    assert certificate.totals[0].objects == 10


async def test_of_a_list_every_id_has_to_be_there(bench: Bench) -> None:
    (of,) = (await bench.run(Scheme.ONE)).slices
    assert (of.counts.lines, of.counts.repaired, of.balance.counted, of.balance.objects) == (10,) * 4
    assert of.balance.unlisted == 0
