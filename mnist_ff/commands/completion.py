"""Shell completion, from the schema, conf/ and run directories. Imports neither torch nor Hydra."""

from __future__ import annotations

import argparse
import ast
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

from mnist_ff.config.bash_line import quoted, read_line
from mnist_ff.config.options import copyable, flag_values, folders_of, options, using_folders
from mnist_ff.config.own_parts import loaded, taken, with_variable
from mnist_ff.config.suggest import data_words, options_of, override_words, shown_words
from mnist_ff.errors import ConfigError
from mnist_ff.runs.names import named

SHELLS = {
    "bash": """\
_mnist_ff() {
    local word
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$word")
    done < <("$1" completion --bash "${COMP_LINE:0:COMP_POINT}" "$2" 2> /dev/null)
    if [[ $2 == -* ]]; then
        compopt +o default 2> /dev/null
    fi
}
complete -o nospace -o default -F _mnist_ff mnist-ff
""",
    "zsh": """\
#compdef mnist-ff
_mnist_ff() {
    local -a found whole open
    local quote=$compstate[quote] current
    current=${(Q)${:-$quote$PREFIX${quote#\\$}}}
    found=("${(@f)$(${(Q)words[1]} completion --words "${(@Q)words[2,CURRENT-1]}" "$current" 2> /dev/null)}")
    whole=(${${(M)found:#* }% })
    open=(${found:#* })
    (( ${#whole} )) && compadd -- $whole
    (( ${#open} )) && compadd -S '' -- $open
    (( ${#whole} + ${#open} )) || [[ $current == -* ]] || _files
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _mnist_ff mnist-ff
""",
    "fish": """\
function __mnist_ff
    set -l words (commandline -opc)
    set -l current
    for quote in '' '"' "'"
        set current (string unescape -- (commandline -ct)$quote)
        and break
    end
    set -l found ($words[1] completion --words $words[2..-1] "$current" 2> /dev/null)
    set -g __mnist_ff_found (string replace -r ' $' '' -- $found)
    set -q __mnist_ff_found[1]; or string match -q -- '-*' "$current"
end
complete -c mnist-ff -n __mnist_ff -f -a '$__mnist_ff_found'
""",
}
"""The completion scripts. zsh and fish quote the words that they insert; bash does not, so `for_bash` quotes them."""

USAGE = """usage: mnist-ff completion bash|zsh|fish

Print a shell script that completes commands, options, run directories, groups, keys and values.
Add one of these lines to ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish:

  eval "$(mnist-ff completion bash)"
  eval "$(mnist-ff completion zsh)"
  mnist-ff completion fish | source
"""

TRAIN_OPTIONS = {
    "-m": None,
    "--multirun": None,
    "--config-of": "RUN",
    "--config-dir": "DIR",
    "--parts": "FILE",
    "--cfg": ("job", "hydra", "all"),
    "--resolve": None,
    "--package": "",
    "--require-target": None,
    "--json": None,
    "--help": None,
}
"""The options of `mnist-ff train`, and the value of each: None, a tuple of choices, or a metavar."""
RUN_ACTIONS = ("delete", "restore", "tag", "untag", "note", "archive")
"""The actions of `mnist-ff runs`."""
TEACHER = "trainer.teacher="
Kind = str | tuple[str, ...] | None


def main(words: Sequence[str], commands: Mapping[str, str]) -> int:
    """Print a shell's script or, called by such a script, the words that complete the command line, one per line.

    A word that ends with a space is complete. Errors: ConfigError.
    """
    if list(words[:1]) == ["--words"]:
        *before, current = words[1:] or [""]
        sys.stdout.writelines(f"{word}\n" for word in candidates(before, current, commands))
    elif list(words[:1]) == ["--bash"] and len(words) == 3:
        sys.stdout.writelines(f"{word}\n" for word in for_bash(words[1], words[2], commands))
    elif {"-h", "--help"} & set(words):
        sys.stdout.write(USAGE)
    elif len(words) == 1 and words[0] in SHELLS:
        sys.stdout.write(SHELLS[words[0]])
    else:
        raise ConfigError(f"completion: takes one of {', '.join(SHELLS)}, as in mnist-ff completion bash")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's argument parser, for `mnist-ff help completion`."""
    found = argparse.ArgumentParser(prog="mnist-ff completion")
    found.format_help = lambda: USAGE  # type: ignore[method-assign]
    found.add_argument("shell", choices=tuple(SHELLS), help="shell to print the script for")
    return found


