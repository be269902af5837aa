"""The sellers of a world, and the session that each has granted to the app."""

from __future__ import annotations

from dataclasses import dataclass

from topsync.simulator.dice import Dice

_FIRST_USER_ID = 2_000_000_001


@dataclass(frozen=True, slots=True)
class SimulatedSeller:
    """A shop. `repr` leaves the session out, because it is a credential, although it is invented."""

    index: int
    user_id: int
    nick: str
    shop: str
    seller_type: str
    """`B` for Tmall, `C` for Taobao."""
    session: str

    def __repr__(self) -> str:
        return f"SimulatedSeller({self.user_id})"


def seller_of(seed: int, index: int) -> SimulatedSeller:
    """The seller with this index in a seed's world."""
    dice = Dice(seed, b"seller", index)
    return SimulatedSeller(
        index=index,
        user_id=_FIRST_USER_ID + index,
        nick=f"示例卖家{index + 1:04d}",
        shop=f"示例店铺{index + 1:04d}",
        seller_type="B" if index % 2 else "C",
        session=f"6100{dice.token(52)}",
    )
