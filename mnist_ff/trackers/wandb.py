"""logger=wandb: Weights & Biases, offline by default; a sweep is a group."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import S, TrackerConfig, with_absolute
from mnist_ff.runs.reading import is_file
from mnist_ff.runs.records import Status
from mnist_ff.trackers.base import END_TIMEOUT_S, Beginning, Ending, Tracker, final_metrics
from mnist_ff.trackers.heard import Fact, Heard
from mnist_ff.trackers.wandb_file import history_of, is_whole

if TYPE_CHECKING:
    import wandb


@dataclass(frozen=True)
class WandbConfig(TrackerConfig):
    """Weights & Biases."""

    mode: Annotated[
        Literal["offline", "online", "disabled"],
        "offline: files for wandb sync; online: needs wandb login; disabled: off",
    ]
    project: Annotated[str, "wandb project"]
    entity: Annotated[str | None, "user or team; null: the account's default"]
    directory: Annotated[str | None, "folder; null: wandb/ in the run directory"]

    @property
    def place(self) -> str:
        return "online" if self.mode == "online" else str(self.directory)

    @property
    def inside_run(self) -> bool:
        return self.directory is None and self.mode != "online"

    @property
    def off(self) -> str | None:
        return "logger.wandb.mode=disabled (or WANDB_MODE)" if self.mode == "disabled" else None

    def with_absolute_paths(self: S, path: str) -> S:
        return with_absolute(self, path, "directory")


class Wandb(Tracker):
    """History, config, summary, pictures, and the model as an artifact."""

    title = "wandb"

    def __init__(self, config: WandbConfig) -> None:
        self._config = config
        self.place = f"{config.mode}, project {config.project}"
        self._run: wandb.Run
        self._identity = ""
        self._heard = Heard()
        self._rows = 0

    def load(self) -> None:
        """Import the library, without its reports of errors over the network."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb  # noqa: F401

    def begin(self, beginning: Beginning, first_step: int) -> None:
        """Start or continue the run with this directory's identity."""
        import wandb

        if self._config.mode == "online" and not wandb.login(prompt=False):
            raise RuntimeError("not logged in; run wandb login first")
        folder = beginning.directory if self._config.directory is None else Path(self._config.directory)
        folder.mkdir(parents=True, exist_ok=True)
        self._identity = beginning.identity
        for row in self._in_files(folder) if self._config.mode == "offline" else ():
            self._note(row)
        self._run = wandb.init(
            mode=self._config.mode,
            project=self._config.project,
            entity=self._config.entity,
            dir=str(folder),
            id=beginning.identity,
            resume="allow" if self._config.mode == "online" else None,
            name=beginning.name,
            group=None if beginning.sweep is None else beginning.sweep.name,
            config={**beginning.config, **{f"run.{key}": value for key, value in beginning.tags.items()}},
            reinit="create_new",  # another job of the process may have one, and a user's script too
            settings=_quiet(),
        )
        self._run.define_metric("*", step_metric="step")
        if self._config.mode == "online" and self._run.resumed:
            for row in wandb.Api().run(self._run.path).scan_history():
                self._note(row)
        self.tell(beginning.earlier)

    def tell(self, facts: Sequence[Fact]) -> None:
        """A row for each fact, unless all of it is there already."""
        for fact in facts:
            if self._heard.lacking(fact):
                self._log(fact.step, fact.metrics)

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        """One row, numbered after the rows of the run's earlier files. An online run does that itself."""
        number = self._rows if self._config.mode == "offline" else None
        self._run.log({"step": step, **values}, step=number, commit=True)
        self._rows += 1

    def _in_files(self, folder: Path) -> Iterator[dict[str, Any]]:
        """The history of the files of this run: each process of it writes one."""
        for path in sorted((folder / "wandb").glob(f"offline-run-*/run-{self._identity}.*")):
            if is_file(path):
                yield from history_of(path)

    def _note(self, row: Mapping[str, Any]) -> None:
        self._rows = max(self._rows, _number(row.get("_step"), -1) + 1)
        step = _number(row.get("step"), -1)
        for name, value in row.items():
            if isinstance(value, int | float):
                self._heard.add(step, name, float(value))

    def end(self, ending: Ending, step: int) -> None:
        """Score, status, pictures, model."""
        import wandb

        pictures = {f"plots/{picture.stem}": wandb.Image(str(picture)) for picture in ending.pictures}
        metrics = final_metrics(ending)
        new = self._heard.lacking(Fact(max(step, 0), metrics))
        if new or pictures:
            self._log(max(step, 0), {**new, **pictures})
        self._run.summary.update({"status": ending.status, "cause": ending.cause})
        if ending.model is not None:
            model = wandb.Artifact(f"model-{self._identity}", type="model")
            model.add_file(str(ending.model), skip_cache=True, policy="immutable")
            self._run.log_artifact(model)
        self._run.finish(exit_code=0 if ending.status in (Status.FINISHED, Status.PRUNED) else 1)
        path, until = Path(self._run.settings.sync_file), time.monotonic() + END_TIMEOUT_S
        while not is_whole(path) and time.monotonic() < until:  # its other process may write a moment longer
            time.sleep(0.05)


def _number(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise


def _quiet() -> wandb.Settings:
    """Nothing is printed, asked or captured: neither the console, nor code and git, nor the machine's metrics."""
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        save_code=False,
        symlink=False,
        finish_timeout=END_TIMEOUT_S,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
    )


register(Part("tracker", "wandb", WandbConfig, Wandb, needs=("wandb",)))
