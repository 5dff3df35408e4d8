"""Read and write YAML, quickly and without interpolation or code."""

from __future__ import annotations

import functools
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from mnist_ff.config.constraints import INT_LIMIT
from mnist_ff.config.convert import config_to_dict
from mnist_ff.config.messages import brief_text
from mnist_ff.config.schema import Config
from mnist_ff.errors import ConfigError

DEEPEST_YAML = 20
"""Levels of a YAML file; a run's config has three."""


def read_yaml(path: Path) -> Any:
    """A YAML file of the package, or of a user's own making, as plain values, to be read only.

    Interpolations stay text: nothing in a file is looked up or run. Errors: ConfigError naming the file.
    """
    try:
        return yaml_values(path, path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: not readable as YAML ({error.strerror})") from None


def yaml_values(path: Path, content: bytes) -> Any:
    """The values of a YAML text. Errors: ConfigError naming the file, also for aliases, which can make a text of a
    kilobyte an endless one, and for levels without end."""
    try:
        blocks = _blocks(content)
        return _quick_yaml(content) if blocks is None else blocks
    except yaml_errors() as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise ConfigError(f"{path}: not readable as YAML ({brief_text(lines[0])})") from None


def yaml_errors() -> tuple[type[Exception], ...]:
    """The exceptions that reading invalid YAML may raise."""
    from yaml import YAMLError

    return YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError


YAML_SECTION = re.compile(rb"[a-z_]+:(?: .*)?\n(?: .*\n)*")
"""A key at the margin with the lines below it, as to_yaml() writes them."""


def key_texts(content: bytes) -> list[bytes] | None:
    """The text of each key at the margin, of a text that has no more than these; None of any other."""
    texts: list[bytes] = YAML_SECTION.findall(content)
    return texts if texts and sum(map(len, texts)) == len(content) else None


def _blocks(content: bytes) -> dict[str, Any] | None:
    """A file key by key, each parsed once of equal text: the thousands of runs of a sweep share most of them.

    None where only the whole file says what it means, be it an anchor, an odd line or an error.
    """
    texts = key_texts(content)
    if texts is None:
        return None
    try:
        keys = [_block(text) for text in texts]
    except yaml_errors():
        return None
    whole = {name: value for key in keys for name, value in key.items()}
    return whole if len(whole) == len(keys) else None


@functools.lru_cache(maxsize=1_000)
def _block(text: bytes) -> Any:
    return key_values(text)


PLAIN = re.compile(rb"([a-z_]+): (?:(0|[1-9][0-9]{0,17})|([A-Za-z](?:[A-Za-z0-9_. /+-]*[A-Za-z0-9_])?))\n")
"""A key with a number or a word that YAML writes as it is; a few such words, null and true say, are none."""
NOT_TEXT = {b"null", b"true", b"false", b"yes", b"no", b"on", b"off", b"y", b"n"}


def key_values(text: bytes) -> Any:
    """The values of the text of a key; seeds and names, of which each run has its own, without a YAML parser.

    Errors: those of yaml_errors().
    """
    plain = PLAIN.fullmatch(text)
    if plain is None or plain[1] in NOT_TEXT or (plain[3] or b"").lower() in NOT_TEXT:
        return _quick_yaml(text)
    return {plain[1].decode(): int(plain[2]) if plain[3] is None else plain[3].decode()}


def _quick_yaml(content: bytes) -> Any:
    loader = _quick_loader()
    _check_events(content, loader)
    return loader(content).get_single_data()


NESTING = (b"\n", b"\r", b"[", b"{", b"-", b"?")
"""Bytes, one of which each nesting level of a YAML text needs."""


def _check_events(content: bytes, loader: Any) -> None:
    """Look at a text's parts before they are put together, which is done level in level. Errors: YAMLError."""
    if not any(mark in content for mark in (b"&", b"*")) and sum(map(content.count, NESTING)) < DEEPEST_YAML:
        return
    import yaml

    levels = 0
    for event in yaml.parse(content, Loader=loader):
        if getattr(event, "anchor", None) is not None:
            raise yaml.YAMLError("anchors and aliases are not allowed")
        levels += isinstance(event, yaml.CollectionStartEvent)
        levels -= isinstance(event, yaml.CollectionEndEvent)
        if levels > DEEPEST_YAML:
            raise yaml.YAMLError("it is nested too deeply")


@functools.cache
def _quick_loader() -> Any:
    """libyaml's safe loader, six times as fast as Python's, which stands in for it, with omegaconf's floats."""
    import yaml

    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc,valid-type]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value]
            if len(set(map(str, keys))) < len(keys):
                raise yaml.constructor.ConstructorError(None, None, "found a key twice", node.start_mark)
            return super().construct_mapping(node, deep=deep)

        def construct_yaml_int(self, node: Any) -> Any:
            value = super().construct_yaml_int(node)
            if not -INT_LIMIT <= value <= 2 * INT_LIMIT:  # of too many digits it could not even be shown
                raise yaml.constructor.ConstructorError(None, None, "found an endless number", node.start_mark)
            return value

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    Loader.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }
    number = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")  # YAML 1.1 wants a point and a sign: 1.0e-6
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789."))
    return Loader


def to_yaml(config: Config) -> str:
    """The configuration as YAML text, as OmegaConf.to_yaml() writes it; nothing in a text is looked up or parsed."""
    return plain_yaml(config_to_dict(config))


def plain_yaml(values: dict[str, Any]) -> str:
    """Plain values as YAML text, in the same way."""
    import yaml

    text: str = yaml.dump(values, Dumper=_dumper(), default_flow_style=False, allow_unicode=True, sort_keys=False)
    return text


YAML_BOOLEANS = {"y", "n", "yes", "no", "true", "false", "on", "off"}


@functools.cache
def _dumper() -> Any:
    """PyYAML's, with quotes around texts that look like a number or boolean, as omegaconf's dumper has them.

    PyYAML writes the line break U+0085 bare, and reads it back as a space: it gets double quotes.
    """
    import yaml

    def represent(dumper: Any, text: str) -> Any:
        quote = '"' if "\x85" in text else "'" if _looks_else(text) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=quote)

    dumper: Any = type("Dumper", (yaml.Dumper,), {})
    dumper.add_representer(str, represent)
    return dumper


def _looks_else(text: str) -> bool:
    """Whether YAML or Python would read a text as a number or a boolean."""
    if text.lower() in YAML_BOOLEANS and text in (text.lower(), text.upper(), text.capitalize()):
        return True
    for kind in (int, float):
        with suppress(ValueError):
            kind(text)
            return True
    return False
