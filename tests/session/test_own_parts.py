"""Runs with own parts: trained, resumed, evaluated, compared; their files are kept as data; errors are the user's."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from shlex import quote

import pytest

from mnist_ff.analysis.rows import read_row
from mnist_ff.config.own_parts import MAX_PARTS_BYTES, loaded
from mnist_ff.runs.directory import Run
from mnist_ff.runs.jobs import read_plan
from mnist_ff.runs.parts import read_parts
from mnist_ff.session import timed_commands
from tests.support.commands import Command
from tests.support.runs import assert_equal_runs

OWN = Path(__file__).resolve().parents[1] / "parts" / "own.py"
PARTS = ("--parts", str(OWN))
SMALL = ("trainer.batch_size=20", "trainer.epochs=2", "trainer.plots=false", "trainer.device=cpu", "data=stripes")
EVERY = (
    *SMALL,
    "data.images=100",
    "model=normed",
    "optimizer=signs",
    "schedule=halves",
    "augment=noise",
    "metrics=[largest_logit]",
    "callbacks=[diary]",
    "logger=lines",
)


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def trained(mnist_ff: Command, path: str, *words: str) -> Run:
    code, _, err = mnist_ff("train", *PARTS, *words, f"hydra.run.dir={path}")
    assert code == 0, err
    return Run(Path(path).absolute())


def test_a_run_of_own_parts_has_everything_a_run_has(mnist_ff: Command) -> None:
    run = trained(mnist_ff, "run", *EVERY)
    assert (
        Path("diary.txt").read_text()
        == "epoch 1: 1,2".replace("1,2", str(weights())) + f" weights\nepoch 2: {weights()} weights\n"
    )
    assert "epoch/largest_logit" in run.file("lines.txt").read_text()
    assert run.file("lines.txt").read_text().endswith("finished\n")
    assert run.file("epochs.csv").read_text().splitlines()[0].endswith(",largest_logit")
    assert [round(row["lr"], 6) for row in map(_row, run.file("batches.csv").read_text().splitlines()[1:])] == [
        *[0.003] * 5,
        *[0.0015] * 5,
    ]
    assert json.loads(run.file("parts/parts.json").read_text()) == [
        {"path": str(OWN), "sha256": sum_of(OWN), "copy": "own.py"}
    ]
    assert run.file("parts/own.py").read_bytes() == OWN.read_bytes()
    assert run.environment()["parts"] == [{"path": str(OWN), "sha256": sum_of(OWN)}]


def weights() -> int:
    return 144 * 16 + 16 + 2 * 16 + 16 * 4 + 4


def _row(line: str) -> dict[str, float]:
    return {"lr": float(line.split(",")[4])}


@pytest.mark.parametrize("model", ["normed", "small_cnn"])
def test_a_resumed_run_is_the_whole_one_to_the_bit(model: str, mnist_ff: Command) -> None:
    """BatchNorm's buffers, torch's generator for nn.Dropout, the optimizer's state and the augmentation's generator."""
    words = (*SMALL, f"model={model}", "optimizer=signs", "augment=noise")
    whole = trained(mnist_ff, "whole", *words)
    part = trained(mnist_ff, "part", *words, "trainer.epochs=1")
    code, _, err = mnist_ff("train", *PARTS, f"resume={part.path}", "trainer.epochs=2")
    assert code == 0, err
    assert_equal_runs(whole.path, part.path)


def test_evaluate_predict_and_config_of_need_the_file(mnist_ff: Command) -> None:
    run = trained(mnist_ff, "run", *SMALL, "model=small_cnn", "trainer.epochs=1")
    for words in (
        ["evaluate", "run"],
        ["predict", "run", "--index", "1"],
        ["export", "run", "--format", "safetensors"],
        ["train", "resume=run", "trainer.epochs=2"],
        ["train", "--config-of", "run"],
        ["train", "trainer.teacher=run", "trainer.teacher_weight=0.5"],
    ):
        code, _, err = mnist_ff(*words)
        assert code == 2, words
        assert f"it was in {OWN} (copy: run/parts/own.py)" in err
        assert err.rstrip().endswith(f"--parts {quote(str(OWN))}")
        assert len(err.splitlines()) == 1
        assert f"; mnist-ff {words[0]} " in err
    code, out, err = mnist_ff("evaluate", "run", *PARTS)
    assert (code, err) == (0, "")
    copied = mnist_ff("evaluate", "run", "--parts", str(run.file("parts/own.py")))
    assert copied == (0, out, ""), "the copy is as good, where the user says so"
    assert mnist_ff("predict", "run", "--index", "1", *PARTS)[0] == 0


def test_another_content_is_a_warning_with_both_sums(mnist_ff: Command) -> None:
    trained(mnist_ff, "run", *SMALL, "model=small_cnn", "trainer.epochs=1")
    Path("own.py").write_text(OWN.read_text() + "\n# changed\n")
    code, _, err = mnist_ff("evaluate", "run", "--parts", "own.py")
    assert code == 0
    assert err == (
        f"warning: own.py: has SHA-256 {sum_of(Path('own.py'))}, but run was trained with {sum_of(OWN)} "
        "(copy: run/parts/own.py)\n"
    )
    code, out, _ = mnist_ff("train", "resume=run", "trainer.epochs=2", "--parts", "own.py")
    assert code == 0
    assert (
        f"but run was trained with {sum_of(OWN)}" in "".join(out.split("\n")).replace("  ", " ") or sum_of(OWN) in out
    )
    recorded = read_parts(Run(Path("run")))
    assert [(one.sha256, one.copy, one.earlier) for one in recorded] == [
        (sum_of(OWN), "own.py", True),
        (sum_of(Path("own.py")), f"own.{sum_of(Path('own.py'))[:8]}.py", None),
    ]
    assert mnist_ff("evaluate", "run", "--parts", "own.py")[2] == ""


def test_reading_a_run_needs_no_file(mnist_ff: Command, tmp_path: Path) -> None:
    trained(mnist_ff, "run", *EVERY, "trainer.epochs=1")
    shutil.copytree("run", "moved")
    for words in (["runs", "."], ["compare", "run", "moved"], ["report", "run"]):
        code, out, err = mnist_ff(*words)
        assert code == 0, err
        assert "broken" not in out
    config = Run(Path("run")).config()
    assert (config.model.name, vars(config.model)["hidden"]) == ("normed", (16,))
    with loaded([str(OWN)]):
        from mnist_ff.config.convert import config_to_dict

        assert config_to_dict(Run(Path("run")).config()) == config_to_dict(config)
    page = Path("run/report.html").read_text()
    assert "normed" in page


@pytest.mark.parametrize("command", ["runs", "compare"])
def test_commands_that_only_read_import_nothing(command: str, mnist_ff: Command) -> None:
    trained(mnist_ff, "run", *SMALL, "trainer.epochs=1")
    Path("bad.py").write_text("open('imported', 'w').close()\n")
    assert mnist_ff(command, "run" if command == "compare" else ".", "--parts", "bad.py")[0] == 0
    assert not Path("imported").exists()


def links(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(OWN.parent)


def link(folder: Path) -> None:
    (folder / "parts.json").unlink()
    (folder / "parts.json").symlink_to(OWN)


def pipe(folder: Path) -> None:
    (folder / "parts.json").unlink()
    os.mkfifo(folder / "parts.json")


def plain_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("x")


def listed(*entries: object) -> str:
    return json.dumps(list(entries))


ENTRY = {"path": "/x/own.py", "sha256": "0" * 64, "copy": "own.py"}
BAD_LISTS = [
    "[",
    "{}",
    "[1]",
    listed({**ENTRY, "copy": "../../own.py"}),
    listed({**ENTRY, "copy": ".own.py"}),
    listed({**ENTRY, "copy": "own.py\n"}),
    listed({**ENTRY, "sha256": "zz"}),
    listed({**ENTRY, "path": "own.py"}),
    listed({**ENTRY, "path": 3}),
    listed({**ENTRY, "module": "a b"}),
    listed(*[ENTRY] * 101),
    listed({**ENTRY, "path": "/" + "x" * 5000}),
    " " * (2 << 20),
]


@pytest.mark.parametrize(
    "spoil", [links, link, pipe, plain_file, *BAD_LISTS], ids=lambda one: getattr(one, "__name__", None)
)
def test_a_hostile_parts_folder_is_one_line(spoil: object, mnist_ff: Command) -> None:
    trained(mnist_ff, "run", *SMALL, "model=small_cnn", "trainer.epochs=1")
    Path("run/parts/own.py").write_text("open('imported', 'w').close()\n")
    if isinstance(spoil, str):
        Path("run/parts/parts.json").write_text(spoil)
    else:
        spoil(Path("run/parts"))  # type: ignore[operator]
    for words in (["evaluate", "run"], ["train", "resume=run", "trainer.epochs=2"]):
        code, _, err = mnist_ff(*words)
        assert code == 2
        assert "run/parts" in err or "run: model=small_cnn" in err
        assert len(err.splitlines()) == 1
    for words in (["runs", "."], ["compare", "run"], ["report", "run"]):
        assert mnist_ff(*words)[0] == 0
    assert not Path("imported").exists()


def test_a_saved_config_cannot_hide_a_method(mnist_ff: Command) -> None:
    trained(mnist_ff, "run", *SMALL, "model=small_cnn", "trainer.epochs=1")
    saved = Path("run/config.yaml").read_text()
    for key, message in (
        ("check: 1", "'check' is not a key"),
        ("x: {a: 1}", "must be a plain value"),
        ("'a b': 1", "is not a key"),
    ):
        Path("run/config.yaml").write_text(saved.replace("  channels: 8", f"  {key}"))
        code, _, err = mnist_ff("evaluate", "run")
        assert code == 2
        assert message in err


def own_with(old: str, new: str) -> tuple[str, str]:
    text = OWN.read_text()
    assert old in text
    Path("own.py").write_text(text.replace(old, new, 1))
    return "--parts", "own.py"


@pytest.mark.parametrize(
    ("old", "new", "words", "lines"),
    [
        ("return SmallCNN(self", "return SmallCNN(self.chanels", ["model=small_cnn"], ["AttributeError"]),
        (
            "return self.layers(images.reshape(-1, *self.shape))",
            "raise ValueError('no forward')",
            ["model=small_cnn"],
            ["ValueError: no forward"],
        ),
        (
            "average.lerp_(parameter.grad, 1",
            "average.lerp_(parameter.gradient, 1",
            ["optimizer=signs"],
            ["AttributeError"],
        ),
        ("return lambda progress: 0.5", "return lambda progress: undefined", ["schedule=halves"], ["NameError"]),
        ("return (images + self.std", "return (images @ self.std", ["augment=noise"], ["TypeError"]),
        (
            "return model(images).abs()",
            "return undefined.abs()",
            ["metrics=[largest_logit]"],
            ["NameError"],
        ),
        ("weights = sum(", "weights = open('/no/such/file') or sum(", ["callbacks=[diary]"], ["FileNotFoundError"]),
        ("labels = torch.arange(self.images) %", "labels = torch.arange(self.imagez) %", [], ["AttributeError"]),
    ],
)
def test_an_exception_in_a_part_shows_the_users_lines_only(
    old: str, new: str, words: list[str], lines: list[str], mnist_ff: Command
) -> None:
    words = [word for word in (*SMALL, "data.images=100", *words) if word]
    code, _, err = mnist_ff("train", *own_with(old, new), *words, "hydra.run.dir=run")
    assert code in (1, 2)
    assert "bug" not in err
    assert all(line in err for line in lines)
    files = {line.split('"')[1] for line in err.splitlines() if line.lstrip().startswith("File ")}
    assert files == {str(Path("own.py").absolute())}
    if "data" not in new and "imagez" not in new:
        assert read_row(Path("run")).status == "failed"
        summary = json.loads(Path("run/summary.json").read_text())
        assert "site-packages" not in summary["cause"]


@pytest.mark.parametrize(
    ("old", "new", "words", "message"),
    [
        ("return SmallCNN(self.channels, shape, classes)", "return 3", ["model=small_cnn"], "build() returned a int"),
        ("nn.LazyLinear(classes)", "nn.LazyLinear(classes + 1)", ["model=small_cnn"], "(2, 5)"),
        ("return Signs(parameters, lr=self.lr,", "return dict(", ["optimizer=signs"], "build() returned a dict, not a"),
        (
            "return Signs(parameters, lr=self.lr,",
            "return Signs(parameters, lr=1.0,",
            ["optimizer=signs"],
            "needs lr=self.lr",
        ),
        (
            "return lambda progress: 0.5",
            "return lambda progress: -0.5",
            ["schedule=halves"],
            "returned -1.0 at progress 0",
        ),
        (
            "return lambda progress: 0.5",
            "return lambda progress: float('nan') * 0.5",
            ["schedule=halves"],
            "returned nan at",
        ),
        (
            "return lambda progress: 0.5",
            "progress = 1\n        return 0.5",
            ["schedule=halves"],
            "build() returned a float",
        ),
        ("        return add", "        return None", ["augment=noise"], "build() returned None, not a function"),
        (
            ".clamp(0, 1)",
            ".clamp(0, 1)[:1]",
            ["augment=noise"],
            "returned images of shape (1, 12, 12), not (20, 12, 12)",
        ),
        (".clamp(0, 1)", ".double()", ["augment=noise"], "returned images of dtype torch.float64, not torch.float32"),
        ('"test_labels": labels[:100],', "", [], "build() returned the keys train_images"),
        ('"test_labels": labels[:100],', '"test_labels": labels[:50],', [], "test has 100 images and 50 labels"),
        ('"classes": [', '"validation_images": images, "classes": [', [], "give both or neither"),
        ("range(self.classes)]", "range(2)]", [], "labels are 0 to 3, which 2 classes do not have"),
        (
            "return Lines(self.file)",
            "return self.file",
            ["logger=lines"],
            "build() returned a str, not a mnist_ff.Tracker",
        ),
        (".max().item()", ".max(0)", ["metrics=[largest_logit]"], "metrics=largest_logit"),
    ],
)
def test_a_wrong_result_is_one_line_with_the_parts_file(
    old: str, new: str, words: list[str], message: str, mnist_ff: Command
) -> None:
    code, _, err = mnist_ff("train", *own_with(old, new), *SMALL, *words, "hydra.run.dir=run")
    assert code in (1, 2)
    assert message in err
    assert "own.py:" in err
    assert len(err.splitlines()) == 1, err


def test_an_own_optimizer_gets_each_parameter_by_itself(mnist_ff: Command) -> None:
    """The fused step would give it one vector of all weights, and call update() in place of step()."""
    words = own_with(
        "super().__init__(parameters, {",
        "parameters = list(parameters)\n        print([tuple(p.shape) for p in parameters])\n"
        "        self.update = None\n        super().__init__(parameters, {",
    )
    words = (*words, *SMALL, "data.images=100", "model=mlp", "model.hidden=[5]", "optimizer=signs")
    code, out, err = mnist_ff("train", *words, "hydra.run.dir=run")
    assert code == 0, err
    assert "[(5, 144), (5,), (4, 5), (4,)]" in out
    assert "(eager, fp32" in out
    code, _, err = mnist_ff("train", *words, "trainer.engine=fused", "hydra.run.dir=other")
    assert code == 2
    assert "needs a built-in optimizer" in err


def test_an_own_optimizer_that_changes_its_options_resumes_to_the_bit(mnist_ff: Command) -> None:
    words = own_with(
        'for parameter in group["params"]:', 'group["momentum"] *= 0.9\n            for parameter in group["params"]:'
    )
    words = (*words, *SMALL, "data.images=100", "model=normed", "optimizer=signs")
    for path, epochs in (("whole", 2), ("run", 1)):
        code, _, err = mnist_ff("train", *words, f"trainer.epochs={epochs}", f"hydra.run.dir={path}")
        assert code == 0, err
    code, _, err = mnist_ff("train", *words[:2], "resume=run", "trainer.epochs=2")
    assert code == 0, err
    assert Path("run/batches.csv").read_bytes() == Path("whole/batches.csv").read_bytes()


def test_own_data_that_changed_ends_a_resume_and_warns_an_evaluation(mnist_ff: Command) -> None:
    words = own_with("std: ", "std: ")
    code, _, err = mnist_ff("train", *words, *SMALL, "data.images=100", "model=normed", "hydra.run.dir=run")
    assert code == 0, err
    words = own_with("labels] = 255", "labels] = 254")
    code, _, err = mnist_ff("train", *words, "resume=run", "trainer.epochs=3")
    assert code == 2
    assert "stripes: its train_images, test_images changed since" in err
    code, _, err = mnist_ff("evaluate", "run", *words)
    assert code == 0
    assert "its train_images, test_images differ from those that run was trained with" in err


def test_own_data_may_have_validation_images(mnist_ff: Command) -> None:
    both = '"validation_images": images[:50], "validation_labels": labels[:50], "classes": ['
    words = (*own_with('"classes": [', both), *SMALL, "data.images=100", "model=normed", "hydra.run.dir=run")
    code, _, err = mnist_ff("train", *words, "trainer.patience=1")
    assert code == 0, err
    assert all("validation_loss" in epoch and "test_loss" not in epoch for epoch in Run(Path("run")).epochs())


def test_a_sweep_over_an_own_key_and_its_resume(mnist_ff: Command) -> None:
    shutil.copyfile(OWN, "own.py")
    words = ("model=small_cnn", "model.channels=4,8", *SMALL, "trainer.epochs=1", "hydra.sweep.dir=sweep")
    code, out, err = mnist_ff("train", "-m", "--parts", "own.py", *words)
    assert code == 0, err
    assert "2 finished" in out
    assert [(Path(file.path).name, file.sha256) for file in read_plan(Path("sweep")).parts] == [("own.py", sum_of(OWN))]
    assert mnist_ff("compare", "sweep")[0] == 0
    assert mnist_ff("report", "sweep")[0] == 0
    shutil.rmtree("sweep/1")
    code, _, err = mnist_ff("train", "-m", "resume=sweep")
    assert code == 2
    assert err.rstrip().endswith(f"mnist-ff train -m resume=sweep --parts {Path('own.py').absolute()}")
    with Path("own.py").open("a") as file:
        file.write("# changed\n")
    code, _, err = mnist_ff("train", "-m", "resume=sweep", "--parts", "own.py")
    assert code == 2
    assert sum_of(OWN) in err
    assert sum_of(Path("own.py")) in err
    assert mnist_ff("train", "-m", "resume=sweep", *PARTS)[0] == 0
    assert read_row(Path("sweep/1")).status == "finished"


def test_a_worker_refuses_another_content(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("joblib")
    shutil.copyfile(OWN, "own.py")
    before = sum_of(OWN)
    words = ("model=small_cnn", "seed=0,1", *SMALL, "trainer.epochs=1", "hydra.sweep.dir=sweep")
    from mnist_ff.sweeps.launchers.joblib import JoblibLauncher

    launch = JoblibLauncher.run

    def after_a_change(*given: object) -> None:
        with Path("own.py").open("a") as file:
            file.write("# changed\n")
        launch(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(JoblibLauncher, "run", after_a_change)
    code, out, _ = mnist_ff("train", "-m", "--parts", "own.py", "hydra/launcher=joblib", *words)
    assert code == 1
    for job in "01":
        assert read_row(Path("sweep", job)).status == "failed"
        cause = json.loads(Path("sweep", job, "summary.json").read_text())["cause"]
        assert f"has SHA-256 {sum_of(Path('own.py'))}, but the sweep was started with {before}" in cause
    shutil.copyfile(OWN, "own.py")
    monkeypatch.setattr(JoblibLauncher, "run", launch)
    code, out, err = mnist_ff("train", "-m", "--parts", "own.py", "hydra/launcher=joblib", "resume=sweep")
    assert code == 0, err
    assert "2 finished" in out


def test_a_search_over_an_own_key(mnist_ff: Command) -> None:
    pytest.importorskip("optuna")
    words = ("model=small_cnn", "model.channels=range(2,6)", "data.validation_split=0.2", *SMALL, "trainer.epochs=1")
    search = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=sweep")
    code, out, err = mnist_ff("train", "-m", *PARTS, *words, *search)
    assert code == 0, err
    assert mnist_ff("train", "-m", "resume=sweep", "hydra.sweeper.n_trials=3")[0] == 2
    code, out, err = mnist_ff("train", "-m", "resume=sweep", "hydra.sweeper.n_trials=3", *PARTS)
    assert code == 0, err
    assert "3" in out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # submitit leaves a local job's process
@pytest.mark.parametrize("name", ["submitit_local", "submitit_slurm"])
def test_a_cluster_imports_the_same_file(name: str, mnist_ff: Command, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("submitit")
    if name == "submitit_slurm":
        request.getfixturevalue("slurm")
    words = ("model=small_cnn", "model.channels=4,8", *SMALL, "trainer.epochs=1", "hydra.sweep.dir=sweep")
    code, out, err = mnist_ff("train", "-m", *PARTS, f"hydra/launcher={name}", *words)
    assert code == 0, out + err
    assert "2 finished" in out


ODD_END = """\
from dataclasses import dataclass
import mnist_ff


