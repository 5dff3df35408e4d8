"""Idle connections to `mnist-ff serve` are closed, so that they do not block others."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mnist_ff.serve import server

IDLE_S = 0.5
LARGE = b"x" * (16 << 20)


async def small(request: Request) -> Response:
    return PlainTextResponse("here")


async def large(request: Request) -> Response:
    return Response(LARGE)


async def slow(request: Request) -> Response:
    import asyncio

    await asyncio.sleep(5 * IDLE_S)
    return PlainTextResponse("late")


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(server, "IDLE_S", IDLE_S)
    listener, ready = server.listen_on(0), threading.Event()
    app = Starlette(routes=[Route("/", small), Route("/large", large), Route("/slow", slow)])
    running = server.Server(app, ready.set)
    thread = threading.Thread(target=running.run, args=[[listener]], daemon=True)
    thread.start()
    assert ready.wait(20)
    yield listener.getsockname()[1]
    running.should_exit = running.force_exit = True
    thread.join(20)
    listener.close()


def connected(port: int, first: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(first)
    return connection


def asked(path: str = "/") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def answered(connection: socket.socket) -> bytes:
    """Everything received until the server closes the connection."""
    content = b""
    try:
        while piece := connection.recv(1 << 20):
            content += piece
    except ConnectionResetError:
        pass
    return content


@pytest.mark.parametrize(
    "first", [b"", b"GET / HTTP/1.1\r\nHost: ", asked() + b"GET /", asked("/large") + asked("/large")]
)
def test_idle_connections_are_closed(first: bytes, port: int) -> None:
    """No request, an incomplete one, alone or after another one, and a response that is not received."""
    with ExitStack() as stack:
        idle = [stack.enter_context(connected(port, first)) for _ in range(server.MAX_CONNECTIONS)]
        deadline = time.monotonic() + 60
        while True:
            with connected(port, asked()) as one:
                if one.recv(1 << 16).startswith(b"HTTP/1.1 200"):
                    break
            assert time.monotonic() < deadline, "its places stay taken"
            time.sleep(IDLE_S)
        assert len(idle) == server.MAX_CONNECTIONS


def test_a_slow_response_is_complete(port: int) -> None:
    with connected(port, asked("/slow")) as one:
        assert answered(one).endswith(b"late")
    with connected(port, asked("/large")) as one:
        time.sleep(IDLE_S)
        assert len(answered(one)) > len(LARGE)
