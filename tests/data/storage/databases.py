"""Databases as tests find and leave them: killed, damaged, and read without the store."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).parents[3]
LEFT_OPEN = """
import asyncio, os, sys
from pathlib import Path
from data.storage.storage import open_storage
from tests.data.storage.records import said

async def main():
    async with open_storage(Path(sys.argv[1])) as storage:
        await storage.messages.add(said(1, sys.argv[2]))
        os._exit(9)

asyncio.run(main())
"""


def write(path: Path, text: str) -> None:
    """A database in which somebody said this, left by a bot that was killed: it is in the log."""
    subprocess.run([sys.executable, "-c", LEFT_OPEN, path, text], cwd=ROOT, check=False)
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0


def heard(path: Path) -> list[str]:
    """What a database holds, once all of it was checked."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [row[0] for row in db.execute("SELECT content FROM messages ORDER BY id")]


def empty_log(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def damage(path: Path) -> None:
    """Write over all pages but the first."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(range(256)) * (path.stat().st_size // 256 - 16))
