"""Where a wrong value of a composed config comes from: a user's own file, or an environment variable."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mnist_ff.config.options import keys_in, options
from mnist_ff.config.overrides import key_of

FROM_ENVIRONMENT = re.compile(r"\$\{(?:oc|mnist_ff)\.env:(\w+)")


def with_source(complaint: str, typed: Iterable[str], choices: Any, text_of: Callable[[str], str]) -> str:
    """A complaint that begins with a dotted key, with the place where its value was set, unless that was typed.

    typed: the overrides. choices: the chosen option of each group. text_of: a key's value as it stands in its file.
    """
    key = re.match(r"[\w.]*", complaint)
    if key is None or key[0] in [key_of(text).lstrip("+") for text in typed]:
        return complaint
    return f"{_own_file(key[0], choices)}{complaint}{_variable(text_of(key[0]))}"


def _own_file(key: str, choices: Mapping[str, Any]) -> str:
    """The file of an own folder that sets the key, as the beginning of a message; nothing where there is none."""
    for group, path in options().own_files_of(choices):
        if key in keys_in(path, group) or key == f"{group}.name":  # which a file of a part must have, or include
            return f"{path}: "
    return ""


def _variable(text: str) -> str:
    """The environment variable that a value comes from, as the end of a message; nothing where there is none."""
    found = FROM_ENVIRONMENT.match(text)
    return f"\nset by the environment variable {found[1]}" if found and os.environ.get(found[1]) else ""
