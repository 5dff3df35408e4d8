"""slurm.json: jobs of a sweep that a Slurm cluster still has, checked with squeue. Standard library
only."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

from mnist_ff.errors import BadRunError, MissingFileError, RunError
from mnist_ff.files import write_text
from mnist_ff.runs.reading import read_json

SUBMITTED = "slurm.json"
"""In the sweep's directory: the number of the Slurm job that each of its jobs was last submitted as."""
SQUEUE_TIMEOUT_S = 60
"""How long the controller may take to answer."""
ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
"""Final states of a Slurm job."""


def note_submitted(sweep: Path, numbers: Mapping[str, str]) -> None:
    """Keep the numbers of jobs that were just submitted, by subdirectory, beside earlier ones. Errors: OSError."""
    write_text(sweep / SUBMITTED, json.dumps({**submitted(sweep), **numbers}, indent=0) + "\n")


def submitted(sweep: Path) -> dict[str, str]:
    """The noted numbers by subdirectory; 12 is a job, 12_3 a task of an array. Errors: BadRunError."""
    path = sweep / SUBMITTED
    try:
        values = read_json(path)
    except MissingFileError:
        return {}
    if not isinstance(values, dict) or not all(map(_is_number, values.values())):
        raise BadRunError(f"{path}: does not contain Slurm job ids")
    return values


def _is_number(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\d{1,20}(_\d{1,20})?", value) is not None


def still_there(sweep: Path, subdirs: Collection[str]) -> dict[str, str]:
    """The numbers of those of these jobs that wait or run in Slurm.

    Errors: RunError when Slurm does not say; BadRunError.
    """
    asked = {subdir: number for subdir, number in submitted(sweep).items() if subdir in subdirs}
    if not asked:
        return {}
    states = states_of(asked.values())
    if states is None:
        raise RunError(
            f"{sweep}: {len(asked)} of its jobs were left in Slurm, which does not report their state\n"
            f"try again from a machine where squeue works, or remove {sweep / SUBMITTED} if none of them is running"
        )
    return {subdir: number for subdir, number in asked.items() if is_active(states.get(number))}


def is_in_slurm(run: Path) -> bool:
    """Whether a job's directory belongs to a sweep that has it in Slurm. Errors: as still_there()."""
    return any(still_there(sweep, [run.relative_to(sweep).as_posix()]) for sweep in run.parents)


def is_active(state: str | None) -> bool:
    """Whether a job in this state waits, runs or comes back; None is a job that Slurm knows nothing of."""
    return state is not None and state not in ENDED


def states_of(numbers: Collection[str]) -> Mapping[str, str] | None:
    """The states of jobs and array tasks that Slurm still knows of, by number; None when it does not answer.

    squeue knows jobs for some minutes after their end, and needs no accounting database, which sacct does.
    """
    if not numbers:
        return {}
    jobs = ",".join(job_numbers(numbers))
    words = ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T", f"--jobs={jobs}"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=SQUEUE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and "Invalid job id" not in done.stderr:
        return None
    return dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)


def job_numbers(numbers: Collection[str]) -> list[str]:
    """The jobs that array tasks belong to, each once."""
    return sorted({number.split("_")[0] for number in numbers}, key=int)
