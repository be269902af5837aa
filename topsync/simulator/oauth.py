"""The two OAuth endpoints: `/authorize` for a seller's browser, `/token` for an app.

Source: docs/platform/gateway.md 3.16. They have an address of their own, as on the platform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from html import escape
from urllib.parse import urlencode, urlsplit, urlunsplit

import orjson
from aiohttp import web

from topsync.simulator.authorisations import Authorisations, GrantError
from topsync.simulator.sellers import SimulatedSeller

AUTHORISE_PATH = "/authorize"
TOKEN_PATH = "/token"  # noqa: S105 -- a path

_REFUSED_STATUS = 400
"""Not documented; these are the statuses of RFC 6749."""


@dataclass(frozen=True, slots=True)
class OAuthEndpoints:
    """The HTTP face: `/authorize` for a browser, `/token` for an app."""

    authorisations: Authorisations
    sellers: list[SimulatedSeller]
    apps: Mapping[str, str]
    now: Callable[[], datetime]
    token_from_query: bool
    """Whether the token endpoint also takes a GET, and parameters from the query."""

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application()
        application.router.add_get(AUTHORISE_PATH, self.authorise, allow_head=False)
        application.router.add_post(TOKEN_PATH, self.token)
        if self.token_from_query:
            application.router.add_get(TOKEN_PATH, self.token, allow_head=False)
        return application

    async def authorise(self, request: web.Request) -> web.Response:
        """The page where the seller says yes. Without `user_id`, it offers every seller of the world."""
        query = request.query
        redirect_uri = query.get("redirect_uri", "")
        if (
            query.get("response_type") != "code"
            or query.get("client_id") not in self.apps
            or not redirect_uri
        ):
            return web.Response(status=400, text="response_type, client_id or redirect_uri is wrong")
        if "user_id" not in query:
            return _page(request, self.sellers)
        seller = next((each for each in self.sellers if str(each.user_id) == query["user_id"]), None)
        if seller is None:
            return web.Response(status=404, text="no seller has that user_id")
        sub_user = int(query["sub_user_id"]) if query.get("sub_user_id", "").isdigit() else None
        code = self.authorisations.new_code(seller, redirect_uri, sub_user)
        parts = urlsplit(redirect_uri)
        back = "&".join(
            filter(None, (parts.query, urlencode({"code": code, "state": query.get("state", "")})))
        )
        return web.Response(status=302, headers={"Location": urlunsplit(parts._replace(query=back))})

    async def token(self, request: web.Request) -> web.Response:
        """Exchange of a code, and refresh."""
        form = dict(request.query) if self.token_from_query else {}
        form |= {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        try:
            answer, status = self.authorisations.answer(form), 200
        except GrantError as error:
            answer, status = {"error": error.error, "error_description": error.description}, _REFUSED_STATUS
        headers = {
            "Content-Type": "application/json;charset=UTF-8",
            "Date": format_datetime(self.now().replace(microsecond=0), usegmt=True),
        }
        return web.Response(body=orjson.dumps(answer), status=status, headers=headers)


def _page(request: web.Request, sellers: list[SimulatedSeller]) -> web.Response:
    rows = "".join(
        f'<li><a href="{escape(str(request.rel_url.update_query(user_id=str(seller.user_id))))}">'
        f"{escape(seller.nick)}</a> ({seller.user_id})</li>"
        for seller in sellers
    )
    page = f"<!doctype html><title>authorise</title><p>Say yes, as the seller:</p><ul>{rows}</ul>"
    return web.Response(text=page, content_type="text/html")
