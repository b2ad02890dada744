"""Launches runs on a cluster: what `TrainingProcess.launch` does on this machine.

The bot's process knows neither Ray nor the cluster: it starts a follower for each run
(`training.cluster.follower`), and the rest is as without one.
"""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from core.logging import LogFormat
from training.jobs.launch import TrainingChild
from training.jobs.process import KILL_TIMEOUT_S, TrainingProcess


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLaunch:
    """Launches a job's run; the fields are those of `training.cluster.follower.FollowerOptions`."""

    address: str
    cpus: float = 4.0
    devices: int = 1
    cache: str | None = None
    log_format: LogFormat = "text"

    def __call__(self, job: Path) -> AbstractAsyncContextManager[TrainingChild]:
        launcher = (
            *(sys.executable, "-m", "training.cluster", "--address", self.address),
            *("--cpus", str(self.cpus), "--devices", str(self.devices)),
            *(("--cache", self.cache) if self.cache else ()),
            "--",
        )
        return TrainingProcess.launch(job, launcher, self.log_format, grace_s=KILL_TIMEOUT_S)
