"""A run is followed: every row once, whatever becomes of its files meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")

from filelock import FileLock

from mnist_ff.errors import BadRunError
from mnist_ff.runs.tables import BATCH_COLUMNS, EPOCH_COLUMNS, with_columns
from mnist_ff.serve.live import Follower, Position, read_new_points
from mnist_ff.serve.stream import EventStream, events_of
from tests.support.many_runs import batch_lines, make_run
from tests.support.serving import request

HEADER = ",".join(BATCH_COLUMNS) + "\n"


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A run in training: no summary, and no rows yet."""
    path = make_run(tmp_path / "run", 0)
    (path / "summary.json").unlink()
    (path / "batches.csv").write_text(HEADER)
    (path / "epochs.csv").write_text(",".join(EPOCH_COLUMNS) + "\n")
    (path / ".lock").touch()
    return path


def steps_of(events: list[tuple[str, Any]]) -> list[int]:
    return [step for name, value in events if name == "batches" for step in value["steps"]]


def status_of(events: list[tuple[str, Any]]) -> str | None:
    return next((value["status"] for name, value in events if name == "status"), None)


def test_every_row_is_sent_once_however_it_is_written(training: Path) -> None:
    """Writes end anywhere, even within a line, and the viewer reconnects after each."""
    rng, text = random.Random(0), HEADER + batch_lines(0, 500)
    path, seen, position = training / "batches.csv", [], None
    path.write_text("")
    with FileLock(training / ".lock"):
        while text:
            piece, text = text[: (cut := rng.randrange(1, 400))], text[cut:]
            with path.open("a") as file:
                file.write(piece)
            follower = Follower(training, None if position is None else Position.parse(str(position)))
            seen += steps_of(follower.look())
            position = follower.position
    assert seen == list(range(1, 501))


def test_points_start_again_only_if_rows_were_removed(training: Path) -> None:
    path = training / "batches.csv"
    path.write_text(HEADER + batch_lines(0, 40))
    follower = Follower(training)
    assert len(steps_of(follower.look())) == 40
    whole = path.read_text()
    path.unlink()
    path.write_text(whole + batch_lines(40, 2))  # another file with the same rows
    assert steps_of(follower.look()) == [41, 42]
    path.write_text(HEADER + batch_lines(0, 20))
    (name, told), *_ = follower.look()
    assert (name, told["again"], told["steps"]) == ("batches", True, tuple(range(1, 21)))
    path.write_text(HEADER + batch_lines(0, 20).replace("0.001,", "0.002,") + batch_lines(20, 5))
    (name, told), *_ = follower.look()
    assert (told["again"], len(told["steps"])) == (True, 25)
    path.write_text(HEADER)  # started over
    assert follower.look()[0][1]["again"]


def test_the_events_of_a_run_from_start_to_end(training: Path) -> None:
    summary = make_run(training.parent / "other", 0) / "summary.json"
    with FileLock(training / ".lock"):
        follower = Follower(training)
        events = follower.look()
        assert status_of(events) == "running"
        assert not follower.over
        with (training / "batches.csv").open("a") as file:
            file.write(batch_lines(0, 25))
        told = dict(follower.look())
        assert told["status"]["per_epoch"] == 10  # as a row of the second epoch says
        assert (told["batches"]["epoch"], told["batches"]["batch"]) == (3, 5)
        assert follower.look() == []
        (training / "epochs.csv").write_text(",".join(EPOCH_COLUMNS) + "\n0,0.5,0.8,,,0.4,0.9,,,1.5\n")
        assert dict(follower.look())["epochs"] == {
            "epoch": [1], "part": "test", "train_loss": [0.5], "train_accuracy": [0.8],
            "test_loss": [0.4], "test_accuracy": [0.9],
        }  # fmt: skip
        shutil.copy(summary, training)
        events = follower.look()
    assert status_of(events) == "finished"
    assert follower.over


def test_columns_added_to_epochs_csv(training: Path) -> None:
    path = training / "epochs.csv"
    path.write_text(path.read_text() + "0,0.5,0.8,,,0.4,0.9,,,1.5\n")
    with FileLock(training / ".lock"):
        follower = Follower(training)
        assert dict(follower.look())["epochs"]["epoch"] == [1]
        path.write_text(with_columns(path.read_text(), ["dead_units"]) + "1,0.4,0.9,,,0.3,0.95,,,1.5,0.1\n")
        assert dict(follower.look())["epochs"]["test_accuracy"] == [0.9, 0.95]


def test_a_killed_run_is_over_when_its_lock_is_free(training: Path) -> None:
    lock = FileLock(training / ".lock")
    with lock:
        follower = Follower(training)
        assert status_of(follower.look()) == "running"
    told = dict(follower.look())["status"]
    assert (told["status"], told["over"], follower.over) == ("interrupted", True, True)


def test_a_removed_run_is_over(training: Path) -> None:
    with FileLock(training / ".lock"):
        follower = Follower(training)
        follower.look()
    shutil.rmtree(training)
    assert status_of(follower.look()) == "removed"
    assert follower.over