def candidates(before: Sequence[str], current: str, commands: Mapping[str, str]) -> list[str]:
    """The words that complete `current`, after the words `before` it (without mnist-ff itself).

    Words with newlines, other control characters or invalid UTF-8 are left out: shells read them line by line and print
    them to the terminal.
    """
    with _own_options(before):
        found = _found(before, current, commands)
    return [word for word in found if word.startswith(current) and word.isprintable()]


@contextmanager
def _own_options(before: Sequence[str]) -> Iterator[None]:
    """Register the user's own parts and options for the block, if their files can be used."""
    with ExitStack() as stack:
        with suppress(ConfigError), redirect_stdout(io.StringIO()):  # a parts file may print
            stack.enter_context(loaded(with_variable(taken(before)[0])))
        try:
            stack.enter_context(using_folders(folders_of(flag_values(before))))
        except ConfigError:
            stack.enter_context(using_folders(()))
        yield


def _found(before: Sequence[str], current: str, commands: Mapping[str, str]) -> list[str]:
    if not before:
        found = [f"{name} " for name in (*commands, "--help", "--version")]
    elif before[0] == "completion":
        found = [f"{name} " for name in SHELLS]
    elif before == ["help"] and not current.startswith("-"):
        found = [f"{name} " for name in commands]
    elif before[0] == "train":
        found = list(_train(before[1:], current))
    elif before[0] in commands:
        found = list(_argparse(before[0], before[1:], current))
    else:
        found = []
    return found


def for_bash(line: str, replaced: str, commands: Mapping[str, str]) -> list[str]:
    """The words for bash, which replaces `replaced`, the end of `line`, by the chosen one without quoting it.

    Each word is quoted for the position where `replaced` begins, and leaves an open quote open. bash closes it after an
    only word, unless that ends with the same kind of quote.
    """
    words, places = read_line(line)
    cut = len(line) - len(replaced)
    if cut not in places or not line.endswith(replaced):
        return []
    quote, known = places[cut]
    found = candidates(words[1:-1], words[-1], commands)
    if not quote:
        return [quoted(word[known:].removesuffix(" "), "") + " " * word.endswith(" ") for word in found]
    texts = [quoted(word[known:].removesuffix(" "), quote) for word in found]
    return [f"{text}{quote[-1]}" if len(texts) == 1 and text.endswith(quote[-1]) else text for text in texts]


def _train(before: Sequence[str], current: str) -> Iterator[str]:
    kind = TRAIN_OPTIONS.get(before[-1]) if before else None
    if kind is not None:
        yield from _of_kind(kind, current)
        return
    if current.startswith("-"):
        yield from (f"{option} " for option in TRAIN_OPTIONS)
        return
    yield from _override_words(before, current, sweeping=bool({"-m", "--multirun"} & set(before)))


@dataclass(frozen=True)
class _Argument:
    """A call of add_argument in a command's source."""

    names: tuple[str, ...]
    kind: Kind
    """None for a flag, else choices or a metavar."""
    many: bool = False
    """Whether it takes several values."""

    @property
    def is_option(self) -> bool:
        """Whether it is an option; otherwise it is positional."""
        return self.names[0].startswith("-")


def _argparse(command: str, before: Sequence[str], current: str) -> Iterator[str]:
    arguments = [*arguments_of(command), _Argument(("--parts",), "FILE")]
    options = {name: argument for argument in arguments if argument.is_option for name in argument.names}
    open_option, given = _read(before, options)
    if current.startswith("-") and (open_option is None or open_option.many):
        yield from (f"{name} " for name in (*options, "--help"))
        return
    positional = [argument for argument in arguments if not argument.is_option]
    last = next((index for index, argument in enumerate(positional) if argument.many), len(positional))
    due = open_option or next(iter(positional[min(given, last) :]), None)
    if due is not None and due.kind is not None:
        yield from _of_kind(due.kind, current, before)


def _read(words: Sequence[str], options: Mapping[str, _Argument]) -> tuple[_Argument | None, int]:
    """The option whose value comes next after these words, or None, and the number of positional words."""
    due: _Argument | None = None
    given = 0
    for word in words:
        if word in options:
            due = None if options[word].kind is None else options[word]
        elif due is None:
            given += not word.startswith("-")
        elif not due.many:
            due = None
    return due, given


def arguments_of(command: str) -> list[_Argument]:
    """A command's arguments, read from its source: most commands import torch, which takes seconds."""
    path = Path(__file__).parent / f"{command.replace('-', '_')}.py"
    return list(_arguments(path, "add_arguments")) if path.is_file() else []


