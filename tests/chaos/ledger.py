"""What happened, as people in Discord could see it: one line of JSON after the other.

It lies outside of the bot's home, so it survives whatever becomes of that. A line is written before
what it tells of is done, so a life that is killed leaves no act unwritten.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Ledger:
    """The lines of all lives, oldest first."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, event: str, **facts: Any) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps({'event': event, **facts})}\n")
            file.flush()
            os.fsync(file.fileno())

    def lines(self, *events: str) -> list[Line]:
        if not self._path.exists():
            return []
        text = self._path.read_text(encoding="utf-8")
        return [one for one in map(json.loads, text.splitlines()) if one["event"] in events]
