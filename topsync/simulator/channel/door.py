"""Who may connect to the channel: signatures, groups, tokens. Decides, and does nothing."""

from __future__ import annotations

import hashlib
import random as random_module
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from topsync.platforms.taobao.channel.frames import Frame, Value
from topsync.platforms.taobao.gateway.sign import SignMethod, sign
from topsync.simulator.channel.queue import DEFAULT_GROUP
from topsync.simulator.channel.settings import ChannelSettings, Refusal

Identity = tuple[str, str]
"""Application key and group: what a token stands for."""

SIGNED_FIELDS: Final = ("app_key", "group_name", "timestamp")
"""Sorted by name: the order in which they are signed (docs/platform/channel.md 3.2)."""


@dataclass(frozen=True, slots=True)
class Granted:
    """A CONNECT that is answered with a token."""

    identity: Identity
    token: str


class Door:
    """See the module. `apps` maps application keys to secrets; `chance` makes the tokens."""

    def __init__(
        self, settings: ChannelSettings, apps: Mapping[str, str], chance: random_module.Random
    ) -> None:
        self._settings = settings
        self._apps = dict(apps)
        self._chance = chance
        self._tokens: dict[Identity, str] = {}
        self._identities: dict[str, Identity] = {}
        self._groups = {(app, DEFAULT_GROUP) for app in apps}

    def add_group(self, identity: Identity) -> bool:
        """Make a group known, so that it may connect whatever the settings say. Idempotent.

        False when there is no room for more groups.
        """
        if identity not in self._groups and len(self._groups) >= self._settings.max_groups:
            return False
        self._groups.add(identity)
        return True

    def open_to(self, frame: Frame) -> Granted | Refusal:
        """The decision on a CONNECT, also on a second CONNECT of a connection (3.4)."""
        texts = {name: _text(frame.custom.get(name)) for name in SIGNED_FIELDS}
        secret = self._apps.get(texts["app_key"])
        if not texts["app_key"] or not texts["timestamp"]:
            return self._settings.bad_sign
        if secret is None:
            return self._settings.unknown_app
        # The timestamp may be any text that was signed: .NET sends ticks, so nobody checks its age (3.1).
        if frame.custom.get("sign") not in _signs(texts, secret):
            return self._settings.bad_sign
        identity = (texts["app_key"], texts["group_name"] or DEFAULT_GROUP)
        if identity not in self._groups and not (self._settings.any_group and self.add_group(identity)):
            return self._settings.unknown_group
        if self._settings.connect_token_required and (
            frame.custom.get("token") != self.connect_token(identity)
        ):
            return self._settings.no_connect_token
        return Granted(identity, self.token_of(identity))

    def identity_of(self, token: str | None) -> Identity | None:
        """Whose token it is: the token alone says who is speaking, on any connection (3.4)."""
        return self._identities.get(token or "")

    def token_of(self, identity: Identity) -> str:
        """A random UUID for each identity, not for each connection; only `replace_token` changes it (3.4)."""
        return self._tokens.get(identity) or self.replace_token(identity)

    def replace_token(self, identity: Identity) -> str:
        """Make a new token for an identity; a client that uses an old token is still recognised."""
        token = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
        self._tokens[identity] = token
        self._identities[token] = identity
        return token

    def connect_token(self, identity: Identity) -> str:
        """What `taobao.tmc.auth.get` answers: the value for CONNECT's own `token` field (3.1).

        Raises:
            KeyError: the application is unknown.
        """
        app, group = identity
        seed = f"{self._apps[app]} connect {app} {group}".encode()
        return hashlib.sha256(seed).hexdigest()[:32]


def _text(value: Value) -> str:
    return value if isinstance(value, str) else ""


def _signs(texts: Mapping[str, str], secret: str) -> set[str]:
    """The valid signatures: there are two ways to treat an empty field.

    Java, .NET and PHP leave it out; Node and Python sign its name (docs/platform/channel.md 3.2, 10).
    """
    named = "".join(name + texts[name] for name in SIGNED_FIELDS)
    digest = hashlib.md5(f"{secret}{named}{secret}".encode(), usedforsecurity=False).hexdigest()
    return {sign(texts, secret, SignMethod.MD5), digest.upper()}
