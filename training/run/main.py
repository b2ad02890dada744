"""The process of a training run: `python -m training.run JOB_DIR`.

JOB_DIR holds `config.json` (training.config), `dataset.jsonl` and, if the run is to be scored,
`held_out.jsonl`. The run writes JOB_DIR/checkpoint, sealed by its manifest, and reports its
progress on stdout, one JSON event a line (training.jobs.events). It reads `pause`, `hold` and `go`
from stdin (training.jobs.process). What it needs to resume is in JOB_DIR/steps. It opens no
database and knows nothing of Discord.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import transformers

from core.subprocesses import lower_priority
from training.errors import TrainingError
from training.jobs.events import event_writer
from training.jobs.folder import lock_job
from training.jobs.process import configure_child_logging
from training.run.failure import failure_event
from training.run.loop import Control, Emit, rank
from training.run.train import train

NICE = 19
"""The lowest priority: replies come first, and the run gets the time that the worker leaves."""


def main(job: Path) -> int:
    """Run JOB_DIR; the exit status is 0 unless the run failed."""
    lower_priority(NICE)
    _configure_logging()
    write = event_writer()
    emit: Emit = write if rank() == 0 else lambda _: None
    control = Control()
    signal.signal(signal.SIGTERM, lambda *_: control.receive("pause"))
    if rank() == 0:  # the other processes follow the first (`loop._broadcast_flags`)
        threading.Thread(target=_read_control, args=(control,), daemon=True).start()
    try:
        with lock_job(job, rank()):
            train(job, emit, control, _process_began())
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt | SystemExit):
            raise
        emit(failure_event(e, job))
        if isinstance(e, TrainingError):
            return 1
        raise
    return 0


def _process_began() -> float:
    """When this process was started, by `time.monotonic`: its imports take long."""
    return time.monotonic() - (time.time() - float(psutil.Process().create_time()))


def _configure_logging() -> None:
    configure_child_logging()
    library_log: Any = transformers.utils.logging  # its functions have no types
    library_log.set_verbosity_error()
    library_log.disable_progress_bar()
    library_log.disable_default_handler()  # its lines are formatted as ours are
    library_log.enable_propagation()


def _read_control(control: Control) -> None:
    """Receive words from stdin. Its end means that the bot is gone: save, and end too."""
    for line in sys.stdin:
        control.receive(line.strip())
    control.receive("pause")
