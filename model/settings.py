"""How the worker process is run. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.logging import LogFormat


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """`threads` of computation (None: one a core); `precision` of the weights on a CPU;
    `build_cache` is the folder for models that were made ready to run (None: one that is gone with
    the worker).

    `max_sequences` replies are written at a time, `max_waiting` wait for that, and none takes
    longer than `deadline_s` seconds. `peak_memory_mb` for the weights of all models, `cache_mb` for
    what they have read. `drain_s` seconds that replies get at a shutdown; `log_level` from which on
    it writes to stderr, in its `log_format`."""

    threads: int | None = None
    precision: Literal["int8", "fp32"] = "int8"
    build_cache: Path | None = None
    max_sequences: int = 16
    max_waiting: int = 64
    deadline_s: float = 120.0
    memory_mb: float = 2048
    cache_mb: float = 320
    drain_s: float = 10.0
    log_level: str = "WARNING"
    log_format: LogFormat = "text"
