"""`mnist-ff profile`: tables that add up, a trace that opens, and a run that is not kept."""

from __future__ import annotations

import json
import tempfile
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from mnist_ff.commands import profile
from mnist_ff.session.profiling import Part, StepClock
from mnist_ff.session.step_trace import Operation, _export, short_name
from tests.support.commands import Command

QUICK = ("data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.threads=1", "trainer.device=cpu")
PARTS = '''
from dataclasses import dataclass
import mnist_ff
import torch

@mnist_ff.register("model", "flat")
@dataclass(frozen=True)
class Flat:
    """One linear layer."""
    def build(self, shape, classes):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, classes))
'''


def total_of(table: dict[str, Any]) -> float:
    assert table["total_seconds"] == pytest.approx(sum(part["seconds"] for part in table["parts"]))
    assert sum(part["share"] for part in table["parts"]) == pytest.approx(1)
    return float(table["total_seconds"])


def events_of(path: Path) -> list[dict[str, Any]]:
    events = json.loads(path.read_text())["traceEvents"]
    return [event for event in events if event.get("ph") == "X"]


def test_parts_add_up_and_the_trace_has_their_names(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(Path("scratch").absolute()))
    words = (*QUICK, "augment=shift", "trainer.score_train=100")
    code, out, err = mnist_ff("profile", *words, "--steps", "3", "--out", "trace.json", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert not list(Path("scratch").glob("mnist-ff*"))
    assert {path.name for path in Path().iterdir()} == {"scratch", "trace.json"}
    assert total_of(found["run"]) > total_of(found["epoch"]) > total_of(found["step"]) > 0
    counts = {part["part"]: part["count"] for part in found["run"]["parts"]}
    assert (counts["train.steps"], counts["train.scores"], counts["train.checkpoints"]) == (16, 1, 2)
    assert counts["plots"] >= 5
    assert counts["report"] == 1
    steps = {part["part"]: part["count"] for part in found["step"]["parts"]}
    assert steps == {"load": 1, "augment": 1, "forward": 1, "loss": 1, "backward": 1, "update": 1, "other": None}
    assert found["operations"][0]["seconds"] >= found["operations"][1]["seconds"]
    assert "addmm" in [one["name"] for one in found["operations"]]
    assert found["profiler"]["step_seconds"] > 0
    names = [event["name"] for event in events_of(Path("trace.json"))]
    assert {"step 1", "step 2", "step 3", "evaluate", "load", "augment", "forward", "backward"} <= set(names)
    assert "step 4" not in names
    assert names.count("update") == 3
    assert Path("trace.json").stat().st_size < 1 << 20
    assert 0.9 < found["test_accuracy"] * 10 < 10


def test_tables_fit_80_columns_for_the_eager_engine_and_own_models(mnist_ff: Command) -> None:
    Path("own.py").write_text(PARTS)
    words = ("--parts=own.py", "data=mnist_5k", "model=flat", "trainer.epochs=1", "trainer.plots=false", "--steps=2")
    code, out, err = mnist_ff("profile", *words)
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 90  # the last line has an address
    assert max(map(len, out.splitlines()[:-1])) <= 80
    for table in ("the whole run", "an epoch", "a step", "operation"):
        assert any(line.startswith(table) for line in out.splitlines()), table
    assert "(eager, fp32" in out
    assert out.count("100.0") >= 3
    trace = next(Path("outputs/profile").glob("*/trace.json"))
    assert f"trace  {trace}\n       2 steps and an evaluation;" in out
    assert mnist_ff("runs")[1].count("profile") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optimizer.lr=-1"], "optimizer.lr=-1: must be above 0"),
        (["optimiser.lr=1"], "type optimizer.lr=1"),
        (["seed=1,2"], "seed"),
        (["hydra.run.dir=x"], "hydra.run.dir=x: profile does not keep its run; leave it out"),
        (["--steps", "0"], "--steps 0: must be from 1 to 1,000"),
        (["--out", "no/such/folder/t.json"], "--out no/such/folder/t.json: is not a file path"),
        (["--out", "/dev/null"], "--out /dev/null: already exists; choose another file"),
        (["trainer.engine=graph", "trainer.device=cpu"], "trainer.engine=graph: needs a CUDA device"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(words: list[str], message: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("profile", "data=mnist_5k", *words)
    assert code == 2
    assert message in err
    assert not list(Path().iterdir())


@pytest.mark.parametrize("width", [120, 80, 60, 40])
def test_no_table_is_wider_than_the_terminal(width: int) -> None:
    names = [*profile.WORDS, "other"]
    parts = [Part(name, 12.3456789 / (place + 1), 4700) for place, name in enumerate(names)]
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    profile._table(console, "the whole run", parts, "times")
    long = Operation("a_very_long_name_of_an_operation_of_somebodys_library", "matrix product and sum", 0.25, 1234)
    profile._print_operations([long, Operation("mm", None, 0.001, 3)], True, console)
    assert isinstance(console.file, StringIO)
    assert max(map(len, console.file.getvalue().splitlines())) <= width


def test_every_moment_of_a_step_belongs_to_one_part() -> None:
    now = [0.0]
    clock = StepClock(lambda: None, lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    for _ in range(2):
        wait(1)
        with clock.named("load"):
            wait(2)
            with clock.named("augment"):
                wait(3)
            wait(1)
        wait(0.5)
    parts = {part.name: (part.seconds, part.count) for part in clock.parts(2)}
    assert parts == {"load": (3, 1), "augment": (3, 1), "other": (1.5, None)}


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("aten::addmm", "addmm"),
        ("autograd::engine::evaluate_function: AddmmBackward0", "AddmmBackward0"),
        ("Optimizer.step#SGD.step", "Optimizer.step"),
        ("cudaLaunchKernel", "cudaLaunchKernel"),
    ],
)
def test_operations_have_the_names_that_users_write(name: str, short: str) -> None:
    assert short_name(name) == short


def test_no_setting_of_the_process_is_left_behind(mnist_ff: Command) -> None:
    before = torch.get_num_threads()
    assert mnist_ff("profile", *QUICK, "trainer.plots=false", "--steps", "1")[0] == 0
    assert torch.get_num_threads() == before
    import os

    assert "KINETO_LOG_LEVEL" not in os.environ


@pytest.mark.parametrize("left", ["", '{"traceEvents": [{"name": "a"}, {'])
def test_a_trace_is_whole_or_absent(left: str, tmp_path: Path) -> None:
    """On a full disk torch leaves an incomplete file, without an error."""

    class Profiler:
        def export_chrome_trace(self, path: str) -> None:
            Path(path).write_text(left)
            Path(f"{path}.tmp").write_text(left)

    with pytest.raises(OSError, match="was not written to its end"):
        _export(Profiler(), tmp_path / "trace.json")
    assert not list(tmp_path.iterdir())
