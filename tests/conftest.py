"""Shared fixtures: an isolated folder for every test, the real MNIST where there is a copy, a small offline set."""

from __future__ import annotations

import gzip
import multiprocessing
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

os.environ.setdefault("MKL_CBWR", "AUTO")  # before any product of this process, as in a process of mnist-ff's own
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported: its kernels then run on a CPU's tensors

from mnist_ff import cli
from mnist_ff.data.load import Data, Split
from tests import browser as chromium
from tests import slurm_cluster


def pytest_addoption(parser: pytest.Parser) -> None:
    """One machine runs what another one had to skip."""
    parser.addoption("--skipped-to", type=Path, metavar="FILE", help="write the ids of the skipped tests, one a line")
    parser.addoption("--only-from", type=Path, metavar="FILE", help="run only the tests whose ids stand in FILE")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write what was skipped; of a file that was skipped whole, its name."""
    place: Path | None = config.getoption("--skipped-to")
    if place is not None:
        reports = terminalreporter.stats.get("skipped", [])
        place.write_text("".join(sorted({f"{report.nodeid}\n" for report in reports})), encoding="utf-8")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that --only-from names."""
    place: Path | None = config.getoption("--only-from")
    if place is not None:
        named = set(place.read_text(encoding="utf-8").splitlines())
        items[:] = [item for item in items if named & {item.nodeid, item.nodeid.split("::")[0]}]


FOUR_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def mirror_folder() -> Path | None:
    """A folder with the real MNIST: MNIST_FF_MIRROR, or shared/mnist beside the checkout."""
    named = os.environ.get("MNIST_FF_MIRROR")
    beside = Path(__file__).resolve().parents[2] / "shared" / "mnist"
    for folder in [Path(named)] if named else [beside]:
        if all((folder / name).is_file() for name in FOUR_FILES):
            return folder
    return None


MIRROR = mirror_folder()
MARKUP = "</script><script>window.pwned=1</script><b>&amp;"
"""A run's name that must stay text."""


def mnist_test_images() -> NDArray[np.uint8]:
    """The real test images, (10000, 28, 28)."""
    return _idx("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)


def mnist_test_labels() -> NDArray[np.uint8]:
    """Their labels, (10000,)."""
    return _idx("t10k-labels-idx1-ubyte.gz", 8)


def _idx(name: str, header: int) -> NDArray[np.uint8]:
    assert MIRROR is not None
    return np.frombuffer(gzip.decompress((MIRROR / name).read_bytes()), np.uint8, offset=header)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the whole session, so that MNIST is decoded once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session", autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder of the session's own for what else would be kept in the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test works in its own empty folder, with the session's cache and no mirror of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNIST_FF_DATA", str(data_root))
    monkeypatch.delenv("MNIST_FF_MIRROR", raising=False)


