"""`mnist-ff conf`: what there is and where it comes from, and copies that work as they are."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from mnist_ff.cli import COMMANDS
from mnist_ff.commands.completion import candidates
from mnist_ff.config.compose import Composer
from mnist_ff.config.defaults import HYDRA_GROUPS
from mnist_ff.config.options import options, using_folders
from tests.support.commands import Command


def copyable() -> list[str]:
    known = options()
    return [f"{group}/{name}" for group in known.files for name in known.names(group) if name in known.files[group]]


@pytest.mark.slow
def test_every_option_can_be_copied_and_used(mnist_ff: Command) -> None:
    for option in copyable():
        code, out, err = mnist_ff("conf", "copy", option, "mine")
        assert code == 0, err
        group, _, name = option.rpartition("/")
        assert f"written to mine/{group}/my_{name}.yaml\n" in out
    with using_folders([Path("mine").absolute()]):
        composer = Composer()
        for option in copyable():
            group, _, name = option.rpartition("/")
            if name.startswith("my_"):
                continue
            if group in HYDRA_GROUPS:
                own, ours = (composer.sweep([f"{group}={word}"]).choice(group[6:]) for word in (f"my_{name}", name))
                assert own == ours
            elif group == "sweep":
                own, ours = (composer.sweep([f"sweep={word}"]) for word in (f"my_{name}", name))
                assert (own.options, own.choice("sweeper")) == (ours.options, ours.choice("sweeper"))
            else:
                own, ours = (composer.run([f"{group}={word}"]).config() for word in (f"my_{name}", name))
                assert own == ours, option


def test_the_next_command_runs(mnist_ff: Command) -> None:
    code, out, _ = mnist_ff("conf", "copy", "experiment/speedrun", "a folder", "--as", "short")
    assert code == 0
    text = Path("a folder/experiment/short.yaml").read_text()
    assert text.startswith("# @package _global_\n# A copy of experiment/speedrun")
    assert "98.56" not in text, "the results are those of the original"
    words = shlex.split(out.partition("use it ")[2])
    assert words == ["mnist-ff", "train", "--config-dir", "a folder", "experiment=short"]
    assert f"  {shlex.join(words)}\n" in text
    code, _, err = mnist_ff(*words[1:], "data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "schedule.warmup=3")
    assert code == 0, err


def test_a_copy_of_a_copy_names_both_folders(mnist_ff: Command) -> None:
    assert mnist_ff("conf", "copy", "optimizer/adam", "one", "--as", "mine")[0] == 0
    Path("one/optimizer/own.yaml").write_text("defaults: [mine]\nlr: 0.5\n")
    code, out, _ = mnist_ff("conf", "copy", "--config-dir", "one", "optimizer/own", "two", "--as", "other")
    assert code == 0
    words = shlex.split(out.partition("use it ")[2])
    code, out, err = mnist_ff(*words[1:], "--cfg", "job", "-p", "optimizer")
    assert code == 0, err
    assert "name: adam\nlr: 0.5\n" in out


def test_nothing_is_overwritten(mnist_ff: Command) -> None:
    assert mnist_ff("conf", "copy", "optimizer/adam", "mine")[0] == 0
    path = Path("mine/optimizer/my_adam.yaml").absolute()
    path.write_text("# changed\n" + path.read_text())
    before = path.read_bytes()
    code, out, err = mnist_ff("conf", "copy", "optimizer/adam", "mine")
    assert (code, out, path.read_bytes()) == (2, "", before)
    assert err == "error: mine/optimizer/my_adam.yaml: already exists; choose another name with --as\n"
    os.symlink(path, "mine/optimizer/link.yaml")
    assert mnist_ff("conf", "copy", "optimizer/sgd", "mine", "--as", "link")[0] == 2
    os.symlink("nowhere", "mine/optimizer/dangling.yaml")
    assert mnist_ff("conf", "copy", "optimizer/sgd", "mine", "--as", "dangling")[0] == 2
    assert (path.read_bytes(), Path("mine/optimizer/nowhere").exists()) == (before, False)


REFUSED = {
    "conf": "required: action",
    "conf copy": "needs an option and a folder",
    "conf copy experiment/clean": "needs an option and a folder",
    "conf copy experiment/clen d": "did you mean clean?",
    "conf copy experment/clean d": "did you mean experiment?",
    "conf copy clean d": "give GROUP/OPTION",
    "conf copy hydra/launcher/basic d": "must be one of joblib",
    "conf copy data/_base d": "must be one of emnist, fashion_mnist",
    "conf copy optimizer/adam d --as sgd": "optimizer=sgd exists already",
    "conf copy optimizer/adam d --as ../sgd": "letters, digits",
    "conf copy optimizer/adam d --as null": "letters, digits",
    "conf copy optimizer/adam a_file": "a_file/optimizer: Not a directory",
    "conf list optimizer": "takes no option",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_copied_is_one_line(mnist_ff: Command, line: str) -> None:
    Path("a_file").touch()
    code, out, err = mnist_ff(*line.split())
    assert (code, out, err.count("\n")) == (1 if "a_file" in line else 2, "", 1)
    assert REFUSED[line] in err
    assert not Path("d").exists()


def test_the_list_names_every_source(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("one/optimizer").mkdir(parents=True)
    Path("one/optimizer/slow.yaml").write_text("defaults: [rmsprop]\nlr: 0.0005\n")
    Path("two/experiment").mkdir(parents=True)
    Path("two/experiment/mine.yaml").write_text("# @package _global_\nname: a label\n")
    monkeypatch.setenv("MNIST_FF_CONFIG_DIR", "two")
    code, out, _ = mnist_ff("conf", "list", "--config-dir", "one")
    assert code == 0
    one, two = (out.index(f"{Path(folder).absolute()}\n") for folder in ("one", "two"))
    monkeypatch.delenv("MNIST_FF_CONFIG_DIR")
    built_in = out[: min(one, two)].replace("|", "").split()
    assert built_in[0] == "built-in"
    assert {option.rpartition("/")[2] for option in copyable()} < set(built_in)
    assert out[one:].split("\n")[1].split() == ["optimizer=", "slow", "(rmsprop)"]
    assert out[two:].split("\n")[1].split() == ["experiment=", "mine"]
    assert max(len(line) for line in out.splitlines() if line.startswith(" ")) <= 80


def test_completion_of_conf() -> None:
    def offered(line: str) -> list[str]:
        *before, current = line.split(" ")
        return candidates(before, current, COMMANDS)

    assert offered("conf ") == ["list ", "copy "]
    assert offered("conf copy experiment/cl") == ["experiment/clean "]
    assert "hydra/launcher/joblib " in offered("conf copy ")
    assert offered("conf copy experiment/clean ") == []
    assert offered("conf list ") == []


PARTS = '''
from dataclasses import dataclass
from typing import Annotated
import mnist_ff

@mnist_ff.register("model", "row")
@dataclass(frozen=True)
class Row:
    """One row of units."""

    units: Annotated[int, "units", mnist_ff.Range(at_least=1)]
    kind: Annotated[str, "a text that looks like an interpolation"] = "${x}"
    wide: Annotated[bool, "whether it is wide"] = True

    def build(self, shape, classes):
        raise NotImplementedError
'''


def test_own_parts_are_listed_and_copied(mnist_ff: Command) -> None:
    Path("some_parts.py").write_text(PARTS)
    code, out, err = mnist_ff("conf", "list", "--parts", "some_parts.py")
    assert code == 0, err
    assert out.endswith("some_parts.py\n  model=          row\n")
    code, out, err = mnist_ff("conf", "copy", "--parts", "some_parts.py", "model/row", "mine", "--as", "narrow")
    assert code == 0, err
    words = [*shlex.split(out.partition("use it ")[2])[1:], "--cfg", "job", "-p", "model"]
    code, _, err = mnist_ff(*words)
    assert code == 2, "a key without a default stays open"
    assert "model.units" in err
    code, out, err = mnist_ff(*words, "model.units=3")
    assert code == 0, err
    assert out.splitlines()[1:] == ["name: row", "units: 3", "kind: \\${x}", "wide: true"]
    code, out, _ = mnist_ff("conf", "list", "--parts", "some_parts.py", "--config-dir", "mine")
    assert f"{Path('mine').absolute()}\n  model=          narrow (row)\n" in out
    Path("mine/model/row.yaml").write_text("units: 7\n")
    code, out, err = mnist_ff("train", "--parts", "some_parts.py", "--config-dir", "mine", "model=row", *words[-4:])
    assert code == 0, err
    assert out.splitlines()[1:] == ["name: row", "units: 7", "kind: \\${x}", "wide: true"]


def test_own_callbacks_and_trackers_are_copied_to_their_place(mnist_ff: Command) -> None:
    parts = ["--parts", str(Path(__file__).parents[1] / "parts" / "own.py")]
    code, out, err = mnist_ff("conf", "list", *parts)
    assert code == 0, err
    assert "  metrics=        calibration | dead_units | gradient_norms | weight_norms\n" in out
    assert "  callbacks=      diary\n" in out
    assert "  metrics=        largest_logit\n" in out
    for option in ("callbacks/diary", "logger/lines", "optimizer/signs"):
        assert mnist_ff("conf", "copy", *parts, option, "mine")[0] == 0
    words = ["callbacks=my_diary", "logger=my_lines", "optimizer=my_signs", "--cfg", "job"]
    code, out, err = mnist_ff("train", *parts, "--config-dir", "mine", *words)
    assert code == 0, err
    assert "logger:\n  lines:\n" in out
    assert "callbacks:\n  diary:\n" in out
    assert "optimizer:\n  name: signs\n" in out


def test_as_json(mnist_ff: Command) -> None:
    code, out, _ = mnist_ff("conf", "list", "--json")
    groups = json.loads(out)
    assert code == 0
    assert {"option": "sgd", "part": "sgd", "source": "built-in"} in groups["optimizer"]
    assert [row["option"] for row in groups["experiment"]] == options().names("experiment")
    code, out, err = mnist_ff("conf", "copy", "optimizer/sgd", "own", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["path"] == "own/optimizer/my_sgd.yaml"
    rows = json.loads(mnist_ff("conf", "list", "--config-dir", "own", "--json")[1])["optimizer"]
    assert [row["part"] for row in rows if row["option"] == "my_sgd"] == ["sgd"]
