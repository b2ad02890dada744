"""How the worker process is run. Values only."""

from __future__ import annotations

from dataclasses import dataclass

LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
"""Of the bot and of its worker: their lines share the operator's terminal."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """`threads` of computation (None: one a core); `max_sequences` replies in one batch;
    `max_models` in memory at a time; `drain_s` seconds that replies get at a shutdown;
    `log_level` from which on it writes to stderr."""

    threads: int | None = None
    max_sequences: int = 16
    max_models: int = 3
    drain_s: float = 10.0
    log_level: str = "WARNING"
