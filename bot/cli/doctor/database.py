"""The database, as `data.storage.health` sees it."""

from __future__ import annotations

from bot.ops.checks.finding import Finding, format_megabytes
from bot.settings import Settings
from core.errors import StoreError
from data.storage.health import inspect_database
from data.storage.migrations import SCHEMA_VERSION
from i18n.phrase import join_phrases, message_of, phrase

DATABASE_CHECK = phrase("database")


def check_database(settings: Settings) -> list[Finding]:
    """Whether it is whole, and of this version or an older one. Nothing is made or changed."""
    try:
        health = inspect_database(settings.paths.database)
    except StoreError as e:
        advice = phrase("Stop the bot and keep a copy of the file before you do that.")
        return [Finding(DATABASE_CHECK, False, message_of(e), advice)]
    if health is None:
        return [
            Finding(
                DATABASE_CHECK, True, phrase("There is none yet; it is made at the first start.")
            )
        ]
    detail = phrase(
        "It is whole ({size}, version {version}).",
        size=format_megabytes(health.size_bytes),
        version=health.schema_version,
    )
    if health.schema_version < SCHEMA_VERSION:
        newer = phrase("The next start brings it to version {version}.", version=SCHEMA_VERSION)
        detail = join_phrases([detail, newer])
    return [Finding(DATABASE_CHECK, True, detail)]
