"""Find runs by name: the `name` in their config, the directory's name, or its last four hex digits.

Only the beginning of each config.yaml is read, and only its name is parsed: 10,000 runs take a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnist_ff.config.messages import nearest
from mnist_ff.config.yaml_io import yaml_values
from mnist_ff.errors import BadRunError, ConfigError
from mnist_ff.runs.find import OUTPUTS, may_be_run, run_start, runs_below, sweep_of, sweep_start, sweeps_below
from mnist_ff.runs.reading import head_of

SCANNED_BYTES = 8 << 10
"""Bytes of a config.yaml that are searched for the name, which is in the second line."""
NAME_LINES = re.compile(rb"^name:[^\n]*\n(?:[ ][^\n]*\n)*", re.MULTILINE)
"""The key `name` and the continuation lines of a long name."""
ENDING = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_([0-9a-f]{4})")
"""The default name of a run directory: date, time and four hex digits."""
MAX_CANDIDATES = 2_000
"""Names that are compared with a mistyped one to suggest the nearest."""


def name_of(run: Path) -> str | None:
    """The name in a run's config.yaml; None if it has none or the file cannot be read."""
    try:
        head = head_of(run / "config.yaml", SCANNED_BYTES)
    except BadRunError:
        return None
    found = NAME_LINES.search(head)
    return None if found is None else _name(found[0])


def _name(lines: bytes) -> str | None:
    try:
        value = yaml_values(Path("config.yaml"), lines)["name"]
    except (ConfigError, TypeError, KeyError):
        return None
    return value if isinstance(value, str) and value else None


def named(root: Path = OUTPUTS) -> Iterator[tuple[Path, str | None]]:
    """The runs in `root`, jobs of sweeps included, with their names. For a symbolic link the name is None."""
    for run in runs_below(root):
        yield run, None if run.is_symlink() else name_of(run)


@dataclass(frozen=True)
class Handles:
    """The runs and sweeps of a folder, to be found by name."""

    root: Path
    runs: tuple[tuple[Path, str | None], ...]

    @classmethod
    def of(cls, root: Path) -> Handles:
        """Read the names of all runs in a folder."""
        return cls(root, tuple(named(root)))

    def find(self, word: str, sweeps: bool) -> tuple[Path, int] | None:
        """The newest run with this name, and how many runs have it; else the only directory with this name or with
        these four hex digits. With `sweeps`, a job's name finds its sweep. None if nothing matches.

        Errors: BadRunError if several directories match.
        """
        runs = [run for run, name in self.runs if name == word]
        if sweeps:
            runs = list(dict.fromkeys(_sweep_or_run(run) for run in runs))
        if runs:
            return max(runs, key=lambda run: run_start(run) if may_be_run(run) else sweep_start(run)), len(runs)
        places = [*(run for run, _ in self.runs), *sweeps_below(self.root)]
        for fits in (lambda path: path.name == word, lambda path: ending_of(path) == word):
            called = [path for path in places if fits(path)]
            if len(called) > 1:
                some = ", ".join(map(str, called[:3]))
                more = f" and {len(called) - 3} more" if len(called) > 3 else ""
                raise BadRunError(
                    f"{word}: is the name of {len(called)} directories ({some}{more}); give the path of one"
                )
            if called:
                return called[0], 1
        return None

    def unknown(self, word: str) -> str:
        """The error message for an unknown name. It suggests the nearest one, or quotes for a name with spaces."""
        names = list(dict.fromkeys(name for _, name in self.runs if name is not None))
        split = next((name for name in names if word in name.split() and name != word), None)
        if split is not None:
            hint = f'; a name with spaces needs quotes: "{split}"'
        else:
            hint = nearest(word, [*names, *(path.name for path, _ in self.runs)][:MAX_CANDIDATES])
        return f"{word}: does not exist, and no run in {self.root}/ has this name{hint}; mnist-ff runs lists them"


def _sweep_or_run(run: Path) -> Path:
    """The sweep of a job, relative if the run's path is; or the run itself if it is not a job."""
    whole = sweep_of(run)
    return run if whole is None else run.parents[len(run.absolute().parts) - len(whole.parts) - 1]


def ending_of(path: Path) -> str | None:
    """The four hex digits at the end of a directory's default name; None for other names."""
    found = ENDING.fullmatch(path.name)
    return None if found is None else found[1]


def quoted_name(words: Sequence[str], root: Path = OUTPUTS) -> str | None:
    """A run's name with spaces that the shell has split into several of these words; None if there is none."""
    if len(words) < 2:
        return None
    names = {name for _, name in named(root) if name is not None and " " in name}
    for start in range(len(words)):
        for end in range(start + 2, len(words) + 1):
            if " ".join(words[start:end]) in names:
                return " ".join(words[start:end])
    return None
