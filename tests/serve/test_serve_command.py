"""`mnist-ff serve` as a process: what it prints, which requests it answers, and how it ends."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")

import pexpect
from filelock import FileLock

from mnist_ff.commands import serve as command
from mnist_ff.serve.listing import id_of
from mnist_ff.serve.server import has_browser
from tests.support.commands import Command
from tests.support.many_runs import make_run
from tests.support.processes import COMMAND, PROMPT_S, Forked


def test_a_server_from_start_to_ctrl_c(tmp_path: Path) -> None:
    """It prints one line of JSON, serves pages with the token only, and stops while a viewer is connected."""
    run = make_run(tmp_path / "outputs" / "run", 3)
    (run / "summary.json").unlink()
    script = f"import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n{COMMAND}"
    started = Forked(script, "serve", str(tmp_path / "outputs"), "--json")
    info = json.loads(started.first_line())
    assert info["url"] == f"http://127.0.0.1:{info['port']}/?token={info['token']}"
    assert ask(info["port"], "/").status == 403
    assert ask(info["port"], "/", host="evil.example").status == 403
    opened = ask(info["port"], f"/?token={info['token']}")
    assert opened.status == 303
    cookie = {"Cookie": str(opened.headers["set-cookie"]).split(";")[0]}
    assert ask(info["port"], "/", **cookie).status == 200
    row = listed(info["port"], cookie)
    assert (row["name"], row["status"]) == ("run 3", "interrupted")
    assert ask(info["port"], "/", method="POST", **cookie).status == 405
    assert ask(info["port"], "/", Cookie="x" * 40_000).status in (400, 403)
    with FileLock(run / ".lock"), following(info["port"], info["token"], row["id"]):
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(PROMPT_S)
    assert started.returncode == 0
    assert (out.count("\n"), err) == (1, "")


@pytest.mark.parametrize("columns", [80, 40])
def test_a_person_starts_it_and_ends_it_with_control_c(columns: int, tmp_path: Path) -> None:
    """In a terminal: what to open, how to stop it and how to tunnel; a page and a stream are open at its end."""
    run = make_run(tmp_path / "outputs" / "run", 3)
    (run / "summary.json").unlink()
    words = ["-m", "mnist_ff", "serve", "outputs", "--no-open"]
    child = pexpect.spawn(
        sys.executable, words, encoding="utf-8", timeout=60, dimensions=(24, columns), cwd=str(tmp_path)
    )
    child.expect(r"ssh -N -L (\d+):127\.0\.0\.1:\1 [^\r]+\r\n")
    port, said = int(child.match[1]), child.before + child.after
    first, opened, tunnel = re.sub(r"[^\n]*\x1b\[K|\x1b\[[0-9;]*m", "", said).replace("\r", "").splitlines()
    assert first == "outputs/, read only, until Ctrl-C"
    assert tunnel.startswith("over SSH  ssh")
    address, token = opened.removeprefix("open").strip().split("?token=")
    assert address == f"http://127.0.0.1:{port}/"
    page = socket.create_connection(("127.0.0.1", port))  # as a browser keeps one
    with page, FileLock(run / ".lock"), following(port, token, id_of(run.resolve())):
        child.sendintr()
        child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, child.signalstatus) == (0, None)
    assert child.before.replace("^C", "").strip() == ""


@contextmanager
def following(port: int, token: str, word: str) -> Iterator[None]:
    """A viewer that follows a run, and has heard how it stands."""
    lines = [f"GET /events/{word} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}", "", ""]
    with socket.create_connection(("127.0.0.1", port)) as viewer:
        viewer.sendall("\r\n".join(lines).encode())
        viewer.settimeout(60)
        heard = b""
        while b"event: status" not in heard:
            heard += (more := viewer.recv(1 << 16))
            assert more, heard
        yield


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(port: int, path: str, method: str = "GET", host: str | None = None, **headers: str) -> Answer:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}", **headers})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())


def listed(port: int, cookie: dict[str, str]) -> dict[str, str]:
    """The first row of the list, once the folder has been read."""
    deadline = time.monotonic() + 60
    while not (rows := json.loads(ask(port, "/runs.json", **cookie).body)["rows"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return dict(rows[0])


def test_without_the_extra(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "uvicorn" else object())
    code, out, err = mnist_ff("serve", str(tmp_path))
    assert (code, out) == (2, "")
    assert "pip install 'mnist-ff[serve]'" in err.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "does not exist"),
        (["--port", "65536"], "must be from 0 to 65,535"),
        (["--port", "-1"], "must be from 0"),
        (["--open", "--no-open"], "not allowed with"),
    ],
)
def test_bad_arguments(words: list[str], said: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("serve", *words)
    assert code == 2
    assert said in err.replace("\n", " ")


def test_a_port_in_use(mnist_ff: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = mnist_ff("serve", "--port", str(port))
    assert code == 2
    assert f"--port {port}: Address already in use" in err.replace("\n", " ")


@pytest.mark.parametrize("columns", ["120", "80", "60", "40"])
def test_printed_lines_are_not_wrapped(
    columns: str, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Three lines that people copy, so none is wrapped in a narrow terminal."""
    opened: list[str] = []
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("mnist_ff.serve.server.serve", lambda app, listener, ready: (ready(), listener.close()))
    monkeypatch.setattr("mnist_ff.serve.server.open_browser", opened.append)
    monkeypatch.setattr("mnist_ff.serve.listing.Listing.start", lambda self: None)
    code, out, _ = mnist_ff("serve", str(tmp_path), "--no-open")
    head, url, tunnel = out.splitlines()
    port = url.partition("127.0.0.1:")[2].partition("/")[0]
    assert (code, opened) == (0, [])
    assert "read only" in head
    assert f"ssh -N -L {port}:127.0.0.1:{port} " in tunnel
    _, out, _ = mnist_ff("serve", str(tmp_path), "--open")
    token = out.partition("?token=")[2].split()[0]
    assert "?once=" in opened[0]
    assert token not in opened[0]  # a program's arguments can be read by others


def test_no_browser_over_ssh_or_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert not has_browser()
    monkeypatch.setenv("DISPLAY", ":0")
    assert has_browser()
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")
    assert not has_browser()
