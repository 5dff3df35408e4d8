"""Runs of a user's models: resumed to the bit, whatever they draw and keep; evaluated, distilled, averaged."""

from __future__ import annotations

import functools
import itertools
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mnist_ff.config import own_parts
from mnist_ff.data.load import Data, Split
from mnist_ff.errors import ConfigError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import DataSpec
from mnist_ff.training.checkpoint import CHECKPOINT
from mnist_ff.training.learner import Learner
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.processes import Held
from tests.support.runs import BATCHES, SAME, assert_equal_runs, stopped_run, whole_run

PARTS = str(Path(__file__).parents[1] / "support" / "own_models.py")
NOISY = ["model=noisy", "trainer.epochs=3", "trainer.plots=false", "data=mnist_5k", "trainer.device=cpu"]


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with own_parts.loaded([PARTS]):
        yield


def plain(words: list[str]) -> list[str]:
    """Without the built-in network's keys."""
    return [word for word in words if not word.startswith("model.hidden")]


@pytest.fixture(autouse=True)
def _no_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support import runs

    monkeypatch.setattr(runs, "WORDS", plain(runs.WORDS))


EXTRAS = {
    "as it is": [],
    "every addition": [
        "trainer.ema=0.9",
        "trainer.keep_best=true",
        "data.validation_split=0.1",
        "augment=shift",
        "optimizer=adam",
        "trainer.adversarial=0.01",
        "trainer.clip_norm=1",
        "trainer.max_norm=2",
        "trainer.label_smoothing=0.1",
        "schedule=cosine",
    ],
    "an own optimizer": ["optimizer=averaging", "schedule=linear"],
    "bf16": ["trainer.precision=bf16", "optimizer=sgd", "optimizer.momentum=0.9"],
}


@pytest.mark.parametrize(
    ("steps", "extra"),
    [*itertools.product([1, BATCHES, BATCHES + 3], [EXTRAS["as it is"]]), *((19, e) for e in EXTRAS.values())],
)
def test_own_model_resumes_to_the_bit(steps: int, extra: list[str], mnist_ff: Command) -> None:
    whole_run("whole", "model=noisy", *extra)
    stopped_run("parted", steps, "model=noisy", *extra)
    code, _, err = mnist_ff("train", "--parts", PARTS, "resume=parted")
    assert code == 0, err
    assert_equal_runs(Path("whole"), Path("parted"))
    weights = load_file("whole/model.safetensors")
    assert weights["norm.num_batches_tracked"] > 0
    assert weights["steps"] > 0
    assert torch.equal(weights["up.weight"], weights["down.weight"]), "tied weights stand under both names"
    assert weights["last.weight"].dtype == torch.float64


