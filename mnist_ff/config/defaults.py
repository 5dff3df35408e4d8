"""The groups of conf/ and the options that are chosen by default, read from the files alone."""

from __future__ import annotations

import functools
import re

from mnist_ff.config.paths import conf_dir

HYDRA_GROUPS = ("hydra/launcher", "hydra/sweeper")
"""The groups of Hydra that have options of ours."""


@functools.cache
def built_in_groups() -> tuple[str, ...]:
    """Every group that has options."""
    groups = sorted(path.name for path in conf_dir().iterdir() if path.is_dir() and path.name != "hydra")
    return (*groups, *HYDRA_GROUPS)


@functools.cache
def default_options() -> dict[str, str]:
    """Each group's option by conf/config.yaml, as it stands there: null for none, [] for none of several."""
    text = (conf_dir() / "config.yaml").read_text(encoding="utf-8")
    return dict(re.findall(r"^  - (?:override )?([\w/]+): (\S+)$", text, flags=re.M))
