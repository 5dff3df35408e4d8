"""Server-sent events of a run to one viewer, and running blocking functions in threads."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

from mnist_ff.serve.live import Follower, Position

POLL_S = 0.5
"""Seconds between two checks of a run's files."""
HEARTBEAT_S = 15.0
"""Seconds without an event after which a comment is sent to keep the connection open."""
SEND_TIMEOUT_S = 30.0
"""Seconds a viewer may take to receive an event. Then the connection is closed; the browser reconnects where it was."""
RETRY_MS = 1_000
"""Milliseconds after which a browser reconnects."""

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """The result of a blocking function, run in a daemon thread, which does not delay the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except BaseException as error:
            failed = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=run, daemon=True).start()
    return await future


def event(name: str, value: Any, position: Position | None = None) -> bytes:
    """One server-sent event, encoded. A browser sends `position` back when it reconnects (Last-Event-ID)."""
    lines = [f"event: {name}"] if position is None else [f"id: {position}", f"event: {name}"]
    data = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return "\n".join([*lines, f"data: {data}", "", ""]).encode()


async def events_of(path: Path, position: Position | None, poll_s: float = POLL_S) -> AsyncIterator[bytes]:
    """A run's encoded events until it ends. Yields b"" when nothing is new, so that the sender can notice that the
    viewer has left. Nothing is read ahead for a slow viewer.
    """
    follower = Follower(path, position)
    yield f"retry: {RETRY_MS}\n\n".encode()
    silent = 0.0
    while True:
        found = await in_thread(follower.look)
        for name, value in found:
            yield event(name, value, follower.position if name == "batches" else None)
        if follower.over:
            yield event("end", {}, follower.position)
            return
        if follower.more:
            continue
        silent = 0.0 if found else silent + poll_s
        beats = silent >= HEARTBEAT_S
        yield b": \n\n" if beats else b""
        silent = 0.0 if beats else silent
        await asyncio.sleep(poll_s)


class EventStream:
    """An ASGI response that sends events until they end or the viewer disconnects; it then calls `ended`."""

    def __init__(
        self, events: AsyncIterator[bytes], ended: Callable[[], None], timeout_s: float = SEND_TIMEOUT_S
    ) -> None:
        self._events, self._ended, self._timeout_s = events, ended, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        left = asyncio.ensure_future(_disconnected(receive))
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async with aclosing(self._events):  # type: ignore[type-var]
                async for chunk in self._events:
                    if left.done():
                        return
                    if chunk:
                        body = {"type": "http.response.body", "body": chunk, "more_body": True}
                        await asyncio.wait_for(send(body), self._timeout_s)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:  # uvicorn closes the connection, as the response is incomplete
            return
        finally:
            left.cancel()
            self._ended()


async def _disconnected(receive: Receive) -> None:
    """Wait until the viewer disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass
