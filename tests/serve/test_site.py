"""The pages of `mnist-ff serve`: the list, reports and comparisons, of runs in the folder only."""

from __future__ import annotations

import asyncio
import errno
import html
import json
import os
import re
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")

from filelock import FileLock

from mnist_ff.serve import app as serve_app
from mnist_ff.serve import listing as listing_module
from mnist_ff.serve.app import Site
from mnist_ff.serve.listing import Listing, id_of
from mnist_ff.serve.query import PAGE
from mnist_ff.serve.server import _ErrorReporter
from tests.support.commands import MARKUP
from tests.support.many_runs import make_run, make_runs
from tests.support.serving import request
from tests.support.sweep_maker import make_sweep

GRID = [{"optimizer.lr": lr, "seed": seed} for lr in (0.001, 0.003) for seed in (0, 1)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six runs and a sweep of four."""
    make_runs(tmp_path / "outputs", 6)
    make_sweep(tmp_path / "outputs" / "sweeps" / "grid", GRID, lambda values: 0.9 + values["optimizer.lr"])
    return tmp_path / "outputs"


def site_of(folder: Path) -> Any:
    listing = Listing(folder)
    listing.scan()
    return Site(listing).app()


def test_a_sweep_removed_during_a_scan_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = Listing(folder)
    read = listing_module._sweep_state

    def state(path: Path, jobs: list[Path]) -> tuple[Any, ...]:
        found = read(path, jobs)
        shutil.rmtree(path)
        return found

    monkeypatch.setattr(listing_module, "_sweep_state", state)
    listing.scan()
    assert (len(listing.entries), listing.complete) == (6, True)


def empty_runs(folder: Path, count: int) -> None:
    """Directories 0000, 0001, ... that the list shows as broken runs."""
    for number in range(count):
        (folder / f"{number:04d}").mkdir()
        (folder / f"{number:04d}" / "config.yaml").touch()


def test_the_newest_runs_are_shown_before_the_others_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty_runs(tmp_path, 250)
    monkeypatch.setattr(listing_module, "SHOWN_EVERY_S", 1000)
    listing, shown = Listing(tmp_path), []
    show = listing._show

    def kept() -> None:
        show()
        shown.append({entry.path.name for entry in listing.entries})

    monkeypatch.setattr(listing, "_show", kept)
    listing.scan()
    assert [len(names) for names in shown] == [PAGE, 250]
    assert min(shown[0]) == "0150"


def test_showing_a_list_takes_a_small_part_of_reading_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at it sorts all of it: of many runs it must not be taken after every run."""
    empty_runs(tmp_path, 150)
    monkeypatch.setattr(listing_module, "SHOWN_EVERY_S", 0)
    listing, shown = Listing(tmp_path), []
    monkeypatch.setattr(listing, "_show", lambda: (shown.append(listing.read), time.sleep(0.05)))
    began = time.monotonic()
    listing.scan()
    assert 0.05 * len(shown) < 0.15 + 0.3 * (time.monotonic() - began)


def test_a_failed_scan_is_reported_once_and_repeated(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listing, scan, looks = Listing(folder), Listing.scan, iter("abc")

    def failing(self: Listing) -> None:
        if next(looks, None):
            raise MemoryError
        scan(self)

    monkeypatch.setattr(Listing, "scan", failing)
    monkeypatch.setattr(listing_module, "PAUSE_S", 0.001)
    listing.start()
    deadline = time.monotonic() + 60
    while not listing.complete:
        assert time.monotonic() < deadline
        listing.note_request()
        time.sleep(0.01)
    assert len(listing.entries) == 7
    assert capsys.readouterr().err.count("the list could not be read: not enough memory") == 1


def test_an_error_of_the_event_loop_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    """By default asyncio prints a traceback for every connection that it cannot accept."""
    complain = _ErrorReporter()
    with closing(asyncio.new_event_loop()) as loop:
        for _ in range(3):
            complain(loop, {"message": "accept() failed", "exception": OSError(errno.EMFILE, "Too many open files")})
    assert capsys.readouterr().err.splitlines() == [
        "warning: the server goes on without some requests: Too many open files; raise ulimit -n"
    ]


def rows_of(site: Any, query: str = "") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(request(site, f"/runs.json?{query}").text)["rows"]
    return rows


def test_the_list_is_newest_first_with_a_sweep_in_one_row(folder: Path) -> None:
    site = site_of(folder)
    rows = rows_of(site)
    assert [row["name"] for row in rows] == ["grid", *rows_names(folder)]
    sweep = rows[0]
    assert (sweep["sweep"], sweep["status"], round(sweep["test"], 6)) == (True, "4 jobs: 4 finished", 0.903)
    jobs = json.loads(request(site, f"/jobs/{sweep['id']}.json").text)
    assert [job["name"] for job in jobs] == ["0", "1", "2", "3"]
    assert set(jobs[2]["path"].split()) == {"optimizer.lr=0.003", "seed=0"}
    assert len({job["id"] for job in jobs} - {None}) == 4
    page = request(site, "/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "connect-src 'self'; frame-ancestors 'none'" in page.headers["content-security-policy"]


def rows_names(folder: Path) -> list[str]:
    paths = sorted((path for path in folder.iterdir() if path.name != "sweeps"), reverse=True)
    return [
        f"run {number}" if number % 3 == 0 else path.name for number, path in zip(range(5, -1, -1), paths, strict=True)
    ]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 7), ("words=run", 2), ("words=RUN+3", 1), ("words=optimizer.lr=0.003", 2), ("words=optimizer.lr>0.002", 3),
        ("words=grid+seed=1", 1), ("status=finished", 7), ("status=failed", 0), ("data=mnist_5k", 7), ("data=mnist", 0),
        ("words='", 0), ("sort=test", 7), ("sort=__class__", 7), ("page=99999999", 7), ("page=-1", 7),
        ("page=%C2%B2", 7),
    ],
)  # fmt: skip
def test_filters_of_the_list(query: str, count: int, folder: Path) -> None:
    assert len(rows_of(site_of(folder), query)) == count