class Odd(BaseException):
    pass


@mnist_ff.register("model", "odd")
@dataclass(frozen=True)
class Model:
    def build(self, shape, classes):
        raise {}
"""


@pytest.mark.parametrize("error", ["SystemExit(0)", "Odd(3)"])
def test_a_part_that_leaves_python_is_a_failed_run(error: str, mnist_ff: Command) -> None:
    Path("odd.py").write_text(ODD_END.format(error))
    code, _, err = mnist_ff("train", *PARTS, "--parts", "odd.py", *SMALL, "model=odd", "hydra.run.dir=run")
    assert code == 1
    kind, _, value = error.rstrip(")").partition("(")
    assert f"error: {kind}: {value}; in your own part, odd.py:13" in err
    assert json.loads(Path("run/summary.json").read_text())["status"] == "failed"


DATA = """\
from dataclasses import dataclass
import numpy
import mnist_ff


@mnist_ff.register("data", "few")
@dataclass(frozen=True)
class Few:
    def build(self):
        images, labels = numpy.ones((4, 3, 3), "uint8"), numpy.array([0, 1, 0, {}])
        data = {{"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}}
        return {{**data, "classes": {}}}
"""


@pytest.mark.parametrize(
    ("label", "classes", "message"),
    [
        ("10**15", "None", "a label is 1000000000000000; there may be 1,000 classes, from 0"),
        ("1", "2", "classes: a int, not a list of names"),
        ("1", "'ab'", "classes: a str, not a list of names"),
    ],
)
def test_own_data_of_too_many_classes_or_without_names_is_refused(
    label: str, classes: str, message: str, mnist_ff: Command
) -> None:
    Path("few.py").write_text(DATA.format(label, classes))
    code, _, err = mnist_ff("train", "--parts", "few.py", "data=few", "trainer.epochs=1", "trainer.plots=false")
    assert code in (1, 2)
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_recorded_path_cannot_break_the_line(mnist_ff: Command) -> None:
    run = trained(mnist_ff, "run", *SMALL, "model=small_cnn", "trainer.epochs=1")
    listed = json.loads(run.file("parts/parts.json").read_text())
    run.file("parts/parts.json").write_text(json.dumps([{**listed[0], "path": "/a\n\x1b[31m.py"}]))
    _, _, err = mnist_ff("evaluate", "run")
    assert err.endswith("; mnist-ff evaluate run --parts FILE.py\n")
    assert len(err.splitlines()) == 1


def test_a_large_file_is_no_parts_file(mnist_ff: Command) -> None:
    Path("own.py").write_text(OWN.read_text() + "#" * MAX_PARTS_BYTES)
    assert mnist_ff("train", "--parts", "own.py", *SMALL)[0] == 2


@pytest.mark.slow
def test_bench_lr_find_and_reproduce_take_own_parts(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed_commands, "START_UPS", 1)  # each takes two processes
    words = ("data=stripes", "model=small_cnn", "trainer.batch_size=20")
    code, out, err = mnist_ff("lr-find", *PARTS, *words, "optimizer=signs")
    assert code == 0, err
    assert f" --parts {quote(str(OWN))}" in out.splitlines()[-1]
    Path("mine/experiment").mkdir(parents=True)
    Path("mine/experiment/lines.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /data: stripes\n  - override /model: small_cnn\n"
        "trainer: {batch_size: 20, epochs: 1, plots: false}\n"
    )
    given = (*PARTS, "--config-dir", "mine")
    code, out, err = mnist_ff("reproduce", "lines", "--seeds", "2", *given)
    assert code == 0, err
    assert f" --parts {quote(str(OWN))}" in out
    code, _, err = mnist_ff("bench", "--rounds", "1", "--steps", "2", *PARTS, *words)
    assert code == 0, err
