"""Shared fixtures: an isolated folder for every test, the real MNIST where there is a copy, a small offline set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

os.environ.setdefault("MKL_CBWR", "AUTO")  # before any product of this process, as in a process of mnist-ff's own
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported: its kernels then run on a CPU's tensors

from mnist_ff import cli
from mnist_ff.data.load import Data
from tests.support import browser as chromium
from tests.support import slurm_cluster
from tests.support.commands import MARKUP, Command
from tests.support.mnist import make_split, mirror_or_skip


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
    """Skip what needs a GPU where there is none; keep the tests that --only-from names."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
    place: Path | None = config.getoption("--only-from")
    if place is not None:
        named = set(place.read_text(encoding="utf-8").splitlines())
        items[:] = [item for item in items if named & {item.nodeid, item.nodeid.split("::")[0]}]


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
def mnist_ff(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process: words to (exit code, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
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
