"""Empty databases for tests: made by the bot's own migrations once, then copied.

The migrations take longer than most of the tests that need a database.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from data.storage.storage import Storage, open_storage

_made: list[bytes] = []


@asynccontextmanager
async def open_empty(path: Path) -> AsyncIterator[Storage]:
    """A store in a new file."""
    await put_empty_database(path)
    async with open_storage(path) as storage:
        yield storage


async def put_empty_database(path: Path) -> None:
    """A database that nothing was written to yet, unless there is a file already."""
    if not _made:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "empty.sqlite3"
            async with open_storage(file):
                pass
            _made.append(file.read_bytes())
    _write_new(path, _made[0])


def _write_new(path: Path, content: bytes) -> None:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(content)
