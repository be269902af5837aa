"""Sessions at rest: unreadable without a key, and keys can be changed without losing one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from topsync.base.settings import SettingsError, VaultSettings
from topsync.base.vault import Vault, new_key

SESSION = SecretStr("6100e1aDEMOSESSION0001")
KEY = new_key()


def vault(*keys: str) -> Vault:
    return Vault(VaultSettings(token_keys=SecretStr(",".join(keys))))


@given(session=st.text(st.characters(codec="utf-8")))
def test_a_session_reads_back_as_it_was(session: str) -> None:
    assert vault(KEY).decrypt(vault(KEY).encrypt(SecretStr(session))) == SecretStr(session)


def test_the_stored_form_holds_no_trace_of_the_session_and_never_repeats() -> None:
    stored = vault(KEY).encrypt(SESSION)
    assert SESSION.get_secret_value().encode() not in stored
    assert stored != vault(KEY).encrypt(SESSION)


def test_a_new_key_in_front_encrypts_while_the_old_one_still_decrypts() -> None:
    old, new = new_key(), new_key()
    stored = vault(old).encrypt(SESSION)
    rotating = vault(new, f" {old} ")
    assert rotating.decrypt(stored) == SESSION
    refreshed = rotating.encrypt(SESSION)
    assert vault(new).decrypt(refreshed) == SESSION
    assert vault(old).decrypt(refreshed) is None


def test_in_a_rolling_change_of_keys_every_process_reads_what_any_other_stores() -> None:
    """The steps of docs/sellers.md; during each, processes of the step before are still running."""
    old, new = new_key(), new_key()
    steps = [vault(old), vault(old, new), vault(new, old), vault(new)]
    for before, after in pairwise(steps):
        for writes, reads in ((before, after), (after, before)):
            if after is steps[-1]:  # `rekey --check` has said that nothing is stored under the old key
                assert writes.is_current(writes.encrypt(SESSION))
            assert reads.decrypt(writes.encrypt(SESSION)) == SESSION
    # Put in front at once, the new key would shut out whoever does not know it yet.
    assert steps[0].decrypt(steps[2].encrypt(SESSION)) is None


def test_a_key_is_named_alike_by_every_process_and_its_name_gives_nothing_away() -> None:
    old, new = new_key(), new_key()
    first, second = vault(old, new), vault(new, old)
    assert first.key_ids == list(reversed(second.key_ids))
    assert second.key_of(first.encrypt(SESSION)) == first.key_ids[0]
    assert not [key_id for key_id in first.key_ids if key_id in old + new]


@pytest.mark.parametrize(
    "stored",
    [b"", b"not a token", vault(new_key()).encrypt(SESSION)],
    ids=["nothing", "no token", "under another key"],
)
def test_what_no_key_fits_is_nothing_and_stays_as_it_is(stored: bytes) -> None:
    assert vault(KEY).decrypt(stored) is None
    assert vault(KEY).key_of(stored) is None
    assert vault(KEY).reencrypt(stored) is None
    assert not vault(KEY).is_current(stored)


@pytest.mark.parametrize(
    "keys",
    ["", "secret-but-no-key", f"{KEY},", f"{KEY},short"],
    ids=["nothing", "no key", "a comma at the end", "a short second"],
)
def test_what_is_no_list_of_keys_stops_the_process_without_showing_it(keys: str) -> None:
    with pytest.raises(SettingsError, match=r"TOPSYNC_TOKEN_KEYS.*topsync new-key") as refused:
        vault(keys)
    assert "secret-but-no-key" not in str(refused.value)
    assert KEY not in str(refused.value)


def test_every_new_key_is_another() -> None:
    assert new_key() != new_key()
