"""Errors that several packages raise or catch. Each package's own errors are in its errors.py.

StoreError           the database, or a file beside it, cannot be opened, read or written
├── NewerDatabase    a newer version of the bot wrote the database
├── CorruptDatabase  the database file is damaged
├── WrongKey         the database is encrypted with another key
├── NoConsent        training on a member's words without their consent
└── DiskFull         there is no room left to write

ImportRefused        a file of pairs cannot be read; nothing of it was imported
└── ImportCancelled  the import was stopped

Refusal              what a person asks for cannot be done

The message of each is a sentence that a person in Discord can read.
"""

from __future__ import annotations

import errno

from i18n.phrase import phrase

DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The disk, or our quota on it, is full."""


class StoreError(Exception):
    """The database, or a file beside it, cannot be opened, read or written."""


class NewerDatabase(StoreError):
    """A newer version of the bot wrote the database, which was not changed."""


class CorruptDatabase(StoreError):
    """The database file is damaged."""


class WrongKey(StoreError):
    """The database is encrypted with another key, or its beginning is damaged."""


class ImportRefused(Exception):
    """A file of pairs cannot be read; the sentence says what to do."""


class ImportCancelled(ImportRefused):
    """The import was stopped; nothing was imported."""

    def __init__(self) -> None:
        super().__init__(phrase("The import was stopped; nothing was imported."))


class Refusal(Exception):
    """What a person asks for cannot be done; the message tells them why."""


class NoConsent(StoreError):
    """Training on the words of a member who did not consent to that in this server."""

    def __init__(self) -> None:
        super().__init__(
            phrase(
                "Nothing was stored: the member who wrote this did not agree that I learn from it."
            )
        )


class DiskFull(StoreError):
    """There is no room left to write; earlier writes are intact."""

    def __init__(self) -> None:
        super().__init__(
            phrase("The disk is full, so this could not be saved: free some space, then try again.")
        )


def write_error(what: str, error: OSError) -> StoreError:
    """The error for a file that could not be written; `what` is the subject of its sentence."""
    if error.errno in DISK_FULL_ERRNOS:
        return DiskFull()
    return StoreError(phrase("{what} could not be written: {why}.", what=what, why=error.strerror))
