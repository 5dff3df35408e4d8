"""The best row of a sweep, and the command that trains it again."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

from mnist_ff.analysis.ranking import SEED, Group, Ranking, brief
from mnist_ff.config.convert import experiment, flat
from mnist_ff.config.options import options
from mnist_ff.config.overrides import in_grammar, key_of
from mnist_ff.config.own_parts import flags
from mnist_ff.config.paths import display_path
from mnist_ff.config.schema import Config
from mnist_ff.errors import BadRunError, ConfigError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.jobs import Job, SweepPlan, read_plan, same_experiment
from mnist_ff.runs.numbers import loss_text, percent, percent_cell

KEY_VALUE = re.compile(r"[A-Za-z][\w./@]*=.*")
"""KEY=VALUE. Other overrides of a saved job are not repeated."""


def best_lines(ranking: Ranking, directory: Path) -> list[str]:
    """Lines with the best row, its score and spread, and the command that trains it again. Empty if no run finished."""
    if not ranking.ranked:
        return []
    best = ranking.ranked[0]
    named = "  ".join(f"{key}={brief(best.values[key])}" for key in ranking.varied if key in best.values)
    second = ranking.ranked[1:2]
    noise = ", within noise of rank 2" if second and second[0].like_the_one_before else ""
    score = f"{ranking.ranked_by} {_score_text(best, ranking.by_loss)}{noise}"
    return [
        f"best           {'  '.join(filter(None, [named or f'job {best.rows[0].label}', score]))}",
        f"train again    {train_again(best, directory)}",
    ]


def _score_text(group: Group, by_loss: bool) -> str:
    found = group.sample
    show = loss_text if by_loss else percent
    if found.half is None or found.std is None:
        return show(found.mean)
    spread = loss_text(found.half) if by_loss else percent_cell(found.half)
    return f"{show(found.mean).removesuffix(' %')} ± {spread}{'' if by_loss else ' %'} (n = {found.n})"


def train_again(group: Group, directory: Path) -> str:
    """The command that trains the runs of a row again, quoted for a shell.

    It repeats the overrides and seeds. If these do not give the same config, or another user wrote them, it takes the
    config of the first run (--config-of).
    """
    first = group.rows[0]
    of_run = f"mnist-ff train --config-of {shlex.quote(str(display_path(first.path)))}{flags()}"
    try:
        plan = read_plan(directory)
        job = plan.find(first.label)
        words = _overrides_of(job) if plan.own and job.own else None
        threads = _threads(Run(first.path), job, plan)
    except (BadRunError, ConfigError, KeyError):
        return of_run
    if words is None:
        return of_run
    seeds = [str(row.values[SEED]) for row in group.rows if SEED in row.values]
    folders = f" {shlex.join(options().flags)}" if options().folders else ""
    several = "-m " if len(seeds) > 1 else ""
    given = shlex.join([*words, *threads, f"{SEED}={','.join(seeds)}"])
    return f"mnist-ff train {several}{given}{folders}{flags()}"


def _overrides_of(job: Job) -> list[str] | None:
    """The overrides that give a single run the config of a job, apart from the seed. None if there are none.

    Errors: ConfigError for invalid overrides.
    """
    from mnist_ff.config.compose import compose  # here, because it imports Hydra

    words = [word for word in job.overrides if key_of(word) not in (SEED, "sweep")]
    if not all(KEY_VALUE.fullmatch(word) and not word.startswith("hydra") for word in words):
        return None
    planned = replace(job.config, seed=None)
    missing = _missing(compose([*words, f"{SEED}=null"]), planned)  # a path that the sweep made absolute, too
    words = [word for word in words if key_of(word) not in {key_of(one) for one in missing}] + missing
    if not same_experiment(planned, compose([*words, f"{SEED}=null"])):
        return None
    return words


def _missing(found: Config, planned: Config) -> list[str]:
    """Overrides for the values that the sweep's preset set in the job."""
    now, wanted = flat(experiment(found)), flat(experiment(planned))
    return [f"{key}={in_grammar(value)}" for key, value in wanted.items() if now.get(key, ...) != value]


def _threads(run: Run, job: Job, plan: SweepPlan) -> list[str]:
    """trainer.threads=N as an override, if the launcher chose the number: a single run would choose another."""
    launched = any(key_of(word) == "hydra/launcher" for word in plan.overrides)
    if job.config.trainer.fixed_threads is not None or not (launched or job.config.trainer.threads == "auto"):
        return []
    kept = run.config().trainer.fixed_threads
    return [] if kept is None else [f"trainer.threads={kept}"]
