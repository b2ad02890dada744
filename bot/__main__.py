"""The command `gpt2bot`: the one place where its errors become a sentence and an exit status."""

from __future__ import annotations

import io
import sys

from bot.cli.main import app
from bot.settings import SettingsError, TransientError, operator_language
from core.cluster.connection import ClusterError
from core.errors import DiskFull, ImportRefused, StoreError
from i18n.catalogue import ENGLISH
from i18n.phrase import message_of
from i18n.reader import say, set_language
from model.errors import ModelError
from training.errors import TrainingError

EXIT_FAILURE = 2
"""The exit status of an error that a person can mend."""
EXIT_TEMPFAIL = 75
"""That of one that may be over later, so starting again is worth while (EX_TEMPFAIL of sysexits.h).
"""
EXPECTED_ERRORS = (
    SettingsError,
    StoreError,
    ImportRefused,
    ModelError,
    TrainingError,
    ClusterError,
)
"""What a sentence is enough for."""
JAPANESE_SAMPLE = "日本語"
"""What a terminal has to have for Japanese."""


def main() -> None:
    """Run the command line; an expected error is one sentence on stderr, without a traceback.

    Everything is said in the operator's language, until somebody in Discord is to read it; in
    English where the terminal, or the file in its place, has no letters for that.
    """
    set_language(operator_language() if _can_print_japanese() else ENGLISH)
    try:
        app()
    except (TransientError, DiskFull) as e:
        sys.stderr.write(f"{say(message_of(e))}\n")
        sys.exit(EXIT_TEMPFAIL)
    except EXPECTED_ERRORS as e:
        sys.stderr.write(f"{say(message_of(e))}\n")
        sys.exit(EXIT_FAILURE)


def _can_print_japanese() -> bool:
    """Whether all that is written to stdout can be; it never fails from here on, as on stderr."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return True
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        JAPANESE_SAMPLE.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


if __name__ == "__main__":
    main()
