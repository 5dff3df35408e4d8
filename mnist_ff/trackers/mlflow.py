"""logger=mlflow: a run in a local SQLite store or on a server, through MLflow's client; a sweep is a parent run."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mnist_ff.config.messages import brief_text
from mnist_ff.config.passwords import check_no_password
from mnist_ff.config.paths import absolute
from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import TrackerConfig
from mnist_ff.errors import ConfigError
from mnist_ff.runs.records import Status
from mnist_ff.trackers.base import Beginning, Ending, Tracker, final_metrics
from mnist_ff.trackers.heard import Fact, Heard

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAX_METRICS_PER_CALL = 1000
"""Metrics that one call may log, by MLflow's own limit; 100 parameters and tags."""
MAX_PARAM_CHARS = 500
"""Characters of a parameter's or tag's value that every version of MLflow takes."""
MLFLOW_STATUSES = {Status.FINISHED: "FINISHED", Status.PRUNED: "FINISHED", Status.INTERRUPTED: "KILLED"}
"""MLflow's word for ours; all others are FAILED."""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # on by default, and over the network
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # MLflow's own: minutes for a server that is gone
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Settings of MLflow's that hold unless the user has set others."""


URIS = "sqlite:///FILE, postgresql://, mysql://, mssql:// or http(s)://..., or databricks; without a password"
SQLITE = "sqlite:///"
"""What a file's path follows in a URI."""


@dataclass(frozen=True)
class MLflowConfig(TrackerConfig):
    """An MLflow store or server."""

    tracking_uri: Annotated[str, URIS]
    experiment: Annotated[str, "MLflow experiment"]

    @property
    def place(self) -> str:
        return self.tracking_uri

    def check(self, path: str) -> None:
        """In no error stands a password."""
        key, uri = f"{path}.tracking_uri", self.tracking_uri
        check_no_password(key, uri)
        if uri.startswith("file:") or ("://" not in uri and uri != "databricks"):
            raise ConfigError(
                f"{key}={uri}: is a folder, which MLflow no longer supports for new runs; give sqlite:///FILE "
                "(mlflow migrate-filestore converts old stores)"
            )
        if not re.fullmatch("(sqlite|postgresql|mysql|mssql|https?)://.+|databricks", uri):
            raise ConfigError(f"{key}={brief_text(uri)}: must be {URIS}")

    def with_absolute_paths(self, path: str) -> MLflowConfig:
        if not self.tracking_uri.startswith(SQLITE):
            return self
        file = absolute(f"{path}.tracking_uri", self.tracking_uri.removeprefix(SQLITE))
        return replace(self, tracking_uri=SQLITE + file)


