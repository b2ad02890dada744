"""`python -m training.cluster.driver --address ADDRESS [OPTION…] -- [LAUNCHER…] -m training.run
JOB_DIR`.

The process that is connected to Ray, in which a follower (`training.cluster.follower`) runs. Before
it ends by itself it says as what (`training.cluster.supervisor.last_word`), which it cannot when
Ray ends it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from core.cluster.connection import ClusterError
from core.subprocesses import own_stdout
from i18n.phrase import message_of, phrase
from training.cluster.follower import (
    ANSWER_S,
    QUIET_S,
    Follower,
    FollowerOptions,
    ForgottenError,
    Words,
)
from training.cluster.supervisor import REACH_S, last_word
from training.errors import TrainingError
from training.jobs.events import Failed, event_writer
from training.jobs.folder import latest_saved_step, lock_job
from training.jobs.process import configure_child_logging


def main(arguments: list[str], out: TextIO) -> int | None:
    """Follow a run to its end; returns its exit status, or None if another driver has to."""
    configure_child_logging()
    tell = event_writer(out)
    job, options = _parse(arguments)
    words = Words()
    threading.Thread(target=_listen, args=(words,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with lock_job(job):
            return Follower(job, options, words, tell).follow()
    except ForgottenError:
        return None
    except ClusterError as e:
        tell(Failed(message_of(e), resumable=True))
    except TrainingError as e:
        tell(Failed(message_of(e), resumable=latest_saved_step(job) is not None))
    except Exception as e:
        traceback.print_exc()
        kind = type(e).__name__
        reason = phrase("Training stopped with an error ({kind}); see the job's log.", kind=kind)
        tell(Failed(reason))
    return 1


def _listen(words: Words) -> None:
    """Without its supervisor it ends at once, and Ray ends the run."""
    words.listen()
    os._exit(1)


def _parse(arguments: list[str]) -> tuple[Path, FollowerOptions]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--cpus", type=float, default=4.0)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--cache")
    parser.add_argument("--reach-s", type=float, default=REACH_S)
    parser.add_argument("--quiet-s", type=float, default=QUIET_S)
    parser.add_argument("--answer-s", type=float, default=ANSWER_S)
    parser.add_argument("run", nargs="+")
    found = vars(parser.parse_args(arguments))
    *launcher, _, _, job = found.pop("run")
    return Path(job), FollowerOptions(launcher=tuple(launcher), **found)


if __name__ == "__main__":
    out = own_stdout()
    try:
        ended = main(sys.argv[1:], out)
    except SystemExit as e:
        ended = e.code if isinstance(e.code, int) else 1
    if ended is not None:
        with suppress(BrokenPipeError):
            out.write(last_word(ended))
    sys.stderr.flush()
    os._exit(0)  # at once: Ray's own end could wait for a cluster that is gone
