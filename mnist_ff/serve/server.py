"""The server's socket, its end, and the browser that is opened."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from mnist_ff.analysis.console import warning
from mnist_ff.errors import ConfigError, of_the_machine

LOOPBACK = "127.0.0.1"
MOST_CONNECTIONS = 128
"""At once; more are turned away. Each page that follows a run holds one."""
LONGEST_REQUEST = 32 << 10
"""Bytes of a request's line and headers: an address that names MOST_COMPARED runs takes 6 KB."""
IDLE_S = 10.0
"""After which a connection is closed that asks for nothing, and after twice as many at the latest."""
REMOTE = ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")


def listening(port: int) -> socket.socket:
    """A socket of this machine alone that listens; of port 0 at a free one. Errors: ConfigError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # a server that ended a moment ago leaves its port in use
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(MOST_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise ConfigError(f"--port {port}: {error.strerror}; leave it out for a free one") from None
    return listener


class _Complaints:
    """Says each error of the event loop once, in a line: one of too many open files comes a thousand times a second."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """One error."""
        error = context.get("exception")
        of_machine = None if error is None else of_the_machine(error)
        said = of_machine[0] if of_machine else str(context["message"])
        if said not in self._said:
            self._said.add(said)
            warning(f"the server goes on without some requests: {said}")


class Connection(H11Protocol):
    """A connection that is closed where its request, or its reader, does not come: everybody on this machine can open
    all MOST_CONNECTIONS, without a token."""

    _check: asyncio.TimerHandle | None = None
    _before: tuple[RequestResponseCycle | None, int] | None = None
    """At the check before: the last request, and how much of its answer was not taken."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It begins."""
        super().connection_made(transport)
        self._check_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """It ends."""
        if self._check is not None:
            self._check.cancel()
        super().connection_lost(exc)

    def _check_later(self) -> None:
        self._before = self.cycle, self.transport.get_write_buffer_size()
        self._check = self.loop.call_later(IDLE_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        """A request that is being answered takes the time it takes, if what is there of the answer is taken."""
        waiting = self.transport.get_write_buffer_size()
        answering = self.cycle is not None and not self.cycle.response_complete and not waiting
        if (self.cycle, waiting) == self._before and not answering:
            self.transport.abort()
        else:
            self._check_later()


class Server(uvicorn.Server):
    """uvicorn's, which ends at once when it is asked to: nothing is written that would have to be put away."""

    def __init__(self, app: ASGIApp, ready: Callable[[], None]) -> None:
        self._ready = ready
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            h11_max_incomplete_event_size=LONGEST_REQUEST,
            timeout_graceful_shutdown=0,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that it is ready when it answers and hears signals."""
        asyncio.get_running_loop().set_exception_handler(_Complaints())
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ctrl-C and SIGTERM."""
        self.should_exit = self.force_exit = True


def serve(app: ASGIApp, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Answer requests until a signal; `ready` is called when both work."""
    Server(app, ready).run(sockets=[listener])


def has_browser() -> bool:
    """Whether a browser that is started here would be seen: neither over SSH nor without a screen."""
    if any(os.environ.get(name) for name in REMOTE):
        return False
    return not sys.platform.startswith("linux") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def open_browser(url: str) -> None:
    """Start a browser, which may take a while, beside the server."""
    threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
