"""Imports go downward only; Hydra, torch and torchvision stay where they belong."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mnist_ff"

LAYERS = [
    {"errors", "records", "files", "passwords"},
    {"paths", "reading"},
    {"config", "seeds", "frames", "canvas"},
    {"places"},
    {"photograph", "picture_file", "onnx_graph", "tensors"},
    {"data", "digits", "device", "interrupts", "runs"}
    | {"model", "optimizer", "schedule", "augment", "objective", "updates", "arrays"},
    {"fused", "cuda_kernels", "plain"},
    {"cuda_step"},
    {"engine", "evaluation", "checkpoint"},
    {"callbacks"},
    {"trackers"},
    {"training", "lr_range"},
    {"plots", "tables", "completion"},
    {"sweeps"},
    {"report"},
    {"commands"},
    {"hydra_app"},
    {"cli", "api", "__main__", "__init__"},
]


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def layer(part: str) -> int:
    return next(index for index, parts in enumerate(LAYERS) if part in parts)


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}: imports are absolute"
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward(path: Path) -> None:
    own = part_of(path)
    for name in imported(path):
        words = name.split(".")
        if words[0] != "mnist_ff" or len(words) < 2 or words[1] in ("__version__",):
            continue
        other = words[1]
        allowed = other == own or layer(other) < layer(own)
        assert allowed or own in LAYERS[-1], f"{path.name} (layer {layer(own)}) imports {name} (layer {layer(other)})"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_hydra_app_imports_hydra(path: Path) -> None:
    tops = {name.split(".")[0] for name in imported(path)}
    assert "hydra" not in tops or part_of(path) == "hydra_app"
    if "omegaconf" in tops:
        assert part_of(path) in ("hydra_app", "config")


WITHOUT_TORCH = [
    "config.py",
    "schedule.py",
    "reading.py",
    "runs.py",
    "places.py",
    "tables.py",
    "tensors.py",
    "plots.py",
    "completion.py",
    "data/catalog.py",
    "data/cache.py",
]
WITHOUT_TORCH += [
    "frames.py",
    "canvas.py",
    "digits.py",
    "photograph.py",
    "picture_file.py",
    "onnx_graph.py",
    "commands/runs.py",
]
WITHOUT_TORCH += ["commands/compare.py", *(f"sweeps/{path.name}" for path in (PACKAGE / "sweeps").glob("*.py"))]
WITHOUT_TORCH += ["commands/report.py", *(f"report/{path.name}" for path in (PACKAGE / "report").glob("*.py"))]


@pytest.mark.parametrize("part", WITHOUT_TORCH)
def test_listing_runs_needs_no_torch(part: str) -> None:
    assert "torch" not in {name.split(".")[0] for name in imported(PACKAGE / part)}


@pytest.mark.parametrize("name", ["errors", "records", "files", "passwords", "interrupts", "reading"])
def test_the_lowest_files_need_the_standard_library_only(name: str) -> None:
    import sys

    tops = {found.split(".")[0] for found in imported(PACKAGE / f"{name}.py")}
    assert tops <= set(sys.stdlib_module_names) | {"mnist_ff"}


def test_every_file_has_a_layer_and_a_docstring() -> None:
    for path in FILES:
        layer(part_of(path))
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    assert not {path.stem for path in FILES} & {"utils", "helpers", "misc", "common"}


ALONE = {
    "cli.py": {"sys.stdout.write", "sys.stderr.write"},
    "completion.py": {"sys.stdout.write", "sys.stdout.writelines"},
}
"""Files that write texts of the package's own, quickly: help, a version, a shell's words."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_tables_prints(path: Path) -> None:
    """What reaches a terminal goes through one place, where names and reasons are made harmless."""
    if path.name == "tables.py":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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
            assert not printing, f"{path}:{node.lineno}: {said}; use mnist_ff.tables"