def test_own_optimizer_resumes_to_the_bit_with_the_built_in_network(mnist_ff: Command) -> None:
    """It draws from torch's generator, counts in an integer and keeps a list of tensors."""
    words = ["optimizer=averaging", "model.hidden=[16]"]
    whole_run("whole", *words)
    stopped_run("parted", 19, *words)
    code, _, err = mnist_ff("train", "--parts", PARTS, "resume=parted")
    assert code == 0, err
    assert_equal_runs(Path("whole"), Path("parted"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_own_model_resumes_after_ctrl_c_and_kill(number: signal.Signals, mnist_ff: Command) -> None:
    words = ["--parts", PARTS, *NOISY, "trainer.epochs=20", "trainer.sync_every=1"]
    assert mnist_ff("train", *words, "hydra.run.dir=whole")[0] == 0
    parted = "outputs/parted"
    started = Held(parted, 20, "train", *words, "trainer.checkpoint_every=5", f"hydra.run.dir={parted}")
    started.hear(number)
    started.let_go()
    assert started.end()[0] == (130 if number == signal.SIGINT else -9)
    assert (Path("outputs/parted/summary.json").exists()) == (number == signal.SIGINT)
    code, _, err = mnist_ff("train", "--parts", PARTS, "resume=outputs/parted")
    assert code == 0, err
    for name in SAME:
        assert Path("whole", name).read_bytes() == Path("outputs/parted", name).read_bytes(), name


def test_evaluations_do_not_touch_what_training_draws(mnist_ff: Command) -> None:
    """Though this model draws when it is evaluated too."""
    for name, extra in (("often", ["trainer.score_train=300"]), ("once", ["trainer.evaluate_every=3"])):
        assert mnist_ff("train", "--parts", PARTS, *NOISY, *extra, f"hydra.run.dir={name}")[0] == 0
    for name in ("batches.csv", "model.safetensors"):
        assert Path("often", name).read_bytes() == Path("once", name).read_bytes()
    assert int(load_file("once/model.safetensors")["steps"]) == 3 * BATCHES, "batches alone are counted"


def test_own_models_start_and_stream_follow_the_seed(mnist_ff: Command) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        words = [*NOISY, f"seed={seed}", f"hydra.run.dir={name}"]
        assert mnist_ff("train", "--parts", PARTS, *words)[0] == 0
        torch.rand(7)  # somebody's draw in between
    assert Path("a/batches.csv").read_bytes() == Path("b/batches.csv").read_bytes()
    assert Path("a/batches.csv").read_bytes() != Path("c/batches.csv").read_bytes()


def test_older_checkpoint_without_generators_resumes(mnist_ff: Command) -> None:
    from mnist_ff.training import checkpoint

    run = stopped_run("parted", 5, "model=noisy")
    values = torch.load(run.file(CHECKPOINT), weights_only=True)
    del values["generators"]
    write(run, values)
    assert checkpoint.load_checkpoint(run, pytest.fail)["generators"] is None
    code, _, err = mnist_ff("train", "--parts", PARTS, "resume=parted")
    assert code == 0, err
    assert json.loads(Path("parted/summary.json").read_text())["status"] == "finished"


def write(run: Run, values: object) -> None:
    import hashlib
    import io

    from mnist_ff.training.checkpoint import SEAL

    buffer = io.BytesIO()
    torch.save(values, buffer)
    content = buffer.getvalue()
    run.file(CHECKPOINT).write_bytes(content + SEAL + hashlib.sha256(content).digest())


@pytest.mark.parametrize(
    "spoilt",
    [
        5,
        {"cpu": 5},
        {5: torch.zeros(8, dtype=torch.uint8)},
        {"cpu": torch.zeros(3, dtype=torch.uint8)},
        {"cpu": torch.get_rng_state()},
        {"cpu": torch.zeros(5056, dtype=torch.uint8), "model.rng": torch.zeros(5056, dtype=torch.uint8)},
        {"cpu": torch.zeros(1, dtype=torch.uint8).expand(5056)},
    ],
)
def test_spoilt_generators_are_refused(spoilt: object, mnist_ff: Command) -> None:
    run = stopped_run("parted", 5, "model=noisy")
    before = run.file("batches.csv").read_bytes()
    values = torch.load(run.file(CHECKPOINT), weights_only=True)
    write(run, {**values, "generators": spoilt})
    code, _, err = mnist_ff("train", "--parts", PARTS, "resume=parted")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "checkpoint" in err
    assert run.file("batches.csv").read_bytes() == before


def test_averages_are_those_of_swa_utils(mnist_ff: Command) -> None:
    """Parameters are averaged; buffers are the last ones, as AveragedModel has them by default."""
    words = ["--parts", PARTS, *NOISY, "trainer.epochs=1"]
    assert mnist_ff("train", *words, "hydra.run.dir=plain")[0] == 0
    assert mnist_ff("train", *words, "trainer.ema=0.9", "hydra.run.dir=ema")[0] == 0
    last, averaged = (load_file(Path(name, "model.safetensors")) for name in ("plain", "ema"))
    for name in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "steps", "mask", "scale"):
        assert torch.equal(last[name], averaged[name]), name
    for name in ("first.weight", "norm.weight", "up.weight", "last.weight"):
        assert not torch.equal(last[name], averaged[name]), name
    assert torch.equal(averaged["up.weight"], averaged["down.weight"])


def test_own_teacher_teaches_and_own_pupil_learns(mnist_ff: Command) -> None:
    assert mnist_ff("train", "--parts", PARTS, *NOISY, "model=cnn", "trainer.epochs=1", "hydra.run.dir=teacher")[0] == 0
    for number, model in enumerate(("noisy", "mlp")):
        words = [f"model={model}", "trainer.teacher=teacher", "trainer.teacher_weight=0.9", "trainer.temperature=4"]
        code, _, err = mnist_ff("train", "--parts", PARTS, *NOISY, *words, f"hydra.run.dir=pupil{number}")
        assert code == 0, err
        rows = Run(Path(f"pupil{number}")).epochs()
        assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_teacher_for_other_images_is_refused(mnist_ff: Command) -> None:
    assert mnist_ff("train", "--parts", PARTS, *NOISY, "model=cnn", "trainer.epochs=1", "hydra.run.dir=teacher")[0] == 0
    split = Split(torch.zeros(20, 8, 8, dtype=torch.uint8), torch.arange(20) % 3, 3)
    config = make_config("seed=0", "trainer.teacher=teacher", "trainer.teacher_weight=0.5", "trainer.batch_size=4")
    with pytest.raises(ConfigError, match=r"^trainer.teacher=teacher: is for images of shape \(28, 28\) in 10 classes"):
        Learner(config, Data("small", split, split, spec=DataSpec((8, 8), ("a", "b", "c"))))


def test_lr_find_takes_an_own_model(mnist_ff: Command) -> None:
    words = ["--parts", PARTS, "model=cnn", "data=mnist_5k", "--steps", "30", "trainer.device=cpu"]
    code, out, err = mnist_ff("lr-find", *words)
    assert code == 0, err
    assert "suggested  optimizer.lr=" in out


def test_a_last_batch_of_one_image_is_explained(mnist_ff: Command) -> None:
    words = ["--parts", PARTS, *NOISY, "trainer.batch_size=3999"]
    code, _, err = mnist_ff("train", *words)
    assert code == 2
    assert "trainer.batch_size: leaves a last batch of one image, which BatchNorm cannot train on" in err


DIFFERENT = {
    "return self.last(x.double()), x": "forward() returns a tuple in training",
    "return self.last(x.detach().double()).detach()": "does not depend on any parameter",
    "return self.last(x.double())[:, :5]": "forward() returns (256, 5) in training, not (256, 10) logits",
}


@pytest.mark.parametrize(("change", "reason"), DIFFERENT.items())
def test_a_model_that_differs_in_training_is_explained(change: str, reason: str, mnist_ff: Command) -> None:
    text, line = Path(PARTS).read_text(), "x = x + 0.01 * torch.randn("
    for known, other in (('"noisy"', '"odd"'), ('"cnn"', '"other"'), ('"averaging"', '"mean"')):
        text = text.replace(known, other)
    text = text.replace(line, f"{change}\n            {line}")
    Path("odd.py").write_text(text)
    code, _, err = mnist_ff("train", "--parts", "odd.py", *NOISY, "model=odd")
    assert code == 2
    assert reason in err


def test_evaluate_and_predict_use_what_was_saved(mnist_ff: Command) -> None:
    words = ["--parts", PARTS, *NOISY, "model=cnn", "hydra.run.dir=run"]
    assert mnist_ff("train", *words)[0] == 0
    score = json.loads(Path("run/summary.json").read_text())["score"]
    assert mnist_ff("evaluate", "--parts", PARTS, "run", "--device", "cpu")[0] == 0
    again = json.loads(Path("run/evaluation.json").read_text())
    assert again["mnist_5k test"]["loss"] == score["loss"]
    code, out, _ = mnist_ff("predict", "--parts", PARTS, "run", "--index", "0", "--json")
    assert code == 0
    found = torch.tensor(json.loads(out)[0]["probabilities"])
    expected = load_file("run/predictions.safetensors")["probabilities"][0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_model_of_another_size_allocates_nothing(mnist_ff: Command) -> None:
    assert mnist_ff("train", "--parts", PARTS, *NOISY, "trainer.epochs=1", "hydra.run.dir=run")[0] == 0
    config = Path("run/config.yaml")
    config.write_text(config.read_text().replace("units: 16", "units: 3000000"))  # 36 TB of weights
    code, _, err = mnist_ff("evaluate", "--parts", PARTS, "run")
    assert code == 2
    assert "expected 3000000" in err
    assert len(err.strip().splitlines()) == 1


def test_compiled_own_model_has_the_same_losses(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the graph that torch.compile captures, run as it is; code for it takes half a minute to generate."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    words = ["--parts", PARTS, *NOISY, "model=cnn", "trainer.epochs=1", "model.channels=2", "trainer.plots=false"]
    assert mnist_ff("train", *words, "trainer.compile=true", "hydra.run.dir=compiled")[0] == 0
    assert mnist_ff("train", *words, "trainer.engine=eager", "hydra.run.dir=plain")[0] == 0
    compiled, plain = Run.open("compiled").losses(), Run.open("plain").losses()
    assert max(abs(a - b) for a, b in zip(compiled, plain, strict=True)) < 1e-4
    assert json.loads(Path("compiled/summary.json").read_text())["status"] == "finished"
    assert all("_orig_mod" not in name for name in load_file("compiled/model.safetensors"))
