"""One job of a sweep as plain data that another process, here or on another machine, takes up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.utils import run_job
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from mnist_ff.config.compose import hydra_session
from mnist_ff.sweeps.job_run import JobResult, SweepJob


@dataclass(frozen=True)
class Task:
    """What Hydra's own launcher does for one job, to be done elsewhere. It holds nothing of Hydra's state: the worker
    makes its own, so that any process that has mnist_ff can read its pickle."""

    config: DictConfig
    """The sweep's composed config."""
    job: SweepJob
    overrides: tuple[str, ...]
    number: int
    subdir: str
    """The job's directory below the sweep's."""
    threads: int
    """For a job with trainer.threads=null."""

    def __call__(self) -> JobResult:
        """Train in the job's directory. Errors: those that came before the job's own work; see SweepJob."""
        import torch

        torch.set_num_threads(self.threads)  # a job with trainer.threads=null takes and records them
        with hydra_session() as hydra:
            composed = hydra.config_loader.load_sweep_config(self.config, list(self.overrides))
            with open_dict(composed):
                composed.hydra.job.id = composed.hydra.job.num = self.number
            done = run_job(
                hydra_context=HydraContext(hydra.config_loader, Callbacks(composed)),
                task_function=self.job,
                config=composed,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
        result: Any = done.return_value
        assert isinstance(result, JobResult)
        return result
