"""Faults of servers, mirrors and caches: each is named, and no bad file gets its final name."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mnist_ff.config.compose import compose
from mnist_ff.data import catalog, transfer
from mnist_ff.data.load import load_data
from mnist_ff.errors import DataError
from tests.support.commands import Command
from tests.support.mnist import FOUR_FILES
from tests.support.processes import Forked

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
    monkeypatch.setattr(transfer, "READ_TIMEOUT_S", 0.5)
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

    handler = transfer._SameSchemeOrSafer()
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
