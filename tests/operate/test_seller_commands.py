"""Operators and sellers: authorise, pause, resume, change keys; no screen ever shows a token."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson
import pytest
from pydantic import SecretStr

from tests.sellers.shops import REDIRECT_URL, Process, Shop
from topsync.base.errors import OperatorError
from topsync.base.settings import VaultSettings
from topsync.base.vault import Vault, new_key
from topsync.model.scheme import Scheme
from topsync.operate import erase_command, seller_commands
from topsync.operate.seller_commands import SellerOperationError
from topsync.sellers.session_rules import REFUSED
from topsync.store import erasures, sellers
from topsync.store.sellers import AmbiguousError, Seller, SellerState

KEY = new_key()


async def nobody(_: str) -> str:
    raise AssertionError("no question was expected")


@pytest.fixture
async def process(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Process]:
    """The database for checks; the commands take everything from the environment."""
    platform = shop.platform
    for name, value in {
        "TOPSYNC_APP_KEY": platform.settings.app_key,
        "TOPSYNC_APP_SECRET": platform.settings.app_secret,
        "TOPSYNC_OAUTH_URL": platform.addresses.oauth_url,
        "TOPSYNC_OAUTH_REDIRECT_URL": REDIRECT_URL,
        "TOPSYNC_DATABASE_URL": shop.database_url,
        "TOPSYNC_TOKEN_KEYS": KEY,
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    shop.vault = vault(KEY)
    async with shop.process() as process:
        await process.pool.execute(
            "update sellers set session_cipher = $1, refresh_cipher = $2",
            shop.vault.encrypt(SecretStr("old")),
            shop.vault.encrypt(SecretStr("old refresh")),
        )
        yield process


def vault(*keys: str) -> Vault:
    return Vault(VaultSettings(token_keys=SecretStr(",".join(keys))))


def came_back_with(shop: Shop, printed: str, index: int = 0) -> str:
    """The last address of the seller's browser after it opened the printed address, logged in and agreed."""
    url = re.search(r"http\S+/authorize\S+", printed)
    assert url is not None, printed
    query = {name: values[0] for name, values in parse_qs(urlsplit(url[0]).query).items()}
    # The simulator runs in this loop, so its answer is taken directly.
    code = shop.authorisations.new_code(shop.platform.sellers[index], query["redirect_uri"])
    return str(httpx.URL(query["redirect_uri"], params={"code": code, "state": query["state"]}))


async def authorised(
    shop: Shop, capsys: pytest.CaptureFixture[str], name: str | None, *, seller: int = 0
) -> str:
    """What the command prints once the seller has agreed."""

    async def agree(_: str) -> str:
        return came_back_with(shop, capsys.readouterr().out, seller)

    await seller_commands.authorise(name, None, agree)
    return capsys.readouterr().out


def code_for(shop: Shop, index: int = 0) -> str:
    return shop.authorisations.new_code(shop.platform.sellers[index], REDIRECT_URL)


