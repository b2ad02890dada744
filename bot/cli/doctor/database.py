"""The database, as `data.storage.health` sees it."""

from __future__ import annotations

from bot.cli.doctor.report import Finding, megabytes
from bot.settings import DATABASE as FILE
from bot.settings import Settings
from core.errors import StoreError
from data.storage.health import examine
from data.storage.migrations import LATEST
from i18n.phrase import phrase, together, words

DATABASE = phrase("database")


def database(settings: Settings) -> list[Finding]:
    """Whether it is whole, and of this version or an older one. Nothing is made or changed."""
    try:
        health = examine(settings.gpt2bot_home / FILE)
    except StoreError as e:
        advice = phrase("Stop the bot and keep a copy of the file before you do that.")
        return [Finding(DATABASE, False, words(e), advice)]
    if health is None:
        return [
            Finding(DATABASE, True, phrase("There is none yet; it is made at the first start."))
        ]
    detail = phrase(
        "It is whole ({size}, version {version}).",
        size=megabytes(health.bytes),
        version=health.version,
    )
    if health.version < LATEST:
        newer = phrase("The next start brings it to version {version}.", version=LATEST)
        detail = together([detail, newer])
    return [Finding(DATABASE, True, detail)]