def test_an_invalid_condition_is_reported(folder: Path) -> None:
    answer = json.loads(request(site_of(folder), "/runs.json?words=optimizer.lr>much").text)
    assert answer["rows"] == []
    assert "much" in answer["fault"]


def test_missing_values_are_sorted_last(tmp_path: Path) -> None:
    make_runs(tmp_path, 12)
    site = site_of(tmp_path)
    for reverse in ("", "1"):
        scores = [row["test"] for row in rows_of(site, f"sort=test&reverse={reverse}")]
        there = [score for score in scores if score is not None]
        assert scores == [*there, None, None]
        assert there == sorted(there, reverse=not reverse)


def test_page_numbers_and_versions(tmp_path: Path) -> None:
    for number in range(PAGE + 3):
        path = tmp_path / f"{number:04d}"
        path.mkdir()
        (path / "config.yaml").touch()
    listing = Listing(tmp_path)
    listing.scan()
    site = Site(listing).app()
    assert (len(rows_of(site)), len(rows_of(site, "page=1"))) == (PAGE, 3)
    known = f"/runs.json?known={listing.version}"
    assert json.loads(request(site, known).text) == {"same": True}
    listing.scan()
    assert json.loads(request(site, known).text) == {"same": True}
    (tmp_path / "0000" / "config.yaml").write_text("changed: 1")
    shutil.rmtree(tmp_path / "0001")
    listing.scan()
    assert json.loads(request(site, known).text)["total"] == PAGE + 2


def test_a_run_with_a_held_lock_is_running(folder: Path) -> None:
    run = next(path for path in folder.iterdir() if path.name.endswith("0005"))
    (run / "summary.json").unlink()
    with FileLock(run / ".lock"):
        row = rows_of(site_of(folder), "status=running")[0]
        assert (row["status"], row["running"]) == ("running", True)
    assert rows_of(site_of(folder), "status=running") == []


@pytest.mark.parametrize("where", ["report", "live", "events"])
@pytest.mark.parametrize(
    "word", ["..", "../secret", "%2e%2e", "x" * 20, "0" * 20, "\0", "*", "1/../../secret", "config.yaml"]
)
def test_unknown_ids_are_not_found(where: str, word: str, folder: Path) -> None:
    make_run(folder.parent / "secret", 1)
    answer = request(site_of(folder), f"/{where}/{word}")
    assert answer.status == 404
    assert request(site_of(folder), f"/report/{id_of(folder.parent / 'secret')}").status == 404


def test_links_out_of_the_folder_are_not_followed(folder: Path) -> None:
    secret = make_run(folder.parent / "secret", 3)
    (folder / "link").symlink_to(secret)
    (folder / "sweeps" / "grid" / "9").symlink_to(secret)
    elsewhere = folder.parent / "elsewhere"
    make_sweep(elsewhere, GRID[:1], lambda values: 0.5)
    (folder / "sweeps" / "other").symlink_to(elsewhere)
    site = site_of(folder)
    said = request(site, "/runs.json").text
    assert "run 3" not in [row["name"] for row in rows_of(site) if row["path"] == "link"]
    assert [row["path"] for row in rows_of(site) if row["path"] in ("link", "sweeps/other")] == []
    assert '"test":0.5' not in said
    grid = next(row for row in rows_of(site) if row["sweep"])
    assert "5 jobs" not in grid["status"]
    assert "secret" not in request(site, f"/report/{grid['id']}").text
    late = folder / "2026-01-01_00-05-00_0005"  # it becomes a link after the list was read
    shutil.rmtree(late)
    late.symlink_to(secret)
    assert request(site, f"/report/{id_of(late)}").status == 404


def test_a_link_to_the_folder_itself_is_followed(folder: Path) -> None:
    (folder.parent / "way").symlink_to(folder)
    assert len(rows_of(site_of(folder.parent / "way"))) == 7


