"""Nothing that comes from a disk is trusted: no file in a run directory makes anything run."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnist_ff.training.checkpoint import CHECKPOINT, PREVIOUS, SEAL
from tests.support.commands import Command
from tests.support.runs import trained_copy
from tests.test_architecture import FOLDERS_FILES, nodes_of

WORDS = ["data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false"]


class Reduce:
    """Pickles as a call of os.system."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


class Build:
    """Pickles as an object whose state is set."""

    def __init__(self) -> None:
        self.state = 1

    def __setstate__(self, state: object) -> None:
        Path("pwned").touch()


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def legacy(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def torchscript() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps(Reduce()))
        archive.writestr("archive/data.pkl", pickle.dumps(Reduce()))
        archive.writestr("archive/code/__torch__.py", "import os")
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def legacy_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            content = pickle.dumps(Reduce())
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def options() -> bytes:
    values = {key: {} for key in ("model", "dropout", "device", "recipe")}
    group = {"params": [0]}
    return saved({**values, "epoch": 0, "batches": [], "optimizer": {"state": {}, "param_groups": [group]}})


MALICIOUS = {
    "other keys and options": options,
    "REDUCE": lambda: saved({"model": Reduce()}),
    "BUILD": lambda: saved({"model": Build()}),
    "REDUCE, old form": lambda: legacy({"model": Reduce()}),
    "bare pickle": lambda: pickle.dumps(Reduce()),
    "TorchScript": torchscript,
    "legacy tar": legacy_tar,
    "a list": lambda: saved([1]),
}


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("make", MALICIOUS.values(), ids=MALICIOUS.keys())
def test_a_malicious_checkpoint_runs_nothing(make: Callable[[], bytes], sealed: bool, mnist_ff: Command) -> None:
    """With a seal too: whoever can write the file can seal it."""
    trained_copy("run", *WORDS)
    content = make()
    content += SEAL + hashlib.sha256(content).digest() if sealed else b""
    for name in (CHECKPOINT, PREVIOUS):
        Path("run", name).write_bytes(content)
    code, _, err = mnist_ff("train", "resume=run", "trainer.epochs=2")
    # without a seal, tensors and plain values in our shape are a damaged checkpoint: harmless, and not used
    assert code == (1 if make is options and not sealed else 2), err
    assert "run" in err
    assert "Traceback" not in err
    assert not Path("pwned").exists()


SIDE_FILES = {
    "config.yaml": ["!!python/object/apply:os.system ['touch pwned']", "seed: ${oc.env:HOME}", "_target_: os.system"],
    "environment.json": [
        '{"history": null}',
        "[",
        "[1]",
        "{" * 100_000,
        '{"history": [{"changes": {"seed": "x"}}]}',
        '{"history": [3]}',
    ],
    "summary.json": ["[", '{"status": 3}', "[" * 100_000],
    "batches.csv": ["=cmd()\n", "step\n1\n", "\0"],
}


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in SIDE_FILES.items() for text in texts], ids=lambda v: str(v)[:40]
)
def test_a_malicious_side_file_runs_nothing(name: str, text: str, mnist_ff: Command) -> None:
    trained_copy("run", *WORDS)
    Path("run", name).write_text(text)
    commands = [["train", "resume=run", "trainer.epochs=2"]]
    commands += [["train", "--config-of", "run"]] if name in ("config.yaml", "environment.json") else []
    commands += [["evaluate", "run"]] if name in ("config.yaml", "summary.json") else []
    for words in commands:
        code, _, err = mnist_ff(*words)
        assert code == 2, err[-500:]
        assert f"run/{name}" in err
        assert "Traceback" not in err
    assert not Path("pwned").exists()


def test_weights_of_another_kind_are_refused(mnist_ff: Command) -> None:
    trained_copy("run", *WORDS)
    Path("run/model.safetensors").write_bytes(saved({"model": Reduce()}))
    code, _, err = mnist_ff("evaluate", "run")
    assert code == 2
    assert "run/model.safetensors" in err
    assert not Path("pwned").exists()


FORBIDDEN = {"eval", "exec", "__import__", "instantiate", "loads", "Unpickler", "unsafe_load", "full_load"}
FORBIDDEN_ATTRIBUTES = {"Unpickler", "unsafe_load", "full_load", "instantiate"}
OF_MODULES = {("pickle", "load"), ("pickle", "loads"), ("yaml", "load"), ("torch.jit", "load")}
IMPORTS_BY_NAME = {
    *("cli.py", "__init__.py", "plugins.py", "registry.py", "own_part.py", "own_parts.py"),
    *("preload.py", "drawing_preload.py"),
}
"""Files that import a module whose name stands in the package itself; in the registry a file's of its folders.
own_parts.py imports what the command line names, which is what --parts is for."""
RUNS_CODE = {"own_parts.py"}
"""The one that runs a file of the user's, whose bytes it has hashed."""


@pytest.mark.parametrize("folder", FOLDERS_FILES)
def test_the_package_makes_no_forbidden_call(folder: str) -> None:
    for path in FOLDERS_FILES[folder]:
        for node in nodes_of(path):
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            if isinstance(function, ast.Name):
                allowed = function.id == "exec" and path.name in RUNS_CODE
                assert allowed or function.id not in FORBIDDEN, f"{path}:{node.lineno}"
            if isinstance(function, ast.Attribute):
                assert function.attr not in FORBIDDEN_ATTRIBUTES, f"{path}:{node.lineno}"
                assert function.attr != "import_module" or path.name in IMPORTS_BY_NAME, f"{path}:{node.lineno}"
                pair = (ast.unparse(function.value), function.attr)
                assert pair not in OF_MODULES, f"{path}:{node.lineno}"
                if pair == ("torch", "load"):
                    keywords = {word.arg: word.value for word in node.keywords}
                    weights_only = keywords.get("weights_only")
                    assert isinstance(weights_only, ast.Constant), f"{path}:{node.lineno}"
                    assert weights_only.value is True, f"{path}:{node.lineno}"


def test_symlinked_output_file_is_not_followed(mnist_ff: Command) -> None:
    trained_copy("run", *WORDS)
    victim = Path("victim")
    victim.write_text("precious")
    for name in ("train.log", "batches.csv", "checkpoint.pt", "plots"):
        path = Path("run", name)
        kept = path.read_bytes() if path.is_file() else None
        path.unlink(missing_ok=True)
        path.symlink_to(victim.absolute())
        code, _, err = mnist_ff("train", "resume=run", "trainer.epochs=2")
        assert code == 1
        assert f"run/{name}: is a symbolic link" in err
        path.unlink()
        if kept is not None:
            path.write_bytes(kept)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["'a\nb'", "x" * 300])
def test_a_label_is_one_short_line(name: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", *WORDS, f"name={name}", "hydra.run.dir=run")
    assert code == 2
    assert "name=" in err
    assert not Path("run").exists()


@pytest.mark.parametrize(
    "place", ["../x", "runs/../../x", "-x", "'a\nb'", "'a\tb'", "a\0b", "x" * 300, "/tmp/../x", "runs/-rf"]
)
def test_stored_paths_are_single_plain_names(place: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", *WORDS, f"hydra.run.dir={place}")
    assert code == 2, err
    assert "hydra.run.dir" in err
    assert "Traceback" not in err
    assert not list(Path().iterdir())
