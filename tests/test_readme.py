"""The README's commands run, its tree is the real one, its Python runs, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import only_run
from tests.readme_commands import commands
from tests.test_data import DEBIAN_FASHION

Command = Callable[..., tuple[int, str, str]]

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


COMMANDS = commands()


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_runs(command: str, real_mnist: Path, mnist_ff: Command) -> None:
    """As written, but one epoch where the README has the tutorial's twenty."""
    words = shlex.split(command)[1:]
    if "<run>" in command:
        assert mnist_ff("train", "data=mnist_5k", "trainer.epochs=1", "trainer.plots=false")[0] == 0
        words = [word.replace("outputs/<run>", str(only_run())) for word in words]
    if words[0] == "train" and not {"--help", "--cfg"} & set(words) and "trainer.epochs=" not in command:
        words.append("trainer.epochs=1")
    if "data=fashion_mnist" in words:
        if not DEBIAN_FASHION.is_dir():
            pytest.skip("Debian's package dataset-fashion-mnist is not installed, and tests use no network")
        words.append(f"data.mirrors=['{DEBIAN_FASHION}']")
    code, _, err = mnist_ff(*words)
    assert code == 0, err


def test_there_are_ten_commands() -> None:
    assert len(COMMANDS) >= 10


def test_the_python_session_runs(real_mnist: Path) -> None:
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    assert Path("losses.png").stat().st_size > 5000


def test_the_two_first_commands_are_the_projects() -> None:
    assert "pip install -e . && mnist-ff train\n" in README
    assert "pip install -e '.[dev]' && pytest\n" in README
    assert "pip install -q -e '.[dev]' && pytest" in (ROOT / ".ci" / "run").read_text()


def test_the_tree_names_every_file_of_the_package() -> None:
    tree = README.split("## The tree")[1].split("##")[0]
    for path in (ROOT / "mnist_ff").iterdir():
        if path.name.startswith("__"):
            continue
        assert path.name in tree, path.name
    for name in re.findall(r"[a-z_]+\.(?:py|yaml)|[a-z_]+/", tree):
        assert list(ROOT.rglob(name.rstrip("/"))), f"{name} is in the tree and nowhere else"


def test_each_promise_names_a_test_that_exists() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    promised = re.findall(r"`(test_[a-z0-9_]+)`", README.split("## What is promised")[1])
    assert len(promised) > 20
    for name in promised:
        assert f"def {name}(" in tests, name


def test_links_and_keys_lead_somewhere() -> None:
    from mnist_ff.config import known_keys

    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    words = re.findall(r"`((?:data|model|optimizer|trainer)\.[a-z_]+)", README)
    for key in set(words) - {"model.safetensors", "model.py", "optimizer.py"}:
        assert key in known_keys(), key
