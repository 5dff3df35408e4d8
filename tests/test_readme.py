"""Documents: their commands compose, their Python runs, their links, keys and names exist; see readme_commands.py."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from mnist_ff import cli
from mnist_ff.config.keys import known_keys
from mnist_ff.config.paths import conf_dir
from tests.readme_commands import DOCUMENTS, ROOT, commands, parts_file
from tests.support.commands import Command

TEXT = "\n".join(DOCUMENTS.values())
PLACEHOLDER = re.compile(r"<\w+>|\b[A-Z]{3,}\b|\.\.\.|resume=")  # RUN, <run>, KEY=VALUE, ...


def snippets() -> list[str]:
    """Python blocks but for those of my_parts.py, which the commands import."""
    found = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)
    whole: list[str] = []
    for block in found:
        if block.startswith("run = "):  # it goes on from the block before
            whole[-1] += block
        elif not block.startswith("# my_parts.py"):
            whole.append(block)
    return whole


def shell_lines() -> list[str]:
    """Commands of indented and unmarked blocks and of inline code; those of bash blocks are run by readme_commands."""
    text = re.sub(r"```(?:bash|python)\n.*?```", "", TEXT, flags=re.S)
    text = re.sub(r"\\\n +", "", text)
    lines = re.findall(r"^(?:    |\$ )(?:\$ )?((?:mnist-ff|pip|python|pytest) .*)$", text, flags=re.M)
    lines += re.findall(r"`((?:mnist-ff|pip|python|pytest) [^`]+)`", text)
    parts = [part.strip() for line in lines for part in re.split(r"&&", line.split(" #")[0])]
    return sorted(set(parts))


def train_lines() -> list[str]:
    return [line for line in shell_lines() if line.startswith("mnist-ff train ") and not PLACEHOLDER.search(line)]


def alone(code: str) -> None:
    """Run Python in a process of its own, a warning being an error."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_readme_is_short() -> None:
    assert len(DOCUMENTS["README.md"].splitlines()) <= 150


def test_the_python_session_runs_alone(real_mnist: Path) -> None:
    (session,) = (block for block in snippets() if "run_network" in block)
    alone(session)
    assert Path("losses.png").stat().st_size > 5000


@pytest.mark.slow
def test_each_other_python_snippet_runs_alone(mnist_ff: Command) -> None:
    overrides = ["data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false", "hydra.run.dir=here"]
    assert mnist_ff("train", *overrides)[0] == 0
    for form, name in (("torch", "run.pt"), ("safetensors", "run.safetensors")):
        assert mnist_ff("export", "here", "--format", form, "--out", name)[0] == 0
    others = [block for block in snippets() if "run_network" not in block and "mnist_ff.register" not in block]
    assert len(others) == 3
    for block in others:
        alone(block)


def test_own_metrics_and_callbacks_of_the_documents_are_used(mnist_ff: Command) -> None:
    own = [block for block in snippets() if re.search(r'mnist_ff\.register\("(metric|callback)"', block)]
    Path("own.py").write_text("".join(own))
    chosen = ["--parts=own.py", "metrics=[confidence]", "callbacks=[watch]", "callbacks.watch.layer=layers.1.weight"]
    small = ["data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false", "hydra.run.dir=run"]
    code, out, err = mnist_ff("train", *chosen, *small)
    assert code == 0, err
    assert re.search(r"^0 \d\.\d+ \{'confidence': 0\.\d+\}$", out, re.M)


def test_python_is_in_fenced_blocks() -> None:
    outside = re.sub(r"```.*?```", "", TEXT, flags=re.S)
    assert not re.findall(r"^    (?:import|from|with|def|class|model|saved|data) ?.*[(=:].*$", outside, flags=re.M)


def test_python_names_exist() -> None:
    text = re.sub(r"mnist_ff(?:/\w*)+(?:\.\w+)?", "", TEXT)  # without paths
    names = sorted(set(re.findall(r"\bmnist_ff(?:\.[A-Za-z_]+)+", text)))
    assert {"mnist_ff.model.MLP", "mnist_ff.Callback"} <= set(names)
    alone("import mnist_ff\n" + "\n".join(names))


@pytest.mark.parametrize("line", train_lines())
def test_train_command_composes(line: str, mnist_ff: Command) -> None:
    argv = shlex.split(line)[1:]
    Path("my_parts.py").write_text(parts_file(), encoding="utf-8")
    shows = {"--cfg", "--help", "dry_run=true"} & set(argv)
    argv = [word for word in argv if word != "--require-target"]  # of a training, which --cfg has not
    code, _, err = mnist_ff(*argv, *([] if shows else ["dry_run=true"] if "-m" in argv else ["--cfg", "job"]))
    assert code == 0, err


