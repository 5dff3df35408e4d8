"""--json: every command prints one document to stdout, as documented."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mnist_ff.analysis.console import tell_json
from mnist_ff.cli import COMMANDS
from mnist_ff.commands.completion import arguments_of
from tests.support.commands import Command

A_SCRIPT = "completion"
"""The one command whose output is a script."""
DOCUMENT = Path(__file__).resolve().parents[2] / "conf" / "README.md"


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != A_SCRIPT])
def test_every_command_has_the_flag(command: str) -> None:
    """As Tab completion reads it from the command's source."""
    assert ("--json",) in [argument.names for argument in arguments_of(command)]


def test_the_table_has_a_row_for_every_command() -> None:
    section = DOCUMENT.read_text("utf-8").partition("\n## JSON\n")[2].partition("\n## ")[0]
    named = {word for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for word in re.findall(r"[\w-]+", row)}
    assert {*COMMANDS} - named == {A_SCRIPT}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("runs nowhere", 2),
        ("runs delete nothing", 2),
        ("runs --since never", 2),
        ("compare nothing", 2),
        ("report nothing", 2),
        ("show nothing", 2),
        ("help nothing", 2),
        ("conf", 2),
        ("data nothing", 2),
        ("export nothing", 2),
        ("evaluate nothing", 2),
        ("predict nothing --index 0", 2),
        ("reproduce nothing", 2),
        ("train lr=0.1", 2),
        ("train -m seed=0,x", 2),
        ("train resume=nothing", 2),
        ("no-such-command", 2),
        ("serve nowhere", 2),
    ],
)
def test_a_failure_prints_one_document(words: str, code: int, mnist_ff: Command) -> None:
    found, out, err = mnist_ff(*words.split(), "--json")
    assert found == code, err
    document = json.loads(out)
    assert document["exit_code"] == code
    assert f"error: {document['error']}\n" in err


def test_without_the_flag_a_failure_prints_nothing_to_stdout(mnist_ff: Command) -> None:
    assert mnist_ff("runs", "nowhere")[:2] == (2, "")


def test_a_document_is_always_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    values = {"name": "\x1b[2J\x7f\x9b é\n\u2028", "path": "\udce9", "share": 0.25, "missing": None}
    tell_json(values)
    said, error = capsys.readouterr()
    assert json.loads(said) == values
    assert error == ""
    assert said.isascii()
    assert all(letter.isprintable() or letter == "\n" for letter in said)
    with pytest.raises(ValueError, match="not JSON compliant"):
        tell_json(float("nan"))
