"""Which scheme a seller has, and whether its messages are needed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.databases import SELLER, at
from topsync.model.scheme import Scheme
from topsync.sellers import schemes
from topsync.store.sellers import UNKNOWN, Seller, SellerState

PLAIN = Seller(
    seller_id=SELLER, nick="demo_one", session_cipher=b"", state=SellerState.LIVE, version=1, life=UNKNOWN,
    refused_at=None, reason=None, since=at(0), replay_due=False, refresh_attempts=0, refresh_allowed=False,
    refresh_under_way=False,
)  # fmt: skip

every_seller = st.builds(
    lambda scheme, cancelled, state: replace(PLAIN, scheme=scheme, messages_cancelled=cancelled, state=state),
    st.one_of(st.none(), st.sampled_from(Scheme)),
    st.booleans(),
    st.sampled_from(SellerState),
)


@pytest.mark.parametrize("installation", Scheme)
def test_a_seller_without_a_scheme_of_its_own_has_the_installations(installation: Scheme) -> None:
    assert schemes.scheme_of(PLAIN, installation) is installation
    assert schemes.scheme_of(replace(PLAIN, scheme=Scheme.TWO), installation) is Scheme.TWO


@given(seller=every_seller, installation=st.sampled_from(Scheme))
def test_whoever_has_no_messages_is_polled(seller: Seller, installation: Scheme) -> None:
    """Also where its messages are wanted again, and have not been permitted yet."""
    has_messages = schemes.scheme_of(seller, installation).pushes and not seller.messages_cancelled
    assert schemes.is_polled(seller, installation) is not has_messages


@given(found=st.lists(every_seller, max_size=4), installation=st.sampled_from(Scheme))
def test_push_is_needed_where_any_seller_that_is_kept_wants_messages(
    found: list[Seller], installation: Scheme
) -> None:
    kept = [seller for seller in found if seller.state is not SellerState.ERASED]
    wanting = [seller for seller in kept if schemes.scheme_of(seller, installation).pushes]
    # Before the first seller is added: a bulk start waits for push.
    assert schemes.needs_push(found, installation) is bool(wanting or (not kept and installation.pushes))
