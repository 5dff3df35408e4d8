"""Override words: what Hydra's grammar cannot read, how to quote it, and texts that look like something else."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from antlr4 import CommonTokenStream, InputStream, Token  # type: ignore[import-untyped]
from antlr4.error.ErrorListener import ErrorListener  # type: ignore[import-untyped]
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from hydra.grammar.gen.OverrideLexer import OverrideLexer
from hydra.grammar.gen.OverrideParser import OverrideParser

from mnist_ff.config.keys import text_keys
from mnist_ff.config.paths import check_text, printed
from mnist_ff.errors import ConfigError

OF_HYDRA = {
    "hydra.run.dir",
    "hydra.sweep.dir",
    "hydra.sweep.subdir",
    "hydra.sweeper.storage",
    "hydra.sweeper.study_name",
    *(
        f"hydra.launcher.{key}"
        for key in ("account", "comment", "constraint", "exclude", "gres", "name", "partition", "qos", "setup")
    ),
}
"""Keys of Hydra's and of our launchers and sweepers that hold texts."""
WITH_KEYS = ("sweep.rows", "hydra.sweeper.params")
"""Keys whose values are groups of keys and values."""
OF_VALUES = ("choice", "shuffle", "sort")
"""Hydra's functions whose arguments are values as they would stand alone."""
LOOKS_ELSE = {OverrideLexer.INT, OverrideLexer.FLOAT, OverrideLexer.BOOL}
EXAMPLE = "an override is KEY=VALUE, such as optimizer.lr=0.003"


def quoted(text: str) -> str:
    """A text in Hydra's quotes, with what is special in them and in omegaconf escaped."""
    return _in_quotes(text.replace("${", "\\${"), "'")


def _in_quotes(text: str, mark: str) -> str:
    text = re.sub(rf"(\\*){mark}", lambda found: f"{found[1] * 2}\\{mark}", text)
    trailing = len(text) - len(text.rstrip("\\"))
    return f"{mark}{text}{chr(92) * trailing}{mark}"


def holds_text(key: str) -> bool:
    """Whether a dotted key's value is a text, or a list of texts."""
    return key in text_keys() or key in OF_HYDRA


def with_texts_kept(words: Sequence[str]) -> list[str]:
    """The words, with quotes around what was typed for a text and Hydra would take for a number, true or false."""
    return [_with_text_kept(word) for word in words]


def _with_text_kept(word: str) -> str:
    key = word.partition("=")[0].lstrip("+")
    if not holds_text(key) and key not in WITH_KEYS:
        return word
    try:
        tree = _tree(word)
    except _UnreadableError:
        return word  # whoever reads it says why
    for start, stop in sorted(_other_kinds(tree, holds_text(key)), reverse=True):
        word = f"{word[:start]}{quoted(word[start:stop])}{word[stop:]}"
    return word


def _other_kinds(node: Any, of_text: bool) -> Iterator[tuple[int, int]]:
    """Where numbers, true and false stand in a parsed word as the values of texts: start, and one past the end."""
    if isinstance(node, OverrideParser.PrimitiveContext):
        tokens = [child.symbol for child in node.getChildren() if child.symbol.type != OverrideLexer.WS]
        if of_text and len(tokens) == 1 and tokens[0].type in LOOKS_ELSE:
            yield tokens[0].start, tokens[0].stop + 1
        return
    if isinstance(node, OverrideParser.FunctionContext) and node.getChild(0).getText() not in OF_VALUES:
        return
    if isinstance(node, OverrideParser.DictKeyValuePairContext):
        of_text = holds_text(node.getChild(0).getText().strip())
    for child in getattr(node, "children", None) or ():
        if not isinstance(child, OverrideParser.ArgNameContext):
            yield from _other_kinds(child, of_text)


class _UnreadableError(Exception):
    """A word is not in the grammar; `place` is the first character that it does not allow, None for the end."""

    def __init__(self, place: int | None) -> None:
        super().__init__(place)
        self.place = place


class _FirstError(ErrorListener):  # type: ignore[misc]
    def syntaxError(self, recognizer: Any, symbol: Any, line: int, column: int, message: str, error: Any) -> None:  # noqa: N802 (antlr's)
        if symbol is None:  # of the lexer
            raise _UnreadableError(error.startIndex)
        raise _UnreadableError(None if symbol.type == Token.EOF else symbol.start)


def _tree(word: str) -> Any:
    """The parsed word as a tree. Errors: _UnreadableError."""
    lexer = OverrideLexer(InputStream(word))
    parser = OverrideParser(CommonTokenStream(lexer))
    for part in (lexer, parser):
        part.removeErrorListeners()
        part.addErrorListener(_FirstError())
    return parser.override()  # type: ignore[no-untyped-call]


def parsed(parser: OverridesParser, word: str, several: bool = False) -> Override:
    """The override that a word means. `several`: a comma stands between values. Errors: ConfigError with the remedy."""
    key = word.partition("=")[0]
    check_text(key if "=" in word else "override", word.removeprefix(f"{key}="))
    try:
        return parser.parse_overrides([word])[0]
    except HydraException:
        remedy = _remedy(parser, word, several) or EXAMPLE
        raise ConfigError(f"{printed(word)}: {_reason(parser, word)}\n{remedy}") from None


def _reason(parser: OverridesParser, word: str) -> str:
    """What is wrong with a word that cannot be read."""
    try:
        _tree(word)
    except _UnreadableError as error:
        place = error.place
    else:
        return _of_a_function(parser, word)
    equals = word.find("=")
    if equals < 0:
        return "has no =" if place is None else f"has no =, and {_letter(word, place)} is not allowed in a key"
    if place is None:
        return "ends too early: a bracket is open" if _brackets_open(word) else "ends too early"
    if place <= equals:
        return f"{_letter(word, place)} is not allowed in a key"
    if word[place] in "'\"":
        return f"the quote {word[place]} (character {place + 1}) is not closed, or is inside a value"
    return f"{_letter(word, place)} is only allowed inside quotes here"


def _brackets_open(word: str) -> bool:
    return any(word.count(left) > word.count(right) for left, right in ("()", "[]", "{}"))


def _letter(word: str, place: int) -> str:
    letter = word[place]
    name = letter if letter.isprintable() and not letter.isspace() else f"U+{ord(letter):04X}"
    return f"{'the space' if letter == ' ' else name} (character {place + 1})"


def _of_a_function(parser: OverridesParser, word: str) -> str:
    """The words of a function that was called, such as int(x), or of one that is not there."""
    try:
        parser.parse_override(word)
    except HydraException as error:
        return (str(error).splitlines() or ["cannot be read"])[0]
    return "cannot be read"


def _remedy(parser: OverridesParser, word: str, several: bool) -> str | None:
    """How a shell is told the text that a word means; None where it means none, or quotes do not help."""
    key, equals, value = word.partition("=")
    if not equals or not holds_text(key.lstrip("+")) or not word.isprintable() or "${" in value:
        return None
    inside = value[1:-1] if value.startswith("[") and value.endswith("]") else None
    texts = [value] if inside is None and not several else (value if inside is None else inside).split(",")
    for mark in ('"', "'"):
        given = ",".join(_in_quotes(text, mark) for text in texts)
        candidate = f"{key}={given if inside is None else f'[{given}]'}"
        try:
            override = parser.parse_override(candidate)
        except HydraException:
            continue
        found = override.value()
        values = [getattr(item, "text", item) for item in found.list] if isinstance(found, ChoiceSweep) else found
        if values == (texts[0] if len(texts) == 1 and inside is None else texts):
            return f"in a shell: {shlex.quote(candidate)}"
    return None
