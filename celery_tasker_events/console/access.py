"""Guard: who may see the console and act in it, and the headers that keep a browser strict. The first thing a request meets.

A page of another site can make a browser send requests to 127.0.0.1. It can't read the answers, nor does the cookie go
with them (SameSite), unless it is reached under a name that leads here (DNS rebinding): so the Host is checked too.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from celery_tasker_events.console.rendering import Pages

__all__ = ["HEADERS", "Access", "Guard", "is_loopback"]

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Access:
    """What opens the console.

    Args:
        token: What the URL has; None: nobody is asked for one.
        hosts: Names under which it may be reached, beside those of this machine.
        any_address: Whether it may be reached under any IP address: no name leads to one, so it can't be rebound.
        port: Tells its cookie from those of other servers of this machine: browsers don't.
    """

    def __init__(self, token: str | None, *, hosts: Collection[str], any_address: bool, port: int) -> None:
        self._token = token
        self._hosts = {"localhost", *(host.lower() for host in hosts)}
        self._any_address = any_address
        self._session = secrets.token_urlsafe(32)
        self.cookie_name = f"tasker_events_console_{port}"
        #: What the forms of this server have, and no other site knows.
        self.csrf_token = secrets.token_urlsafe(32)

    @property
    def cookie(self) -> str:
        """The header that a browser is given for the token; what is in it is not the token, and ends with the server."""
        return f"{self.cookie_name}={self._session}; HttpOnly; SameSite=Strict; Path=/"

    def knows_host(self, header: str) -> bool:
        """Whether a Host header names this server; the port may be that of a tunnel."""
        try:
            name = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        if name in self._hosts:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback or self._any_address
        except ValueError:
            return False

    def opens(self, token: str) -> bool:
        """Whether that is the token."""
        return self._token is not None and _equal(token, self._token)

    def admits(self, cookies: str) -> bool:
        """Whether a Cookie header has what the token was exchanged for."""
        return self._token is None or _equal(cookie_parser(cookies).get(self.cookie_name, ""), self._session)

    def is_ours(self, csrf_token: str) -> bool:
        """Whether a form is one of this server's."""
        return _equal(csrf_token, self.csrf_token)


class Guard:
    """ASGI middleware: turns away who may not, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, access: Access, pages: Pages) -> None:
        self._app = app
        self._access = access
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_strictly(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._answer(scope)
        await (self._app if answer is None else answer)(scope, receive, send_strictly)

    def _answer(self, scope: Scope) -> Response | None:
        """What to say instead of the page; None if the page is theirs."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._access.knows_host(host):
            return self._refusal(
                HTTPStatus.BAD_REQUEST,
                "Unknown host",
                "This console is not reached under that name. Open the address that the command printed, or start it with "
                "--allow-host and the name.",
            )
        if scope["method"] not in ("GET", "HEAD") and not _is_of(headers.get("origin", ""), host):
            return self._refusal(HTTPStatus.FORBIDDEN, "Refused", "The request comes from another site: nothing was done.")
        if scope["path"].startswith("/static/"):
            return None
        token = QueryParams(scope["query_string"]).get("token")
        if scope["path"] == "/" and token is not None and self._access.opens(token):
            # Not a redirect: in one that another site began, a strict cookie would not be sent along.
            return self._pages.render("signed_in.html", headers={"set-cookie": self._access.cookie})
        if not self._access.admits(headers.get("cookie", "")):
            return self._refusal(
                HTTPStatus.UNAUTHORIZED,
                "Token needed",
                "Open the address that the command printed, with the token in it. A token is good until the command ends.",
            )
        return None

    def _refusal(self, status: HTTPStatus, title: str, reason: str) -> Response:
        return self._pages.problem(status, title, reason, inside=False)


def _is_of(origin: str, host: str) -> bool:
    scheme, _, rest = origin.partition("://")
    return scheme in ("http", "https") and rest.lower() == host.lower()


def _equal(given: str, right: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), right.encode())
