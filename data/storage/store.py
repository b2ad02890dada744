"""The store: everything that must survive a restart, in one SQLite file.

Opens it, and puts its parts together; the parts and `data.storage.migrations` are all that knows
SQL. Does not know Discord or torch. Each method is one statement in autocommit mode, or several of
which each leaves the data whole and that may be repeated. So callers that run at the same time need
no lock although they share the connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from data.storage.connection import connect, utc_now_iso
from data.storage.tables.audit import AuditLog
from data.storage.tables.examples import Examples
from data.storage.tables.filters import Filters
from data.storage.tables.jobs import Jobs
from data.storage.tables.members import MemberData
from data.storage.tables.messages import Messages
from data.storage.tables.pauses import Pauses
from data.storage.tables.replies import Replies


class Store(Messages, Replies, Examples, Jobs, MemberData, AuditLog, Pauses, Filters):
    """The history, the replies, the data set, the training jobs, the consents, what is known of a
    member, the audit, pauses and filters; and here the channels and the choice of models.

    Every method raises StoreError (DiskFull where there is no room) if SQLite fails; what was
    written before stays. Times are in UTC.
    """

    health_warning: str | None = None
    """What the operator should know of the database, in a sentence."""

    async def check_writable(self) -> None:
        """Write a little, which changes nothing, to learn whether that is possible."""
        await self._fetch_all(
            "PRAGMA application_id = 0"
        )  # as it is; but the page goes to the disk

    # --- channels --------------------------------------------------------------------------------

    async def set_channel_enabled(self, channel_id: int, guild_id: int, enabled: bool) -> None:
        """Choose whether the bot answers every message of a channel."""
        await self._fetch_all(
            """
            INSERT INTO channels (channel_id, guild_id, enabled) VALUES (?, ?, ?)
            ON CONFLICT (channel_id) DO UPDATE SET enabled = excluded.enabled
            """,
            channel_id,
            guild_id,
            enabled,
        )

    async def enabled_channels(self) -> set[int]:
        """The ids of the channels in which the bot answers every message."""
        return {
            row[0] for row in await self._fetch_all("SELECT channel_id FROM channels WHERE enabled")
        }

    # --- models ----------------------------------------------------------------------------------

    async def active_model(self, scope: int) -> str | None:
        """The name of the model that the scope chose last; None if it never did."""
        sql = "SELECT name FROM activations WHERE scope = ? ORDER BY id DESC LIMIT 1"
        rows = await self._fetch_all(sql, scope)
        return rows[0][0] if rows else None

    async def set_active_model(self, scope: int, name: str) -> None:
        """Remember the scope's choice as its newest, unless it is that already."""
        await self._fetch_all(
            """
            INSERT INTO activations (scope, name, created_at) SELECT ?1, ?2, ?3
            WHERE ?2 IS NOT
                (SELECT name FROM activations WHERE scope = ?1 ORDER BY id DESC LIMIT 1)
            """,
            scope,
            name,
            utc_now_iso(),
        )

    async def roll_back_model(self, scope: int) -> str | None:
        """Drop the scope's newest choice; the one that counts now.

        None if there was none before it: then nothing is dropped.
        """
        rows = await self._fetch_all(
            """
            DELETE FROM activations
            WHERE id = (SELECT max(id) FROM activations WHERE scope = ?1)
              AND id > (SELECT min(id) FROM activations WHERE scope = ?1)
            RETURNING (
                SELECT name FROM activations AS before
                WHERE scope = ?1 AND before.id < activations.id ORDER BY id DESC LIMIT 1
            )
            """,
            scope,
        )
        return rows[0][0] if rows else None

    async def previous_models(self, scope: int) -> list[str]:
        """What the scope chose before its present model, newest first."""
        sql = "SELECT name FROM activations WHERE scope = ? ORDER BY id DESC LIMIT -1 OFFSET 1"
        return [row[0] for row in await self._fetch_all(sql, scope)]

    async def active_models(self) -> set[tuple[int, str]]:
        """Each scope that ever chose a model, and the model that it chose last."""
        sql = """
            SELECT scope, name FROM activations
            WHERE id IN (SELECT max(id) FROM activations GROUP BY scope)
        """
        return {(row[0], row[1]) for row in await self._fetch_all(sql)}


@asynccontextmanager
async def open_store(path: Path, *, include_collected: bool = True) -> AsyncIterator[Store]:
    """Open the database at `path`, or make it; its folder must exist.

    `include_collected`: whether what was collected in conversations may be learned.

    Raises:
        NewerDatabase: a newer version of the bot wrote it; not a byte of it is changed.
        StoreError: it cannot be opened, or is not a database.
    """
    async with connect(path) as db:
        store = Store(db)
        store.include_collected = include_collected
        yield store
