"""Stored sessions cannot be read without a key, and a change of keys loses no session."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from topsync.base import settings
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
    # If the new key came first at once, processes that do not know it yet could not read.
    assert steps[0].decrypt(steps[2].encrypt(SESSION)) is None


def test_a_running_process_takes_new_keys_from_the_file_and_loses_no_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps of docs/sellers.md without a restart; a file that is half written changes nothing."""
    old, new = new_key(), new_key()
    file = tmp_path / "TOPSYNC_TOKEN_KEYS"
    file.write_text(old)
    monkeypatch.delenv("TOPSYNC_TOKEN_KEYS", raising=False)
    monkeypatch.setenv("TOPSYNC_SECRETS_DIR", str(tmp_path))
    running = Vault(settings.load(VaultSettings))
    stored = running.encrypt(SESSION)
    file.write_text(f"{old},{new}")
    assert running.decrypt(vault(new).encrypt(SESSION)) == SESSION
    assert vault(old).decrypt(running.encrypt(SESSION)) == SESSION
    file.write_text(f"{new},{old}")
    assert not running.is_current(stored)
    assert running.decrypt(stored) == SESSION
    for broken in ("", "half-a-key", f"{new},"):
        file.write_text(broken)
        assert running.decrypt(stored) == SESSION
    file.write_text(new)
    assert running.decrypt(stored) is None
    assert vault(new).decrypt(running.encrypt(SESSION)) == SESSION


def test_every_process_gives_a_key_the_same_name_and_the_name_reveals_nothing() -> None:
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
def test_a_session_that_no_key_opens_reads_as_nothing_and_stays_as_it_is(stored: bytes) -> None:
    assert vault(KEY).decrypt(stored) is None
    assert vault(KEY).key_of(stored) is None
    assert vault(KEY).reencrypt(stored) is None
    assert not vault(KEY).is_current(stored)


@pytest.mark.parametrize(
    "keys",
    ["", "secret-but-no-key", f"{KEY},", f"{KEY},short"],
    ids=["nothing", "no key", "a comma at the end", "a short second"],
)
def test_a_wrong_list_of_keys_stops_the_process_and_is_not_shown(keys: str) -> None:
    with pytest.raises(SettingsError, match=r"TOPSYNC_TOKEN_KEYS.*topsync new-key") as refused:
        vault(keys)
    assert "secret-but-no-key" not in str(refused.value)
    assert KEY not in str(refused.value)


def test_no_two_new_keys_are_equal() -> None:
    assert new_key() != new_key()
