"""The server's socket, the uvicorn server and its shutdown, and starting a browser."""

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
MAX_CONNECTIONS = 128
"""Open connections; requests beyond it are refused with status 503. Each live page holds one."""
MAX_REQUEST_BYTES = 32 << 10
"""Size of a request's line and headers. A URL that compares MAX_COMPARED runs takes 6 KB."""
IDLE_S = 10.0
"""Seconds after which an idle connection is closed; it may take up to twice as long."""
SSH_VARIABLES = ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")


def listen_on(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1. Port 0 chooses a free one. Errors: ConfigError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # a server that ended a moment ago leaves its port in use
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise ConfigError(f"--port {port}: {error.strerror}; leave it out for a free one") from None
    return listener


class _ErrorReporter:
    """Prints each error of the event loop once. "Too many open files" can come a thousand times a second."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Print an error that has not been printed before."""
        error = context.get("exception")
        of_machine = None if error is None else of_the_machine(error)
        said = of_machine[0] if of_machine else str(context["message"])
        if said not in self._said:
            self._said.add(said)
            warning(f"the server goes on without some requests: {said}")


class Connection(H11Protocol):
    """A connection that is closed when it is idle: no request comes, or the response is not received. Otherwise any
    process of this machine could hold all MAX_CONNECTIONS without a token."""

    _check: asyncio.TimerHandle | None = None
    _before: tuple[RequestResponseCycle | None, int] | None = None
    """At the previous check: the last request, and how many bytes of its response were waiting to be sent."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the checks."""
        super().connection_made(transport)
        self._check_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the checks."""
        if self._check is not None:
            self._check.cancel()
        super().connection_lost(exc)

    def _check_later(self) -> None:
        self._before = self.cycle, self.transport.get_write_buffer_size()
        self._check = self.loop.call_later(IDLE_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        """Close the connection if nothing has changed since the last check. A response that is still being made may
        take any time, as long as what has been sent is received."""
        waiting = self.transport.get_write_buffer_size()
        answering = self.cycle is not None and not self.cycle.response_complete and not waiting
        if (self.cycle, waiting) == self._before and not answering:
            self.transport.abort()
        else:
            self._check_later()


class Server(uvicorn.Server):
    """uvicorn's server, which stops at once on a signal: it writes nothing, so no request has to be completed."""

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
            limit_concurrency=MAX_CONNECTIONS,
            h11_max_incomplete_event_size=MAX_REQUEST_BYTES,
            timeout_graceful_shutdown=0,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and call `ready` when requests are answered and signals are handled."""
        asyncio.get_running_loop().set_exception_handler(_ErrorReporter())
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at once on SIGINT (Ctrl-C) and SIGTERM."""
        self.should_exit = self.force_exit = True


def serve(app: ASGIApp, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Answer requests until a signal comes. `ready` is called when the server has started."""
    Server(app, ready).run(sockets=[listener])


def has_browser() -> bool:
    """Whether a browser can be opened for the user: not over SSH, and not without a display."""
    if any(os.environ.get(name) for name in SSH_VARIABLES):
        return False
    return not sys.platform.startswith("linux") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def open_browser(url: str) -> None:
    """Open the URL in a browser, in a thread of its own: starting a browser may take seconds."""
    threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
