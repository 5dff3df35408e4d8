"""Shared fixtures: an isolated folder for every test, the real MNIST where there is a copy, a small offline set."""

from __future__ import annotations

import functools
import gc
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # several tests share the cores: a thread that waits does not spin
if WORKERS := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    # nor are there more threads than cores: two processes of two threads on two cores take half as much time again
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // WORKERS)))
import torch

os.environ.setdefault("MKL_CBWR", "AUTO")  # before any product of this process, as in a process of mnist-ff's own
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported: its kernels then run on a CPU's tensors

from mnist_ff import cli
from mnist_ff.data.catalog import cache_file
from mnist_ff.data.load import Data, load_data
from tests.support import browser as chromium
from tests.support import slurm_cluster
from tests.support.commands import MARKUP, Command
from tests.support.configs import make_config
from tests.support.mnist import make_split, mirror_or_skip
from tests.support.processes import Started

gc.disable()  # until the tests begin: imports and the tests themselves are very many objects and no garbage

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # pytest was started in the background by a script, whose programs inherit this: those of the tests listen to Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # the same under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    """One machine runs what another one had to skip."""
    parser.addoption("--skipped-to", type=Path, metavar="FILE", help="write the ids of the skipped tests, one a line")
    parser.addoption("--slow-from", type=Path, metavar="FILE", help="count the tests whose ids stand in FILE as slow")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write what was skipped; of a file that was skipped whole, its name."""
    place: Path | None = config.getoption("--skipped-to")
    if place is not None:
        reports = terminalreporter.stats.get("skipped", [])
        place.write_text("".join(sorted({f"{report.nodeid}\n" for report in reports})), encoding="utf-8")


NEEDS = {
    "gpu": functools.cache(lambda: None if torch.cuda.is_available() else "no CUDA device"),
    "slurm": functools.cache(slurm_cluster.unavailable),
    "browser": functools.cache(chromium.unavailable),
}
"""Marker, which the fixture of that name implies, to the reason why this machine lacks it, or None."""


@pytest.hookimpl(tryfirst=True)  # before -m chooses by marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark and skip tests by what they need; mark as slow what --slow-from names."""
    place: Path | None = config.getoption("--slow-from")
    named = set(place.read_text(encoding="utf-8").splitlines()) if place is not None else set()
    for item in items:
        for need, missing in NEEDS.items():
            if need in getattr(item, "fixturenames", ()):
                item.add_marker(need)
            if item.get_closest_marker(need) and (reason := missing()):
                item.add_marker(pytest.mark.skip(reason=reason))
        if named & {item.nodeid, item.nodeid.split("::")[0]}:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """From now on look for garbage, in a process of several not among what is there."""
    if WORKERS:
        gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that the processes of this pytest have in common."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def data_root(shared: Path) -> Path:
    """One cache, so that MNIST is decoded once."""
    return shared / "cache"


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


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """No process outlives its test, not even one that fails."""
    yield
    Started.kill_all()


@pytest.fixture
def real_mnist(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real MNIST through MNIST_FF_MIRROR, or a skip."""
    mirror = mirror_or_skip()
    monkeypatch.setenv("MNIST_FF_MIRROR", str(mirror))
    return mirror


@pytest.fixture
def decoded(real_mnist: Path, data_root: Path) -> Path:
    """The file of the real MNIST in the session's cache, or a skip; nobody changes it."""
    config = make_config(data__root=str(data_root)).data
    load_data(config, 0)
    return cache_file(config)


def train_on_mnist(run: Path, data_root: Path, *overrides: str) -> Path:
    """A run on the real MNIST, made by the first process that asks, or a skip; nobody changes it."""
    mirror = mirror_or_skip()
    with FileLock(run.with_suffix(".lock")), pytest.MonkeyPatch.context() as patch:
        if not run.exists():
            patch.setenv("MNIST_FF_DATA", str(data_root))
            patch.setenv("MNIST_FF_MIRROR", str(mirror))
            assert cli.main(["train", *overrides, f"hydra.run.dir={run}"]) == 0
    return run


@pytest.fixture(scope="session")
def five_epochs(shared: Path, data_root: Path) -> Path:
    """The default network after five epochs: slow."""
    return train_on_mnist(shared / "five", data_root, "trainer.epochs=5", "trainer.plots=false")


@pytest.fixture(scope="session")
def trained_run(shared: Path, data_root: Path) -> Path:
    """A small network after one epoch, with its report, under a name that would be markup; for all that only reads."""
    small = ("model.hidden=[64]", "trainer.epochs=1", "trainer.device=cpu")
    return train_on_mnist(shared / "run", data_root, f"name='{MARKUP}'", *small)


@pytest.fixture(scope="session")
def slurm_session() -> Iterator[Path]:
    """One Slurm for the whole session."""
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
def mnist_ff(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process: words to (exit code, stdout, stderr). Without pytest's handlers: logged warnings
    of which no file hears are on stderr, as for a user."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(logging.getLogger(), "handlers", [])
            code = cli.main(list(words))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def small_data() -> Data:
    """600 learnable images to train on and 200 to test."""
    return Data("small", make_split(600, 1), make_split(200, 2))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    """One real browser for the whole session."""
    with chromium.started(tmp_path_factory.mktemp("profile")) as started:
        yield started