class MLflow(Tracker):
    """Parameters, metrics, pictures and the model as artifacts."""

    title = "MLflow"

    def __init__(self, config: MLflowConfig) -> None:
        self._config = config
        self.place = config.tracking_uri
        self._client: MlflowClient
        self._run = ""
        self._parent: str | None = None
        self._heard = Heard()

    def load(self) -> None:
        """Import the client."""
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        import mlflow.entities  # noqa: F401

    def begin(self, beginning: Beginning, first_step: int) -> None:
        """Find the run that this directory had before, or make one."""
        from mlflow import MlflowClient

        with self._alone(beginning):
            self._make_store()
            self._client = MlflowClient(tracking_uri=self._config.tracking_uri)
            experiment = self._experiment()
            if beginning.sweep is not None:
                self._parent = self._parent_of(experiment, beginning.sweep)
        earlier = self._found(experiment, "identity", beginning.identity)
        if earlier is None:
            own = {f"mnist_ff.{key}": value for key, value in beginning.tags.items()}
            tags = own | {"mnist_ff.identity": beginning.identity}
            if self._parent is not None:
                tags["mlflow.parentRunId"] = self._parent
            self._run = self._client.create_run(experiment, run_name=beginning.name, tags=_cut(tags)).info.run_id
            self._params(beginning.config)
        else:
            self._run = earlier.info.run_id
            self._client.update_run(self._run, status="RUNNING")
            self._go_on(beginning, earlier)
        self.tell(beginning.earlier)

    def tell(self, facts: Sequence[Fact]) -> None:
        """The metrics that the run does not have. A changed value stands beside the old one: MLflow deletes none."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)  # milliseconds since 1970
        new = [Metric(name, value, now, fact.step) for fact in facts for name, value in self._lacking(fact)]
        for start in range(0, len(new), MAX_METRICS_PER_CALL):
            self._client.log_batch(self._run, metrics=new[start : start + MAX_METRICS_PER_CALL])

    def _lacking(self, fact: Fact) -> list[tuple[str, float]]:
        return list(self._heard.lacking(fact).items())

    def end(self, ending: Ending, step: int) -> None:
        """Score, pictures, model, status."""
        self.tell([Fact(max(step, 0), final_metrics(ending))])
        for picture in ending.pictures:
            self._client.log_artifact(self._run, str(picture), "plots")
        if ending.model is not None:
            self._client.log_artifact(self._run, str(ending.model), "model")
        for key, value in (("status", ending.status), ("cause", ending.cause or "")):
            self._client.set_tag(self._run, f"mnist_ff.{key}", value[:MAX_PARAM_CHARS])
        self._client.set_terminated(self._run, MLFLOW_STATUSES.get(ending.status, "FAILED"))
        if self._parent is not None:
            self._client.set_terminated(self._parent)

    def _alone(self, beginning: Beginning) -> AbstractContextManager[Any]:
        """Nobody else makes a store's tables or a sweep's parent run meanwhile: jobs begin in the same second."""
        from filelock import FileLock

        if self._config.tracking_uri.startswith(SQLITE):
            file = Path(self._config.tracking_uri.removeprefix(SQLITE))
            file.parent.mkdir(parents=True, exist_ok=True)
            return FileLock(f"{file}.lock")
        return nullcontext() if beginning.sweep is None else FileLock(beginning.sweep / ".mlflow.lock")

    def _make_store(self) -> None:
        """A SQLite file gets its name once it has all its tables: MLflow cannot open one whose making was cut short."""
        from mlflow import MlflowClient

        uri = self._config.tracking_uri
        file = Path(uri.removeprefix(SQLITE))
        if uri.startswith(SQLITE) and "?" not in uri and not file.exists():
            unfinished = file.with_name(f"{file.name}.new")
            unfinished.unlink(missing_ok=True)
            MlflowClient(tracking_uri=f"{SQLITE}{unfinished}").search_experiments(max_results=1)
            unfinished.replace(file)

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._config.experiment)
        if found is not None:
            return str(found.experiment_id)
        place = None
        if self._config.tracking_uri.startswith(SQLITE):  # MLflow's own choice is the working folder
            place = (Path(self._config.tracking_uri.removeprefix(SQLITE)).parent / "artifacts").as_uri()
        return self._client.create_experiment(self._config.experiment, artifact_location=place)

    def _found(self, experiment: str, tag: str, value: str) -> Any:
        text = value.replace("'", "''")
        runs = self._client.search_runs([experiment], f"tags.`mnist_ff.{tag}` = '{text}'", max_results=1)
        return runs[0] if runs else None

    def _parent_of(self, experiment: str, sweep: Path) -> str:
        """The run that stands for a sweep; it holds nothing but its jobs, and is found by the sweep's name."""
        found = self._found(experiment, "sweep_directory", str(sweep))
        if found is None:
            found = self._client.create_run(
                experiment, run_name=sweep.name, tags={"mnist_ff.sweep_directory": str(sweep)}
            )
        return str(found.info.run_id)

    def _params(self, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(key, value) for key, value in _cut(config).items()]
        for start in range(0, len(params), 100):
            self._client.log_batch(self._run, params=params[start : start + 100])

    def _go_on(self, beginning: Beginning, earlier: Any) -> None:
        """Parameters cannot change: what a resume changed becomes a tag. All metrics that are there are noted."""
        params, tags = earlier.data.params, earlier.data.tags
        self._params({key: value for key, value in beginning.config.items() if key not in params})  # a kill came before
        now = {"mnist_ff.directory": str(beginning.tags.get("directory", beginning.directory))}
        for key, value in beginning.config.items():
            name = f"mnist_ff.resumed.{key}"
            if name in tags or _cut({key: value})[key] != params.get(key, _cut({key: value})[key]):
                now[name] = value
        for name, value in _cut(now).items():
            if tags.get(name) != value:
                self._client.set_tag(self._run, name, value)
        for name in earlier.data.metrics:
            for metric in self._client.get_metric_history(self._run, name):
                self._heard.add(metric.step, name, metric.value)


def _cut(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value)[:MAX_PARAM_CHARS] for key, value in values.items()}


register(Part("tracker", "mlflow", MLflowConfig, MLflow, needs=("mlflow", "sqlalchemy", "alembic")))
