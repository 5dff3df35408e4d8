"""Descriptions of describe() as lines of text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mnist_ff.config.describe import Described, value_text

MAX_COLUMNS = 80
"""Maximum line width in characters."""
LABEL_COLUMNS = 10
"""Width of a label such as "default", in characters."""
MIN_TEXT_COLUMNS = 20
"""Minimum width of a text beside its label. With less room it is printed below the label."""
SWEEP_GROUPS = ("sweep", "hydra/launcher", "hydra/sweeper")
"""Groups that need -m."""


class Line(NamedTuple):
    """A text, indented by `at` columns, with a label before it. Long texts are wrapped with this indent."""

    text: str = ""
    label: str = ""
    at: int = 0

    def wrapped(self, width: int) -> list[str]:
        """The line wrapped to at most `width` columns. Longer single words are not broken."""
        head = f"{self.label:<{self.at}}"
        longest = max(map(len, self.text.split()), default=0)
        if self.label and self.text and (len(head) > self.at or width - self.at < max(longest, MIN_TEXT_COLUMNS)):
            indent = len(self.label) - len(self.label.lstrip())
            return [head.rstrip(), *Line(self.text, at=indent + 2).wrapped(width)]
        wrapper = textwrap.TextWrapper(width, break_on_hyphens=False, break_long_words=False)
        wrapper.initial_indent, wrapper.subsequent_indent = head, " " * self.at
        return wrapper.wrap(self.text) or [head.rstrip()]


def description_lines(found: Described, columns: int) -> list[str]:
    """A description in lines of at most `columns`. Longer single words are not broken."""
    lines = {"key": _key, "group": _group, "option": _option, "groups": _groups}[found["kind"]]
    return [text for line in lines(found) for text in line.wrapped(min(columns, MAX_COLUMNS))]


def _key(found: Described) -> Iterator[Line]:
    yield Line(found["key"])
    yield Line(found["meaning"] or found["about"], at=2)
    yield Line()
    facts = list(_facts(found))
    yield from [*facts, *([Line()] if facts else [])]
    yield _fact("set it", found["command"])


def _facts(found: Described) -> Iterator[Line]:
    if found["type"]:
        yield _fact("type", found["type"])
    if found["range"]:
        yield _fact("range", found["range"])
    if any(name not in (found["type"] or "") for name in found["choices"]):
        yield _fact("values", " | ".join(found["choices"]))
    if found["source"]:
        of = f" of {found['of']}" if found["of"] else ""
        nothing = found["default"] is None and found["type"] is not None and "null" not in found["type"]
        yield _fact("default", f"{'none' if nothing else value_text(found['default'])}{of}")
        yield _fact("source", found["source"])
    for place, other in enumerate(found["others"]):
        text = f"{value_text(other['value'])} of {other['option']} ({other['source']})"
        yield _fact("" if place else "others", text)
    if found["about"] and found["meaning"]:
        yield _fact("about", found["about"])


def _group(found: Described) -> Iterator[Line]:
    group = found["group"]
    yield Line(f"{group}=OPTION")
    yield Line(found["meaning"], at=2)
    yield Line()
    yield _fact("default", f"{found['default'] or 'none'} ({found['source']})")
    yield Line()
    yield Line("options")
    yield from _listed([(option["option"], option["about"]) for option in found["options"]])
    if not found["options"]:
        yield Line("your own, with --parts FILE.py", at=2)
    if found["keys"]:
        yield Line()
        yield Line(f"keys of {group}={found['default']}" if found["default"] else "keys")
        yield from _listed_keys(found["keys"])
    yield Line()
    name = found["default"] or (found["options"][0]["option"] if found["options"] else "NAME")
    yield _choose(group, name)


def _option(found: Described) -> Iterator[Line]:
    yield Line(f"{found['group']}={found['option']}")
    yield Line(found["about"], at=2)
    yield Line()
    yield _fact("source", found["source"])
    if found["chooses"]:
        yield _fact("chooses", " ".join(found["chooses"]))
    if found["keys"]:
        yield Line()
        yield Line("keys")
        yield from _listed_keys(found["keys"])
    yield Line()
    yield _choose(found["group"], found["option"])


def _groups(found: Described) -> Iterator[Line]:
    yield Line("groups")
    rows = [(group["group"], group["meaning"], group["default"]) for group in found["groups"]]
    yield from _listed([(name, f"{text} (default: {chosen})" if chosen else text) for name, text, chosen in rows])
    yield Line()
    yield Line("mnist-ff show GROUP lists the options of a group. mnist-ff show KEY explains a key.")


def _fact(label: str, text: str) -> Line:
    return Line(text, label, LABEL_COLUMNS)


def _choose(group: str, option: str) -> Line:
    return _fact("set it", f"mnist-ff train {'-m ' if group in SWEEP_GROUPS else ''}{group}={option}")


def _listed_keys(keys: Sequence[Described]) -> Iterator[Line]:
    """Keys with their values, without the names of environment variables that may set them."""
    values = [value_text(key["value"]).partition(" (or ")[0] for key in keys]
    yield from _listed([(f"{key['key']}={value}", key["meaning"]) for key, value in zip(keys, values, strict=True)])


def _listed(rows: Sequence[tuple[str, str]]) -> Iterator[Line]:
    """Names and texts, indented by two columns."""
    at = min(max((len(name) for name, _ in rows), default=0) + 4, 34)
    yield from (Line(text, f"  {name} ", at) for name, text in rows)
