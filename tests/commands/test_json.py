"""--json: one document on stdout, in every command, and all of them documented."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mnist_ff.analysis.console import tell_json
from mnist_ff.cli import COMMANDS
from mnist_ff.commands.completion import arguments_of

A_SCRIPT = "completion"
"""The one command whose output is a script."""
DOCUMENT = Path(__file__).resolve().parents[2] / "conf" / "README.md"


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != A_SCRIPT])
def test_every_command_has_the_flag(command: str) -> None:
    """Read as Tab completion reads it: from the command's source."""
    assert ("--json",) in [argument.names for argument in arguments_of(command)]


def test_the_table_has_a_row_for_every_command() -> None:
    section = DOCUMENT.read_text("utf-8").partition("\n## JSON\n")[2].partition("\n## ")[0]
    named = {word for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for word in re.findall(r"[\w-]+", row)}
    assert {*COMMANDS} - named == {A_SCRIPT}


def test_a_document_is_plain_ascii_whatever_stands_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    values = {"name": "\x1b[2J\x7f\x9b é\n\u2028", "path": "\udce9", "share": 0.25, "missing": None}
    tell_json(values)
    said, error = capsys.readouterr()
    assert json.loads(said) == values
    assert error == ""
    assert said.isascii()
    assert all(letter.isprintable() or letter == "\n" for letter in said)
    with pytest.raises(ValueError, match="not JSON compliant"):
        tell_json(float("nan"))
