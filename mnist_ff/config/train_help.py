"""What `mnist-ff train --help` shows, read from conf/ and the schema so that it cannot lag behind."""

from __future__ import annotations

from mnist_ff.config.compose import Composer
from mnist_ff.config.keys import known_keys, sweep_keys

HEAD = """usage: mnist-ff train [GROUP=OPTION] [KEY=VALUE] ...

Train a network and leave everything about it in a new run directory.

  mnist-ff train                                        the 2016 tutorial
  mnist-ff train optimizer=adam model.hidden=[64]       other parts, other values
  mnist-ff train -m optimizer.lr=0.001,0.003 seed=0,1   every combination, and a ranked table of them
  mnist-ff train -m sweep=lr                            a sweep from conf/sweep/
  mnist-ff train -m dry_run=true sweep=lr               what that would run, and how long; nothing is written
  mnist-ff train -m resume=SWEEP_DIR                    a sweep's failed, interrupted and missing jobs
  mnist-ff train -m resume=last                         the same of the newest sweep with something left
  mnist-ff train resume=last                            go on with the newest run that did not finish
  mnist-ff train resume=best trainer.epochs=30          give the best finished run more epochs
  mnist-ff train resume=RUN trainer.epochs=30           give a finished run more epochs
  mnist-ff train --config-of RUN                        train a past run's config again
  mnist-ff train --cfg job                              show the config and stop
"""

TAIL = """
hydra.run.dir=FOLDER (hydra.sweep.dir for -m) puts the run elsewhere than in outputs/."""


def train_help() -> str:
    """The help text."""
    groups = Composer().groups
    lines = [HEAD, "groups"]
    lines += [f"  {name + '=':<13}{' | '.join(options) or '(none yet)'}" for name, options in groups.items()]
    lines += ["", "keys"]
    keys = {**known_keys(), **sweep_keys()}
    width = max(map(len, keys)) + 2
    lines += [f"  {key:<{width}}{meaning}" for key, meaning in keys.items()]
    return "\n".join([*lines, TAIL, ""])