def test_commands_have_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [shlex.split(line)[1:] for line in shell_lines() if not line.startswith("mnist-ff train ")]
    lines = [argv for argv in lines if argv and argv[0] in cli.COMMANDS]
    assert len(lines) > 10
    for command in {argv[0] for argv in lines}:
        with suppress(SystemExit):
            cli.main([command, "--help"])
        text = capsys.readouterr().out
        for argv in lines:
            assert argv[0] != command or all(word in text for word in argv if word.startswith("--")), argv


def test_extras_and_modules_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for group in re.findall(r"pip install [^`\n]*\[([a-z,]+)\]", TEXT) for extra in group.split(",")}
    assert {"dev", "search", "slurm"} <= named <= set(extras)
    modules = set(re.findall(r"python -m (tests\.[a-z_.]+)", TEXT))
    assert len(modules) > 4
    for module in modules:
        assert importlib.util.find_spec(module), module


def test_gate_runs_what_the_readme_says() -> None:
    assert "`pip install -e '.[dev]' && pytest`" in DOCUMENTS["README.md"]
    gate = (ROOT / ".ci" / "run").read_text()
    assert re.search(r"^pip install -q -e '\.\[dev\]'$.*^\.ci/bare \S+ pytest -q ", gate, flags=re.M | re.S)
    assert len(commands()) > 20


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", DOCUMENTS[name]):
        path, _, anchor = target.partition("#")
        place = ((ROOT / name).parent / path if path else ROOT / name).resolve()
        assert place.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), flags=re.M)
            assert anchor in map(slug, headings), target


def test_keys_exist() -> None:
    files = {"model.safetensors", "model.py", "optimizer.py"}
    keys = set(re.findall(r"`((?:data|model|optimizer|schedule|augment|trainer|logger|sweep)\.[a-z_.]+)", TEXT))
    keys -= files | {key for key in keys if key.rsplit(".", 1)[-1] in ("csv", "json", "md", "png", "py")}
    assert len(keys) > 30
    sweep = yaml.safe_load((conf_dir() / "config.yaml").read_text())["sweep"]
    assert keys <= {*known_keys(), *(f"sweep.{key}" for key in sweep)}
    table = DOCUMENTS["conf/README.md"].split("| key of `hydra.sweeper` |")[1].split("\n\n")[0]
    search = yaml.safe_load((conf_dir() / "hydra" / "sweeper" / "optuna.yaml").read_text())
    listed = {key for row in table.splitlines()[2:] for key in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert listed
    assert listed <= set(search)


def test_groups_and_options_are_listed() -> None:
    table = DOCUMENTS["conf/README.md"].split("| group |")[1].split("\n\n")[0]
    rows = {
        row.split("|")[1].strip(" `"): set(re.findall(r"`(\w+)`", row.split("|")[3])) for row in table.splitlines()[2:]
    }
    folders = {path.parent.relative_to(conf_dir()).as_posix() for path in conf_dir().rglob("*/*.yaml")}
    assert set(rows) == folders
    for group, options in rows.items():
        files = {path.stem for path in (conf_dir() / group).glob("*.yaml") if not path.stem.startswith("_")}
        assert options - {"basic"} == files, group


def test_readme_and_results_agree() -> None:
    results = re.findall(
        r"^\| `(\w+)` \| ([\d.]+)% \| ([\d.]+) \| (\d+) \|", DOCUMENTS[".readme/RESULTS.md"], flags=re.M
    )
    rows = re.findall(r"^\| `(\w+)`[^|]*\| ([\d.]+) ± ([\d.]+) % \| (\d+) \|", DOCUMENTS["README.md"], flags=re.M)
    assert len(rows) == 4
    assert set(rows) <= set(results)


def test_the_tree_is_the_package() -> None:
    tree = DOCUMENTS["mnist_ff/README.md"].split("<!-- tree -->\n```\n")[1].split("\n```")[0]
    listed, folders = set(), [""]
    for line in tree.splitlines():
        name, phrase = line.split(maxsplit=1)
        assert phrase, line
        depth = (len(line) - len(line.lstrip())) // 2
        path = f"{folders[depth]}{name}"
        if name.endswith("/"):
            folders[depth + 1 :] = [path]
        listed.add(path)
    package = ROOT / "mnist_ff"
    modules = {path.relative_to(package) for path in package.rglob("*.py")}
    expected = {str(path) for path in modules if path.name != "__init__.py" or len(path.parts) == 1}
    expected |= {f"{folder}/" for path in modules for folder in path.parents if folder.name}
    expected |= {"report/assets/", "serve/assets/"}
    assert listed == expected


def test_each_guarantee_names_existing_tests() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    rows = DOCUMENTS["tests/README.md"].split("| guarantee |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(rows) > 75
    for row in rows:
        named = re.findall(r"`(test_[a-z0-9_]+)`", row)
        assert named, row
        for name in named:
            assert f"def {name}(" in tests, name
