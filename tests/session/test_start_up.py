"""What a command imports, and the line that it prints before it imports PyTorch."""

from __future__ import annotations

import gc
import io
import shlex
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from mnist_ff.analysis.console import note
from mnist_ff.cli import COMMANDS
from mnist_ff.data import download
from mnist_ff.data.sets import mnist_5k
from mnist_ff.runs import start_up
from mnist_ff.training.learner import Learner
from tests.support.commands import Command
from tests.support.configs import make_config

SMALL = ("train", "data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false")
NO_TORCH = """
import sys
class Absent:
    def find_spec(self, name, path, target=None):
        if name == "torch":
            sys.stderr.write("torch is asked for\\n")
            sys.stderr.flush()
            raise ImportError("no torch")
sys.meta_path.insert(0, Absent())
sys.argv = ["mnist-ff", *sys.argv[1:]]
from mnist_ff.__main__ import main
sys.exit(main())
"""
LISTED = """
import sys
sys.argv = ["mnist-ff", *sys.argv[1:]]
from mnist_ff.__main__ import main
code = main()
sys.stdout.flush()
sys.stderr.write("MODULES " + " ".join(sys.modules))
sys.exit(code)
"""
NEVER_TO_TRAIN = {"torch._dynamo", "torch._inductor", "sympy", "scipy", "torchvision", "pandas", "onnx", "jinja2"}
NEVER_TO_READ = {*NEVER_TO_TRAIN, "torch", "hydra", "joblib", "optuna"}


WORDS = """
import contextlib, sys
from mnist_ff import cli
for name in [name for name in cli.COMMANDS if name != "completion"]:
    with contextlib.redirect_stdout(sys.stderr):
        assert cli.main([name, "--help"]) == 0
        assert cli.main([name, "--no-such-flag"]) == 2
    print(name, *{"torch", "matplotlib", "scipy", "PIL", "pandas", "jinja2", "optuna"} & set(sys.modules))
"""


FIRST = """
import sys
from mnist_ff import cli
from mnist_ff.runs import start_up
class Enter(BaseException):
    pass
class Terminal:
    encoding, first = "utf-8", None
    def isatty(self):
        return True
    def write(self, text):
        self.first = self.first or text
        raise Enter(self.first)
for name in [name for name in cli.COMMANDS if name != "completion"]:
    sys.stderr = Terminal()
    try:
        cli.main([name, "--help"])
    except Enter as enter:
        heavy = {"torch", "numpy", "hydra", "yaml", "rich", "msgspec"} & set(sys.modules)
        print(name, enter, *heavy, sep="|", file=sys.__stdout__)
    finally:
        sys.stderr, start_up._shown = sys.__stderr__, False
"""


