"""A file beside the database that lists who was erased, and when. Blocking.

A restored backup may bring erased members back: this list says whom to erase again. It holds ids
and times only.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.errors import StoreError, write_error
from data.storage.files import replace_atomically
from i18n.phrase import phrase

Entry = dict[str, Any] | str


def _number(entry: Entry) -> int:
    return 0 if isinstance(entry, str) else int(entry["number"])


class Tombstones:
    """The erased members, each with the number and the time of the last erasure.

    The numbers count erasures; `Marks.erasures` is the last one that a database knows of. Entries
    of earlier versions of the bot are times only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, user_id: int, after: int) -> int:
        """Record that a member is erased now, with a number above `after`, which is returned.
        Raises StoreError if the file cannot be read or written; it stays as it was."""
        known = self._read()
        number = max([after, *map(_number, known.values())]) + 1
        entry = {"number": number, "at": datetime.now(UTC).isoformat()}
        made = self._path.with_name(f".{self._path.name}.new")
        try:
            content = json.dumps(known | {str(user_id): entry}, indent=1)
            made.write_text(content, encoding="utf-8")
            replace_atomically(made, self._path)
        except OSError as e:
            made.unlink(missing_ok=True)
            raise write_error(str(self._path), e) from e
        return number

    def last(self) -> int:
        """The highest number. Raises StoreError if the file cannot be read."""
        return max(map(_number, self._read().values()), default=0)

    def since(self, number: int, moment: datetime) -> list[int]:
        """The members who were erased after that number; of those without one, at that time or
        later. Raises StoreError if the file cannot be read."""
        return [
            int(user_id)
            for user_id, entry in self._read().items()
            if _number(entry) > number
            or (isinstance(entry, str) and datetime.fromisoformat(entry) >= moment)
        ]

    def _read(self) -> dict[str, Entry]:
        try:
            known: dict[str, Entry] = json.loads(self._path.read_text(encoding="utf-8"))
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
