"""Commands for the next steps after a run."""

from __future__ import annotations

import shlex

from mnist_ff.analysis.rows import Row
from mnist_ff.config.paths import display_path
from mnist_ff.config.schema import Config
from mnist_ff.errors import BadRunError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.further import overrides_to_continue
from mnist_ff.runs.given import given_arguments, python_call
from mnist_ff.runs.parts import parts_words
from mnist_ff.runs.records import Status


def next_steps(run: Run, config: Config, row: Row) -> list[tuple[str, str]]:
    """Pairs of a command and what it does."""
    path = shlex.quote(str(display_path(run.path)))
    if given_arguments(config):
        commands = [(python_call(display_path(run.path), config), "train on, in Python with the same arguments")]
    else:
        commands = _commands_with_the_model(run, config, row, path)
    return [
        *commands,
        (f"mnist-ff compare {path}", "compare with other runs"),
        (f"mnist-ff report {path}", "write this report again"),
    ]


def _commands_with_the_model(run: Run, config: Config, row: Row, path: str) -> list[tuple[str, str]]:
    parts, commands = parts_words(run), []
    if row.test is not None:
        commands += [
            (f"mnist-ff evaluate {path}{parts}", "evaluate it, with metrics per class"),
            (f"mnist-ff predict {path} --index 0 1 2{parts}", "classify test images, or image files"),
            (f"mnist-ff export {path} --format onnx{parts}", "export the model; also safetensors and torch"),
        ]
    more = _further(run, config) if row.status == Status.FINISHED else None
    if more is not None:
        commands.append((f"mnist-ff train {' '.join([f'resume={path}', *more])}{parts}", "train on"))
    elif row.status == Status.INTERRUPTED:
        commands.append((f"mnist-ff train resume={path}{parts}", "resume the run"))
    again = f"mnist-ff train --config-of {path} seed={(config.seed or 0) + 1}{parts}"
    return [*commands, (again, "train again with another seed")]


def _further(run: Run, config: Config) -> list[str] | None:
    """The overrides with which a resume trains on; None if there are none or the summary cannot be read."""
    try:
        summary = run.summary()
    except BadRunError:
        return None
    return None if summary is None else overrides_to_continue(config, summary)