def _ran(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (SMALL, "mlp on mnist_5k, 1 epoch: loading PyTorch ..."),
        (("train", "-m", *SMALL[1:], "seed=0,1"), "2 jobs: loading PyTorch ..."),
    ],
    ids=["train", "sweep"],
)
def test_a_line_comes_before_torch(
    words: tuple[str, ...], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = _ran(NO_TORCH, *words)
    assert done.stderr.splitlines()[:2] == [line, "torch is asked for"]


def test_a_terminal_shows_a_line_before_anything_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is there after 0.1 to 0.2 s, whatever the command imports."""
    monkeypatch.setenv("TERM", "xterm")
    done = _ran(FIRST)
    lines = [line.split("|") for line in done.stdout.splitlines()]
    assert [name for name, *_ in lines] == [name for name in COMMANDS if name != "completion"], done.stderr
    for name, said, *heavy in lines:
        assert said == f"{name}: loading ..."
        assert heavy == []


def test_no_help_and_no_mistyped_word_waits_for_a_large_library() -> None:
    done = _ran(WORDS)
    assert done.stdout.splitlines() == [name for name in COMMANDS if name != "completion"], done.stderr
    assert "usage: mnist-ff predict" in done.stderr


def test_the_line_on_a_terminal_goes_with_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setenv("TERM", "xterm")
    start_up.going_on("train: loading")
    assert said.getvalue() == "", "nothing in a file"
    monkeypatch.setattr(said, "isatty", lambda: True)
    start_up.going_on("train: loading")
    note("found")
    start_up.waiting_for("data")
    assert said.getvalue() == "train: loading ...\r\x1b[Kfound\ndata ...\n"


def test_a_wrong_override_comes_alone_and_before_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = _ran(NO_TORCH, *SMALL, "trainer.epochs=none")
    assert done.returncode == 2
    assert done.stderr.startswith("error: trainer.epochs=none")
    assert "torch" not in done.stderr


@pytest.mark.parametrize(
    ("words", "never"),
    [
        (("runs",), NEVER_TO_READ),
        (("compare", "best"), NEVER_TO_READ),
        (("conf", "list"), NEVER_TO_READ),
        (("train", "--cfg", "job"), NEVER_TO_READ - {"hydra"}),
        pytest.param(SMALL, {*NEVER_TO_TRAIN, "matplotlib", "joblib"}, marks=pytest.mark.slow),
        pytest.param(
            ("train", "-m", *SMALL[1:], "seed=0"), NEVER_TO_TRAIN - {"jinja2"} | {"joblib"}, marks=pytest.mark.slow
        ),
        pytest.param(("evaluate", "last"), {*NEVER_TO_TRAIN, "matplotlib", "hydra"}, marks=pytest.mark.slow),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_what_a_command_never_imports(words: tuple[str, ...], never: set[str], mnist_ff: Command) -> None:
    if words[0] in ("compare", "evaluate"):
        assert mnist_ff(*SMALL)[0] == 0
    done = _ran(LISTED, *words)
    assert done.returncode == 0, done.stderr
    assert not never & set(done.stderr.rpartition("MODULES ")[2].split())


def test_values_that_are_typed_import_the_parts_of_their_own_section() -> None:
    script = (
        "import sys; from mnist_ff.config.compose import compose; compose(['optimizer.lr=0.1']); print(*sys.modules)"
    )
    loaded = set(_ran(script).stdout.split())
    assert {"mnist_ff.optim.rmsprop", "mnist_ff.optim.adam"} <= loaded
    assert not {"mnist_ff.data.sets.emnist", "mnist_ff.data.augment.elastic", "mnist_ff.trackers.wandb"} & loaded


def test_only_a_commands_own_process_keeps_its_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[str] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append("froze"))
    with start_up.importing():
        assert gc.isenabled()
    assert frozen == []
    monkeypatch.setattr(start_up, "_began", True)
    with start_up.importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert frozen == [], "nothing was imported"
    with start_up.importing():
        monkeypatch.setitem(sys.modules, "something.new", sys)
        assert not gc.isenabled()
    assert gc.isenabled()
    assert frozen == ["froze"]
    monkeypatch.setattr("mnist_ff.config.own_parts.in_use", lambda: ("a user's part",))
    start_up.keep_imports()
    assert frozen == ["froze"], "what a user's modules hold is closed as ever"


def test_a_run_that_has_ended_holds_no_data(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even until garbage is collected: a sweep's jobs would hold the data of many."""
    learners: list[weakref.ref[Learner]] = []
    build = Learner.__init__

    def recording(self: Learner, *given: Any) -> None:
        learners.append(weakref.ref(self))
        build(self, *given)

    monkeypatch.setattr(Learner, "__init__", recording)
    gc.collect()
    gc.disable()
    try:
        assert mnist_ff(*SMALL)[0] == 0
        assert [learner() for learner in learners] == [None]
    finally:
        gc.enable()


def test_a_download_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(*given: object) -> None:
        assert capsys.readouterr().err == f"mnist: not in {tmp_path} yet; downloading it once (55 MB unpacked) ...\n"
        raise download.DataError("no network")

    monkeypatch.setattr(download, "fetch", fetch)
    with pytest.raises(download.UnavailableError, match="no network"):
        download.downloaded(make_config(data__root=str(tmp_path)).data)


def test_the_subset_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    config = make_config("data=mnist_5k", data__root=str(tmp_path)).data
    place, read, loadtxt = tmp_path / "mnist_5k.safetensors", [], np.loadtxt
    monkeypatch.setattr(np, "loadtxt", lambda *words, **keys: read.append(1) or loadtxt(*words, **keys))

    def again() -> bytes:
        mnist_5k._table.cache_clear()
        return mnist_5k.read_subset(config)["train_images"].numpy().tobytes()

    first = again()
    assert again() == first
    assert len(read) == 1
    content = place.read_bytes()
    place.write_bytes(content[:-9] + bytes(9 * [7]))
    assert again() == first, "a damaged one is read anew"
    assert len(read) == 2
    assert place.read_bytes() == content


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_one_that_leads_nowhere(
    closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = "import os; from mnist_ff.__main__ import main; print(main(), file=open('said', 'w'))"
    script += "; [os.fstat(number) for number in range(3)]; print('whole', file=open('said', 'a'))"
    words = shlex.join([sys.executable, "-c", script, "--version"])
    subprocess.run(["sh", "-c", f"{words} {closed}"], check=True, capture_output=True)
    assert Path("said").read_text() == "0\nwhole\n"
