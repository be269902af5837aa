"""The platforms that topsync knows, and which of them this installation copies from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from topsync.base import settings
from topsync.base.settings import PlatformSettings
from topsync.platforms.platform_port import OrderPlatform
from topsync.wiring.taobao import TaobaoPlatform

PLATFORMS: Final[dict[str, Callable[[], OrderPlatform]]] = {"taobao": TaobaoPlatform}
"""By the name that `TOPSYNC_PLATFORM` gives."""


def chosen() -> OrderPlatform:
    """The platform of this installation.

    Raises:
        SettingsError: there is none of this name.
    """
    name = settings.load(PlatformSettings).platform
    if name not in PLATFORMS:
        known = ", ".join(sorted(PLATFORMS))
        raise settings.wrong(PlatformSettings, "platform", f"no platform is called {name!r}; known: {known}")
    return PLATFORMS[name]()
