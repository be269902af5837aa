"""The platform's count of a slice against what was had of it, with the numbers in the certificate (P5)."""

from __future__ import annotations

from datetime import timedelta

from schemas import platform_time
from schemas.certificate import Certificate, SlicePart
from tests.bootstrap.platform import DAY_ZERO, DAYS, FIRST_DAY, START, TID, Bench, refund_line_of
from topsync.model.kind import Kind
from topsync.model.scheme import Scheme
from topsync.model.slice import Balance


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


def of_refunds(certificate: Certificate) -> SlicePart:
    (found,) = [each for each in certificate.slices if each.kind == "refund"]
    return found


async def test_refunds_are_counted_with_one_call_and_not_listed(both: Bench) -> None:
    of = of_refunds(await both.run())
    assert (of.counts.lines, of.balance.counted, of.balance.objects) == (2, 2, 2)
    assert (of.balance.missing, of.balance.unlisted) == (0, 0)
    of_the_slice, of_today = 1, 1
    assert both.platform.calls["list_refund"] == of_the_slice + of_today


async def test_where_only_short_windows_are_answered_refunds_are_counted_day_by_day(both: Bench) -> None:
    both.platform.longest_refund_window = timedelta(days=1)
    both.platform.not_exported.add(8)
    of = of_refunds(await both.run())
    assert (of.counts.lines, of.balance.counted, of.balance.objects) == (1, 2, 2)
    assert (of.balance.missing, of.balance.unlisted) == (1, 0)
    refused, listed, of_today = len((10, 5, 3, 2)), 1, 1
    assert both.platform.calls["list_refund"] == refused + DAYS + listed + of_today


async def test_only_the_halves_that_differ_are_counted_again(both: Bench) -> None:
    both.platform.not_exported.add(8)
    await both.run()
    listed, of_today = 1, 1
    halves_of_ten, halves_of_five, halves_of_three, halves_of_two = 2, 2, 2, 2
    counted = 1 + halves_of_ten + halves_of_five + halves_of_three + halves_of_two
    assert both.platform.calls["list_refund"] <= counted + listed + of_today


async def test_a_refund_that_the_file_lacks_is_fetched(both: Bench) -> None:
    both.platform.not_exported.add(8)
    of = of_refunds(await both.run())
    assert (of.counts.lines, of.balance.counted, of.balance.objects) == (1, 2, 2)
    assert (of.balance.missing, of.balance.unlisted) == (1, 0)


async def test_a_refund_that_changed_since_the_export_is_kept_and_has_left_its_day(both: Bench) -> None:
    order_id, modified = both.platform.refunds[8]
    both.platform.refund_lines = [
        refund_line_of(id_, *refund) for id_, refund in both.platform.refunds.items()
    ]
    both.platform.refunds[8] = (order_id, START - timedelta(minutes=1))
    assert modified < platform_time.start_of(DAY_ZERO) < both.platform.refunds[8][1]
    of = of_refunds(await both.run())
    assert (of.counts.lines, of.balance.counted, of.balance.objects) == (2, 1, 2)
    assert (of.balance.missing, of.balance.unlisted) == (0, 1)


async def test_a_line_that_names_no_refund_has_every_day_listed(both: Bench) -> None:
    """As many may be counted as had, and be others."""
    lines = [refund_line_of(id_, *refund) for id_, refund in both.platform.refunds.items()]
    both.platform.refund_lines = [lines[0], b"{}"]
    of = of_refunds(await both.run())
    assert (of.counts.lines, of.counts.refused, of.balance.missing, of.balance.objects) == (2, 1, 1, 2)


async def test_refunds_without_a_right_to_their_list_are_not_counted(both: Bench) -> None:
    both.platform.refund_list_refused = "no right to lists"
    certificate = await both.run()
    (of,) = await both.slices(Kind.REFUND)
    assert of.balance == Balance(2)
    assert {each.kind for each in certificate.slices} == {"order"}, "nor are they claimed: today had none"
