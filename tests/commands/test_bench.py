"""`mnist-ff bench` measures what it says and writes it down. How fast anything is, no test says."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mnist_ff.commands import bench
from mnist_ff.config.own_parts import loaded
from mnist_ff.errors import RunError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import Status, Summary
from mnist_ff.session import timed_commands
from mnist_ff.session.busy import busy
from mnist_ff.session.peers import PEERS
from tests.support.commands import Command

SMALL = ("model.hidden=[16]", "trainer.batch_size=32", "trainer.device=cpu", "data=mnist_5k")
QUICK = ("--rounds", "2", "--steps", "2")


def test_every_peer_can_be_named() -> None:
    assert sorted(bench.PEER_WORDS) == sorted(peer.word for peer in PEERS.values())


@pytest.mark.slow
def test_the_table_and_the_file(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("bench", *SMALL, *QUICK, "--no-start-up")
    assert code == 0, err
    result = json.loads(Path("bench.json").read_text())
    assert result["hidden"] == [16]
    assert result["batch_size"] == 32
    times = result["milliseconds"]
    assert list(times) == [
        "products alone, fp32",
        "products alone, bf16",
        "fused step, fp32",
        "eager step, fp32",
        "fused step, bf16",
        "eager step, bf16",
        "plain PyTorch loop on tensors",
        "DataLoader loop with .item()",
    ]
    for name, row in times.items():
        assert name in out
        assert 0 < row["fastest"] <= row["median"]
        assert row["ratio"] == pytest.approx(row["median"] / times["products alone, fp32"]["median"])
    assert "the cost of logging is not shown: it needs --rounds 5 or more" in out  # so few are noise
    low, high = result["logging_percent_quartiles"]
    assert low <= result["logging_percent"] <= high


def test_the_cost_of_logging_is_shown_with_its_spread_where_it_is_more_than_noise() -> None:
    found = {"logging_percent": 1.3, "logging_percent_quartiles": [0.5, 2.0], "logging_pairs": 30}
    assert bench._logging_text(found).startswith("logging every batch costs +1.3")
    assert "quartiles +0.5" in bench._logging_text(found)
    noise = found | {"logging_percent_quartiles": [-3.0, 4.0]}
    assert bench._logging_text(noise).startswith("logging every batch has no measurable cost here (quartiles")


def test_own_model_is_timed_beside_the_plain_loop(mnist_ff: Command) -> None:
    parts = str(Path(__file__).parents[1] / "support" / "own_models.py")
    words = ("model=cnn", *SMALL[1:], *QUICK, "--no-start-up")
    code, out, err = mnist_ff("bench", "--parts", parts, *words)
    assert code == 0, err
    result = json.loads(Path("bench.json").read_text())
    assert result["model"] == "cnn"
    times = result["milliseconds"]
    assert list(times) == ["eager step, fp32", "eager step, bf16", "plain PyTorch loop on tensors"]
    assert times["eager step, fp32"]["ratio"] == 1
    assert "model cnn, batch 32" in out
    assert "x eager step, fp32" in out


def test_all_run_in_turns_and_a_failure_once() -> None:
    order: list[str] = []

    def runner(name: str, results: list[float | str]) -> timed_commands.Runner:
        left = iter(results)
        return lambda: (order.append(name), next(left))[1]

    ran = {"ours": [2.0, 4.0, 6.0], "peer": [3.0, 8.0, 6.0], "none": ["not installed: jax"]}
    turns = timed_commands.in_turns({name: runner(name, list(results)) for name, results in ran.items()}, 3)
    assert order == ["ours", "peer", "none", "peer", "ours", "ours", "peer"]
    assert turns.medians() == {"ours": 4.0, "peer": 6.0, "none": "not installed: jax"}
    assert turns.ratios("ours") == {"ours": 1.0, "peer": 1.5}, "of each turn, which had the same conditions"
    assert turns.ratios("none") == {}


class Processes:
    """In the place of subprocess: each training writes a summary of its own, and nothing takes any time."""

    def __init__(self) -> None:
        self.started: list[list[str]] = []

    def run(self, words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.started.append(words)
        for word in words:
            if word.startswith("hydra.run.dir="):
                run = Run.create(Path(word.partition("=")[2].strip("'")))
                train = len(self.started) / 10
                seconds = {"train": train, "train.steps": train / 2, "train.other": train / 2, "total": train}
                run.write_summary(Summary(Status.FINISHED, None, None, 1, 1, 1, 0, None, "mnist", None, seconds))
        return subprocess.CompletedProcess(words, 0, "1.25\n", "")


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    made = Processes()
    monkeypatch.setattr(timed_commands.subprocess, "run", made.run)
    monkeypatch.setattr(timed_commands, "_to_the_first_batch", lambda words: made.run(list(words)) and 0.5)
    return made


def test_whole_processes_get_the_same_parts_files(processes: Processes) -> None:
    parts = str(Path(__file__).parents[1] / "parts" / "own.py")
    with loaded([parts]):
        found = timed_commands.start_up(["model=small_cnn"])
    trained = [words for words in processes.started if "model=small_cnn" in words]
    assert len(trained) == timed_commands.START_UPS + 1
    for words in trained:
        assert words[words.index("--parts") + 1] == parts
        assert "trainer.epochs=1" in words
    assert found.beyond_steps_percent == pytest.approx(50)
    tops = {name: seconds for name, seconds in found.parts.items() if "." not in name}
    assert list(tops) == ["train", "end"], "parts of one process, and its end"
    assert sum(tops.values()) == pytest.approx(found.seconds["one epoch, whole command"])


def test_options_choose_what_runs(processes: Processes, mnist_ff: Command) -> None:
    words = ("model.hidden=[16]", *QUICK, "--no-start-up", "--sweep", "--peer", "jax", "--peer-epochs", "7")
    code, out, err = mnist_ff("bench", *words, "--repeat", "2")
    assert code == 0, err
    result = json.loads(Path("bench.json").read_text())
    sweeps = [words for words in processes.started if "model.hidden=[16]" in words and "data=mnist_5k" in words]
    assert len(sweeps) == 2 * 6
    assert sum("-m" in words[3:] for words in sweeps) == 2 * 4
    assert sum("hydra/launcher=joblib" in words for words in sweeps) == 2 * 2
    assert sum("trainer.plots=false" in words for words in sweeps) == 2 * 3
    assert list(result["sweep_seconds"])[:3] == ["one run", "one run, no pictures", "12 jobs, one after another"]
    trained = [words for words in processes.started if "trainer.epochs=7" in words]
    assert [word for words in trained for word in words if "precision" in word] == [
        "trainer.precision=fp32",
        "trainer.precision=bf16",
        "trainer.precision=bf16",
        "trainer.precision=fp32",
    ]
    assert list(result["training_seconds"]) == ["mnist-ff, fp32", "mnist-ff, bf16", "Keras on JAX"]
    assert result["training_seconds"]["Keras on JAX"] == 1.25
    assert [len(seconds) for seconds in result["training_turns"].values()] == [2, 2, 2]
    assert result["training_ratios"]["mnist-ff, bf16"]["mnist-ff, bf16"] == 1
    assert result["busy"] == 0
    for said in ("12 jobs, joblib, no pictures", "Keras on JAX", "x mnist-ff, bf16"):
        assert said in out


@pytest.mark.slow
def test_processes_beside_are_there_while_measured_and_gone_after(
    mnist_ff: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside: list[int] = []

    @contextmanager
    def seen(count: int) -> Iterator[list[int]]:
        with busy(count) as pids:
            for pid in pids:
                os.kill(pid, 0)
            beside.extend(pids)
            yield pids

    monkeypatch.setattr(bench, "busy", seen)
    code, _, err = mnist_ff("bench", *SMALL, *QUICK, "--no-start-up", "--busy", "2")
    assert code == 0, err
    assert json.loads(Path("bench.json").read_text())["busy"] == 2
    assert len(beside) == 2
    for pid in beside:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_processes_beside_end_with_bench_however_it_ends(number: signal.Signals) -> None:
    code = "from mnist_ff.session.busy import busy\nwith busy(2) as pids: print(*pids, flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    parent = subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)
    with parent:
        assert parent.stdout is not None
        pids = list(map(int, parent.stdout.readline().split()))
        assert len(pids) == 2
        parent.send_signal(number)
        parent.wait(10)
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, "they outlive it"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether a process is there, and not only because nobody asked how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def test_a_command_that_fails_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "warning: one\nerror: no room; free some\n")
    monkeypatch.setattr(timed_commands.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RunError, match=r"a command that bench times failed: mnist-ff --help: no room; free some"):
        timed_commands.start_up([])


@pytest.mark.slow
def test_start_up_is_measured_on_whole_processes(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("bench", *SMALL, *QUICK, "--out", "other.json")
    assert code == 0, err
    result = json.loads(Path("other.json").read_text())
    seconds, parts = result["start_up_seconds"], result["whole_command_seconds"]
    assert 0 < seconds["--help"] < seconds["to the first batch"] < seconds["one epoch, whole command"]
    assert "to the first batch" in out
    assert {"start", "import", "train", "train.steps", "plots", "report", "end"} <= parts.keys()
    of_the_whole = [taken for name, taken in parts.items() if "." not in name]
    assert sum(of_the_whole) == pytest.approx(seconds["one epoch, whole command"])
    assert 0 < result["beyond_steps_percent"] < 100
    assert f"training takes {result['beyond_steps_percent']:.1f} %" in out


@pytest.mark.slow
def test_peers_are_measured_or_reported_as_not_installed(real_mnist: Path, mnist_ff: Command) -> None:
    words = ("model.hidden=[16]", "trainer.batch_size=512", "--busy", "1")
    code, out, err = mnist_ff("bench", *words, *QUICK, "--no-start-up", "--peers", "--peer-epochs", "1")
    assert code == 0, err
    result = json.loads(Path("bench.json").read_text())
    seconds = result["training_seconds"]
    for ours in ("mnist-ff, fp32", "mnist-ff, bf16", "mnist-ff, fp32, trainer.threads=auto"):
        assert seconds[ours] > 0
    for name, module in (("Keras on JAX", "keras"), ("Lightning with tensors", "lightning")):
        assert name in out
        if importlib.util.find_spec(module) is None:
            assert "not installed" in seconds[name]
        else:
            assert seconds[name] > 0
            assert result["versions"][module]


BAD = [
    ["--rounds", "0"],
    ["--steps", "1"],
    ["model.hiden=[3]"],
    ["trainer.batch_size=0"],
    ["--out", "/no/such/folder/x.json"],
    ["--peers", "optimizer=adam"],
    ["--peer", "jax", "optimizer=adam"],
    ["--peer", "theano"],
    ["--repeat", "0"],
    ["--busy", "-1"],
    ["--busy", "10000"],
    ["--busy", "one"],
]


@pytest.mark.parametrize("words", BAD)
def test_bad_arguments(words: list[str], mnist_ff: Command) -> None:
    code, _, err = mnist_ff("bench", *words)
    assert code == 2
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert not Path("bench.json").exists()


@pytest.mark.parametrize("word", ["schedule=linear", "schedule.warmup=3", "augment=both"])
def test_bench_refuses_keys_outside_the_step(word: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("bench", word)
    assert code == 2
    assert f"{word}: bench measures one step" in err


def test_json_is_what_the_file_holds(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("bench", *SMALL, *QUICK, "--no-start-up", "--json")
    assert code == 0
    assert json.loads(out) == json.loads(Path("bench.json").read_text())
    assert err.splitlines()[-1] == "written to bench.json"
