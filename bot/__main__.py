"""The command `gpt2bot`: the one place where its errors become a sentence and an exit status."""

from __future__ import annotations

import sys

from bot.cli import app
from bot.settings import Later, SettingsError
from data.errors import DiskFull, ImportRefused, StoreError
from model.errors import ModelError
from training.errors import TrainingError

FAILED = 2
"""The exit status of an error that a person can mend."""
LATER = 75
"""That of one that may be over later, so starting again is worth while (EX_TEMPFAIL of sysexits.h).
"""


def main() -> None:
    """Run the command line; an expected error is one sentence on stderr, without a traceback."""
    try:
        app()
    except (Later, DiskFull) as e:
        sys.stderr.write(f"{e}\n")
        sys.exit(LATER)
    except (SettingsError, StoreError, ImportRefused, ModelError, TrainingError) as e:
        sys.stderr.write(f"{e}\n")
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