def _arguments(path: Path, name: str) -> Iterator[_Argument]:
    """The arguments that a function of a command's file adds, itself or through other functions named add_..."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    function = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name), None)
    if function is None:
        imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        home = next(str(node.module) for node in imports if name in [alias.name for alias in node.names])
        yield from _arguments(path.with_name(f"{home.rpartition('.')[2]}.py"), name)
        return
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument":
            yield _argument(call, constants)
        elif isinstance(call.func, ast.Name) and call.func.id.startswith("add_"):
            yield from _arguments(path, call.func.id)


def _argument(call: ast.Call, constants: Mapping[str, ast.expr]) -> _Argument:
    names = tuple(str(name.value) for name in call.args if isinstance(name, ast.Constant))
    given = {word.arg: _literal(word.value, constants) for word in call.keywords if word.arg is not None}
    if str(given.get("action", "")).startswith("store_"):
        return _Argument(names, None)
    many = given.get("nargs") in ("+", "*")
    listed = given.get("choices")
    if isinstance(listed, list | tuple | dict):
        return _Argument(names, tuple(map(str, listed)), many)
    return _Argument(names, str(given.get("metavar") or ""), many)


def _literal(node: ast.expr, constants: Mapping[str, ast.expr]) -> object:
    """The value of a literal, or of a name that the file assigns a literal to; list(NAME) is read as NAME."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "list" and node.args:
        node = node.args[0]
    if isinstance(node, ast.Name):
        node = constants.get(node.id, node)
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None  # only an import could resolve it


def _of_kind(kind: str | tuple[str, ...], current: str, before: Sequence[str] = ()) -> Iterator[str]:
    """The words for an argument with these choices or this metavar. None for other ones, such as files."""
    if isinstance(kind, tuple):
        yield from (f"{word} " for word in kind)
    elif "data.KEY=VALUE" in kind:
        yield from data_words(before)
    elif "KEY=VALUE" in kind:
        yield from _override_words(before, current, sweeping=False)
    elif kind == "GROUP/OPTION":
        known = options()
        names = [f"{group}/{name} " for group in known.files for name in copyable(known, group)]
        yield from names if "copy" in before else []
    elif kind == "KEY|GROUP":
        yield from shown_words(current)
    elif kind == "NAME":
        yield from (f"{name} " for name in options_of("experiment"))
    elif "RUN" in kind or "SWEEP" in kind:
        if "ACTION" in kind and not before:
            yield from (f"{word} " for word in RUN_ACTIONS)
        yield from ("last ", "best ")
        yield from run_names()
        yield from directories(current, runs="RUN" in kind, sweeps="SWEEP" in kind)


def _override_words(before: Sequence[str], current: str, sweeping: bool) -> Iterator[str]:
    if current.startswith("resume="):
        yield from (f"resume={path}" for path in _resumable(current.removeprefix("resume="), sweeping))
    elif current.startswith(TEACHER):
        word = current.removeprefix(TEACHER)
        yield from (f"{TEACHER}{path}" for path in (*run_names(), *directories(word, runs=True, sweeps=False)))
    else:
        yield from override_words(before, current, sweeping)


def _resumable(current: str, sweeping: bool) -> Iterator[str]:
    yield from ["last "] if sweeping else ["last ", "best "]
    yield from run_names()
    yield from directories(current, runs=not sweeping, sweeps=sweeping)


def run_names() -> Iterator[str]:
    """The names of the runs in outputs/, without those that a command would read as an option or a directory."""
    for name in dict.fromkeys(name for _, name in named() if name is not None):
        if not name.startswith("-") and not os.path.isdir(name):
            yield f"{name} "


def directories(current: str, runs: bool, sweeps: bool) -> Iterator[str]:
    """Run and sweep directories whose path begins with `current`, and folders that may contain some."""
    if not current:  # the default folders
        for folder in ("outputs", "outputs/sweeps"):
            yield from (path for path in _below(folder, "", runs, sweeps) if path.endswith(" "))
        return
    folder, slash, start = current.rpartition("/")
    yield from _below(folder + slash, start, runs, sweeps)


def _below(folder: str, start: str, runs: bool, sweeps: bool) -> Iterator[str]:
    head = folder if not folder or folder.endswith("/") else f"{folder}/"
    try:
        entries = sorted(os.scandir(folder or "."), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith(start) or entry.name.startswith(".") or not os.path.isdir(entry.path):
            continue
        path = f"{head}{entry.name}"
        if path.startswith("-"):
            continue  # it would be read as an option, unlike ./-name
        if os.path.exists(f"{path}/config.yaml"):
            if runs:
                yield f"{path} "
        elif sweeps and os.path.exists(f"{path}/jobs.json"):
            yield f"{path} "
        else:
            yield f"{path}/"
