"""Runs a step of `data.storage.backup` in a process that kills itself before its n-th change of a
file.

`python -m tests.data.storage.steps N back_up DATABASE` or `… N restore BACKUP DATABASE`. Writes
"done" if it lived to the end.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from pathlib import Path

from data.storage.backup import create_backup, restore

CHANGES = {"os.link", "os.remove", "os.rename", "tempfile.mkstemp", "sqlite3.connect", "time.sleep"}
"""What Python tells its audit hooks before it does it."""


def die_before(number: int) -> None:
    changes = count(1)

    def heard(event: str, _values: tuple[object, ...]) -> None:
        if event in CHANGES and next(changes) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(heard)


if __name__ == "__main__":
    die_before(int(sys.argv[1]))
    match sys.argv[2:]:
        case ["back_up", database]:
            create_backup(Path(database), keep=2)
        case ["restore", backup, database]:
            restore(Path(backup), Path(database))
    sys.stdout.write("done")
