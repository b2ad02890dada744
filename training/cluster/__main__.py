"""`python -m training.cluster --address ADDRESS [OPTION…] -- [LAUNCHER…] -m training.run JOB_DIR`.

The process in which a follower (`training.cluster.follower`) runs. It stands in the place of the
run, so the bot does not know the difference; and Ray, which may end a process that is connected to
it, does not end the bot's.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

from core.cluster.connection import ClusterError
from core.logging import configure_logging
from i18n.phrase import message_of, phrase
from training.cluster.follower import Follower, FollowerOptions, Words
from training.errors import TrainingError
from training.jobs.events import Failed, event_writer
from training.jobs.folder import latest_saved_step, lock_job
from training.jobs.process import LOG_FORMAT_VARIABLE


def main(arguments: list[str]) -> int:
    """Follow a run to its end; the exit status is its own."""
    as_json = os.environ.get(LOG_FORMAT_VARIABLE) == "json"
    configure_logging("WARNING", "json" if as_json else "text")
    tell = event_writer()
    job, options = _parse(arguments)
    words = Words()
    threading.Thread(target=words.listen, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with lock_job(job):
            return Follower(job, options, words, tell).follow()
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


def _parse(arguments: list[str]) -> tuple[Path, FollowerOptions]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--cpus", type=float, default=4.0)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--cache")
    parser.add_argument("run", nargs="+")
    found = vars(parser.parse_args(arguments))
    *launcher, _, _, job = found.pop("run")
    return Path(job), FollowerOptions(launcher=tuple(launcher), **found)


def _end_as(status: int) -> None:
    """End at once, as the run did: Ray's own end could wait for a cluster that is gone."""
    sys.stderr.flush()
    if status < 0:
        os.kill(os.getpid(), -status)
    os._exit(status if status >= 0 else 1)


if __name__ == "__main__":
    try:
        ended = main(sys.argv[1:])
    except SystemExit as e:
        ended = e.code if isinstance(e.code, int) else 1
    _end_as(ended)
