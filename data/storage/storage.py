"""Persistent storage: everything that must survive a restart, in one SQLite file.

Opens the file and composes the tables; give each user only the tables that it needs. Only this
package knows SQL. Every method raises StoreError (DiskFull if there is no room) when SQLite fails;
earlier writes stay. Times are in UTC.

Each method is one statement in autocommit mode, or several, each of which leaves consistent data
and may be repeated. Concurrent callers therefore need no lock although they share the connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite

from data.storage.connection import Repository, connect
from data.storage.tables.audit import AuditLog
from data.storage.tables.channels import Channels
from data.storage.tables.consents import Consents
from data.storage.tables.erasures import Erasures
from data.storage.tables.examples import Examples
from data.storage.tables.filters import FilterTable
from data.storage.tables.growth import Growth
from data.storage.tables.introductions import Introductions
from data.storage.tables.jobs import Jobs
from data.storage.tables.judgement.canaries import Canaries
from data.storage.tables.judgement.duels import Duels
from data.storage.tables.judgement.golden import GoldenTable
from data.storage.tables.marks import Marks
from data.storage.tables.members import MemberData
from data.storage.tables.messages import Messages, Replies
from data.storage.tables.model_choices import ModelChoices
from data.storage.tables.pauses import PauseTable
from data.storage.tables.server_settings import Schedules, ServerSettingsTable


class Storage(Repository):
    """The tables of one open database."""

    health_warning: str | None = None
    """A sentence for the operator if something is wrong with the database."""

    def __init__(self, db: aiosqlite.Connection, *, include_collected: bool = True) -> None:
        super().__init__(db)
        self.messages = Messages(db)
        self.replies = Replies(db)
        self.examples = Examples(db, include_collected=include_collected)
        self.growth = Growth(db)
        self.golden = GoldenTable(db)
        self.jobs = Jobs(db)
        self.duels = Duels(db)
        self.canaries = Canaries(db)
        self.consents = Consents(db)
        self.members = MemberData(db)
        self.erasures = Erasures(db)
        self.marks = Marks(db)
        self.audit = AuditLog(db)
        self.pauses = PauseTable(db)
        self.filters = FilterTable(db)
        self.channels = Channels(db)
        self.introductions = Introductions(db)
        self.model_choices = ModelChoices(db)
        self.server_settings = ServerSettingsTable(db)
        self.schedules = Schedules(db)

    async def check_writable(self) -> None:
        """Raise StoreError if nothing can be written."""
        # The value does not change, but SQLite writes the page to the disk all the same.
        await self._fetch_all("PRAGMA application_id = 0")


@asynccontextmanager
async def open_storage(
    path: Path, *, key: str | None = None, include_collected: bool = True
) -> AsyncIterator[Storage]:
    """Open the database at `path`, or create it; its folder must exist.

    `key`: that of an encrypted one. `include_collected`: whether examples collected from
    conversations may be learned. Raises NewerDatabase: a newer version of the bot wrote it; the
    file is not changed. Raises StoreError: it cannot be opened, or is not a database."""
    async with connect(path, key) as db:
        yield Storage(db, include_collected=include_collected)
