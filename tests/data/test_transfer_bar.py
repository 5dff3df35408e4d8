"""The progress bar of a download: file, size, speed and time left, in terminals of each width."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from mnist_ff.data import transfer
from mnist_ff.runs import progress_line


class Answer(io.BytesIO):
    """A response with a known length that takes one second per block."""

    def __init__(self, size: int, clock: list[float]) -> None:
        super().__init__(bytes(size))
        self.length = size
        self._clock = clock

    def read(self, size: int | None = -1) -> bytes:
        self._clock[0] += 1
        return super().read(size)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [120, 80, 60, 40])
def test_a_download_shows_size_and_time_left(columns: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock, said = [0.0], Terminal()
    monkeypatch.setattr("sys.stderr", said)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(progress_line.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 2_000_000)
    monkeypatch.setattr("rich.progress.Progress.update", drawn(monkeypatch))
    transfer.copy(Answer(12_000_000, clock), tmp_path / "train-images-idx3-ubyte.gz", limit=20_000_000)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.getvalue())
    rows = [row for row in re.split(r"[\r\n]+", plain) if "MB" in row]
    assert {len(row) for row in rows} == {len(rows[0])}
    assert len(rows[0]) < columns
    assert " 0.0/12.0 MB" in rows[0]
    assert re.search(r"ETA +-$", rows[0])
    assert any(" 4.0/12.0 MB" in row and re.search(r"ETA +0:04$", row) for row in rows)
    assert ("train-images-idx3-ubyte.gz" in rows[0], "2.0 MB/s" in rows[-1]) == (columns > 60, columns > 40)


def drawn(monkeypatch: pytest.MonkeyPatch) -> object:
    """Progress.update() that redraws at once."""
    from rich.progress import Progress

    update = Progress.update

    def at_once(self: Progress, *given: object, **named: object) -> None:
        update(self, *given, **named)  # type: ignore[arg-type]
        self.refresh()

    return at_once


def test_a_file_of_a_folder_and_a_pipe_show_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    transfer.copy(Answer(1_000, [0.0]), tmp_path / "a", limit=2_000)
    transfer.copy(io.BytesIO(b"12"), tmp_path / "b", limit=2_000)
    assert capsys.readouterr() == ("", "")
