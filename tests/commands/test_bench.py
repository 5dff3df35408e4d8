"""`mnist-ff bench` measures what it says and writes it down. How fast anything is, no test says."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from mnist_ff.commands import bench
from mnist_ff.config.own_parts import loaded
from tests.support.commands import Command

SMALL = ("model.hidden=[16]", "trainer.batch_size=32", "trainer.device=cpu", "data=mnist_5k")
QUICK = ("--rounds", "2", "--steps", "2")


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
    assert f"logging every batch costs {result['logging_percent']:+.1f} %" in out


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


def test_whole_processes_get_the_same_parts_files(monkeypatch: pytest.MonkeyPatch) -> None:
    parts, started = str(Path(__file__).parents[1] / "parts" / "own.py"), []

    class Ended:
        returncode = 0

        def __init__(self, words: list[str], **_: object) -> None:
            started.append(words)

        def __enter__(self) -> Ended:
            return self

        def __exit__(self, *_: object) -> None:
            """There was no process."""

        def poll(self) -> int:
            return 0

    monkeypatch.setattr(bench.subprocess, "run", lambda *_, **__: None)
    monkeypatch.setattr(bench.subprocess, "Popen", Ended)
    with loaded([parts]):
        bench._start_up(["model=small_cnn"])
    (words,) = started
    assert words[words.index("--parts") + 1] == parts


@pytest.mark.slow
def test_start_up_is_measured_on_whole_processes(mnist_ff: Command) -> None:
    code, out, err = mnist_ff("bench", *SMALL, *QUICK, "--out", "other.json")
    assert code == 0, err
    seconds = json.loads(Path("other.json").read_text())["start_up_seconds"]
    assert 0 < seconds["--help"] < seconds["to the first batch"] < seconds["one epoch, whole command"]
    assert "to the first batch" in out


@pytest.mark.slow
def test_peers_are_measured_or_reported_as_not_installed(real_mnist: Path, mnist_ff: Command) -> None:
    words = ("model.hidden=[16]", "trainer.batch_size=512")
    code, out, err = mnist_ff("bench", *words, *QUICK, "--no-start-up", "--peers", "--peer-epochs", "1")
    assert code == 0, err
    result = json.loads(Path("bench.json").read_text())
    seconds = result["training_seconds"]
    assert seconds["mnist-ff, fp32"] > 0
    assert seconds["mnist-ff, bf16"] > 0
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
]


@pytest.mark.parametrize("words", BAD)
def test_bad_words(words: list[str], mnist_ff: Command) -> None:
    code, _, err = mnist_ff("bench", *words)
    assert code == 2
    assert "Traceback" not in err
    assert not Path("bench.json").exists()


@pytest.mark.parametrize("word", ["schedule=linear", "schedule.warmup=3", "augment=both"])
def test_bench_refuses_keys_outside_the_step(word: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("bench", word)
    assert code == 2
    assert f"{word}: bench measures one step" in err