@pytest.fixture
def real_mnist(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real MNIST through MNIST_FF_MIRROR, or a skip."""
    mirror = mirror_or_skip()
    monkeypatch.setenv("MNIST_FF_MIRROR", str(mirror))
    return mirror


def mirror_or_skip() -> Path:
    """The folder with the real MNIST, or a skip."""
    if MIRROR is None:
        pytest.skip("no copy of MNIST: neither MNIST_FF_MIRROR nor ../shared/mnist has the four files")
    return MIRROR


def train_on_mnist(run: Path, data_root: Path, *words: str) -> Path:
    """A run on the real MNIST, outside of any test's own folder, or a skip."""
    mirror = mirror_or_skip()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNIST_FF_DATA", str(data_root))
        patch.setenv("MNIST_FF_MIRROR", str(mirror))
        assert cli.main(["train", *words, f"hydra.run.dir={run}"]) == 0
    return run


@pytest.fixture(scope="session")
def trained_run(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default network after five epochs on the real MNIST, or a skip; nobody changes it."""
    run = tmp_path_factory.mktemp("trained") / "run"
    return train_on_mnist(run, data_root, "trainer.epochs=5", "trainer.plots=false")


@pytest.fixture(scope="session")
def slurm_session() -> Iterator[Path]:
    """One Slurm for the whole session, or a skip with the reason."""
    reason = slurm_cluster.unavailable()
    if reason is not None:
        pytest.skip(reason)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(slurm_cluster.slurm_cluster())
        except slurm_cluster.ClusterError as error:
            print(error)
            pytest.skip(f"no Slurm: {str(error).splitlines()[0]}")
        yield folder / "slurm.conf"


@pytest.fixture
def slurm(slurm_session: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A real Slurm with this machine as its node; SLURM_CONF names it."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_session))
    return slurm_session


@pytest.fixture
def mnist_ff(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: words to (exit code, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(list(words))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def make_split(samples: int, seed: int = 0) -> Split:
    """Random images whose label is written into their pixels, so that a network can learn it."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (samples,), generator=rng)
    images = torch.randint(0, 128, (samples, 28, 28), generator=rng, dtype=torch.uint8)
    images[torch.arange(samples), labels * 2, :] = 255
    return Split(images, labels)


@pytest.fixture
def small_data() -> Data:
    """600 learnable images to train on and 200 to test."""
    return Data("small", make_split(600, 1), make_split(200, 2))


def only_run(folder: str = "outputs") -> Path:
    """The single run directory below `folder`."""
    runs = [path for path in Path(folder).iterdir() if path.is_dir() and path.name != "sweeps"]
    assert len(runs) == 1, runs
    return runs[0]


def in_a_terminal(*words: str, columns: int = 140) -> tuple[int, str]:
    """mnist-ff in a real pseudo-terminal, read to its end: exit code and all that it wrote."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    command = [sys.executable, "-m", "mnist_ff", *words]
    process = subprocess.Popen(command, stdout=slave, stderr=slave, env=environment, close_fds=True)
    os.close(slave)
    seen = b""
    with suppress(OSError):  # the other end was closed
        while block := os.read(master, 65536):
            seen += block
    os.close(master)
    return process.wait(timeout=60), seen.decode("utf-8", "replace")


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["mnist_ff.session.session", "mnist_ff.analysis.plots", "mnist_ff.commands.train"])
COMMAND = "import sys\nfrom mnist_ff.cli import main\nsys.exit(main(sys.argv[1:]))"


class Forked:
    """A script in a new process, as subprocess.Popen has it: forked from one that has loaded torch and computed
    nothing, which takes a tenth of a second instead of three."""

    def __init__(self, script: str, *words: str) -> None:
        self._outputs = [Path(tempfile.mkstemp(suffix=f".{name}")[1]) for name in ("out", "err")]
        places = [str(path) for path in self._outputs]
        given = (script, list(words), os.getcwd(), dict(os.environ), places)
        self._process = FORKS.Process(target=_run_script, args=given)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        """The exit code; of a signal its number below zero."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """At once."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 60) -> tuple[str, str]:
        """Wait for its end. Returns what it wrote."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"still running after {timeout} s"
        out, err = (path.read_text() for path in self._outputs)
        return out, err


def _run_script(script: str, words: list[str], folder: str, environment: dict[str, str], outputs: list[str]) -> None:
    """In the forked process."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, place in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(place, os.O_WRONLY | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8") for number in (1, 2))
    sys.argv = ["mnist-ff", *words]
    exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})


def _fresh(words: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mnist_ff", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


class Started:
    """mnist-ff in a process of its own, for signals and kills; with an environment of its own in a fresh Python."""

    def __init__(self, *words: str, **environment: str) -> None:
        self.process = _fresh(words, environment) if environment else Forked(COMMAND, *words)

    def wait_for_rows(self, count: int, folder: str = "outputs") -> None:
        """Until batches.csv below `folder` has more than `count` lines."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            files = list(Path(folder).rglob("batches.csv"))
            if files and files[0].read_text().count("\n") > count:
                return
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.01)
        raise AssertionError("no rows after a minute")

    def end(self) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    """One real browser for the whole session, or a skip with the reason."""
    reason = chromium.unavailable()
    if reason is not None:
        pytest.skip(reason)
    with chromium.started(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="session")
def reported(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tutorial's network after one epoch on the real MNIST, under a name that would be markup; with its report."""
    run = tmp_path_factory.mktemp("reported") / "run"
    return train_on_mnist(run, data_root, f"name='{MARKUP}'", "trainer.epochs=1", "trainer.device=cpu")
