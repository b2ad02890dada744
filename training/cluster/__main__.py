"""`python -m training.cluster --address ADDRESS [OPTION…] -- [LAUNCHER…] -m training.run JOB_DIR`.

Stands in the place of the run, so the bot does not know the difference: the supervisor of the
process that follows it (`training.cluster.supervisor`). The options are those of
`training.cluster.driver`. Imports no Ray.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading

from training.cluster.supervisor import DRIVER, REACH_S, Supervisor
from training.jobs.events import event_writer
from training.jobs.process import configure_child_logging


def main(arguments: list[str]) -> int:
    """Follow a run to its end; the exit status is its own."""
    configure_child_logging()
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--reach-s", type=float, default=REACH_S)
    reach_s = parser.parse_known_args(arguments)[0].reach_s
    supervisor = Supervisor((*DRIVER, *arguments), event_writer(), reach_s)
    signal.signal(signal.SIGTERM, lambda *_: supervisor.stop())
    threading.Thread(target=supervisor.listen, daemon=True).start()
    return supervisor.run()


def _end_as(status: int) -> None:
    """End as the run did, whatever the thread that listens is at."""
    sys.stderr.flush()
    if status < 0:
        os.kill(os.getpid(), -status)
    os._exit(status if status >= 0 else 1)


if __name__ == "__main__":
    _end_as(main(sys.argv[1:]))
