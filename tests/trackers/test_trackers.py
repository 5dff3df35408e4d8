"""What TensorBoard, MLflow and wandb were told, read back as each tool reads it; and that none of them can hurt."""

from __future__ import annotations

import csv
import json
import math
import shutil
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnist_ff import cli
from mnist_ff.errors import BadRunError
from mnist_ff.runs.directory import Run
from mnist_ff.trackers import tracking
from mnist_ff.trackers.base import Beginning, Ending, Tracker
from mnist_ff.trackers.heard import Fact, Heard
from mnist_ff.trackers.mlflow import MLflow, MLflowConfig
from mnist_ff.trackers.tensorboard import TensorBoard, TensorBoardConfig
from mnist_ff.trackers.wandb import Wandb, WandbConfig
from mnist_ff.trackers.wandb_file import history_of
from mnist_ff.training.checkpoint import CHECKPOINT, PREVIOUS
from tests.support.commands import Command, only_run
from tests.support.processes import PROMPT_S, Held, Started
from tests.support.runs import stopped_run

WORDS = ["data=mnist_5k", "model.hidden=[16]", "trainer.epochs=2", "trainer.device=cpu"]
ALL = "logger=[tensorboard,mlflow,wandb]"
SAME = ("batches.csv", "model.safetensors", "predictions.safetensors")
PICTURES = {"confusion", "epochs", "loss", "mistakes", "weights"}


@pytest.fixture(scope="module")
def contacted() -> list[Any]:
    """Addresses that this process connected to while `tracked` was made."""
    return []


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, data_root: Path, contacted: list[Any]) -> Iterator[Path]:
    """A folder with a sweep of two jobs that all trackers heard, and the first one's twin that none did."""
    folder = tmp_path_factory.mktemp("tracked")
    connect = socket.socket.connect

    def seen(self: socket.socket, address: Any) -> None:
        contacted.append(address)
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MNIST_FF_DATA", str(data_root))
        patch.setattr(socket.socket, "connect", seen)
        patch.setattr(tracking, "END_TIMEOUT_S", 120.0)  # a busy machine is no reason for less to be read back
        assert cli.main(["train", "-m", *WORDS, ALL, "seed=0,1", "hydra.sweep.dir=outputs/sweeps/s"]) == 0
        assert cli.main(["train", *WORDS, "hydra.run.dir=plain", "trainer.plots=false"]) == 0
        yield folder


def rows(run: Path, name: str) -> list[dict[str, str]]:
    with (run / name).open(newline="") as file:
        return list(csv.DictReader(file))


def losses(run: Path) -> dict[int, float]:
    return {int(row["step"]): float(row["loss"]) for row in rows(run, "batches.csv")}


