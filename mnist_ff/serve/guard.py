"""Who may ask: the token, the host that was asked for, where a request comes from; and what every answer forbids."""

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
"""Names of this machine alone. Any port: a tunnel may begin at another one. A page elsewhere whose name is made to lead
here (DNS rebinding) asks for that name."""
FRIENDLY = (None, b"none", b"same-origin")
"""Sec-Fetch-Site of a typed address and of the server's own pages; another port of the same host is `same-site`."""
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
"""Of every answer, where it does not say another one itself."""
REOPEN = "Open the address that mnist-ff serve printed in its terminal: it has the token that this page asks for."
MOVED = '<meta http-equiv="refresh" content="0; url=/"><p><a href="/">Continue</a></p>'


@dataclass
class Keys:
    """What opens the page: the token, and a word that opens it once, for a browser that is started with it."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES))
    _once: str | None = None

    def once(self) -> str:
        """A word that stands for the token once: the arguments of a program are not secret on a shared machine."""
        self._once = secrets.token_urlsafe(TOKEN_BYTES)
        return self._once

    def is_token(self, word: bytes) -> bool:
        """Whether this is the token, in a time that does not tell how much of it fits."""
        return hmac.compare_digest(word, self.token.encode())

    def opens(self, query: Mapping[str, list[bytes]]) -> bool:
        """Whether the query of an address has the token, or the word that can be used once."""
        given, once = query.get("token", []), query.get("once", [])
        if any(map(self.is_token, given)):
            return True
        if self._once is not None and any(hmac.compare_digest(word, self._once.encode()) for word in once):
            self._once = None
            return True
        return False


class Guard:
    """Lets a request pass to the application, or answers it."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app, self.keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        answer = self._answer(scope) or self.app
        await answer(scope, receive, _with_headers(send))

    def _answer(self, scope: Scope) -> Response | None:
        """An answer to what may not pass, and to who opens the page; None for all else."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if scope["method"] not in METHODS:
            return refusal(405, "This server is only read from.", {"allow": ", ".join(METHODS)})
        hosts = _values(headers, b"host")
        asked = HOST.fullmatch(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
        if asked is None:
            return refusal(403, "This server answers to 127.0.0.1 and localhost only.")
        origin = b"http://" + hosts[0]
        if any(value != origin for value in _values(headers, b"origin")):
            return refusal(403, "This request comes from another page.")
        query = _query(scope["query_string"]) if scope["path"] == "/" else {}
        if self.keys.opens(query):
            return self._opened(f"mnist-ff-{asked[1] or 80}", headers)
        if any(self.keys.is_token(word) for word in _bearers(headers)):
            return None
        if not _is_own(headers, origin):
            return refusal(403, f"This request comes from another page. {REOPEN}")
        if any(self.keys.is_token(word) for word in _cookies(headers, f"mnist-ff-{asked[1] or 80}".encode())):
            return None
        return refusal(403, REOPEN)

    def _opened(self, cookie: str, headers: list[tuple[bytes, bytes]]) -> Response:
        """The cookie in place of the token, which leaves the address. A browser that was sent here by another page
        would not send the cookie after a redirect: it gets a page that moves on by itself."""
        if all(site in FRIENDLY for site in _values(headers, b"sec-fetch-site")):
            answer = Response(status_code=303, headers={"location": "/"})
        else:
            answer = HTMLResponse(MOVED)
        answer.headers["set-cookie"] = f"{cookie}={self.keys.token}; HttpOnly; SameSite=Strict; Path=/"
        return answer


def refusal(code: int, why: str, headers: Mapping[str, str] | None = None) -> Response:
    """A plain page that says why not."""
    title = f"{code} {HTTPStatus(code).phrase}"
    page = f'<!doctype html><html lang="en"><title>{title}</title><h1>{title}</h1><p>{why}</p></html>\n'
    return HTMLResponse(page, code, headers)


def _query(words: bytes) -> dict[str, list[bytes]]:
    """The fields of an address's query, whose values may be any bytes."""
    fields = parse_qs(words.decode("latin-1"), errors="replace")
    return {name: [value.encode("utf-8", "replace") for value in values] for name, values in fields.items()}


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _bearers(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """The token as a program sends it: Authorization: Bearer TOKEN."""
    return [value[7:] for value in _values(headers, b"authorization") if value[:7].lower() == b"bearer "]


def _cookies(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """The values of the cookies of this name. A host's cookies are the same for all its ports, so that another server's
    may be among them."""
    pairs = [part.strip().partition(b"=") for value in _values(headers, b"cookie") for part in value.split(b";")]
    return [value for key, _, value in pairs if key == name]


def _is_own(headers: Iterable[tuple[bytes, bytes]], origin: bytes) -> bool:
    """Whether a request comes from a typed address or a page of this server, as far as the browser says."""
    referers = _values(headers, b"referer")
    sites = _values(headers, b"sec-fetch-site")
    return all(site in FRIENDLY for site in sites) and all((one + b"/").startswith(origin + b"/") for one in referers)


def _with_headers(send: Send) -> Send:
    """Answers with HEADERS, but for those that an answer has itself."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {key.lower() for key, _ in message["headers"]}
            more = [(key.encode(), value.encode()) for key, value in HEADERS.items() if key.encode() not in own]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending
