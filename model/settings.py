"""How the worker process is run. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """`threads` of computation (None: one a core); `max_sequences` replies in one batch;
    `max_models` in memory at a time; `drain_s` seconds that replies get at a shutdown."""

    threads: int | None = None
    max_sequences: int = 16
    max_models: int = 3
    drain_s: float = 10.0
