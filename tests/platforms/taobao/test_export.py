"""How an export is requested."""

from __future__ import annotations

from topsync.platforms.taobao import export
from topsync.platforms.taobao.catalogue import FULLINFO_FIELDS


def test_after_a_failed_export_the_same_fields_are_requested_in_an_order_that_no_task_had() -> None:
    """The platform answers an identical request with the failed task (docs/platform/gateway.md 4.2)."""
    asked = [tuple(export.fields_after(failed)) for failed in range(len(FULLINFO_FIELDS))]
    assert len(set(asked)) == len(asked)
    assert {frozenset(fields) for fields in asked} == {frozenset(FULLINFO_FIELDS)}
    assert asked[0] == FULLINFO_FIELDS
