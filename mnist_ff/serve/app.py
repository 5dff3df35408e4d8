"""The addresses of the server: pages, the list and its jobs as JSON, and a run's events."""

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
from mnist_ff.serve.guard import Guard, Keys, refusal
from mnist_ff.serve.listing import Listing
from mnist_ff.serve.live import Place
from mnist_ff.serve.pages import MOST_COMPARED, compared, list_page, live_page, policy_of, report_page
from mnist_ff.serve.query import Query, answer, jobs_json
from mnist_ff.serve.stream import EventStream, events_of, in_thread

MOST_VIEWERS = 16
"""Viewers of runs at the same time."""
DRAWN_AT_ONCE = 2
"""Reports and comparisons; others wait for their turn."""


class Site:
    """What answers requests about the runs of a folder."""

    def __init__(self, listing: Listing) -> None:
        self.listing, self.viewers = listing, 0
        self._drawing = asyncio.Semaphore(DRAWN_AT_ONCE)

    def app(self) -> Starlette:
        """The application, without its guard."""
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
        self.listing.looked_at()
        return _page(list_page(self.listing))

    async def runs(self, request: Request) -> Response:
        """A page of the list; nothing of it where it is as the browser knows it."""
        self.listing.looked_at()
        now = self.listing
        if request.query_params.get("known") == str(now.version) and now.complete:
            return JSONResponse({"same": True})
        return JSONResponse(await in_thread(lambda: answer(now, Query.of(request.query_params))))

    async def jobs(self, request: Request) -> Response:
        """The jobs of a sweep."""
        path = self._path(request)
        entry = next((one for one in self.listing.entries if one.path == path and one.sweep), None)
        return _gone() if entry is None else JSONResponse(await in_thread(lambda: jobs_json(entry, self.listing)))

    async def live(self, request: Request) -> Response:
        """The page of a run that is followed."""
        path = self._run(request)
        return _gone() if path is None else _page(live_page(path, self.listing))

    async def events(self, request: Request) -> ASGIApp | Response:
        """A run's events, from where the viewer stands."""
        path = self._run(request)
        if path is None:
            return _gone()
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if self.viewers >= MOST_VIEWERS:
            return refusal(503, f"{MOST_VIEWERS} pages follow runs already.", {"retry-after": "5"})
        self.viewers += 1
        known = request.headers.get("last-event-id") or request.query_params.get("after", "")
        return EventStream(events_of(path, Place.parse(known)), self._left)

    def _left(self) -> None:
        self.viewers -= 1

    async def report(self, request: Request) -> Response:
        """The report of a run or sweep."""
        path = self._path(request)
        return _gone() if path is None else await self._drawn(lambda: report_page(path, self.listing))

    async def compare(self, request: Request) -> Response:
        """The comparison of the chosen runs and sweeps."""
        words = list(dict.fromkeys(request.query_params.getlist("run")))
        if not 0 < len(words) <= MOST_COMPARED:
            return refusal(400, f"Choose 1 to {MOST_COMPARED} runs.")
        paths = [path for word in words if (path := self.listing.path(word)) is not None]
        return _gone() if len(paths) < len(words) else await self._drawn(lambda: compared(paths, self.listing))

    def _path(self, request: Request) -> Path | None:
        return self.listing.path(request.path_params["id"])

    def _run(self, request: Request) -> Path | None:
        """The path of a run: a sweep is no run."""
        path = self._path(request)
        return path if path is not None and may_be_run(path) else None

    async def _drawn(self, draw: Callable[[], str]) -> Response:
        async with self._drawing:
            try:
                return _page(await in_thread(draw))
            except MissingFileError:
                return _gone()
            except MnistError as error:
                return refusal(422, _escaped(str(error)))


def guarded(listing: Listing, keys: Keys) -> ASGIApp:
    """The application behind its guard."""
    return Guard(Site(listing).app(), keys)


def _page(page: str) -> Response:
    return HTMLResponse(page, headers={"content-security-policy": policy_of(page)})


def _gone() -> Response:
    return refusal(404, "There is no such run here, or not any more.")


def _not_found(request: Request, error: Exception) -> Response:
    return refusal(404, "There is no such page.")


def _broken(request: Request, error: Exception) -> Response:
    """An error that nobody expected: one line in the terminal, a plain page."""
    said = of_the_machine(error)
    warning(said[0] if said else f"{type(error).__name__} while a page was made: {first_line(error)}")
    return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "This page could not be made; the terminal says why.")


def _escaped(text: str) -> str:
    from markupsafe import escape

    return str(escape(text.encode("utf-8", "backslashreplace").decode("utf-8")))
