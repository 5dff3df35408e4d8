"""Own parts from a file: what is wrong in one is told with file and line; what is right is known like a built-in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_ff.config import registry
from mnist_ff.config.own_parts import MAX_PARTS_BYTES, in_use, loaded, own_traceback, taken
from mnist_ff.errors import ConfigError
from tests.support.commands import Command

PARTS = Path(__file__).resolve().parents[1] / "parts" / "own.py"
HEAD = """\
from dataclasses import dataclass
from typing import Annotated, Literal
import mnist_ff

"""
MODEL = f"""{HEAD}@mnist_ff.register("model", "linear")
@dataclass(frozen=True)
class Linear:
    scale: Annotated[float, "of the weights", mnist_ff.Range(above=0, at_most=2)] = 1
    depth: int = 3

    def build(self, shape, classes):
        import torch
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(classes))
"""
BUILD = "    def build(self, shape, classes):\n        pass\n"


def changed(*pairs: tuple[str, str]) -> str:
    text = MODEL
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (changed(('"model", "linear"', '"modell", "linear"')), 5, "modell=linear: no such group"),
        (changed(('"model", "linear"', '"modell", "linear"')), 5, "did you mean model?"),
        (changed(('"linear"', '"mlp"')), 5, "model=mlp: is built in; choose another name"),
        (changed(('"linear"', '"My Model"')), 5, "a part's name is lower-case letters"),
        (
            changed(("    depth: int = 3", "    depth = 3")),
            9,
            "depth: has no type, so it is no key; write depth: int = 3",
        ),
        (changed(("depth: int = 3", "depth: dict = None")), 9, "depth: has the type dict; use bool, int, float"),
        (changed(("depth: int = 3", "depth: int | str = 3")), 9, "depth: has the type int | str; use"),
        (changed(("depth: int = 3", "depth: tuple[int, int] = (1, 2)")), 9, "use bool, int, float, str"),
        (changed(("depth: int = 3", "depth: int = 0.5")), 9, "the default model.depth=0.5: must be an integer"),
        (changed(("depth: int = 3", "depth: 'Dept' = 3")), 5, "class Linear: a type cannot be read"),
        (changed(("scale: A", "name: A")), 8, "name: is the part's own name; call the field otherwise"),
        (changed(("scale: A", "check: A")), 8, "check: is the name of a method here"),
        (changed(("] = 1", "] = 5")), 8, "the default model.scale=5: must be above 0 and at most 2"),
        (changed(("Annotated[float", "Annotated[str"), ("] = 1", '] = "a"')), 8, "scale: Can only set"),
        (changed(("above=0, at_most=2", "above=0, at_least=1")), 8, "takes one of at_least and above"),
        (changed(("shape, classes):", "size):")), 11, "build(self, size): must be build(self, shape, classes)"),
        (changed(("shape, classes):", "classes, shape):")), 11, "must be build(self, shape, classes)"),
        (changed(("def build", "def make")), 5, "class Linear has no method build(self, shape, classes)"),
        (changed(("def build", "@staticmethod\n    def build")), 5, "build must be a method"),
        (changed(("(frozen=True)", "")), 5, "class Linear is not frozen; write @dataclass(frozen=True)"),
        (
            changed(("@dataclass(frozen=True)\n", "")),
            5,
            "class Linear is not a dataclass; write @dataclass(frozen=True)",
        ),
        (changed(("(frozen=True)", "(frozen=True, slots=True)")), 5, "has slots; leave out slots=True"),
        (f'{HEAD}@mnist_ff.register("model", "f")\ndef f(shape, classes): pass\n', 5, "is not a class"),
        (f'{HEAD}@mnist_ff.register("metric", "m")\ndef m(model): pass\n', 5, "(model): must be"),
        (f'{HEAD}@mnist_ff.register("metric", "m")\nclass M: pass\n', 5, "is not a function"),
        (
            f'{HEAD}@mnist_ff.register("callback", "c")\n@dataclass\nclass C: pass\n',
            5,
            "must derive from mnist_ff.Callback",
        ),
        (
            f'{HEAD}@mnist_ff.register("callback", "c")\n@dataclass\nclass C(mnist_ff.Callback):\n'
            "    def on_epoch_ended(self, epoch): pass\n",
            5,
            "callback=c: on_epoch_ended: no such event (there are: on_train_begin, ",
        ),
        (
            f'{HEAD}@mnist_ff.register("optimizer", "o")\n@dataclass(frozen=True)\nclass O:\n    lr: int = 1\n'
            "    def build(self, parameters): pass\n",
            8,
            "lr: is a key that all of the group have; its type must be float",
        ),
        (MODEL + MODEL.removeprefix(HEAD), 14, "model=linear: is registered at my_parts.py:5 too; rename one of them"),
        ("import nothing_like_this\n", 1, "ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("x = 1\nraise SystemExit(3)\n", 2, "SystemExit: 3; the file cannot be imported"),
        ("class Odd(BaseException): ...\n\n\nraise Odd(1)\n", 4, "Odd: 1; the file cannot be imported"),
        ("x = 1\nif x\n", 2, "SyntaxError: expected ':'; correct the file"),
        ("import json\n\n\njson.loads('{')\n", 4, "JSONDecodeError: Expecting property name"),
        ("x = 1\n", None, "registers no part; decorate a class with @mnist_ff.register(GROUP, NAME)"),
        ("x = 1\0\n", None, "null bytes"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(text: str, line: int | None, message: str) -> None:
    Path("my_parts.py").write_text(text)
    before = [dict(registry.own_parts(group)) for group in registry.GROUPS]
    with pytest.raises(ConfigError) as error, loaded(["my_parts.py"]):
        pass
    place = "my_parts.py" if line is None else f"my_parts.py:{line}: "
    assert place in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert [dict(registry.own_parts(group)) for group in registry.GROUPS] == before, "nothing of it is left"


def test_the_traceback_of_an_import_has_the_users_lines_only(mnist_ff: Command) -> None:
    Path("helper.py").write_text("import json\n\ndef read(text):\n    return json.loads(text)\n")
    Path("my_parts.py").write_text("from helper import read\nread('{')\n")
    code, _, err = mnist_ff("train", "--parts", "my_parts.py")
    assert code == 2
    assert "bug" not in err
    files = [line.split('"')[1] for line in err.splitlines() if line.lstrip().startswith("File ")]
    assert [Path(file).name for file in files] == ["my_parts.py", "helper.py"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("gone.py", "--parts gone.py: does not exist"),
        ("folder.py", "--parts folder.py: is not a file"),
        ("pipe.py", "--parts pipe.py: is not a file"),
        ("large.py", "is larger than 1,048,576 bytes"),
        ("no.such.module", "there is no such module in the working folder"),
        ("package", "the module has no Python file"),
        ("torch._C", "the module has no Python file"),
        ("..", "is neither a file's name, which ends with .py, nor a module's"),
    ],
)
def test_a_file_that_cannot_be_one_is_refused(word: str, message: str, mnist_ff: Command) -> None:
    Path("folder.py").mkdir()
    Path("package").mkdir()
    os.mkfifo("pipe.py")
    Path("large.py").write_bytes(b"#" * (MAX_PARTS_BYTES + 1))
    code, _, err = mnist_ff("train", "--parts", word)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_a_module_is_found_in_the_working_folder() -> None:
    Path("package_of_parts").mkdir()
    Path("package_of_parts/__init__.py").touch()
    Path("package_of_parts/sizes.py").write_text("DEPTH = 4\n")
    text = "from .sizes import DEPTH\n" + MODEL.replace("= 3", "= DEPTH")
    Path("package_of_parts/nets.py").write_text(text)
    with loaded(["package_of_parts.nets"]):
        assert registry.part("model", "linear").defaults == {"name": "linear", "scale": 1.0, "depth": 4}
        assert in_use()[0].path == str(Path("package_of_parts/nets.py").absolute())
    assert "linear" not in registry.names("model")


def test_a_file_is_imported_once_and_its_parts_leave_with_the_block() -> None:
    Path("my_parts.py").write_text(f"{MODEL}\nwith open('count', 'a') as file:\n    file.write('x')\n")
    for _ in range(2):
        with loaded(["my_parts.py", "./my_parts.py", str(Path("my_parts.py").absolute())]), loaded(["my_parts.py"]):
            assert registry.source_of("model", "linear") == "model=linear (my_parts.py:5)"
        assert in_use() == ()
    assert Path("count").read_text() == "x"


@pytest.mark.parametrize(
    ("words", "found", "others"),
    [
        ([], [], []),
        (["a=1", "--parts", "x.py", "-m", "--parts=y.py", "b=2"], ["x.py", "y.py"], ["a=1", "-m", "b=2"]),
    ],
)
def test_the_flag_is_taken_from_a_line(words: list[str], found: list[str], others: list[str]) -> None:
    assert taken(words) == (found, others)
    with pytest.raises(ConfigError, match="needs a value"):
        taken([*words, "--parts"])


def test_own_parts_are_known_like_built_in_ones(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (("--parts", str(PARTS)), ()):
        if not words:
            monkeypatch.setenv("MNIST_FF_PARTS", os.pathsep.join([str(PARTS), str(PARTS)]))
        code, out, _ = mnist_ff("train", "--help", *words)
        assert code == 0
        assert "mlp | normed | small_cnn" in out
        assert "model.channels" in out
        assert "channels of the first layer" in out
        code, out, _ = mnist_ff("train", "--cfg", "job", "-p", "model", "model=small_cnn", *words)
        assert out == "# @package model\nname: small_cnn\nchannels: 8\n"
        for override, message in (
            ("model=smal_cnn", "did you mean small_cnn?"),
            ("model.chanels=3", "did you mean model.channels?"),
            ("model.channels=0", "model.channels=0: must be at least 1"),
            ("model.channels=x", "model.channels=x: must be an integer"),
            ("optimizer.rho=0.5", "optimizer.rho: is not a key of optimizer=signs"),
            ("metrics=[largest_logits]", "did you mean largest_logit?"),
        ):
            code, _, err = mnist_ff(
                "train", override, *words, *["model=small_cnn"][: "model=" not in override], "optimizer=signs"
            )
            assert code == 2
            assert message in err
    monkeypatch.delenv("MNIST_FF_PARTS")
    code, _, err = mnist_ff("train", "model=small_cnn")
    assert code == 2
    assert "must be one of mlp; one of your own needs --parts FILE.py" in err


def test_a_file_of_a_config_folder_goes_before_the_defaults_of_the_class(mnist_ff: Command) -> None:
    Path("mine/model").mkdir(parents=True)
    Path("mine/model/normed.yaml").write_text("act: tanh\n")
    words = ["--parts", str(PARTS), "--config-dir", "mine", "model=normed", "--cfg", "job", "-p", "model"]
    code, out, err = mnist_ff("train", *words)
    assert code == 0, err
    assert out == "# @package model\nname: normed\nhidden:\n- 16\nact: tanh\n"
    assert err == ""


def test_a_key_without_a_default_must_be_given(mnist_ff: Command) -> None:
    text = changed(("    depth: int = 3\n", ""), ("    scale:", "    width: Annotated[int, 'units']\n    scale:"))
    Path("my_parts.py").write_text(text)
    code, _, err = mnist_ff("train", "--parts", "my_parts.py", "model=linear")
    assert code == 2
    assert "model.width" in err
    code, out, _ = mnist_ff(
        "train", "--parts", "my_parts.py", "model=linear", "model.width=3", "--cfg", "job", "-p", "model"
    )
    assert "width: 3" in out


def test_a_text_default_looks_up_nothing(mnist_ff: Command) -> None:
    Path("my_parts.py").write_text(changed(("depth: int = 3", "depth: str = '${oc.env:HOME}'")))
    with loaded(["my_parts.py"]):
        from mnist_ff.config.compose import compose

        assert compose(["model=linear"]).model.depth == "${oc.env:HOME}"  # type: ignore[attr-defined]


def test_registering_imports_no_torch() -> None:
    code = (
        "import sys, mnist_ff; mnist_ff.register; mnist_ff.Range(at_least=1); mnist_ff.Callback; mnist_ff.Tracker;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_class_may_be_registered_again_where_a_notebook_runs_a_cell_again() -> None:
    again = MODEL.removeprefix(HEAD).replace("depth: int = 3", "depth: int = 4")
    shown = "from mnist_ff.config.registry import part; print(part('model', 'linear').defaults['depth'])"
    words = [sys.executable, "-c", f"{MODEL}\n{again}\n{shown}"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "4\n"


def test_a_file_that_another_one_imports_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("inner_part.py").write_text(MODEL)
    Path("outer_part.py").write_text("import inner_part\n")
    both = loaded(["outer_part.py", "inner_part.py"])
    with pytest.raises(ConfigError, match=r"another parts file imports this one; leave out --parts inner_part.py$"):
        both.__enter__()


def test_an_error_elsewhere_is_not_the_users() -> None:
    with loaded([str(PARTS)]), pytest.raises(ConfigError) as error:
        registry.part("model", "nothing")
    assert own_traceback(error.value) == ""
