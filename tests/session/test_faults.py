"""Faults of the machine and of the network: one line that says what and what to do, and earlier files intact."""

from __future__ import annotations

import contextlib
import errno
import gzip
import itertools
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from mnist_ff.config.compose import compose
from mnist_ff.data import catalog, fetch
from mnist_ff.data.load import load_data
from mnist_ff.errors import DataError
from tests.support.commands import Command, only_run
from tests.support.mnist import FOUR_FILES
from tests.support.processes import COMMAND, Forked, Started, in_a_terminal, limited

WORDS = ["data=mnist_5k", "model.hidden=[16]", "trainer.epochs=2", "trainer.plots=false"]

MODES = {
    "403": "HTTP 403",
    "404": "HTTP 404",
    "html": "wrong content",
    "truncated": "ended after",
    "reset": "",
    "stall": "timed out",
    "wrong bytes": "wrong content",
    "empty": "is empty",
    "redirect to http": "",
    "endless": "longer than",
}


class Handler(BaseHTTPRequestHandler):
    """Serves MNIST's files well, or badly in the way that the path's first part names."""

    folder: Path
    asked: list[str]
    """The names of the files that were asked for."""

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        mode, name = self.path.strip("/").rsplit("/", 1)
        mode = mode.replace("%20", " ")
        self.asked.append(name)
        content = (self.folder / name).read_bytes()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.answer(mode, content)

    def answer(self, mode: str, content: bytes) -> None:
        if mode in ("403", "404"):
            self.send_error(int(mode))
            return
        self.send_response(200)
        body = {
            "html": b"<html><body>log in first</body></html>",
            "wrong bytes": bytes(len(content)),
            "empty": b"",
            "endless": content,
        }.get(mode, content)
        self.send_header("Content-Length", str(len(body) if mode != "endless" else 1 << 40))
        self.end_headers()
        if mode == "endless":
            while True:
                self.wfile.write(bytes(1 << 20))
        if mode in ("truncated", "reset", "stall"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if mode == "stall":
                time.sleep(1)
            if mode == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
            return
        self.wfile.write(body)


@pytest.fixture
def server(real_mnist: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A server on the loopback; an empty cache; no mirror but those that a test names; a patience of half a second."""
    from torchvision import datasets

    Handler.folder, Handler.asked = real_mnist, []
    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(datasets.MNIST, "mirrors", [])
    monkeypatch.delenv("MNIST_FF_MIRROR")
    monkeypatch.setenv("MNIST_FF_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "SILENCE_SECONDS", 0.5)
    yield f"http://127.0.0.1:{web.server_address[1]}"
    web.shutdown()
    web.server_close()
    thread.join()


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "redirect to http"])
def test_a_bad_server_is_named(mode: str, server: str) -> None:
    bad = f"{server}/{mode.replace(' ', '%20')}"
    with pytest.raises(DataError) as caught:
        load_data(compose([f"data.mirrors=['{bad}']", "data.fallback=null"]).data, 0)
    assert f"{bad}/{FOUR_FILES[0]}: " in str(caught.value)
    assert MODES[mode] in str(caught.value)
    cache = catalog.cache_file(compose([]).data)
    assert [path.name for path in cache.parent.iterdir() if path.suffix != ".lock"] == []


def test_a_good_server_behind_bad_ones_is_used(server: str) -> None:
    mirrors = ",".join(f"'{server}/{mode}'" for mode in ("404", "truncated", "good"))
    assert len(load_data(compose([f"data.mirrors=[{mirrors}]"]).data, 0).train) == 60_000


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_parallel_sweep_downloads_once(
    launcher: str, server: str, monkeypatch: pytest.MonkeyPatch, mnist_ff: Command
) -> None:
    monkeypatch.setenv("MNIST_FF_MIRROR", f"{server}/good")
    small = ("model.hidden=[4]", "trainer.epochs=1", "trainer.batch_size=6000", "trainer.plots=false", "seed=0,1")
    code, out, err = mnist_ff("train", "-m", *small, f"hydra/launcher={launcher}")
    assert code == 0, out + err
    assert sorted(Handler.asked) == sorted(FOUR_FILES)


def test_no_way_from_https_to_http() -> None:
    """The redirect handler itself: a server with a certificate would need one that is trusted."""
    import urllib.error
    import urllib.request
    from email.message import Message

    handler = fetch._SameSchemeOrSafer()
    secure = urllib.request.Request("https://example.org/x")
    with pytest.raises(urllib.error.URLError, match="redirected from https"):
        handler.redirect_request(secure, None, 302, "Found", Message(), "http://example.org/x")
    assert handler.redirect_request(secure, None, 302, "Found", Message(), "https://example.org/y") is not None


def test_all_mirrors_failing_exits_1_and_lists_them(server: str, mnist_ff: Command) -> None:
    mirrors = ",".join(f"'{server}/{mode}'" for mode in ("403", "html", "empty"))
    code, _, err = mnist_ff("train", f"data.mirrors=[{mirrors}]", "data.fallback=null")
    assert code == 1
    for word in ("/403/", "HTTP 403", "/html/", "wrong content", "/empty/", "is empty"):
        assert word in err
    assert not Path("outputs").exists()


def test_a_gzip_bomb_stops_at_the_known_size(tmp_path: Path, server: str) -> None:
    folder = tmp_path / "bomb"
    folder.mkdir()
    file = catalog.data_set("kmnist").files[0]
    header = b"\0\0\x08\x03" + b"".join(length.to_bytes(4, "big") for length in file.shape)
    (folder / file.name).write_bytes(gzip.compress(header + bytes(200_000_000), compresslevel=1))
    with pytest.raises(DataError, match="is longer than its header says"):
        load_data(compose(["data=kmnist", f"data.mirrors=['{folder}']"]).data, 0)


def corrupt(path: Path, how: str) -> None:
    from safetensors.torch import load_file, save_file

    from mnist_ff.data.cache import METADATA_KEY, read_header

    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "bit-flipped":
        path.write_bytes(content[:-1000] + bytes([content[-1000] ^ 4]) + content[-999:])
    else:
        tensors, header = load_file(path), json.dumps(read_header(path))
        if how == "label 37":
            tensors["train_labels"][5] = 37
        else:
            tensors["train_images"], tensors["test_images"] = tensors["test_images"], tensors["train_images"]
            tensors["train_labels"], tensors["test_labels"] = tensors["test_labels"], tensors["train_labels"]
        save_file(tensors, path, metadata={METADATA_KEY: header})


@pytest.mark.parametrize("how", ["truncated", "bit-flipped", "label 37", "train and test swapped"])
def test_a_spoilt_cache_is_fetched_again(how: str, decoded: Path, server: str) -> None:
    config = compose([f"data.mirrors=['{server}/good']"]).data
    catalog.cache_file(config).parent.mkdir()
    shutil.copy(decoded, catalog.cache_file(config))
    before = load_data(config, 0)
    assert Handler.asked == []
    corrupt(catalog.cache_file(config), how)
    after = load_data(config, 0)
    assert len(after.train) == 60_000
    assert before.train.labels.equal(after.train.labels)
    assert before.test.images.equal(after.test.images)


def start_eight(server: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from mnist_ff.config.compose import compose\nfrom mnist_ff.data.load import load_data\n"
        f"data = load_data(compose([\"data.mirrors=['{server}/good']\", 'data.fallback=null']).data, 0)\n"
        "assert len(data.train) == 60000"
    )
    monkeypatch.setenv("MNIST_FF_DATA", str(root))
    processes = [Forked(code) for _ in range(8)]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, said


@pytest.mark.parametrize("repeats", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_eight_processes_make_one_download(
    repeats: int, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for repeat in range(repeats):
        Handler.asked.clear()
        start_eight(server, tmp_path / f"shared {repeat}", monkeypatch)
        assert sorted(Handler.asked) == sorted(FOUR_FILES)


def test_a_read_only_cache_with_good_data_works(decoded: Path, tmp_path: Path) -> None:
    root = tmp_path / "read only"
    root.mkdir()
    shutil.copy(decoded, root)
    for path in root.iterdir():
        path.chmod(0o444)
    root.chmod(0o555)
    try:
        os.environ["MNIST_FF_MIRROR"] = "/nowhere"
        assert len(load_data(compose([f"data.root='{root}'", "data.fallback=null"]).data, 0).test) == 10_000
    finally:
        root.chmod(0o755)


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_signal_ends_a_run_with_its_exit_code(number: str) -> None:
    started = Started("train", "data=mnist_5k", "trainer.epochs=100000", "trainer.plots=false")
    started.wait_for_rows(30)
    began = time.monotonic()
    started.process.send_signal(getattr(signal, number))
    code, _, err = started.end()
    assert time.monotonic() - began < 5
    assert code == 128 + getattr(signal, number).value, err
    summary = json.loads((only_run() / "summary.json").read_text())
    assert (summary["status"], summary["cause"]) == ("interrupted", f"stopped by {number}")
    assert summary["steps"] == (only_run() / "batches.csv").read_text().count("\n") - 1


def test_a_signal_is_heard_within_a_long_chunk() -> None:
    words = ("trainer.sync_every=null", "model.hidden=[3000,3000]", "trainer.batch_size=16", "trainer.plots=false")
    started = Started("train", "data=mnist_5k", *words)
    deadline = time.monotonic() + 60
    while not list(Path("outputs").rglob("checkpoint.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.5)
    began = time.monotonic()
    started.process.send_signal(signal.SIGTERM)
    code, _, err = started.end()
    assert code == 143, err
    assert time.monotonic() - began < 5
    steps = json.loads((only_run() / "summary.json").read_text())["steps"]
    assert 0 < steps == (only_run() / "batches.csv").read_text().count("\n") - 1


def test_closed_stdout_does_not_end_training(tmp_path: Path) -> None:
    os.mkfifo("pipe")
    for sink in ("pipe", "/dev/full"):
        started = Forked(COMMAND, "train", *WORDS, "hydra.run.dir=run", stdout=os.path.abspath(sink))
        if sink == "pipe":
            with open(sink, "rb") as reader:
                reader.read(1)
        _, err = started.communicate()
        assert started.returncode == 0, err
        assert json.loads(Path("run/summary.json").read_text())["status"] == "finished"
        shutil.rmtree("run")


def test_a_signal_while_plotting_keeps_a_finished_run() -> None:
    started = Started("train", "data=mnist_5k", "trainer.epochs=1", "model.hidden=[16]")
    deadline = time.monotonic() + 60
    while not list(Path("outputs").rglob("plots")) and time.monotonic() < deadline:
        time.sleep(0.005)
    started.process.send_signal(signal.SIGTERM)
    code, _, _ = started.end()
    assert code == 143
    summary = json.loads((only_run() / "summary.json").read_text())
    assert (summary["status"], summary["cause"]) == ("finished", "stopped by SIGTERM")


def patched(name: str, body: str, *words: str) -> subprocess.CompletedProcess[str]:
    """mnist-ff train in a process where `name` does `body` instead: `real` is the original, `given` its arguments."""
    script = f"""
import os, signal, sys
from mnist_ff import cli
from mnist_ff.session import artifacts
from mnist_ff.training import learner
real, calls = {name}, []
def instead(*given):
{textwrap.indent(body, "    ")}
{name} = instead
sys.exit(cli.main(["train", *sys.argv[1:]]))
"""
    process = Forked(script, *WORDS, *words)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(words, process.returncode or 0, out, err)


def kill(number: str) -> str:
    return f"os.kill(os.getpid(), signal.{number})\n"


WITHIN_THE_SECOND_EPOCHS_CHECKPOINT = """
if ".checkpoint.pt." in os.readlink(f"/proc/self/fd/{given[0]}"):
    calls.append(given)
    if len(calls) == 3:
        """

MOMENTS = {
    "evaluation": ("learner.score", "calls.append(given)\nif len(calls) == 1:\n    "),
    "a checkpoint's write": ("os.fsync", WITHIN_THE_SECOND_EPOCHS_CHECKPOINT),
    "the last files": ("artifacts.save_predictions", ""),
}


@pytest.mark.parametrize(
    ("moment", "number"),
    [*itertools.product(MOMENTS, ["SIGTERM"]), *itertools.product(["evaluation"], ["SIGINT", "SIGUSR1", "SIGUSR2"])],
)
def test_signal_waits_for_evaluation_and_writes(moment: str, number: str, mnist_ff: Command) -> None:
    name, condition = MOMENTS[moment]
    done = patched(name, f"{condition}{kill(number)}return real(*given)", "trainer.epochs=3", "hydra.run.dir=run")
    assert done.returncode == 128 + getattr(signal, number).value, done.stderr
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["cause"] == f"stopped by {number}"
    assert summary["status"] == ("finished" if moment == "the last files" else "interrupted")
    assert not list(Path("run").glob(".*.tmp"))
    assert_goes_on_as_if_nothing_had_happened(mnist_ff)


def test_second_signal_ends_at_once_with_whole_files(mnist_ff: Command) -> None:
    again = "calls.append(given)\nif len(calls) == 2:\n    "
    twice = f"{again}{kill('SIGTERM')}    {kill('SIGINT')}return real(*given)"
    done = patched("learner.score", twice, "trainer.epochs=3", "hydra.run.dir=run")
    assert done.returncode == 130, done.stderr
    assert not Path("run/summary.json").exists()
    assert_goes_on_as_if_nothing_had_happened(mnist_ff)


def assert_goes_on_as_if_nothing_had_happened(mnist_ff: Command) -> None:
    assert mnist_ff("train", "resume=run")[0] == 0
    assert mnist_ff("train", *WORDS, "trainer.epochs=3", "hydra.run.dir=whole")[0] == 0
    assert bytes_of(Path("run")) == bytes_of(Path("whole"))


def test_no_room_for_a_file(mnist_ff: Command) -> None:
    assert mnist_ff("train", *WORDS, "hydra.run.dir=first")[0] == 0
    kept = {path: path.read_bytes() for path in Path("first").rglob("*") if path.is_file()}
    words = ["train", *WORDS, "model.hidden=[500]", "hydra.run.dir=second"]
    code, err = limited(words, resource.RLIMIT_FSIZE, 200_000)
    assert code == 1, err
    assert "Traceback" not in err
    assert "File too large" in err
    assert {path: path.read_bytes() for path in kept} == kept
    assert not list(Path("second").glob("*.tmp"))


@contextlib.contextmanager
def mounted(disk: Path, limit: str) -> Iterator[None]:
    """A disk with so much room, or a skip."""
    disk.mkdir()
    found = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", limit, "tmpfs", str(disk)], capture_output=True
    )
    if not found or found.returncode:
        pytest.skip("a small disk cannot be mounted here (needs root), the limit of a file's size is tested above")
    try:
        yield
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_small_disk(mnist_ff: Command, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "size=300k"):
        code, _, err = mnist_ff("train", *WORDS, "model.hidden=[500]", f"hydra.run.dir='{disk}/run'")
        assert code == 1
        assert "No space left on device" in err
        assert "Traceback" not in err
        assert (disk / "run" / "batches.csv").read_text().startswith("step,epoch,batch,loss,lr,samples\n")


@pytest.mark.parametrize(
    "limit", ["size=4k", "size=8k", "size=12k", *(f"nr_inodes={number}" for number in (2, 3, 6, 9))]
)
def test_a_tiny_disk_is_one_line(limit: str, mnist_ff: Command, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", limit):
        code, _, err = mnist_ff("train", *WORDS, "model.hidden=[8]", f"hydra.run.dir='{tmp_path}/disk/run'")
        assert code == 1
        assert err.startswith(f"error: {tmp_path}/disk/run")
        assert "No space left on device" in err
        assert err.count("\n") == 1


def test_fifo_as_log_does_not_block(mnist_ff: Command) -> None:
    from tests.support.runs import stopped_run

    run = stopped_run("run", 3, "trainer.epochs=1", "model.hidden=[8]").path
    (run / "train.log").unlink(missing_ok=True)
    os.mkfifo(run / "train.log")
    code, _, err = mnist_ff("train", f"resume={run}")
    assert code == 1
    assert "train.log: is not a regular file" in err


LONG = "/".join(["a" * 100] * 50)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "data=mnist_5k", f"hydra.run.dir={LONG}"],
        ["train", f"resume={LONG}"],
        ["report", LONG],
        ["compare", LONG],
        ["evaluate", LONG],
        ["export", LONG, "--format", "torch"],
        ["runs", LONG],
    ],
    ids=lambda words: words[0],
)
def test_too_long_path_is_one_line(words: list[str], mnist_ff: Command) -> None:
    code, _, err = mnist_ff(*words)
    assert code == 2
    assert "File name too long; give another path" in err
    assert err.count("\n") == 1
    assert len(err) < 600


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), "x: No space left on device; make room", 1),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "x"), "x: Disk quota exceeded; make room", 1),
        (OSError(errno.EROFS, "Read-only file system", "x"), "x: Read-only file system", 1),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files; raise ulimit -n", 1),
        (OSError(errno.ELOOP, "Too many levels of symbolic links", "x"), "give another path", 2),
        (OSError(errno.ENOENT, "No such file or directory"), "the working folder: ", 1),
        (OSError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "set TMPDIR to one", 1),
        (MemoryError(), "not enough memory", 1),
        (ImportError("libx.so: failed to map segment from shared object"), "not enough memory", 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_of_the_machine_is_one_line(
    error: BaseException, said: str, code: int, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnist_ff.commands import runs

    def fail(*given: object) -> int:
        raise error

    monkeypatch.setattr(runs, "main", fail)
    found, _, err = mnist_ff("runs")
    assert found == code
    assert said in err
    assert err.count("\n") == 1


def test_broken_installation_keeps_its_traceback(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.commands import runs

    def fail(*given: object) -> int:
        raise ImportError("cannot import name 'x'")

    monkeypatch.setattr(runs, "main", fail)
    code, _, err = mnist_ff("runs")
    assert code == 1
    assert "Traceback" in err


@pytest.mark.slow
@pytest.mark.parametrize("limit", [200, 400, 600, 1000])
def test_too_little_memory_for_torch_is_one_line(limit: int) -> None:
    command = ["bash", "-c", f'ulimit -v {limit << 10}; exec "$@"', "bash", sys.executable, "-m", "mnist_ff"]
    done = subprocess.run([*command, "train", *WORDS], capture_output=True, text=True)
    assert done.returncode == 1
    assert "not enough memory" in done.stderr
    assert "Traceback" not in done.stderr


def test_removed_working_folder_is_one_line(mnist_ff: Command, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    try:
        code, _, err = mnist_ff("train", *WORDS)
    finally:
        os.chdir(tmp_path)
    assert code == 1
    assert "the working folder: " in err
    assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("words", [["train", *WORDS, "trainer.epochs=100000"], ["runs"]], ids=["train", "runs"])
def test_ctrl_c_during_start_has_no_traceback(words: list[str]) -> None:
    """Python's own start, before any line of the package, is Python's affair."""
    heard = 0
    for delay in [*range(40, 400, 20), 700, 1000, 1500, 2000, 3000]:
        command = [sys.executable, "-m", "mnist_ff", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(delay / 1000)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        if "Traceback" in err and "mnist_ff" not in err:
            continue
        heard += 1
        assert process.returncode in (130, -signal.SIGINT, *([0] if words == ["runs"] else [])), (delay, err)
        assert "Traceback" not in err, (delay, err)
    assert heard > 10


def test_too_little_memory(mnist_ff: Command) -> None:
    words = ["train", *WORDS, "model.hidden=[200000,20000]", "hydra.run.dir=big"]
    code, err = limited(words, resource.RLIMIT_AS, 12 << 30)
    assert code == 1, err[-500:]
    assert "not enough memory" in err
    assert "Traceback" not in err
    assert json.loads(Path("big/summary.json").read_text())["status"] == "failed"


def test_unusable_output_folder_is_an_error(mnist_ff: Command) -> None:
    Path("file").write_text("")
    for place, expected in (("file", 2), ("file/below", 2), ("/proc/nothing/run", 1)):
        code, _, err = mnist_ff("train", *WORDS, f"hydra.run.dir={place}")
        assert code == expected, err
        assert place.split("/")[0] in err
        assert "Traceback" not in err


def test_no_home_and_an_unreadable_cache(real_mnist: Path, mnist_ff: Command) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "MNIST_FF_DATA")}
    environment["XDG_CACHE_HOME"] = str(Path("xdg").absolute())
    started = Forked(COMMAND, "train", *WORDS, "hydra.run.dir=run", environment=environment)
    _, err = started.communicate()
    assert started.returncode == 0, err
    Path("cache").mkdir()
    Path("cache/mnist.safetensors").mkdir()
    code, _, err = mnist_ff("train", "data.root=cache", "trainer.epochs=1", "hydra.run.dir=two")
    assert code == 1
    assert "Traceback" not in err
    assert "cache" in err


@pytest.mark.parametrize("name", ["with spaces", "日本 é", "a=b", "a,b", "a[b", "x" * 200])
def test_paths_of_every_kind(name: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", *WORDS, f"hydra.run.dir='{name}'")
    assert code == 0, err
    assert mnist_ff("evaluate", name)[0] == 0
    assert mnist_ff("train", f"resume={name}", "trainer.epochs=3")[0] == 0


def run_bytes(place: str, *words: str, **environment: str) -> tuple[bytes, bytes]:
    """Of a run in another process, in a fresh Python if that has an environment of its own."""
    code, _, err = Started("train", *WORDS, *words, f"hydra.run.dir='{place}'", **environment).end()
    assert code == 0, err
    return bytes_of(Path(place))


def bytes_of(run: Path) -> tuple[bytes, bytes]:
    return (run / "batches.csv").read_bytes(), (run / "model.safetensors").read_bytes()


def test_the_same_bytes_whatever_is_around(mnist_ff: Command) -> None:
    expected = run_bytes("base")
    assert run_bytes("hash", PYTHONHASHSEED="77", LC_ALL="C", TZ="Asia/Tokyo", COLUMNS="40") == expected
    for place, words in (
        ("sync", ["trainer.sync_every=1"]),
        ("checkpoints", ["trainer.checkpoint_every=3"]),
        ("strict", ["trainer.deterministic=true"]),
        ("plots", ["trainer.plots=true", "name=x", "hydra.verbose=true"]),
    ):
        assert mnist_ff("train", *WORDS, *words, f"hydra.run.dir={place}")[0] == 0
        assert bytes_of(Path(place)) == expected, place
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")
    assert mnist_ff("train", *WORDS, "hydra.run.dir=there")[0] == 0
    assert bytes_of(Path("there")) == expected
    os.chdir("..")
    assert mnist_ff("train", "-m", *WORDS, "seed=0")[0] == 0
    (job,) = Path("outputs/sweeps").glob("*/0")
    assert bytes_of(job) == expected


def test_same_bytes_with_progress_bar_and_extra_evaluations(mnist_ff: Command) -> None:
    assert mnist_ff("train", *WORDS, "hydra.run.dir=base")[0] == 0
    code, seen = in_a_terminal("train", *WORDS, "hydra.run.dir=bar")
    assert code == 0
    assert "\x1b[" in seen
    assert bytes_of(Path("bar")) == bytes_of(Path("base"))
    more = patched("learner.score", "return [real(*given) for _ in range(3)][0]", "hydra.run.dir=more")
    assert more.returncode == 0, more.stderr
    assert bytes_of(Path("more")) == bytes_of(Path("base"))


def test_mkl_runs_in_reproducible_mode() -> None:
    """MKL says of each call whether its conditional numerical reproducibility is on."""
    if not torch.backends.mkl.is_available():
        pytest.skip("this torch has no MKL")
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    command = [sys.executable, "-m", "mnist_ff", "train", *WORDS, "hydra.run.dir=run"]
    done = subprocess.run(command, capture_output=True, text=True, env={**environment, "MKL_VERBOSE": "1"})
    calls = [line for line in done.stdout.splitlines() if line.startswith("MKL_VERBOSE SGEMM")]
    assert len(calls) > 10
    assert all("CNR:AUTO" in line for line in calls)
    assert json.loads(Path("run/environment.json").read_text())["mkl_cbwr"] == "AUTO"


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["eager", "fused", "graph"])
def test_the_same_bytes_on_cuda_when_deterministic(engine: str) -> None:
    words = ("trainer.device=cuda", f"trainer.engine={engine}", "trainer.deterministic=true")
    assert run_bytes("first", *words) == run_bytes("second", *words)


def test_one_thread_and_two_are_close(mnist_ff: Command) -> None:
    from mnist_ff.runs.directory import Run

    for threads in ("1", "2"):
        assert mnist_ff("train", *WORDS, f"trainer.threads={threads}", f"hydra.run.dir=t{threads}")[0] == 0
    one, two = Run.open("t1").losses(), Run.open("t2").losses()
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) < 1e-4


def test_non_finite_weights_reach_no_checkpoint(mnist_ff: Command) -> None:
    import torch

    words = ["data=mnist_5k", "model.hidden=[]", "optimizer=sgd", "optimizer.lr=1e36", "trainer.checkpoint_every=1"]
    code, _, err = mnist_ff("train", *words, "hydra.run.dir=run")
    assert code == 1
    assert "optimizer.lr" in err
    assert json.loads(Path("run/summary.json").read_text())["status"] == "diverged"
    for path in Path("run").glob("checkpoint*.pt"):
        state = torch.load(path, weights_only=True)
        assert all(bool(torch.isfinite(value).all()) for value in state["model"].values())
