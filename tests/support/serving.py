"""Requests to the application of `mnist-ff serve`, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp

HOST = "127.0.0.1:4000"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8")


def request(
    app: ASGIApp, path: str, headers: Sequence[tuple[str, str]] = (), method: str = "GET", most: int | None = None
) -> Answer:
    """One request; of an answer without an end its first `most` pieces."""
    return asyncio.run(_request(app, path, headers, method, most))


async def _request(
    app: ASGIApp, path: str, headers: Sequence[tuple[str, str]], method: str, most: int | None
) -> Answer:
    where, _, query = path.partition("?")
    given = headers if any(name == "host" for name, _ in headers) else [("host", HOST), *headers]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": where,
        "raw_path": where.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given],
        "server": ("127.0.0.1", 4000),
        "client": ("127.0.0.1", 5000),
    }
    sent: list[Any] = []
    enough = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if most is not None and len(sent) > most:
            enough.set()

    await app(scope, receive, send)
    start, *pieces = sent
    found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], found, b"".join(piece.get("body", b"") for piece in pieces))
