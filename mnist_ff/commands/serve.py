"""Show runs in a browser: a list, a live view of a training, reports and comparisons. Nothing is written."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import shlex
import socket
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from mnist_ff.analysis.console import out, tell
from mnist_ff.config.paths import display_path, path_argument
from mnist_ff.errors import BadRunError, ConfigError
from mnist_ff.runs.find import OUTPUTS
from mnist_ff.runs.reading import is_folder, why_no_folder

NEEDS = ("starlette", "uvicorn", "h11")
LARGEST_PORT = 65_535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "folder",
        nargs="?",
        type=path_argument,
        default=OUTPUTS,
        metavar="DIR",
        help="folder of runs (default: outputs)",
    )
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port on 127.0.0.1 (default: a free one)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--open", action="store_true", help="open a browser (default: where there is a screen, not over SSH)"
    )
    form.add_argument("--no-open", action="store_true", help="open no browser")
    parser.add_argument(
        "--json", action="store_true", help="print url, port and token as one line of JSON; open no browser"
    )


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Serve until Ctrl-C. Errors: ConfigError; BadRunError if the path is not a folder."""
    _check(arguments)
    from mnist_ff.serve.app import guarded
    from mnist_ff.serve.guard import Tokens
    from mnist_ff.serve.listing import Listing
    from mnist_ff.serve.server import LOOPBACK, has_browser, listen_on, open_browser, serve

    listener = listen_on(arguments.port)
    port, tokens, listing = listener.getsockname()[1], Tokens(), Listing(arguments.folder)
    address = f"http://{LOOPBACK}:{port}/"
    url = f"{address}?token={tokens.token}"

    def ready() -> None:
        if arguments.json:
            out(json.dumps({"url": url, "port": port, "token": tokens.token}))
        else:
            _say(console, arguments.folder, url, port)
        console.file.flush()
        if arguments.open or (not arguments.no_open and not arguments.json and has_browser()):
            open_browser(f"{address}?once={tokens.new_one_time_token()}")

    listing.start()
    serve(guarded(listing, tokens), listener, ready)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Check the arguments. Errors: ConfigError for an invalid port or a missing package; BadRunError."""
    if not 0 <= arguments.port <= LARGEST_PORT:
        raise ConfigError(f"--port {arguments.port}: must be from 0 to {LARGEST_PORT:,}; 0 is a free one")
    folder: Path = arguments.folder
    if folder != OUTPUTS and not is_folder(folder):
        raise BadRunError(f"{folder}: {why_no_folder(folder)}; mnist-ff serve without a folder shows outputs/")
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        raise ConfigError(f"serve needs {' and '.join(missing)}: pip install 'mnist-ff[serve]'")


def _say(console: Console, folder: Path, url: str, port: int) -> None:
    host = f"{_user()}@{socket.gethostname()}" if _user() else socket.gethostname()
    tell(console, f"{display_path(folder)}/, read only, until Ctrl-C")
    tell(console, f"open      {url}")
    tell(console, f"over SSH  ssh -N -L {port}:127.0.0.1:{port} {shlex.quote(host)}")


def _user() -> str:
    """The user's name, empty if it is unknown."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return os.environ.get("USER", "")
