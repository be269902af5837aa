"""Every kind, in the order in which a batch's versions are stored, published and noted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from consumer.enrich.kinds.kind import AnyKind
from consumer.enrich.kinds.order import ORDER
from consumer.enrich.kinds.refund import REFUND
from topsync.model.kind import Kind

KINDS: Final[Mapping[Kind, AnyKind]] = {one.kind: one for one in (ORDER, REFUND)}
"""The kind that leads is the first."""
