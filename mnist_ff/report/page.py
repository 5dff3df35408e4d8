"""Templates and scripts to one self-contained HTML file."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_ff.models.activations import ACTIVATIONS

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

ASSETS = Path(__file__).resolve().parent / "assets"
ACTIVATIONS_MARK, SLOPES_MARK = "/* rows of models/activations.py */", "/* their derivatives */"
"""Where network.js takes its activations and the derivatives of these."""
LARGEST_PAGE = 4_000_000
"""Bytes."""
BETWEEN_PARTS = re.compile(r"([/_=]|\.(?=[A-Za-z]))")
"""Of a path, a key or key=value: not within a number."""
SCRIPT_ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


def render(
    template: str,
    scripts: Sequence[str],
    data: Mapping[str, Any],
    facts: Mapping[str, Any],
    own: Path | None = None,
) -> str:
    """A page from a template in assets/: `facts` for the template, escaped as text; `data` for its scripts, as JSON.

    The policy in its head allows this script and this style by their digests and images from within the page, nothing
    else: neither another script, wherever a name or a path puts it, nor a request. A page of a server has more assets
    in a folder of its `own`, a style.css among them, and may ask that server.
    """
    from markupsafe import Markup

    style = _asset("style.css") + ("" if own is None else _asset("style.css", own))
    script = "\n".join(['"use strict";', *(_asset(name, own) for name in scripts)])
    asks = "" if own is None else "; connect-src 'self'"
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        f"base-uri 'none'; form-action 'none'{asks}"
    )
    inlined = {"style": Markup(style), "script": Markup(script), "policy": policy, "data": Markup(json_text(data))}
    text = _templates(own).get_template(template).render({**facts, **inlined})
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # a path may hold bytes that are no text


@functools.cache
def _templates(own: Path | None) -> Environment:
    """jinja2's, which keeps the templates that it has compiled: the pages of a sweep's jobs share one."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader([ASSETS] if own is None else [own, ASSETS])
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["breakable"] = breakable
    return made


def breakable(name: object) -> Markup:
    """A path or a key, escaped, that a narrow column breaks between its parts and not within them."""
    from markupsafe import Markup, escape

    return Markup(BETWEEN_PARTS.sub(r"\1<wbr>", str(escape(name))))


def json_text(data: Mapping[str, Any]) -> str:
    """JSON that may stand in a script element: no character of it ends the element or a line. Errors: ValueError."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).translate(SCRIPT_ESCAPES)


def _asset(name: str, own: Path | None = None) -> str:
    """A file of the folder of its own, where it is there, else of assets/."""
    place = ASSETS / name if own is None or not (own / name).is_file() else own / name
    text = place.read_text(encoding="utf-8")
    forms = {
        ACTIVATIONS_MARK: [(row.name, row.javascript) for row in ACTIVATIONS.values()],
        SLOPES_MARK: [(row.name, row.javascript_slope) for row in ACTIVATIONS.values()],
    }
    for mark, rows in forms.items():
        text = text.replace(mark, ",\n  ".join(f"{row}: {form}" for row, form in rows))
    return text


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"
