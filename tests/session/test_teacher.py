"""A teacher may be given by name, and a sweep may have several."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnist_ff.runs.directory import Run
from mnist_ff.session.resume import changed
from mnist_ff.session.teacher import with_teacher
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.sweep_maker import write_run

SMALL, WORDS, BIG = Path("outputs/a"), Path("outputs/b"), Path("outputs/c")


@pytest.fixture(autouse=True)
def runs() -> None:
    for path, name in ((SMALL, "small"), (WORDS, "two words"), (BIG, "big")):
        write_run(path, changed(make_config("data=mnist_5k"), {"name": name}), 0.9)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("small", f"'{SMALL}'"),
        ("small,big", f"'{SMALL}','{BIG}'"),
        ("'two words', small", f"'{WORDS}','{SMALL}'"),
        ("choice(small,big)", f"choice('{SMALL}','{BIG}')"),
        ("null,small", f"null,'{SMALL}'"),
        (f"{SMALL},big", f"{SMALL},'{BIG}'"),
        ("small,nobody", f"'{SMALL}',nobody"),
        ("null", "null"),
        ("nobody", "nobody"),
        ("${name},small", "${name},small"),
        ("[small,big]", "[small,big]"),
        ("range(1,3)", "range(1,3)"),
        ("small,", "small,"),
        ("'small", "'small"),
        ("", ""),
    ],
)
def test_names_become_paths(given: str, found: str) -> None:
    assert with_teacher([f"trainer.teacher={given}", "seed=1,2"]) == [f"trainer.teacher={found}", "seed=1,2"]


def test_the_rows_of_a_sweep_may_name_teachers(mnist_ff: Command) -> None:
    for name in ("plain", "with space"):
        words = ("data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false")
        assert mnist_ff("train", *words, f"name='{name}'", f"hydra.run.dir='outputs/{name} trained'")[0] == 0
    rows = "sweep.rows=[{trainer.teacher:plain},{trainer.teacher:'with space'}]"
    code, _, err = mnist_ff("train", "-m", *words, rows, "trainer.teacher_weight=0.5", "hydra.sweep.dir=s")
    assert code == 0, err
    taught_by = [Run(Path("s", job)).config().trainer.teacher for job in "01"]
    assert [Path(str(teacher)).name for teacher in taught_by] == ["plain trained", "with space trained"]