def test_a_report_is_drawn_from_data_never_from_report_html(folder: Path) -> None:
    run = folder / "2026-01-01_00-01-00_0001"
    (run / "report.html").write_text("<script>fetch('/runs.json').then(steal)</script>")
    answer = request(site_of(folder), f"/report/{id_of(run.resolve())}")
    assert answer.status == 200
    assert "steal" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert html.unescape(re.search(r'Policy" content="([^"]*)', answer.text)[1]) + "; frame-ancestors 'none'" == policy  # type: ignore[index]
    assert "unsafe" not in policy
    assert "connect-src" not in policy
    assert "default-src 'none'" in policy


def test_names_are_escaped_everywhere(folder: Path) -> None:
    run = folder / f"evil{MARKUP.replace('/', '-')}"
    make_run(run, 1)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("name: null", f"name: {json.dumps(MARKUP)}"))
    site, word = site_of(folder), id_of(run.resolve())
    for page in (f"/report/{word}", f"/live/{word}", f"/compare?run={word}"):
        answer = request(site, page)
        assert answer.status == 200, page
        assert MARKUP not in answer.text
    assert MARKUP in [row["name"] for row in rows_of(site)]
    assert request(site, "/runs.json").headers["content-type"] == "application/json"


def test_a_name_that_is_not_utf8(folder: Path) -> None:
    make_run(Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")), 1)
    site = site_of(folder)
    row = next(row for row in rows_of(site) if "caf" in row["path"])
    for page in (f"/report/{row['id']}", f"/live/{row['id']}", f"/compare?run={row['id']}"):
        assert request(site, page).status == 200


def test_a_comparison_links_to_the_reports(folder: Path) -> None:
    site = site_of(folder)
    ids = [row["id"] for row in rows_of(site)]
    answer = request(site, "/compare?" + "&".join(f"run={word}" for word in ids[:3]))
    assert "6 runs compared" in answer.text
    assert f'href="/report/{ids[1]}"' in answer.text
    assert "report.html" not in answer.text
    sweep = request(site, f"/report/{ids[0]}").text
    assert f'href="/report/{id_of((folder / "sweeps" / "grid" / "0").resolve())}"' in sweep
    assert request(site, "/compare").status == 400
    assert request(site, "/compare?" + "&".join(f"run={number}" for number in range(201))).status == 400
    assert request(site, f"/compare?run={ids[0]}&run=nobody").status == 404


def test_a_comparison_names_runs_as_the_list_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    site = site_of(folder.resolve())
    ids = [row["id"] for row in rows_of(site)]
    page = request(site, "/compare?" + "&".join(f"run={word}" for word in ids[1:3])).text
    assert ">outputs/" in page
    assert str(folder.parent) not in page


def test_a_broken_run_has_a_page_that_says_so(folder: Path) -> None:
    run = folder / "2026-01-01_00-01-00_0001"
    (run / "config.yaml").write_text("<script>: [")
    site = site_of(folder)
    row = next(row for row in rows_of(site) if row["path"] == run.name)
    assert (row["status"], row["good"]) == ("broken", False)
    answer = request(site, f"/report/{row['id']}")
    assert answer.status == 422
    assert "<script>" not in answer.text
    assert request(site, f"/live/{row['id']}").status == 200


def test_nothing_is_written(folder: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {str(path): ((found := path.lstat()).st_mtime_ns, found.st_size) for path in folder.rglob("*")}

    run = folder / "2026-01-01_00-05-00_0005"
    (run / "summary.json").unlink()
    (run / ".lock").touch()
    before, site = state(), site_of(folder)
    for row in rows_of(site):
        for page in ("report", "live", "events"):
            expected = 404 if row["sweep"] and page != "report" else 200
            assert request(site, f"/{page}/{row['id']}").status == expected
        assert request(site, f"/compare?run={row['id']}").status == 200
    assert state() == before


def test_the_number_of_viewers_is_limited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_app, "MAX_VIEWERS", 1)
    listing = Listing(folder)
    listing.scan()
    site = Site(listing)
    word = id_of((folder / "2026-01-01_00-05-00_0005").resolve())
    site.viewers = 1
    full = request(site.app(), f"/events/{word}")
    assert (full.status, full.headers["retry-after"]) == (503, "5")
    site.viewers = 0
    assert request(site.app(), f"/events/{word}").headers["content-type"].startswith("text/event-stream")
    assert site.viewers == 0
    assert request(site.app(), f"/events/{word}", method="HEAD").body == b""


def test_a_folder_that_is_a_run_a_sweep_or_gone(folder: Path) -> None:
    assert [row["name"] for row in rows_of(site_of(folder / "2026-01-01_00-03-00_0003"))] == ["run 3"]
    assert len(rows_of(site_of(folder / "sweeps" / "grid"))) == 4
    assert rows_of(site_of(folder / "nowhere")) == []
    assert request(site_of(folder), "/nowhere").status == 404
