"""The command `gpt2bot`: the one place where its errors become a sentence and an exit status."""

from __future__ import annotations

import sys

from bot.cli import app
from bot.settings import SettingsError
from data.errors import ImportRefused, StoreError
from model.errors import ModelError
from training.errors import TrainingError

FAILED = 2
"""The exit status of an error that a person can mend."""


def main() -> None:
    """Run the command line; an expected error is one sentence on stderr, without a traceback."""
    try:
        app()
    except (SettingsError, StoreError, ImportRefused, ModelError, TrainingError) as e:
        sys.stderr.write(f"{e}\n")
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
