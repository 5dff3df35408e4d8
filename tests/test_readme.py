"""The README's tree is the real one, its Python runs, its links lead somewhere. Its commands: readme_commands.py."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.readme_commands import commands
from tests.support.commands import Command

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def test_there_are_ten_commands() -> None:
    assert len(commands()) >= 10


def alone(code: str) -> None:
    """Run Python in a process of its own, a warning being an error."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_python_session_runs_alone(real_mnist: Path) -> None:
    (session,) = (block for block in blocks("python") if "run_network" in block)
    alone(session)
    assert Path("losses.png").stat().st_size > 5000


def test_each_other_python_snippet_runs_alone(mnist_ff: Command) -> None:
    words = ["data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false", "hydra.run.dir=here"]
    assert mnist_ff("train", *words)[0] == 0
    for form, name in (("torch", "run.pt"), ("safetensors", "run.safetensors")):
        assert mnist_ff("export", "here", "--format", form, "--out", name)[0] == 0
    others = [block for block in blocks("python") if "run_network" not in block]
    assert len(others) == 2
    for block in others:
        alone(block)


def test_python_stands_in_blocks_of_its_own() -> None:
    """Where it can be run: none hides in an indented block."""
    outside = re.sub(r"```.*?```", "", README, flags=re.S)
    assert not re.findall(r"^    (?:import|from|with|def|class|model|saved|data) ?.*[(=:].*$", outside, flags=re.M)


def test_names_of_the_package_in_the_readme_exist() -> None:
    names = sorted(set(re.findall(r"\bmnist_ff(?:\.[A-Za-z_]+)+", README)))
    assert {"mnist_ff.model.MLP", "mnist_ff.Callback"} <= set(names)
    alone("import mnist_ff\n" + "\n".join(names))


def examples() -> list[str]:
    """The `mnist-ff train` lines of the indented blocks, which are too long to be run whole."""
    text = re.sub(r"\\\n +", "", README)
    lines = [
        line.split(" #")[0].split("&&")[0].strip() for line in text.splitlines() if line.startswith("    mnist-ff ")
    ]
    return [line for line in lines if line.startswith("mnist-ff train") and "resume=" not in line]


@pytest.mark.parametrize("example", examples())
def test_an_example_is_made_of_words_that_there_are(example: str, mnist_ff: Command) -> None:
    words = shlex.split(example)[1:]
    code, _, err = mnist_ff(*words, *(["dry_run=true"] if "-m" in words else ["--cfg", "job"]))
    assert code == 0, err


def test_there_are_examples() -> None:
    assert len(examples()) >= 10


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
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    promised = re.findall(r"`(test_[a-z0-9_]+)`", README.split("## What is promised")[1])
    assert len(promised) > 20
    for name in promised:
        assert f"def {name}(" in tests, name


def test_links_and_keys_lead_somewhere() -> None:
    from mnist_ff.config.keys import known_keys

    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    words = re.findall(r"`((?:data|model|optimizer|trainer)\.[a-z_]+)", README)
    for key in set(words) - {"model.safetensors", "model.py", "optimizer.py"}:
        assert key in known_keys(), key
