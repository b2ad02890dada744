"""A file beside the database that lists who was erased, and when. Blocking.

A restored backup may bring erased members back: this list says whom to erase again. It holds ids
and times only.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from core.errors import StoreError, write_error
from data.storage.files import replace_atomically
from i18n.phrase import phrase


class Tombstones:
    """The erased members, each with the time of the last erasure."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, user_id: int) -> None:
        """Record that a member is erased now. Raises StoreError: the file cannot be read or
        written; it stays as it was."""
        known = self._read() | {str(user_id): datetime.now(UTC).isoformat()}
        made = self._path.with_name(f".{self._path.name}.new")
        try:
            made.write_text(json.dumps(known, indent=1), encoding="utf-8")
            replace_atomically(made, self._path)
        except OSError as e:
            made.unlink(missing_ok=True)
            raise write_error(str(self._path), e) from e

    def since(self, moment: datetime) -> list[int]:
        """The members who were erased at that time or later. Raises StoreError: the file cannot be
        read."""
        known = self._read().items()
        return [int(user_id) for user_id, at in known if datetime.fromisoformat(at) >= moment]

    def _read(self) -> dict[str, str]:
        try:
            known: dict[str, str] = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as e:
            raise StoreError(
                phrase(
                    "{file} cannot be read: {error}. Repair it, or move it away.",
                    file=self._path,
                    error=e,
                )
            ) from e
        return known