async def test_an_expired_seller_that_authorises_gets_its_former_state_and_a_replay(
    shop: Shop, process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    await sellers.refuse(process.pool, shop.seller_id, 1, REFUSED)
    output = await authorised(shop, capsys, str(shop.seller_id))
    assert "has authorised until" in output
    assert "is replayed" in output
    seller = await shop.seller(process)
    assert (seller.state, seller.version, seller.replay_due) == (SellerState.NEW, 2, True)
    await process.works(process.sessions.account(seller))


async def test_a_code_in_the_command_asks_nothing(shop: Shop, process: Process) -> None:
    await seller_commands.authorise(shop.platform.sellers[0].nick, code_for(shop), nobody)
    await process.works(await process.account(shop.seller_id))


async def test_a_session_of_another_seller_is_refused_and_not_stored(shop: Shop, process: Process) -> None:
    other = shop.platform.sellers[1]
    with pytest.raises(SellerOperationError, match=rf"{other.user_id}\) has authorised, not") as refused:
        await seller_commands.authorise(str(shop.seller_id), code_for(shop, 1), nobody)
    assert "nothing is stored" in str(refused.value)
    assert (await shop.seller(process)).version == 1
    assert await sellers.get(process.pool, other.user_id) is None


async def test_without_a_name_the_seller_that_authorises_is_added(
    shop: Shop, process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shop.platform.sellers[1]
    output = await authorised(shop, capsys, None, seller=1)
    assert f"topsync bootstrap --seller {other.user_id}" in output
    added = await sellers.get(process.pool, other.user_id)
    assert added is not None
    assert (added.nick, added.state) == (other.nick, SellerState.NEW)
    await process.works(process.sessions.account(added))


@pytest.mark.parametrize(
    ("handed_in", "output"),
    [
        ("", "no code in it"),
        ("https://shop.example/callback?state=x", "no code in it"),
        ("https://shop.example/callback?error=access_denied&state=x", "said no"),
        ("https://shop.example/callback?code=SECRETCODE&state=1.2.forged", "was not sent by this app"),
        ("https://shop.example/callback?code=SECRETCODE&state=.", "was not sent by this app"),
        ("SECRETCODE", "a code works once and not for long"),
    ],
)
async def test_an_address_that_cannot_be_used_is_reported_in_one_line_without_the_code(
    shop: Shop, process: Process, handed_in: str, output: str
) -> None:
    with pytest.raises(SellerOperationError, match=output) as refused:
        await seller_commands.authorise(str(shop.seller_id), handed_in, nobody)
    assert "SECRETCODE" not in str(refused.value)
    assert (await shop.seller(process)).version == 1


async def test_the_address_of_another_seller_is_not_answered(
    shop: Shop, process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    came_back: list[str] = []

    async def says_no(_: str) -> str:
        came_back.append(came_back_with(shop, capsys.readouterr().out))
        return ""

    with pytest.raises(SellerOperationError, match="no code"):
        await seller_commands.authorise(None, None, says_no)
    with pytest.raises(SellerOperationError, match="the address of another seller"):
        await seller_commands.authorise(str(shop.seller_id), came_back[0], nobody)


async def test_a_paused_seller_that_authorises_stays_paused_until_it_is_resumed(
    shop: Shop, process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(shop.seller_id)
    await seller_commands.pause(name, "a holiday")
    await seller_commands.pause(name, "again")
    assert "is paused already" in capsys.readouterr().out
    assert await process.sessions.get(shop.seller_id) is None
    await seller_commands.authorise(name, code_for(shop), nobody)
    assert "still paused" in capsys.readouterr().out
    assert (await shop.seller(process)).state is SellerState.PAUSED
    await seller_commands.resume(name)
    assert (await shop.seller(process)).state is SellerState.NEW
    with pytest.raises(SellerOperationError, match="is not paused but new"):
        await seller_commands.resume(name)


async def test_a_given_grant_is_stored_with_its_ends_and_a_token_alone_with_the_given_end(
    shop: Shop, process: Process, tmp_path: Path
) -> None:
    form = {"grant_type": "authorization_code", "code": code_for(shop), "redirect_uri": REDIRECT_URL}
    who = {"client_id": "99000001", "client_secret": shop.platform.settings.app_secret}
    file = tmp_path / "grant.json"
    file.write_bytes(orjson.dumps(shop.authorisations.answer({**form, **who})))
    with pytest.raises(SellerOperationError, match=f"belongs to seller {shop.seller_id}, not to 5"):
        await seller_commands.add(5, "another", seller_commands.read_token_file(file), None)
    await seller_commands.add(shop.seller_id, "demo", seller_commands.read_token_file(file), None)
    seller = await shop.seller(process)
    assert seller.life.ends_at is not None
    assert seller.life.refresh_cipher is not None
    await process.works(process.sessions.account(seller))
    await seller_commands.add(
        shop.seller_id, "demo", b"6100token\n", datetime.fromisoformat("2027-01-31 08:00")
    )
    life = (await shop.seller(process)).life
    assert life.ends_at is not None
    assert (life.ends_at.isoformat(), life.refresh_cipher) == ("2027-01-31T00:00:00+00:00", None)
    with pytest.raises(SellerOperationError, match="--token-file: No such file"):
        seller_commands.read_token_file(tmp_path / "absent")


async def test_an_authorisation_is_stored_although_another_row_has_the_nick(
    shop: Shop, process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shops may exchange their nicks. A code works only once, so it must not be wasted."""
    first, second = shop.platform.sellers
    await sellers.add(process.pool, seller_id=second.user_id, nick=first.nick, session_cipher=b"x")
    await sellers.add(process.pool, seller_id=first.user_id, nick=second.nick, session_cipher=b"x")
    await seller_commands.authorise(str(first.user_id), code_for(shop), nobody)
    output = capsys.readouterr().out
    assert f"{second.user_id} is known under the same nick" in output
    with pytest.raises(AmbiguousError, match=f"{first.user_id} .*and {second.user_id} "):
        await seller_commands.pause(first.nick, "for no reason")
    await seller_commands.authorise(str(second.user_id), code_for(shop, 1), nobody)
    assert "same nick" not in capsys.readouterr().out
    for seller in (first, second):
        found = await sellers.find(process.pool, seller.nick)
        assert found is not None
        assert found.seller_id == seller.user_id


async def test_a_command_for_an_id_does_not_touch_the_seller_with_that_nick(
    shop: Shop, process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    meant, other = shop.seller_id, 7
    await sellers.add(process.pool, seller_id=other, nick=str(meant), session_cipher=b"x")
    await seller_commands.pause(str(meant), "meant")
    assert f"({meant}) is paused" in capsys.readouterr().out
    assert [seller.state for seller in await sellers.all_of(process.pool)] == [
        SellerState.NEW,
        SellerState.PAUSED,
    ]
    with pytest.raises(SellerOperationError, match="nothing is erased"):
        await erase_command.erase(str(other), str(meant), nobody, stalled_after_seconds=1)
    assert [seller.state for seller in await sellers.all_of(process.pool)] == [
        SellerState.NEW,
        SellerState.PAUSED,
    ]


async def test_sellers_for_machines_are_a_single_document_whatever_is_in_a_nick(
    shop: Shop, process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    nick = "\x1b]0;title\x07 [/b] \u202e\n店"
    await sellers.add(process.pool, seller_id=7, nick=nick, session_cipher=b"x")
    await sellers.pause(process.pool, 7, "a holiday")
    await seller_commands.list_all(as_json=True)
    listed = capsys.readouterr().out
    await seller_commands.show("7", as_json=True)
    shown = capsys.readouterr().out
    for written in (listed, shown):
        assert written.count("\n") == 1
        assert written.removesuffix("\n").isprintable()
    (first, second) = orjson.loads(listed)["sellers"]
    assert (first["seller_id"], first["nick"], first["reason"]) == ("7", nick, "a holiday")
    assert second["seller_id"] == str(shop.seller_id)
    document = orjson.loads(shown)
    assert first.items() <= document.items()
    assert (
        document["orders"],
        document["complete_until"],
        document["open_gaps"],
        document["bulk_start"],
    ) == (0, None, [], None)


async def test_many_sellers_are_imported_at_once_with_sessions_that_work(
    shop: Shop, process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        line_of(seller.user_id, seller.nick, shop.authorisations.current(seller).token)
        for seller in shop.platform.sellers
    ]
    for _ in range(2):
        await seller_commands.add_all(b"\n\n".join(lines) + b"\n")
        assert "2 sellers have their sessions" in capsys.readouterr().out
        for seller in shop.platform.sellers:
            account = await process.account(seller.user_id)
            assert (account.seller.nick, account.seller.state) == (seller.nick, SellerState.NEW)
            await process.works(account)


async def test_sellers_are_imported_with_the_scheme_of_their_line_or_else_of_the_command(
    shop: Shop, process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        orjson.dumps({"user_id": 7, "nick": "n", "session": "6100", "scheme": "one"}),
        line_of(8, "other", "6100"),
    ]
    await seller_commands.add_all(b"\n".join(lines), Scheme.TWO)
    await seller_commands.add(9, "third", b"6100", None, Scheme.THREE)
    capsys.readouterr()
    await seller_commands.list_all(as_json=True)
    found = {each["seller_id"]: each for each in orjson.loads(capsys.readouterr().out)["sellers"]}
    assert [found[name]["own_scheme"] for name in "789"] == ["one", "two", "three"]
    rest = found[str(shop.seller_id)]
    assert (rest["own_scheme"], rest["scheme"], rest["polled"]) == (None, "auto", False)


async def test_a_seller_gets_another_scheme_and_the_command_says_how_its_changes_come(
    shop: Shop, process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(shop.seller_id)
    await seller_commands.set_scheme(name, Scheme.TWO)
    said = capsys.readouterr().out
    assert "has scheme two (its own)" in said
    assert "polled every 180 s" in said
    await seller_commands.show(name)
    assert re.search(r"scheme +two \(its own\), polled", capsys.readouterr().out)
    await sellers.set_messages(process.pool, shop.seller_id, cancelled=True)
    await seller_commands.set_scheme(name, None)
    said = capsys.readouterr().out
    assert "has scheme auto (the installation's)" in said
    assert "until then it is polled" in said
    await erasures.begin(process.pool, shop.seller_id)
    with pytest.raises(SellerOperationError):
        await seller_commands.set_scheme(name, Scheme.TWO)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"user_id": 7, "nick": "n", "session": "6100secret", "scheme": "four"}', "line 2: scheme: "),
        (b"6100secret", "line 2: Invalid JSON"),
        (b'{"user_id": 7, "nick": "n", "session": ""}', "line 2: session: "),
        (b'{"user_id": "x6100secret", "nick": "n", "session": "6100secret"}', "line 2: user_id: "),
        (b'{"user_id": 7, "nick": "n", "session": "6100secret", "ends": 1}', "line 2: ends: "),
        (b'{"user_id": 9223372036854775808, "nick": "n", "session": "6100secret"}', "line 2: user_id: "),
        (b'{"user_id": 7, "nick": " ", "session": "6100secret"}', "line 2: nick: "),
        (b'{"user_id": 7, "nick": "a\\u0000b", "session": "6100secret"}', "line 2: nick: "),
        (b'\x00{"user_id": 7, "nick": "\xff", "session": "6100secret"}', "line 2: Invalid JSON"),
    ],
    ids=["scheme", "no-json", "no-session", "no-id", "more", "65-bits", "no-nick", "nul", "bytes"],
)
async def test_an_import_with_a_bad_line_adds_no_seller_and_shows_no_value(
    shop: Shop, process: Process, line: bytes, problem: str
) -> None:
    with pytest.raises(SellerOperationError) as refused:
        await seller_commands.add_all(line_of(6, "first", "6100first") + b"\n" + line)
    assert str(refused.value).startswith(problem)
    assert "secret" not in str(refused.value)
    assert await sellers.get(process.pool, 6) is None


async def test_an_import_that_names_a_seller_being_erased_adds_nobody(shop: Shop, process: Process) -> None:
    await erasures.begin(process.pool, shop.seller_id)
    with pytest.raises(OperatorError, match="is being erased"):
        await seller_commands.add_all(
            line_of(6, "first", "6100") + b"\n" + line_of(shop.seller_id, "demo", "6100")
        )
    assert await sellers.get(process.pool, 6) is None


def line_of(user_id: int, nick: str, session: str) -> bytes:
    return orjson.dumps({"user_id": user_id, "nick": nick, "session": session})


async def test_list_and_show_say_in_which_state_a_seller_is_and_what_to_do(
    shop: Shop,
    process: Process,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    await seller_commands.authorise(str(shop.seller_id), code_for(shop), nobody)
    seller = await shop.seller(process)
    await process.pool.execute("update sellers set session_ends_at = now() + interval '6.5 days'")
    await seller_commands.list_all()
    await seller_commands.show(seller.nick)
    written = capsys.readouterr().out
    assert re.search(rf"{seller.seller_id} .*{seller.nick} .* new .* 6\.[45] .* yes ", written)
    for row in ("refreshable +until 20", "complete until +not bootstrapped", "open gaps +none"):
        assert re.search(row, written), row
    assert "level w2 ends" in written
    await sellers.refuse(process.pool, shop.seller_id, seller.version, REFUSED)
    await process.pool.execute("update sellers set refresh_cipher = null")
    await seller_commands.show(seller.nick)
    written += (last := capsys.readouterr().out)
    assert re.search(rf"why +{REFUSED}", last)
    assert f"topsync sellers authorise {shop.seller_id}" in last
    with pytest.raises(SellerOperationError, match="no seller nobody"):
        await seller_commands.show("nobody")
    assert not [token for token in shop.tokens() | {"old"} if token in written]


async def test_an_old_key_can_be_removed_when_the_command_says_so(
    shop: Shop, process: Process, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await seller_commands.authorise(str(shop.seller_id), code_for(shop), nobody)
    before = await shop.seller(process)
    new = new_key()
    monkeypatch.setenv("TOPSYNC_TOKEN_KEYS", f"{new},{KEY}")
    assert await seller_commands.rekey(only_check=True) == 1
    assert await shop.seller(process) == before
    assert await seller_commands.rekey(only_check=False) == 0
    assert "encrypted anew: 1 of 1 sellers" in capsys.readouterr().out
    assert await seller_commands.rekey(only_check=True) == 0
    after: Seller = await shop.seller(process)
    assert after.version == before.version
    for cipher, former in (
        (after.session_cipher, before.session_cipher),
        (after.life.refresh_cipher, before.life.refresh_cipher),
    ):
        assert cipher is not None
        assert former is not None
        assert vault(new).decrypt(cipher) == vault(KEY).decrypt(former)
        assert vault(KEY).decrypt(cipher) is None


async def test_rekey_continues_after_a_seller_whose_key_is_lost_and_names_it_and_the_keys_in_use(
    shop: Shop, process: Process, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new = new_key()
    lost = vault(new_key()).encrypt(SecretStr("lost"))
    good = vault(KEY).encrypt(SecretStr("good"))
    # The seller whose key is lost comes first.
    await sellers.add(process.pool, seller_id=1, nick="lost_shop", session_cipher=lost)
    await process.pool.execute(
        "update sellers set refresh_cipher = null, session_cipher = $1 where seller_id > 1", good
    )
    monkeypatch.setenv("TOPSYNC_TOKEN_KEYS", f"{new},{KEY}")
    assert await seller_commands.rekey(only_check=True) == 1
    written = capsys.readouterr().out
    (first, second) = vault(new, KEY).key_ids
    assert f"key 1 of TOPSYNC_TOKEN_KEYS ({first}): 0 of 2 sellers" in written
    assert f"key 2 of TOPSYNC_TOKEN_KEYS ({second}): 1 of 2 sellers" in written
    assert f"keep {second}" in written

    assert await seller_commands.rekey(only_check=False) == 1
    written = capsys.readouterr().out
    assert "encrypted anew: 1 of 2 sellers" in written
    assert "no key: lost_shop (1)" in written
    assert "topsync sellers authorise 1" in written
    assert "keep" not in written
    assert vault(new).decrypt((await shop.seller(process)).session_cipher) == SecretStr("good")
    kept = await sellers.get(process.pool, 1)
    assert kept is not None
    assert kept.session_cipher == lost


async def test_without_a_callback_the_command_says_which_setting_is_missing(
    shop: Shop, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOPSYNC_OAUTH_REDIRECT_URL")
    with pytest.raises(SellerOperationError, match="set TOPSYNC_OAUTH_REDIRECT_URL"):
        await seller_commands.authorise(str(shop.seller_id), None, nobody)
