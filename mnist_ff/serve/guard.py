"""Access control: the token, and the Host, Origin and Referer headers. Security headers of every response."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs

from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_BYTES = 24
METHODS = ("GET", "HEAD")
HOST = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::([0-9]{1,5}))?")
"""Host headers that are allowed: names of this machine, with any port, as an SSH tunnel may start at another one.
This stops DNS rebinding: a website that resolves its own name to 127.0.0.1 sends that name."""
OWN_SITES = (None, b"none", b"same-origin")
"""Sec-Fetch-Site for a typed address and for this server's own pages. Another port of the host is `same-site`."""
CLOSED_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS: Mapping[str, str] = {
    "content-security-policy": CLOSED_POLICY,
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Headers of every response, unless the response sets its own value."""
REOPEN = "Open the address that mnist-ff serve printed in its terminal: it has the token that this page asks for."
REDIRECT_PAGE = '<meta http-equiv="refresh" content="0; url=/"><p><a href="/">Continue</a></p>'


@dataclass
class Tokens:
    """The secrets that give access: the token, and a one-time token for the browser that the server starts."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES))
    _one_time: str | None = None

    def new_one_time_token(self) -> str:
        """A token that is valid once. It may be seen in a browser's arguments by other users of the machine."""
        self._one_time = secrets.token_urlsafe(TOKEN_BYTES)
        return self._one_time

    def is_token(self, word: bytes) -> bool:
        """Whether this is the token, compared in constant time."""
        return hmac.compare_digest(word, self.token.encode())

    def in_query(self, query: Mapping[str, list[bytes]]) -> bool:
        """Whether a query string has the token or the one-time token, which is then used up."""
        given, once = query.get("token", []), query.get("once", [])
        if any(map(self.is_token, given)):
            return True
        if self._one_time is not None and any(hmac.compare_digest(word, self._one_time.encode()) for word in once):
            self._one_time = None
            return True
        return False


class Guard:
    """ASGI middleware that passes allowed requests to the application and answers all others itself."""

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self.app, self.tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return
        answer = self._answer(scope) or self.app
        await answer(scope, receive, _with_headers(send))

    def _answer(self, scope: Scope) -> Response | None:
        """The response to a refused request or to the token in the address, None for a request that may pass."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if scope["method"] not in METHODS:
            return refusal(405, "This server is read-only.", {"allow": ", ".join(METHODS)})
        hosts = _values(headers, b"host")
        asked = HOST.fullmatch(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
        if asked is None:
            return refusal(403, "This server answers to 127.0.0.1 and localhost only.")
        origin = b"http://" + hosts[0]
        if any(value != origin for value in _values(headers, b"origin")):
            return refusal(403, "This request comes from another page.")
        query = _query(scope["query_string"]) if scope["path"] == "/" else {}
        if self.tokens.in_query(query):
            return self._log_in(f"mnist-ff-{asked[1] or 80}", headers)
        if any(self.tokens.is_token(word) for word in _bearers(headers)):
            return None
        if not _is_own(headers, origin):
            return refusal(403, f"This request comes from another page. {REOPEN}")
        if any(self.tokens.is_token(word) for word in _cookies(headers, f"mnist-ff-{asked[1] or 80}".encode())):
            return None
        return refusal(403, REOPEN)

    def _log_in(self, cookie: str, headers: list[tuple[bytes, bytes]]) -> Response:
        """Set the cookie and redirect to the address without the token. After a redirect that began at another site,
        a browser does not send a SameSite=Strict cookie, so such a request gets a page that refreshes itself."""
        if all(site in OWN_SITES for site in _values(headers, b"sec-fetch-site")):
            answer = Response(status_code=303, headers={"location": "/"})
        else:
            answer = HTMLResponse(REDIRECT_PAGE)
        answer.headers["set-cookie"] = f"{cookie}={self.tokens.token}; HttpOnly; SameSite=Strict; Path=/"
        return answer


def refusal(code: int, why: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error page with the status `code` and the reason, which is HTML."""
    title = f"{code} {HTTPStatus(code).phrase}"
    page = f'<!doctype html><html lang="en"><title>{title}</title><h1>{title}</h1><p>{why}</p></html>\n'
    return HTMLResponse(page, code, headers)


def _query(words: bytes) -> dict[str, list[bytes]]:
    """The fields of a query string. Values are bytes, as anything may be sent."""
    fields = parse_qs(words.decode("latin-1"), errors="replace")
    return {name: [value.encode("utf-8", "replace") for value in values] for name, values in fields.items()}


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _bearers(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """The tokens of `Authorization: Bearer TOKEN` headers, as programs send them."""
    return [value[7:] for value in _values(headers, b"authorization") if value[:7].lower() == b"bearer "]


def _cookies(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """The values of all cookies with this name. A browser sends a host's cookies to each of its ports, so cookies of
    other servers may be among them."""
    pairs = [part.strip().partition(b"=") for value in _values(headers, b"cookie") for part in value.split(b";")]
    return [value for key, _, value in pairs if key == name]


def _is_own(headers: Iterable[tuple[bytes, bytes]], origin: bytes) -> bool:
    """Whether Sec-Fetch-Site and Referer, where present, name a typed address or one of this server's pages."""
    referers = _values(headers, b"referer")
    sites = _values(headers, b"sec-fetch-site")
    return all(site in OWN_SITES for site in sites) and all((one + b"/").startswith(origin + b"/") for one in referers)


def _with_headers(send: Send) -> Send:
    """A `send` that adds HEADERS to a response, except those that it already has."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {key.lower() for key, _ in message["headers"]}
            more = [(key.encode(), value.encode()) for key, value in HEADERS.items() if key.encode() not in own]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending
