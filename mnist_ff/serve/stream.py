"""Server-sent events to one viewer, and work in threads beside the server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

from mnist_ff.serve.live import Follower, Place

POLL_S = 0.5
"""Between two looks at the files of a run."""
HEARTBEAT_S = 15.0
"""Of silence, after which a comment shows that the server is there."""
PATIENCE_S = 30.0
"""How long a viewer may take to read what it was sent; it then comes again to where it stood."""
RETRY_MS = 1_000
"""After which a browser asks again, where the connection broke."""

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """What a function returns that waits for files. Its thread keeps nobody from ending the process."""
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


def event(name: str, value: Any, place: Place | None = None) -> bytes:
    """One event as bytes; `place` is what a browser sends back when it asks again."""
    lines = [f"event: {name}"] if place is None else [f"id: {place}", f"event: {name}"]
    data = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return "\n".join([*lines, f"data: {data}", "", ""]).encode()


async def events_of(path: Path, place: Place | None, poll_s: float = POLL_S) -> AsyncIterator[bytes]:
    """A run's events until it ends; empty where nothing is new, so that whoever sends them sees if the viewer left.

    Nothing is read ahead: what a slow viewer has not taken stays in the run's files.
    """
    follower = Follower(path, place)
    yield f"retry: {RETRY_MS}\n\n".encode()
    silent = 0.0
    while True:
        found = await in_thread(follower.look)
        for name, value in found:
            yield event(name, value, follower.place if name == "batches" else None)
        if follower.over:
            yield event("end", {}, follower.place)
            return
        if follower.more:
            continue
        silent = 0.0 if found else silent + poll_s
        beats = silent >= HEARTBEAT_S
        yield b": \n\n" if beats else b""
        silent = 0.0 if beats else silent
        await asyncio.sleep(poll_s)


class EventStream:
    """An answer that sends events until they end or the viewer leaves."""

    def __init__(self, events: AsyncIterator[bytes], ended: Callable[[], None], patience_s: float = PATIENCE_S) -> None:
        self._events, self._ended, self._patience_s = events, ended, patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        left = asyncio.ensure_future(_left(receive))
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async with aclosing(self._events):  # type: ignore[type-var]
                async for chunk in self._events:
                    if left.done():
                        return
                    if chunk:
                        body = {"type": "http.response.body", "body": chunk, "more_body": True}
                        await asyncio.wait_for(send(body), self._patience_s)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:  # the connection is cut by the server, as the answer has no end
            return
        finally:
            left.cancel()
            self._ended()


async def _left(receive: Receive) -> None:
    """Wait until the viewer is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
