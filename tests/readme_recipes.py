"""Put the rows that `mnist-ff reproduce` wrote into the tables of .readme/RESULTS.md, so that nobody types them.

    python -m tests.readme_recipes outputs/reproduce/clean.json ...

A row with a score of held-out images belongs to the table of the independent check, one of CUDA graphs to that of a
GPU, any other to that of results. A row of other data is refused, and, but for a GPU's, one of another recipe than the
experiment's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mnist_ff.commands.reproduce import TABLE_HEAD as HEAD
from mnist_ff.commands.reproduce import Row, table_row
from mnist_ff.runs.numbers import percent

RESULTS = Path(__file__).resolve().parents[1] / ".readme" / "RESULTS.md"
CHECK_HEAD = "| experiment | held-out training images, mean | their test accuracy, mean | n |\n|---|---:|---:|---:|\n"
GPU_HEAD = HEAD.replace("| experiment |", "| experiment, on a GPU |", 1)
ORDER = ("tutorial", "speedrun", "clean", "augmented", "distill", "fashion")


def rows_in(text: str, head: str) -> dict[str, str]:
    """The lines of the table with this head, by experiment and what was changed in it."""
    start = text.index(head) + len(head)
    lines = text[start : text.index("\n\n", start - 1)].splitlines()
    return {name_of(line): line for line in lines}


def name_of(line: str) -> str:
    """A line's experiment and what was changed in it."""
    return line.split("|")[1].replace("`", "").strip()


def with_row(text: str, head: str, name: str, line: str) -> str:
    """The text with this line in the table, in the place of an older one."""
    old = rows_in(text, head)
    new = {**old, name: line}
    lines = "".join(f"{new[name]}\n" for name in sorted(new, key=lambda name: (ORDER.index(name.split()[0]), name)))
    return text.replace(head + "".join(f"{line}\n" for line in old.values()), head + lines)


def refuse_others(row: Row) -> None:
    """Only the experiment itself has a line, which a GPU may have faster. Errors: SystemExit."""
    others = set() if on_gpu(row) else set(row.changes) - {"data.validation_split"}
    if others or "instead of" in row.conditions["data"]:
        sys.exit(f"{row.command}: is not the experiment as it stands ({', '.join(others) or row.conditions['data']})")


def on_gpu(row: Row) -> bool:
    """Whether it is made of CUDA graphs."""
    return row.conditions["engine"] == "graph"


def check_row(row: Row) -> str:
    """A line of the independent check."""
    return f"| `{row.experiment}` | {percent(row.validation_accuracy)} | {percent(row.accuracy)} | {row.n} |"


def main(paths: list[str]) -> None:
    """Write the rows."""
    text = RESULTS.read_text(encoding="utf-8")
    for path in paths:
        row = Row(**json.loads(Path(path).read_text(encoding="utf-8")))
        refuse_others(row)
        if row.validation_accuracy is not None:
            head, line = CHECK_HEAD, check_row(row)
        else:
            head, line = GPU_HEAD if on_gpu(row) else HEAD, table_row(row)
        text = with_row(text, head, name_of(line), line)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
