"""Imports go downward only; Hydra, torch and torchvision stay where they belong."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mnist_ff"

FOLDERS = [
    "config",
    "runs",
    "images",
    "data",
    "models",
    "optim",
    "engine",
    "training",
    "trackers",
    "analysis",
    "report",
    "session",
    "sweeps",
    "serve",
    "commands",
]
"""Each imports from those above it only, and from errors.py and files.py."""
LOWEST, HIGHEST = ("errors", "files"), ("api", "cli", "__main__", "__init__")
ORDER = [*LOWEST, *FOLDERS, *HIGHEST]


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def nodes_of(path: Path) -> Iterator[ast.AST]:
    """Everything in a file, the file first."""
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def by_folder(files: Iterable[Path]) -> dict[str, list[Path]]:
    """The files of each part of the package: a test for each folder is as clear as one for each file, and quicker."""
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(part_of(path), []).append(path)
    return found


@functools.cache
def imported(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it. Nobody changes them."""
    names: set[str] = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}: imports are absolute"
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


FILES = sorted(PACKAGE.rglob("*.py"))
FOLDERS_FILES = by_folder(FILES)
MODULES = {module_of(path): path for path in FILES}


def modules_imported(path: Path) -> set[str]:
    """The package's modules that a file imports, anywhere in it."""
    return imported(path) & MODULES.keys()


def test_root_holds_the_public_surface_only() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == {*LOWEST, *HIGHEST}
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in FILES if path.parent != PACKAGE}
    assert folders == set(FOLDERS)
    for folder in FOLDERS:
        assert len(list((PACKAGE / folder).rglob("*.py"))) >= 3, folder


@pytest.mark.parametrize("folder", FOLDERS_FILES)
def test_imports_go_downward(folder: str) -> None:
    for path in FOLDERS_FILES[folder]:
        own = ORDER.index(part_of(path))
        for name in modules_imported(path):
            other = ORDER.index(part_of(MODULES[name]))
            assert other <= own, f"{path.relative_to(PACKAGE)} imports {name}, which is above it"


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Each import that closes a circle, as the way round it."""
    found, done = [], set()

    def follow(module: str, way: list[str]) -> None:
        if module in way:
            found.append([*way[way.index(module) :], module])
        elif module not in done:
            for other in sorted(graph.get(module, ())):
                follow(other, [*way, module])
            done.add(module)

    for module in sorted(graph):
        follow(module, [])
    return found


def test_imports_have_no_cycles() -> None:
    """Neither between folders nor inside them; imports inside functions count."""
    assert cycles({name: modules_imported(path) for name, path in MODULES.items()}) == []


def test_a_cycle_is_seen() -> None:
    assert cycles({"a": {"b"}, "b": {"c", "d"}, "c": {"a"}}) == [["a", "b", "c", "a"]]
    assert cycles({"a": {"b", "c"}, "b": {"c"}}) == []


@pytest.mark.parametrize("folder", FOLDERS_FILES)
def test_only_compose_imports_hydra(folder: str) -> None:
    for path in FOLDERS_FILES[folder]:
        tops = {name.split(".")[0] for name in imported(path)}
        if tops & {"hydra", "omegaconf", "antlr4"}:
            assert path.relative_to(PACKAGE) in (Path("config/compose.py"), Path("config/kept_loader.py"))


WITHOUT_TORCH = [
    *(
        path
        for folder in ("config", "runs", "images", "analysis", "report", "serve")
        for path in (PACKAGE / folder).rglob("*.py")
    ),
    *(PACKAGE / "commands" / f"{name}.py" for name in ("compare", "completion", "report", "runs", "serve")),
    *(PACKAGE / "data" / f"{name}.py" for name in ("cache", "catalog")),
    PACKAGE / "models/onnx_graph.py",
    PACKAGE / "optim/schedule.py",
    *(path for path in (PACKAGE / "sweeps").rglob("*.py") if path.stem != "worker"),
]
"""Files of the commands that must answer at once, and of the Tab key."""
QUICK_FILES = by_folder(WITHOUT_TORCH)


@pytest.mark.parametrize("folder", QUICK_FILES)
def test_listing_runs_needs_no_torch(folder: str) -> None:
    for path in QUICK_FILES[folder]:
        assert "torch" not in {name.split(".")[0] for name in imported(path)}, path


@pytest.mark.parametrize(
    "name", ["errors", "files", "config/passwords", "runs/records", "runs/signals", "runs/reading"]
)
def test_the_lowest_files_need_the_standard_library_only(name: str) -> None:
    import sys

    tops = {found.split(".")[0] for found in imported(PACKAGE / f"{name}.py")}
    assert tops <= set(sys.stdlib_module_names) | {"mnist_ff"}


def test_every_file_has_a_docstring() -> None:
    for path in FILES:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


ALONE = {
    "cli.py": {"sys.stdout.write", "sys.stderr.write"},
    "completion.py": {"sys.stdout.write", "sys.stdout.writelines"},
    "start_up.py": {"sys.stderr.write"},
}
"""Files that write texts of the package's own, quickly: help, a version, a shell's words."""


@pytest.mark.parametrize("folder", FOLDERS_FILES)
def test_only_console_prints(folder: str) -> None:
    """What reaches a terminal goes through one place, where names and reasons are made harmless."""
    for path in FOLDERS_FILES[folder]:
        if path.name == "console.py":
            continue
        for node in nodes_of(path):
            if isinstance(node, ast.Name | ast.Attribute):
                said = ast.unparse(node)
                printing = said in ("print", "traceback.print_exc", "sys.__stdout__", "sys.__stderr__")
                printing |= isinstance(node, ast.Attribute) and node.attr in (
                    "print",
                    "print_json",
                    "print_exception",
                    "rule",
                )
                printing |= said.startswith(("sys.stdout.write", "sys.stderr.write")) and said not in ALONE.get(
                    path.name, ()
                )
                assert not printing, f"{path}:{node.lineno}: {said}; use mnist_ff.analysis.console"


PUBLIC = {("api.py", "run_network"), ("api.py", "train"), ("opened_run.py", "runs")}
"""Functions of the Python API."""


def arguments_of(function: ast.FunctionDef) -> list[str]:
    """The names of a function's arguments, without self and cls."""
    given = function.args
    every = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    return [argument.arg for argument in every if argument is not None and argument.arg not in ("self", "cls")]


@pytest.mark.parametrize("folder", FOLDERS_FILES)
def test_functions_take_at_most_six_arguments(folder: str) -> None:
    """But for PUBLIC, MLP, which exported files name, kernels, which take pointers, and the one
    dataclass that makes itself, from its fields."""
    for path in FOLDERS_FILES[folder]:
        for node in nodes_of(path):
            is_public = (path.name, getattr(node, "name", "")) in PUBLIC
            if isinstance(node, ast.FunctionDef) and not is_public:
                is_kernel = "triton.jit" in map(ast.unparse, node.decorator_list)
                is_known = node.name == "__init__" and path.name in ("mlp.py", "records.py")
                assert is_kernel or is_known or len(arguments_of(node)) <= 6, f"{path}:{node.lineno}"


def test_files_have_at_most_400_lines() -> None:
    longest = max(FILES, key=lambda path: len(path.read_text(encoding="utf-8").splitlines()))
    assert len(longest.read_text(encoding="utf-8").splitlines()) <= 400, longest