def test_more_epochs_after_a_resume(training: Path) -> None:
    values = json.loads((training / "environment.json").read_text())
    values["history"] = [{"changes": {"trainer.epochs": 7}}, {"changes": {}}]
    (training / "environment.json").write_text(json.dumps(values))
    assert dict(Follower(training).look())["status"]["of_epochs"] == 7


def test_points_of_a_long_run_are_means_of_several_rows(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_ff.serve.live.MAX_POINTS", 1_000)
    monkeypatch.setattr("mnist_ff.serve.live.READ_BYTES", 40_000)
    path, rows = training / "batches.csv", 4_003
    path.write_text(HEADER + batch_lines(0, rows))
    with FileLock(training / ".lock"):
        follower = Follower(training)
        steps = steps_of(follower.look())
        while follower.more:
            steps += steps_of(follower.look())
        size = follower.position.rows_per_point
        assert size in (4, 8)
        assert steps == list(range(size, rows - rows % size + 1, size))
    rest = steps_of(follower.look())  # the run was killed: the remaining rows make a smaller point
    assert rest == [rows]


@pytest.mark.parametrize(
    "text", ["", "x", "1", "-1.00000000.1", "5.00000000.0", "1.zzzzzzzz.1", "9" * 99 + ".00000000.1", "1.00000000.1\n"]
)
def test_an_invalid_position_is_refused(text: str) -> None:
    assert Position.parse(text) is None


def test_a_position_in_a_rewritten_file_starts_again(training: Path) -> None:
    path = training / "batches.csv"
    path.write_text(HEADER + batch_lines(0, 5))
    for position in (Position(10, 1), Position(10**9, 0), Position(0, 0), Position(len(HEADER), 7)):
        assert read_new_points(path, position, over=True).steps == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    "content", ["step,epoch\n0,0\n", HEADER + "0,0,0,x,0.001,256\n", HEADER + "1,2\n", "x" * 5000, HEADER + "9" * 5000]
)
def test_an_invalid_file_is_named(content: str, training: Path) -> None:
    (training / "batches.csv").write_text(content)
    with pytest.raises(BadRunError, match=r"batches\.csv"):
        read_new_points(training / "batches.csv", Position(), over=False)
    told = dict(Follower(training).look())["status"]
    assert "batches.csv" in told["reason"]


def test_a_fault_is_told_until_it_is_gone(training: Path) -> None:
    good = (training / "batches.csv").read_bytes()
    follower = Follower(training)
    before = dict(follower.look())["status"]["reason"]
    (training / "batches.csv").write_bytes(b"\0" * 5_000)
    assert "batches.csv" in dict(follower.look())["status"]["reason"]
    assert follower.look() == []
    (training / "batches.csv").write_bytes(good)
    assert dict(follower.look())["status"]["reason"] == before
    (training / "batches.csv").write_text("x")
    (training / "config.yaml").write_text("[")
    told = dict(follower.look())["status"]
    assert told["status"] == "broken"
    assert "config.yaml" in told["reason"]


def test_values_that_are_not_finite_become_gaps(training: Path) -> None:
    (training / "batches.csv").write_text(
        HEADER + "0,0,0,nan,0.001,256\n1,0,1,inf,0.001,256\n2,0,2,,0.001,256\nnan,inf,-1,0.5,1,1\n"
    )
    events = Follower(training).look()
    json.dumps(events, allow_nan=False)
    assert dict(events)["batches"]["losses"] == (None, None, None, 0.5)


def stream(path: Path, position: Position | None = None, most: int | None = None) -> str:
    return request(EventStream(events_of(path, position, 0.001), lambda: None), "/", most=most).text


def test_the_stream_of_an_ended_run_ends(tmp_path: Path) -> None:
    text = stream(make_run(tmp_path / "run", 0))
    events = [
        dict(line.split(": ", 1) for line in part.splitlines()) for part in text.split("\n\n") if "event:" in part
    ]
    assert [event["event"] for event in events] == ["batches", "epochs", "status", "end"]
    assert json.loads(events[0]["data"])["steps"] == list(range(1, 21))
    position = Position.parse(events[0]["id"])
    again = stream(tmp_path / "run", position)
    assert "event: batches" not in again
    assert "event: end" in again


def test_a_silent_stream_sends_heartbeats(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_ff.serve.stream.HEARTBEAT_S", 0.002)
    with FileLock(training / ".lock"):
        assert "\n: \n\n" in "\n" + stream(training, most=6)


def test_a_viewer_that_receives_nothing_is_disconnected(training: Path) -> None:
    (training / "batches.csv").write_text(HEADER + batch_lines(0, 60_000))
    ended, looks = [], []

    async def slow() -> None:
        events = events_of(training, None, 0.001)

        async def send(message: Any) -> None:
            looks.append(len(message.get("body", b"")))
            if len(looks) > 2:
                await asyncio.sleep(60)

        async def receive() -> Any:
            await asyncio.sleep(60)

        await EventStream(events, lambda: ended.append(True), timeout_s=0.05)({}, receive, send)

    with FileLock(training / ".lock"):
        asyncio.run(slow())
    assert ended == [True]
    assert len(looks) == 3
