"""The server's routes: pages, the list of runs and a sweep's jobs as JSON, and a run's server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mnist_ff.analysis.console import warning
from mnist_ff.errors import MissingFileError, MnistError, first_line, of_the_machine
from mnist_ff.runs.find import may_be_run
from mnist_ff.serve.guard import Guard, Tokens, refusal
from mnist_ff.serve.listing import Listing
from mnist_ff.serve.live import Position
from mnist_ff.serve.pages import MAX_COMPARED, compared, list_page, live_page, policy_of, report_page
from mnist_ff.serve.query import Query, answer, jobs_json
from mnist_ff.serve.stream import EventStream, events_of, in_thread

MAX_VIEWERS = 16
"""Live pages that may be open at the same time. Each holds a connection and reads files twice a second."""
MAX_DRAWING = 2
"""Reports and comparisons that may be drawn at the same time. Further requests wait."""


class Site:
    """The request handlers, for the runs of one folder."""

    def __init__(self, listing: Listing) -> None:
        self.listing, self.viewers = listing, 0
        self._drawing = asyncio.Semaphore(MAX_DRAWING)

    def app(self) -> Starlette:
        """The Starlette application, without `Guard`."""
        routes = [
            Route("/", self.home),
            Route("/runs.json", self.runs),
            Route("/jobs/{id}.json", self.jobs),
            Route("/live/{id}", self.live),
            Route("/events/{id}", self.events),
            Route("/report/{id}", self.report),
            Route("/compare", self.compare),
        ]
        handlers: dict[Any, Callable[[Request, Exception], Response]] = {404: _not_found, Exception: _broken}
        return Starlette(routes=routes, exception_handlers=handlers)

    async def home(self, request: Request) -> Response:
        """The page with the list."""
        self.listing.note_request()
        return _page(list_page(self.listing))

    async def runs(self, request: Request) -> Response:
        """A page of the list as JSON, or `{"same": true}` if the browser has its current version."""
        self.listing.note_request()
        now = self.listing
        if request.query_params.get("known") == str(now.version) and now.complete:
            return JSONResponse({"same": True})
        return JSONResponse(await in_thread(lambda: answer(now, Query.of(request.query_params))))

    async def jobs(self, request: Request) -> Response:
        """The jobs of a sweep as JSON."""
        path = self._path(request)
        entry = next((one for one in self.listing.entries if one.path == path and one.sweep), None)
        return _gone() if entry is None else JSONResponse(await in_thread(lambda: jobs_json(entry, self.listing)))

    async def live(self, request: Request) -> Response:
        """The live page of a run."""
        path = self._run(request)
        return _gone() if path is None else _page(live_page(path, self.listing))

    async def events(self, request: Request) -> ASGIApp | Response:
        """A run's server-sent events, from the position of the viewer's last event."""
        path = self._run(request)
        if path is None:
            return _gone()
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if self.viewers >= MAX_VIEWERS:
            return refusal(503, f"{MAX_VIEWERS} pages follow runs already.", {"retry-after": "5"})
        self.viewers += 1
        known = request.headers.get("last-event-id") or request.query_params.get("after", "")
        return EventStream(events_of(path, Position.parse(known)), self._viewer_left)

    def _viewer_left(self) -> None:
        self.viewers -= 1

    async def report(self, request: Request) -> Response:
        """The report of a run or sweep."""
        path = self._path(request)
        return _gone() if path is None else await self._drawn(lambda: report_page(path, self.listing))

    async def compare(self, request: Request) -> Response:
        """The comparison of the chosen runs and sweeps."""
        words = list(dict.fromkeys(request.query_params.getlist("run")))
        if not 0 < len(words) <= MAX_COMPARED:
            return refusal(400, f"Choose 1 to {MAX_COMPARED} runs.")
        paths = [path for word in words if (path := self.listing.path(word)) is not None]
        return _gone() if len(paths) < len(words) else await self._drawn(lambda: compared(paths, self.listing))

    def _path(self, request: Request) -> Path | None:
        return self.listing.path(request.path_params["id"])

    def _run(self, request: Request) -> Path | None:
        """The path of the run, None for a sweep or an unknown id."""
        path = self._path(request)
        return path if path is not None and may_be_run(path) else None

    async def _drawn(self, draw: Callable[[], str]) -> Response:
        """Call `draw` in a thread, and turn its errors into error pages."""
        async with self._drawing:
            try:
                return _page(await in_thread(draw))
            except MissingFileError:
                return _gone()
            except MnistError as error:
                return refusal(422, _escaped(str(error)))


def guarded(listing: Listing, tokens: Tokens) -> ASGIApp:
    """The application wrapped in `Guard`."""
    return Guard(Site(listing).app(), tokens)


def _page(page: str) -> Response:
    return HTMLResponse(page, headers={"content-security-policy": policy_of(page)})


def _gone() -> Response:
    return refusal(404, "There is no such run here, or it has been removed.")


def _not_found(request: Request, error: Exception) -> Response:
    return refusal(404, "There is no such page.")


def _broken(request: Request, error: Exception) -> Response:
    """An unexpected error: one line in the terminal and a plain error page."""
    said = of_the_machine(error)
    warning(said[0] if said else f"{type(error).__name__} while a page was made: {first_line(error)}")
    return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "This page could not be made; the terminal says why.")


def _escaped(text: str) -> str:
    from markupsafe import escape

    return str(escape(text.encode("utf-8", "backslashreplace").decode("utf-8")))
