"""The groups of conf/ and their default options, read from the files without Hydra."""

from __future__ import annotations

import functools
import re

from mnist_ff.config.paths import conf_dir

HYDRA_GROUPS = ("hydra/launcher", "hydra/sweeper")
"""Hydra's groups for which conf/ has options."""


@functools.cache
def built_in_groups() -> tuple[str, ...]:
    """All groups of conf/."""
    groups = sorted(path.name for path in conf_dir().iterdir() if path.is_dir() and path.name != "hydra")
    return (*groups, *HYDRA_GROUPS)


@functools.cache
def default_options() -> dict[str, str]:
    """The default option of each group as written in conf/config.yaml: null for none, [] for an empty selection."""
    text = (conf_dir() / "config.yaml").read_text(encoding="utf-8")
    return dict(re.findall(r"^  - (?:override )?([\w/]+): (\S+)$", text, flags=re.M))
