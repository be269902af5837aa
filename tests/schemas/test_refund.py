"""A refund is read like a trade; its hash ignores changes of the order and of masking."""

from __future__ import annotations

import orjson
import pytest

from schemas.refund import NOT_ITS_OWN, Refund
from tests.support.places import SAMPLES

SAMPLE: dict[str, object] = orjson.loads((SAMPLES / "refund_get.json").read_bytes())["refund_get_response"][
    "refund"
]


def test_what_is_published_reads_back_as_it_was() -> None:
    refund = Refund.from_platform(SAMPLE)
    again = Refund.from_wire(refund.to_wire())
    assert again == refund
    assert again.to_wire() == refund.to_wire()
    assert again.content_hash() == refund.content_hash()


def test_the_hash_is_what_tables_were_written_with() -> None:
    """Another one has each stored refund read again before it is known to be the same."""
    assert Refund.from_platform(SAMPLE).content_hash().hex() == "641575d0618468390c9604f175fb1a62"


@pytest.mark.parametrize("name", sorted(NOT_ITS_OWN))
@pytest.mark.parametrize("value", ["another", ["in a shape of its own"], None])
def test_the_hash_leaves_out_what_is_not_the_refunds_own(name: str, value: object) -> None:
    changed = Refund.from_platform({**SAMPLE, name: value})
    assert changed.content_hash() == Refund.from_platform(SAMPLE).content_hash()


@pytest.mark.parametrize("field", [{"refund_fee": "0.01"}, {"status": "CLOSED"}, {"attribute": "another"}])
def test_the_hash_changes_with_the_refund(field: dict[str, object]) -> None:
    changed = Refund.from_platform({**SAMPLE, **field})
    assert changed.content_hash() != Refund.from_platform(SAMPLE).content_hash()
