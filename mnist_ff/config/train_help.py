"""The text of `mnist-ff train --help`, from conf/ and the schema."""

from __future__ import annotations

import textwrap
from typing import Any, cast

from mnist_ff.config.compose import Composer
from mnist_ff.config.keys import hints_of, known_keys, sweep_keys
from mnist_ff.config.registry import GROUPS, names, own_parts, parts
from mnist_ff.config.schema import SELECTIONS

HEAD = """usage: mnist-ff train [GROUP=OPTION] [KEY=VALUE] ...

Train a network. A run writes its config, metrics and model to a new directory.

  mnist-ff train                                    the 2016 tutorial
  mnist-ff train optimizer=adam model.hidden=[64]   set options and keys
  mnist-ff train --config-of RUN                    use the config of a past run
  mnist-ff train --cfg job                          print the config and stop
  mnist-ff train --config-dir DIR experiment=NAME   with files of your own, such
                                                    as DIR/experiment/NAME.yaml
  mnist-ff train --parts FILE.py model=NAME         with your own parts
  mnist-ff train --json                             the result as JSON on stdout

Resume a run, or train it further:
  mnist-ff train resume=RUN
  mnist-ff train resume=last                        the newest unfinished run
  mnist-ff train resume=RUN trainer.epochs=30       train a run further
  mnist-ff train resume=best trainer.epochs=30      train the best run further

Stop earlier, or find faults quickly:
  mnist-ff train trainer.max_seconds=60             a minute of training
  mnist-ff train trainer.target_accuracy=0.98 --require-target
                                                    exit code 3 if not reached
  mnist-ff train experiment=debug                   a few seconds, all checks on
  mnist-ff train experiment=overfit                 fit one batch to zero loss

Sweep over values:
  mnist-ff train -m optimizer.lr=0.01,0.1 seed=0,1  all combinations, ranked
  mnist-ff train -m sweep=lr                        a preset from conf/sweep/
  mnist-ff train -m dry_run=true sweep=lr           list the jobs, write nothing
  mnist-ff train -m resume=SWEEP_DIR                a sweep's unfinished jobs
  mnist-ff train -m resume=last                     the newest unfinished sweep
"""

TAIL = """
hydra.run.dir=FOLDER sets the run directory, hydra.sweep.dir=FOLDER that of a
sweep. mnist-ff show KEY explains a key, mnist-ff show GROUP a group.
conf/README.md has more."""

OWN = "your own, with --parts FILE.py"


def train_help() -> str:
    """The help text."""
    lines = [HEAD, "groups"]
    lines += [_wrapped(f"  {f'{group}=':<16}", " | ".join(names) or OWN) for group, names in Composer().groups.items()]
    lines += ["", "keys"]
    keys = {**known_keys(), **sweep_keys()}
    width = max(map(len, keys)) + 2
    sections: dict[str, list[str]] = {}
    for key, meaning in keys.items():
        sections.setdefault(key.partition(".")[0] if "." in key else "", []).append(
            _wrapped(f"  {key:<{width}}", f"{meaning}{_of_own_part(key)}")
        )
    lines += [line for section in sections.values() for line in (*section, "")][:-1]
    lines += ["", _wrapped("  metrics may be ", ", ".join(names("metric")))]
    return "\n".join([*lines, TAIL, ""])


def _of_own_part(key: str) -> str:
    """The end of the meaning of a key that only a user's own parts have: which parts."""
    section, _, name = key.partition(".")
    group = next((group for group, found in GROUPS.items() if found.folder == section), None)
    if group is None or section in SELECTIONS:
        return ""
    owners = [option for option, part in parts(group).items() if name in hints_of(cast(Any, part.config))]
    return f" ({section}={', '.join(owners)})" if owners and set(owners) <= set(own_parts(group)) else ""


def _wrapped(head: str, text: str) -> str:
    return textwrap.fill(f"{head}{text}", 80, subsequent_indent=" " * len(head), break_on_hyphens=False)
