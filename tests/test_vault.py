"""Sessions at rest: unreadable without a key, and keys can be changed without losing one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from topsync.settings import SettingsError, VaultSettings
from topsync.vault import Vault, VaultError, new_key

SESSION = SecretStr("6100e1aDEMOSESSION0001")
KEY = new_key()


def vault(*keys: str) -> Vault:
    return Vault(VaultSettings(token_keys=SecretStr(",".join(keys))))


@given(session=st.text(st.characters(codec="utf-8")))
def test_a_session_reads_back_as_it_was(session: str) -> None:
    opened = vault(KEY).decrypt(vault(KEY).encrypt(SecretStr(session)))
    assert opened.get_secret_value() == session


def test_the_stored_form_holds_no_trace_of_the_session_and_never_repeats() -> None:
    stored = vault(KEY).encrypt(SESSION)
    assert SESSION.get_secret_value().encode() not in stored
    assert stored != vault(KEY).encrypt(SESSION)


def test_a_new_key_in_front_encrypts_while_the_old_one_still_decrypts() -> None:
    old, new = new_key(), new_key()
    stored = vault(old).encrypt(SESSION)
    rotating = vault(new, f" {old} ")
    assert rotating.decrypt(stored) == SESSION
    renewed = rotating.encrypt(SESSION)
    assert vault(new).decrypt(renewed) == SESSION
    with pytest.raises(VaultError):
        vault(old).decrypt(renewed)


@pytest.mark.parametrize(
    "stored",
    [b"", b"not a token", vault(new_key()).encrypt(SESSION)],
    ids=["nothing", "no token", "under another key"],
)
def test_what_no_key_fits_is_an_error_that_says_what_to_do(stored: bytes) -> None:
    with pytest.raises(VaultError, match="TOPSYNC_TOKEN_KEYS: add the key") as refused:
        vault(KEY).decrypt(stored)
    assert refused.value.__suppress_context__


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
