"""Render templates and scripts to one self-contained HTML file."""

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
"""Comments in network.js that are replaced by the activations and their derivatives."""
MAX_PAGE_BYTES = 4_000_000
"""Size of a run's report; parts in LEFT_OUT are left out of a larger one."""
BETWEEN_PARTS = re.compile(r"([/_=]|\.(?=[A-Za-z]))")
"""Where a line may break in a path, a key or key=value: not within a number."""
SCRIPT_ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


def render(
    template: str,
    scripts: Sequence[str],
    data: Mapping[str, Any],
    facts: Mapping[str, Any],
    own: Path | None = None,
) -> str:
    """Render a template of assets/ with `facts`, which are escaped, and `data`, which its scripts read as JSON.

    The page's Content-Security-Policy allows only its own script and style, by their digests, and data: images. Markup
    injected through a name or path cannot run or load anything. A server's page has further assets in the folder `own`,
    with a style.css, and may send requests to its server.
    """
    from markupsafe import Markup

    style = _asset("style.css") + ("" if own is None else _asset("style.css", own))
    script = "\n".join(['"use strict";', *(_asset(name, own) for name in scripts)])
    connect = "" if own is None else "; connect-src 'self'"
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        f"base-uri 'none'; form-action 'none'{connect}"
    )
    inlined = {"style": Markup(style), "script": Markup(script), "policy": policy, "data": Markup(json_text(data))}
    text = _templates(own).get_template(template).render({**facts, **inlined})
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # paths may hold bytes that are not UTF-8


@functools.cache
def _templates(own: Path | None) -> Environment:
    """The Jinja environment. It is cached, so that the reports of a sweep's jobs compile each template once."""
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
    """JSON that is safe inside a <script> element. Errors: ValueError for values that are not finite."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).translate(SCRIPT_ESCAPES)


def _asset(name: str, own: Path | None = None) -> str:
    """The text of an asset, from the folder `own` if it is there, else from assets/."""
    path = ASSETS / name if own is None or not (own / name).is_file() else own / name
    text = path.read_text(encoding="utf-8")
    forms = {
        ACTIVATIONS_MARK: [(row.name, row.javascript) for row in ACTIVATIONS.values()],
        SLOPES_MARK: [(row.name, row.javascript_slope) for row in ACTIVATIONS.values()],
    }
    for mark, rows in forms.items():
        text = text.replace(mark, ",\n  ".join(f"{row}: {form}" for row, form in rows))
    return text


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"
