"""Which scheme a seller has, and what follows from it for its messages. Pure.

The installation's scheme (`TOPSYNC_SCHEME`) is that of every seller without a scheme of its own. Nothing else
decides: a process asks here whether a seller's messages are wanted, and whether it is polled.
"""

from __future__ import annotations

from collections.abc import Collection

from topsync.model.scheme import Scheme
from topsync.store.sellers import Seller, SellerState


def scheme_of(seller: Seller, installation: Scheme) -> Scheme:
    """The scheme by which a seller's orders are had."""
    return installation if seller.scheme is None else seller.scheme


def is_polled(seller: Seller, installation: Scheme) -> bool:
    """Whether only the regular pull brings the seller's changes.

    So it is under a scheme without messages, and after the change to another scheme until its messages are
    permitted again.
    """
    return seller.messages_cancelled or not scheme_of(seller, installation).pushes


def needs_push(found: Collection[Seller], installation: Scheme) -> bool:
    """Whether a push connection is needed: for any of all these sellers, or for those that will be added."""
    present = [seller for seller in found if seller.state is not SellerState.ERASED]
    if not present:
        return installation.pushes
    return any(scheme_of(seller, installation).pushes for seller in present)
