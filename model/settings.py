"""Settings of the worker process. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.logging import LogFormat


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """`threads` of computation (None: one per core); `precision` of the weights on a CPU;
    `build_cache` is the folder of built models (None: a temporary one).

    At most `max_sequences` replies run and `max_waiting` wait, each for `deadline_s` seconds at
    most. `memory_mb` is for the weights of all models, `cache_mb` for their KV and prefix caches.
    Replies get `drain_s` seconds at a shutdown.
    """

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
