"""A refund is read like a trade; its hash ignores changes of the order and of masking."""

from __future__ import annotations

import orjson
import pytest

from schemas.refund import NOT_ITS_OWN, Refund
from tests.support.places import SAMPLES

SAMPLE: dict[str, object] = orjson.loads((SAMPLES / "refund_get.json").read_bytes())["refund_get_response"][
    "refund"
]


def test_a_published_refund_reads_back_as_it_was() -> None:
    refund = Refund.from_platform(SAMPLE)
    again = Refund.from_wire(refund.to_wire())
    assert again == refund
    assert again.to_wire() == refund.to_wire()
    assert again.content_hash() == refund.content_hash()


def test_the_hash_is_the_hash_that_is_in_the_tables() -> None:
    """With another hash, each stored refund must be read again before it counts as the same."""
    assert Refund.from_platform(SAMPLE).content_hash().hex() == "641575d0618468390c9604f175fb1a62"


@pytest.mark.parametrize("name", sorted(NOT_ITS_OWN))
@pytest.mark.parametrize("value", ["another", ["in an odd shape"], None])
def test_the_hash_leaves_out_fields_that_are_not_about_the_refund(name: str, value: object) -> None:
    changed = Refund.from_platform({**SAMPLE, name: value})
    assert changed.content_hash() == Refund.from_platform(SAMPLE).content_hash()


@pytest.mark.parametrize("field", [{"refund_fee": "0.01"}, {"status": "CLOSED"}, {"attribute": "another"}])
def test_the_hash_changes_with_the_refund(field: dict[str, object]) -> None:
    changed = Refund.from_platform({**SAMPLE, **field})
    assert changed.content_hash() != Refund.from_platform(SAMPLE).content_hash()