def epochs(run: Path, name: str) -> dict[int, float]:
    """A column of epochs.csv by the step of each epoch's last batch."""
    last = {int(row["epoch"]): int(row["step"]) for row in rows(run, "batches.csv")}
    return {last[int(row["epoch"])]: float(row[name]) for row in rows(run, "epochs.csv")}


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def client(folder: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{folder}/outputs/mlflow/mlflow.db")


def mlflow_runs(folder: Path, which: str = "") -> list[Any]:
    found = client(folder)
    experiment = found.get_experiment_by_name("mnist-ff")
    return list(found.search_runs([experiment.experiment_id], which))


def store(folder: Path) -> str:
    """The word for a store that has its tables: making them takes MLflow seconds."""
    return f"logger.mlflow.tracking_uri=sqlite:///{folder}/outputs/mlflow/mlflow.db"


def of_directory(run: Path) -> str:
    return f"tags.`mnist_ff.directory` = '{run.absolute()}'"


def history(folder: Path, run: str, name: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in client(folder).get_metric_history(run, name))


BLOCK, HEAD, WHOLE, LAST = 32768, 7, 1, 4


def wandb_records(folder: Path) -> list[Any]:
    """Every record of the only .wandb file below a folder, by wandb's own messages; its reader is no Python any more.

    The file is LevelDB's log format after seven bytes: blocks of parts, each with CRC (4), length (2) and type (1);
    a record is one whole part, or a first, middle ones and a last.
    """
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.rglob("*.wandb")
    content, place, parts, records = path.read_bytes(), HEAD, b"", []
    assert content.startswith(b":W&B")
    while place + HEAD <= len(content):
        left = BLOCK - place % BLOCK
        if left < HEAD:  # too little for a part's head: the block's rest is empty
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + HEAD])
        parts += content[place + HEAD : place + HEAD + length]
        place += HEAD + length
        if kind in (WHOLE, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            records.append(record)
            parts = b""
    return records


def wandb_history(folder: Path, name: str) -> list[tuple[int, float]]:
    found = []
    for record in wandb_records(folder):
        if record.WhichOneof("record_type") == "history":
            item = {part.key or ".".join(part.nested_key): json.loads(part.value_json) for part in record.history.item}
            if name in item:
                found.append((item["step"], item[name]))
    return found


def test_trackers_change_no_byte_of_the_numbers(tracked: Path) -> None:
    for name in SAME:
        assert (tracked / "plain" / name).read_bytes() == (tracked / "outputs/sweeps/s/0" / name).read_bytes(), name
    plain, heard = (
        [line.rsplit(",", 1)[0] for line in (tracked / run / "epochs.csv").read_text().splitlines()]
        for run in ("plain", "outputs/sweeps/s/0")
    )
    assert plain == heard
    assert not [path for path in (tracked / "plain").iterdir() if path.name in ("tensorboard", "wandb", "tracking.id")]
    assert {path.name for path in tracked.iterdir()} == {"outputs", "plain"}, "nothing lies elsewhere"


def test_nothing_goes_over_the_network(tracked: Path, contacted: list[Any]) -> None:
    away = [address for address in contacted if not isinstance(address, str) and address[0] not in ("127.0.0.1", "::1")]
    assert away == []


def test_tensorboard_has_every_fact(tracked: Path) -> None:
    for job in "01":
        run = tracked / "outputs/sweeps/s" / job
        found = events(run / "tensorboard")
        heard = {event.step: event.value for event in found.Scalars("batch/loss")}
        assert heard == {step: float(np.float32(loss)) for step, loss in losses(run).items()}
        assert {event.value for event in found.Scalars("batch/lr")} == {float(np.float32(0.001))}
        for name in ("train_loss", "train_eval_accuracy", "test_loss", "test_accuracy"):
            heard = {event.step: event.value for event in found.Scalars(f"epoch/{name}")}
            assert heard == pytest.approx(epochs(run, name), rel=1e-6), name
        score = json.loads((run / "summary.json").read_text())["score"]
        assert found.Scalars("final/test_accuracy")[0].value == pytest.approx(score["accuracy"])
        assert set(found.Tags()["images"]) == {f"plots/{name}" for name in PICTURES}
        assert found.Images("plots/loss")[0].width > 500
        texts = {tag: found.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in found.Tags()["tensors"]}
        assert f"| seed | {job} |" in texts["config/text_summary"]
        assert str(run) in texts["run/text_summary"]
        assert texts["status/text_summary"] == "finished"
        assert "_hparams_/session_start_info" in found.summary_metadata


def test_mlflow_has_every_fact(tracked: Path) -> None:
    parents = mlflow_runs(tracked, f"tags.`mnist_ff.sweep_directory` = '{tracked}/outputs/sweeps/s'")
    assert len(parents) == 1
    assert parents[0].info.status == "FINISHED"
    for job in "01":
        run = tracked / "outputs/sweeps/s" / job
        (found,) = mlflow_runs(tracked, of_directory(run))
        told = history(tracked, found.info.run_id, "batch/loss")
        assert [step for step, _ in told] == list(range(32))
        assert dict(told) == pytest.approx(losses(run), rel=1e-7)
        assert len(history(tracked, found.info.run_id, "batch/lr")) == 32
        for name in ("train_loss", "test_accuracy"):
            heard = dict(history(tracked, found.info.run_id, f"epoch/{name}"))
            assert heard == pytest.approx(epochs(run, name), rel=1e-6)
        assert found.data.params["seed"] == job
        assert found.data.params["model.hidden"] == "[16]"
        assert found.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert found.data.tags["mnist_ff.status"] == "finished"
        assert found.info.status == "FINISHED"
        kept = Path(found.info.artifact_uri.removeprefix("file://"))
        assert (kept / "model/model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
        assert {path.stem for path in (kept / "plots").iterdir()} == PICTURES


def test_wandb_has_every_fact(tracked: Path) -> None:
    for job in "01":
        run = tracked / "outputs/sweeps/s" / job
        told = wandb_history(run, "batch/loss")
        assert [step for step, _ in told] == list(range(32))
        assert dict(told) == pytest.approx(losses(run), rel=1e-7)
        assert dict(wandb_history(run, "epoch/test_loss")) == pytest.approx(epochs(run, "test_loss"), rel=1e-6)
        records = {record.WhichOneof("record_type"): record for record in wandb_records(run)}
        begun = records["run"].run
        config = {item.key: json.loads(item.value_json) for item in begun.config.update}
        assert (begun.run_group, begun.project, begun.display_name) == ("s", "mnist-ff", job)
        assert begun.run_id == (run / "tracking.id").read_text().strip()
        assert (config["seed"], config["model.hidden"], config["run.directory"]) == (int(job), [16], str(run))
        assert records["exit"].exit.exit_code == 0
        assert [entry.path for entry in records["artifact"].artifact.manifest.contents] == ["model.safetensors"]
        names = {path.name.split("_")[0] for path in run.rglob("media/images/plots/*.png")}
        assert names == PICTURES


def test_the_tracked_sweep_is_compared_as_any_other(tracked: Path, mnist_ff: Command) -> None:
    code, out, err = mnist_ff("compare", str(tracked / "outputs/sweeps/s"), str(tracked / "plain"), "--csv")
    assert code == 0, err
    assert "logger" not in out
    assert out.count("finished") == 3


@pytest.mark.slow
def test_jobs_in_other_processes_share_one_parent(mnist_ff: Command) -> None:
    words = ["hydra/launcher=joblib", "seed=0,1", "trainer.plots=false", "hydra.sweep.dir=s"]
    code, _, err = mnist_ff("train", "-m", *WORDS, "logger=mlflow", *words)
    assert code == 0, err
    (parent,) = mlflow_runs(Path.cwd(), "tags.`mnist_ff.sweep_directory` != ''")
    jobs = mlflow_runs(Path.cwd(), f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert {job.data.params["seed"] for job in jobs} == {"0", "1"}
    assert all(len(history(Path.cwd(), job.info.run_id, "batch/loss")) == 32 for job in jobs)


def test_resume_continues_the_same_tracker_run(
    tracked: Path, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a checkpoint before the last steps that trackers heard, as after a kill: no step is there twice."""
    monkeypatch.setattr(tracking, "HURRIED_END_TIMEOUT_S", 30.0)
    run = stopped_run("outputs/run", 25, *WORDS, ALL, store(tracked))
    shutil.copy(run.file(PREVIOUS), run.file(CHECKPOINT))
    (before,) = mlflow_runs(tracked, of_directory(run.path))
    assert (before.info.status, before.data.tags["mnist_ff.status"]) == ("KILLED", "interrupted")
    assert len(history(tracked, before.info.run_id, "batch/loss")) == 25
    first = next(run.path.rglob("*.wandb"))
    assert len(wandb_history(run.path, "batch/loss")) == 25
    first.rename(first.with_suffix(".first"))  # so that one file is left to find
    code, out, err = mnist_ff("train", "resume=outputs/run", "optimizer.lr=0.0005")
    assert code == 0, err
    assert f"tracked by MLflow, sqlite:///{tracked}/outputs/mlflow/mlflow.db\n" in out
    steps = list(range(32))
    (after,) = mlflow_runs(tracked, of_directory(run.path))
    assert (after.info.run_id, after.info.status) == (before.info.run_id, "FINISHED")
    told = history(tracked, after.info.run_id, "batch/loss")
    assert {step for step, _ in told} == set(steps)
    assert dict(told) == pytest.approx(losses(run.path), rel=1e-7)
    assert after.data.tags["mnist_ff.resumed.optimizer.lr"] == "0.0005"
    assert [event.step for event in events(run.file("tensorboard")).Scalars("batch/loss")] == steps
    assert [step for step, _ in wandb_history(run.path, "batch/loss")] == steps[16:]
    assert first.name.startswith(next(run.path.rglob("*.wandb")).name.removesuffix(".wandb"))


def facts(steps: range, worth: float = 1.0) -> tuple[Fact, ...]:
    """Of batches, and of an epoch after every fourth; its seconds are others each time."""
    found = []
    for step in steps:
        found.append(Fact(step, {"batch/loss": worth / (step + 3), "batch/lr": 0.1}))
        if step % 4 == 3:
            found.append(
                Fact(step, {"epoch/train_loss": worth / (step + 7), "epoch/seconds": time.monotonic() % 1 + 1})
            )
    return tuple(found)


def killed(make: Callable[[], Tracker], beginning: Beginning, missed: int, heard: range) -> Tracker:
    """A tracker of a run that a kill ended, or whose kill is near: `missed` steps are in the run's files alone."""
    tracker = make()
    tracker.load()
    tracker.begin(replace(beginning, earlier=facts(range(missed))), missed)
    tracker.tell(facts(heard))
    return tracker


def once(told: list[tuple[int, float]], steps: list[int], worth: Callable[[int], float]) -> None:
    assert [step for step, _ in told] == steps, "each step is there once"
    assert dict(told) == pytest.approx({step: worth(step) for step in steps}, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_figures_are_heard_once_after_any_kill(kind: str, tracked: Path) -> None:
    """Killed when the tracker had more than the last checkpoint, then less, then nothing new at all."""
    run = Path("run").absolute()
    beginning = Beginning("0123456789abcdef", run, "run", None, {"optimizer.lr": 0.1}, {"directory": str(run)})
    if kind == "mlflow":
        config = MLflowConfig(store(tracked).partition("=")[2], "kills")
        make: Callable[[], Tracker] = lambda: MLflow(config)  # noqa: E731
    else:
        make = lambda: TensorBoard(TensorBoardConfig("events"))  # noqa: E731
    for missed, heard in ((0, range(10)), (8, range(8, 10)), (8, range(8, 12)), (20, range(20, 21)), (24, range(0))):
        tracker = killed(make, beginning, missed, heard)
        if isinstance(tracker, TensorBoard):
            tracker._writer.flush()
            tracker._writer.close()
    tracker = killed(make, beginning, 24, range(24, 32))
    tracker.end(Ending("finished", None), 31)
    steps, ends = list(range(32)), list(range(3, 32, 4))
    if kind == "mlflow":
        found = client(tracked)
        (one,) = found.search_runs([found.get_experiment_by_name("kills").experiment_id])
        read = lambda name: history(tracked, one.info.run_id, name)  # noqa: E731
        assert one.data.params == {"optimizer.lr": "0.1"}
        assert one.info.status == "FINISHED"
        assert not [tag for tag in one.data.tags if "resumed" in tag]
    else:
        shown = events(Path("events/run"))
        read = lambda name: [(event.step, event.value) for event in shown.Scalars(name)]  # noqa: E731
        for tag in ("config/text_summary", "run/text_summary", "status/text_summary"):
            assert len(shown.Tensors(tag)) == 1, tag
    once(read("batch/loss"), steps, lambda step: 1 / (step + 3))
    once(read("batch/lr"), steps, lambda step: 0.1)
    once(read("epoch/train_loss"), ends, lambda step: 1 / (step + 7))
    assert [step for step, _ in read("epoch/seconds")] == ends


def test_an_unfinished_mlflow_store_is_made_anew(tmp_path: Path) -> None:
    tracker = MLflow(MLflowConfig(f"sqlite:///{tmp_path}/mlflow.db", "e"))
    (tmp_path / "mlflow.db.new").write_bytes(b"half a store")
    tracker.begin(Beginning("0" * 16, tmp_path, "run", None, {}, {}), 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


@pytest.mark.slow
def test_wandb_goes_on_where_its_files_end() -> None:
    """The first was torn by a kill: each row is in one of the files, under a number of its own."""
    run = Path("run").absolute()
    beginning = Beginning("0123456789abcdef", run, "run", None, {"seed": 0}, {})
    make = lambda: Wandb(WandbConfig("offline", "p", None, None))  # noqa: E731
    for missed, heard in ((0, range(10)), (8, range(8, 16))):
        tracker = killed(make, beginning, missed, heard)
        assert isinstance(tracker, Wandb)
        tracker.end(Ending("interrupted", None), heard[-1])
        if missed == 0:
            (first,) = run.rglob("*.wandb")
            content = first.read_bytes()
            assert len(list(history_of(first))) == 12
            while len(list(history_of(first))) > 5:
                content = content[:-40]
                first.write_bytes(content)
            assert len(list(history_of(first))) == 5, "what was torn off is told again"
            time.sleep(1.1)  # wandb names a file by its second
    rows = [row for path in sorted(run.rglob("*.wandb")) for row in history_of(path)]
    for name, steps in (("batch/loss", range(16)), ("epoch/seconds", range(3, 16, 4))):
        assert [row["step"] for row in rows if name in row] == list(steps)
    assert [row["_step"] for row in rows] == list(range(len(rows)))


def test_wandb_online_goes_on_where_its_server_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    logged: list[dict[str, Any]] = []

    class Server:
        resumed, path = True, "me/p/0123456789abcdef"

        def run(self, path: str) -> Server:
            assert path == self.path
            return self

        def scan_history(self) -> list[dict[str, Any]]:
            return [
                {"_step": fact.step, "step": fact.step, **fact.metrics} for fact in facts(range(6)) if fact.step != 2
            ]

        def define_metric(self, *names: str, **given: str) -> None: ...

        def log(self, row: dict[str, Any], step: int | None, commit: bool) -> None:
            assert step is None, "the server counts"
            logged.append(row)

    monkeypatch.setattr(wandb, "login", lambda **given: True)
    monkeypatch.setattr(wandb, "init", lambda **given: Server())
    monkeypatch.setattr(wandb, "Api", Server)
    run = Path("run").absolute()
    beginning = Beginning("0123456789abcdef", run, "run", None, {}, {})
    killed(lambda: Wandb(WandbConfig("online", "p", None, None)), beginning, 4, range(4, 9))
    assert [(row["step"], len(row)) for row in logged] == [(2, 3), (6, 3), (7, 3), (7, 3), (8, 3)]


def test_a_wandb_file_of_others_is_data() -> None:
    path = Path("run-x.wandb")
    head = b":W&B" + bytes(3)
    for content in (b"", b"no", head, head + b"\xff" * 40, head + struct.pack("<IHB", 0, 3, 1) + b"\xff\xff\xff"):
        path.write_bytes(content)
        assert list(history_of(path)) == []
    part = struct.pack("<IHB", 0, 32768 - 14, 2) + bytes(32768 - 14)  # a record that has no end
    path.write_bytes(head + part + (struct.pack("<IHB", 0, 32768 - 7, 3) + bytes(32768 - 7)) * 2500)
    assert list(history_of(path)) == []
    with path.open("wb") as file:
        file.write(head)
        file.truncate(3 << 30)
    with pytest.raises(BadRunError, match="is larger than"):
        list(history_of(path))


def test_too_large_event_file_is_not_read(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from mnist_ff.trackers.tensorboard import _Events

    with (tmp_path / "events.out.tfevents.1.x").open("wb") as file:
        file.truncate(3 << 30)
    (tmp_path / "events.out.tfevents.0.x").symlink_to("/dev/zero")
    with pytest.raises(BadRunError, match="is larger than"):
        _Events.of(tmp_path)


def test_changed_config_values_reach_trackers() -> None:
    heard = Heard()
    for value in (1.0, math.nan, math.inf):
        heard.add(3, f"of {value}", value)
        assert heard.lacking(Fact(3, {f"of {value}": value})) == {}
        assert heard.lacking(Fact(3, {f"of {value}": 2.0})) == {f"of {value}": 2.0}
        assert heard.lacking(Fact(4, {f"of {value}": value})) != {}
    assert heard.lacking(Fact(3, {"of inf": 1.7976931348623157e308})) == {}, "as MLflow's tables hold it"
    heard.forget(3)
    assert heard.lacking(Fact(3, {"of 1.0": 1.0})) == {"of 1.0": 1.0}


def test_resume_replays_what_a_tracker_missed(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = [*WORDS, "logger=tensorboard", "trainer.plots=false", "trainer.epochs=1", "trainer.sync_every=4"]
    with monkeypatch.context() as patch:
        patch.setattr(TensorBoard, "epoch", broken)
        code, out, err = mnist_ff("train", *quick, "hydra.run.dir=run")
        assert code == 0, err
        assert "TensorBoard stopped" in out
    code, out, err = mnist_ff("train", "resume=run", "trainer.epochs=2")
    assert code == 0, err
    found = events(Path("run/tensorboard"))
    told = {event.step: event.value for event in found.Scalars("batch/loss")}
    assert told == pytest.approx(losses(Path("run")), rel=1e-6)
    assert [event.step for event in found.Scalars("epoch/test_loss")] == [15, 31]


def test_copied_run_is_a_new_tracker_run(tracked: Path, mnist_ff: Command) -> None:
    words = ["logger=[mlflow,tensorboard]", store(tracked), "logger.tensorboard.directory=events"]
    code, _, err = mnist_ff("train", *WORDS, *words, "trainer.plots=false", "trainer.epochs=1", "hydra.run.dir=a/run")
    assert code == 0, err
    shutil.copytree("a/run", "b/run")
    for place in ("b/run", "a/run"):
        code, out, err = mnist_ff("train", f"resume={place}", "trainer.epochs=2")
        assert code == 0, err
        assert out.count(f"a copy of {Path('a/run').absolute()}: trackers treat it as a new run") == (place == "b/run")
    runs = [one for place in ("a/run", "b/run") for one in mlflow_runs(tracked, of_directory(Path(place)))]
    assert len({one.info.run_id for one in runs}) == 2
    for one in runs:
        once(history(tracked, one.info.run_id, "batch/loss"), list(range(32)), losses(Path("a/run")).__getitem__)
    folders = {path.parent for path in Path("events").rglob("events.out.*")}
    assert len(folders) == 2
    for folder in folders:
        assert [event.step for event in events(folder).Scalars("batch/loss")] == list(range(32))


@pytest.mark.slow
def test_every_tracker_hears_once_after_two_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 between two checkpoints, twice; read as each tool reads it."""
    monkeypatch.delenv("WANDB_SERVICE", raising=False)  # of an earlier test: it would hold the killed run
    first = [*WORDS, "logger=mlflow", "model.hidden=[8]", "trainer.plots=false", "trainer.epochs=1"]
    code, _, err = Started(
        "train", *first, "hydra.run.dir=first"
    ).end()  # MLflow makes its tables, and is no part of this
    assert code == 0, err
    words = [*WORDS, ALL, "model.hidden=[8]", "trainer.plots=false", "trainer.checkpoint_epochs=20"]
    run = Path("run")
    words += ["trainer.epochs=100000", "hydra.run.dir=run"]
    for epoch, more in ((30, words), (50, ["resume=run"])):
        started = Held("run", epoch * 16, "train", *more)
        started.process.kill()
        started.end()
    code, out, err = Started("train", "resume=run", "trainer.epochs=70").end()
    assert code == 0, err
    assert "continues without it" not in out
    (found,) = mlflow_runs(Path.cwd(), of_directory(run))
    steps, ends = list(range(70 * 16)), list(range(15, 70 * 16, 16))
    shown = events(run / "tensorboard")
    for name in ("batch/loss", "batch/lr", "epoch/seconds", "epoch/test_accuracy", "epoch/train_loss"):
        expected = steps if name.startswith("batch") else ends
        assert [step for step, _ in history(Path.cwd(), found.info.run_id, name)] == expected, name
        assert [event.step for event in shown.Scalars(name)] == expected, name
        told = [row["step"] for path in sorted(run.rglob("*.wandb")) for row in history_of(path) if name in row]
        assert sorted(told) == expected, name
    assert dict(history(Path.cwd(), found.info.run_id, "batch/loss")) == pytest.approx(losses(run), rel=1e-7)


def test_a_signal_ends_the_tracker_run_as_interrupted() -> None:
    started = Started("train", *WORDS, "trainer.epochs=100000", "logger=tensorboard", "trainer.plots=false")
    started.wait_for_rows(40)
    started.process.send_signal(signal.SIGTERM)
    code, out, err = started.end(PROMPT_S)
    assert code == 143, err
    assert "continues without it" not in out
    found = events(only_run() / "tensorboard")
    heard = {event.step: event.value for event in found.Scalars("batch/loss")}
    assert heard == {step: float(np.float32(loss)) for step, loss in losses(only_run()).items()}
    said = found.Tensors("status/text_summary")[-1].tensor_proto.string_val
    assert said == [b"interrupted: stopped by SIGTERM"]


def test_a_diverged_run_is_a_failed_one(tracked: Path, mnist_ff: Command) -> None:
    words = ("logger=mlflow", store(tracked), "optimizer=sgd", "optimizer.lr=1e20")
    assert mnist_ff("train", *WORDS, *words, "trainer.plots=false")[0] == 1
    (found,) = mlflow_runs(tracked, of_directory(only_run()))
    assert (found.info.status, found.data.tags["mnist_ff.status"]) == ("FAILED", "diverged")
    assert len(history(tracked, found.info.run_id, "batch/loss")) == len(losses(only_run()))


def broken(*given: object, **named: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("moment", ["__init__ of the tool", "load", "begin", "batches", "epoch", "end"])
def test_a_tracker_that_fails_is_one_warning(moment: str, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    if moment.startswith("__init__"):
        monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.__init__", broken)
    else:
        monkeypatch.setattr(TensorBoard, moment, broken)
    code, out, err = mnist_ff("train", *WORDS, "logger=tensorboard", "trainer.plots=false")
    assert code == 0, err
    assert out.count("warning: TensorBoard stopped ([Errno 28] No space left on device)") == 1
    assert json.loads((only_run() / "summary.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_unreachable_trackers_warn_once(mnist_ff: Command) -> None:
    Path("taken").touch()
    words = ["logger.mlflow.tracking_uri=http://127.0.0.1:9", "logger.tensorboard.directory=taken/x"]
    words += ["logger.wandb.directory=taken/x", "trainer.plots=false"]
    code, out, err = mnist_ff("train", *WORDS, ALL, *words)
    assert code == 0, err
    for title in ("TensorBoard", "MLflow", "wandb"):
        assert out.count(f"warning: {title} stopped (") == 1
    assert json.loads((only_run() / "summary.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("tracker", [TensorBoard, MLflow, Wandb])
def test_one_that_hangs_costs_a_run_nothing(tracker: type, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "END_TIMEOUT_S", 0.2)
    monkeypatch.setattr(tracker, "begin", lambda *given: time.sleep(120))
    began = time.monotonic()
    code, out, _ = mnist_ff("train", *WORDS, f"logger={tracker.__name__.lower()}", "trainer.plots=false")
    assert code == 0
    assert time.monotonic() - began < 100, "the run waits for it"
    assert "it had not received everything when the run ended" in out


def test_one_that_is_far_behind_is_dropped(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "MOST_WAITING", 3)
    monkeypatch.setattr(TensorBoard, "begin", lambda *given: time.sleep(20))
    code, out, _ = mnist_ff("train", *WORDS, "logger=tensorboard", "trainer.sync_every=1", "trainer.plots=false")
    assert code == 0
    assert out.count("it has fallen 3 chunks behind") == 1


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "tensorboard"), ("mlflow", "alembic"), ("wandb", "wandb")]
)
def test_missing_tracker_extra_is_named_before_writing(
    name: str, module: str, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda asked, *rest: None if asked == module else real(asked, *rest)
    )
    code, _, err = mnist_ff("train", *WORDS, f"logger={name}")
    assert code == 2
    assert f"logger={name}: needs {module}, which is not installed: pip install 'mnist-ff[{name}]'" in err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["logger=mlflo"], "did you mean mlflow?"),
        (["logger=[mlflow,tensorbord]"], "did you mean tensorboard?"),
        (["logger.mlflow.experiment=x"], "it comes with logger=mlflow"),
        (["logger=wandb", "logger.wandb.mode=loud"], "must be one of offline, online"),
        (["logger=wandb", "logger.wandb.projects=x"], "did you mean logger.wandb.project?"),
        (
            ["logger=mlflow", "logger.mlflow.tracking_uri=file:runs"],
            "is a folder, which MLflow no longer supports for new runs",
        ),
        (["logger=mlflow", "logger.mlflow.tracking_uri=./runs"], "give sqlite:///FILE"),
        (["logger=mlflow", "logger.mlflow.tracking_uri=ftp://x"], "must be sqlite:///FILE, postgresql://"),
        (["-m", "logger=mlflow,wandb"], "are the same"),
    ],
)
def test_bad_words_for_trackers(words: list[str], expected: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", *words)
    assert code == 2
    assert expected in err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:sec,ret@host",
        "postgresql://h/db?user=a&password=secret",
        "'postgresql://h/db?user=a&PASSWD=secret'",
        "mysql://me:sec@ret@h/db",
    ],
)
def test_a_password_in_the_uri_stands_nowhere(uri: str, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [["train"], ["train", "-m", "seed=0,1"], ["train", "resume=nowhere"], ["lr-find"]]
    for command in given:
        for word in (f"logger.mlflow.tracking_uri={uri}", f"++logger.mlflow.tracking_uri={uri}"):
            code, out, err = mnist_ff(*command, *WORDS, "logger=mlflow", word)
            assert code == 2
            assert "sec" not in out + err, command
    assert "MLFLOW_TRACKING_PASSWORD" in mnist_ff("train", *WORDS, "logger=mlflow", word)[2]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.strip("'"))
    for command in (["train"], ["train", "-m", "seed=0,1"]):
        code, out, err = mnist_ff(*command, *WORDS, "logger=mlflow")
        assert code == 2
        assert "contains a password" in err
        assert "set by the environment variable MLFLOW_TRACKING_URI" in err
        assert "sec" not in out + err
    assert list(Path().iterdir()) == []


def test_variables_of_the_tools_own(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is empty is none; a bad value is traced to its variable, a word's own is not."""
    from mnist_ff.config.compose import compose

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("WANDB_MODE", "")
    chosen: dict[str, Any] = dict(compose(["logger=[mlflow,wandb]"]).logger)
    assert chosen["mlflow"].tracking_uri == "sqlite:///outputs/mlflow/mlflow.db"
    assert chosen["wandb"].mode == "offline"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "runs")
    monkeypatch.setenv("WANDB_MODE", "loud")
    for words, name in ((["logger=mlflow"], "MLFLOW_TRACKING_URI"), (["logger=wandb"], "WANDB_MODE")):
        for way in ([], ["-m"]):
            code, _, err = mnist_ff("train", *way, *words)
            assert code == 2
            assert f"set by the environment variable {name}" in err
    code, _, err = mnist_ff("train", "logger=wandb", "logger.wandb.mode=still")
    assert code == 2
    assert "variable" not in err


def test_disabled_wandb_gets_nothing(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    code, out, err = mnist_ff("train", *WORDS, "trainer.epochs=1", "logger=wandb", "trainer.plots=false")
    assert code == 0, err
    assert out.count("wandb is off: logger.wandb.mode=disabled") == 1
    assert "tracked by" not in out
    assert not (only_run() / "wandb").exists()


def test_trackers_are_no_part_of_the_experiment(mnist_ff: Command) -> None:
    """Neither of a resume's recipe nor of a sweep's digest; they can be put on and off, and repeat with a run."""
    from mnist_ff.config.compose import compose
    from mnist_ff.runs.jobs import digest, same_experiment

    quick = [*WORDS, "trainer.plots=false"]
    none, some = compose(WORDS), compose([*WORDS, ALL])
    assert digest(none) == digest(some)
    assert same_experiment(none, some)
    assert mnist_ff("train", *quick, "trainer.epochs=1", "hydra.run.dir=run")[0] == 0
    assert "logger" not in Path("run/config.yaml").read_text()
    assert Run.open("run").config().logger.parts == ()
    code, out, err = mnist_ff("train", "resume=run", "trainer.epochs=2", "logger=tensorboard")
    assert code == 0, err
    assert "warning" not in out
    heard = [event.step for event in events(Path("run/tensorboard")).Scalars("batch/loss")]
    assert heard == list(range(16, 32))
    assert mnist_ff("train", "resume=run", "trainer.epochs=3")[0] == 0  # goes on with it
    assert mnist_ff("train", "resume=run", "trainer.epochs=4", "logger=[]")[0] == 0
    heard = [event.step for event in events(Path("run/tensorboard")).Scalars("batch/loss")]
    assert heard == list(range(16, 48))
    assert mnist_ff("train", "--config-of", "run", "logger=tensorboard", "hydra.run.dir=again")[0] == 0
    assert Path("again/batches.csv").read_bytes() == Path("run/batches.csv").read_bytes()
    assert Path("again/tensorboard").is_dir()
    code, _, err = mnist_ff("train", "-m", "resume=x", "logger=mlflow")
    assert code == 2


def test_sweep_event_files_have_their_own_folder(mnist_ff: Command) -> None:
    words = ["logger=tensorboard", "logger.tensorboard.directory=events", "trainer.plots=false", "trainer.epochs=1"]
    assert mnist_ff("train", "-m", *WORDS, *words, "seed=0,1", "hydra.sweep.dir=s")[0] == 0
    assert mnist_ff("train", *WORDS, *words, "hydra.run.dir=alone")[0] == 0
    assert {str(path.parent) for path in Path("events").rglob("events.*")} == {
        "events/s/0",
        "events/s/1",
        "events/alone",
    }


def test_the_python_function_takes_callbacks_instead() -> None:
    import mnist_ff
    from mnist_ff.errors import ConfigError

    with pytest.raises(ConfigError, match="duplicates the argument callbacks="):
        mnist_ff.run_network(overrides=["logger=mlflow"])
