"""Which messages may wait for others of their order, and how long they usually do."""

from __future__ import annotations

from typing import Final

from topsync.model.linger import LingerWords
from topsync.platforms.taobao.catalogue import SUBSCRIBED_TOPICS

_PREFIX: Final = "taobao_trade_"

WORDS: Final = LingerWords(
    prefix=_PREFIX,
    topics=tuple(topic for topic in SUBSCRIBED_TOPICS if topic.startswith(_PREFIX)),
    unhurried_seconds={
        # Most buyers pay within seconds of ordering, and the payment brings the new order along.
        "TradeCreate": 20.0,
        "TradeAlipayCreate": 20.0,
        # Buyer and seller rate one after the other, and a memo is often saved twice.
        "TradeRated": 5.0,
        "TradeMemoModified": 5.0,
        # Nobody acts on a receipt within seconds. When its second has settled, the fetch is a proof itself
        # (docs/decisions/proofs-of-sweeps.md).
        "TradeSuccess": 3.0,
    },
)
