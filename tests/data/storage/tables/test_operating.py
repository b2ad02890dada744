"""The tables for those who look after the bot: audit, pauses, filters, introductions."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.records import Filter, FilterKind
from data.storage.erasure import purge_older_than
from data.storage.storage import Storage, open_storage
from data.storage.tables.pauses import EVERYWHERE
from i18n.phrase import Phrase, phrase
from tests.data.storage.records import ADA, BEN, GUILD

OTHER = GUILD + 1


async def test_the_audit_is_read_page_by_page_newest_first(storage: Storage) -> None:
    for n in range(5):
        await storage.audit.record(GUILD, ADA, "model use", f"tiny-{n}")
    await storage.audit.record(OTHER, BEN, "pause")
    here = await storage.audit.entries(GUILD, 2)
    assert [one.detail for one in here] == ["tiny-4", "tiny-3"]
    assert [one.detail for one in await storage.audit.entries(GUILD, 9, here[-1].id)] == [
        "tiny-2",
        "tiny-1",
        "tiny-0",
    ]
    newest, *_ = await storage.audit.entries(None, 1)
    assert (newest.scope, newest.actor_id, newest.action, newest.detail) == (
        OTHER,
        BEN,
        "pause",
        "",
    )
    assert newest.at.tzinfo is not None


async def test_a_detail_can_be_read_in_another_language_and_is_plain_in_an_export(
    storage: Storage,
) -> None:
    await storage.audit.record(GUILD, ADA, "filter add", phrase("word {text}", text="bad"))
    await storage.audit.record(GUILD, ADA, "model use", "{tiny}")
    plain, made = await storage.audit.entries(GUILD, 2)
    assert not isinstance(plain.detail, Phrase)
    assert isinstance(made.detail, Phrase)
    assert made.detail.template == "word {text}"
    exported = (await storage.members.export(ADA))["audit"]
    assert [one["detail"] for one in exported] == ["word bad", "{tiny}"]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit SET actor_id = 1",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT id, at, scope, 1, action, detail FROM audit",
    ],
)
async def test_the_audit_takes_new_lines_only(storage: Storage, path: Path, sql: str) -> None:
    await storage.audit.record(GUILD, ADA, "model use", "tiny-1")
    with closing(sqlite3.connect(path)) as db, pytest.raises(sqlite3.IntegrityError, match="stays"):
        db.execute(sql)
    assert len(await storage.audit.entries(GUILD, 9)) == 1


async def test_of_several_claims_to_introduce_the_bot_one_is_granted(path: Path) -> None:
    async with open_storage(path) as storage, open_storage(path) as other:
        claims = (one.introductions.claim(GUILD) for one in (storage, other, storage))
        assert sorted(await asyncio.gather(*claims)) == [False, False, True]
        assert await storage.introductions.claim(OTHER)
    async with open_storage(path) as storage:
        assert not await storage.introductions.claim(GUILD)
        await storage.introductions.release(GUILD)
        assert await storage.introductions.claim(GUILD)
        assert not await storage.introductions.claim(OTHER)


async def test_introductions_are_forgotten_with_the_old_messages(storage: Storage) -> None:
    assert await storage.introductions.claim(GUILD)
    assert await purge_older_than(storage, datetime.now(UTC) - timedelta(minutes=1)) == 0
    assert not await storage.introductions.claim(GUILD)
    assert await purge_older_than(storage, datetime.now(UTC) + timedelta(minutes=1)) == 1
    assert await storage.introductions.claim(GUILD)


async def test_pauses_outlive_a_restart(path: Path) -> None:
    async with open_storage(path) as storage:
        assert await storage.pauses.add(GUILD, ADA)
        assert not await storage.pauses.add(GUILD, BEN), "it is paused already"
        assert await storage.pauses.add(EVERYWHERE, ADA)
    async with open_storage(path) as storage:
        assert await storage.pauses.scopes() == {GUILD, EVERYWHERE}
        assert await storage.pauses.remove(GUILD)
        assert not await storage.pauses.remove(GUILD)
        assert await storage.pauses.scopes() == {EVERYWHERE}


async def test_filters_are_those_of_their_scope(storage: Storage) -> None:
    word, pattern = Filter(FilterKind.WORD, "boo"), Filter(FilterKind.PATTERN, r"\bb+oo\b")
    assert await storage.filters.add(GUILD, word, ADA)
    assert not await storage.filters.add(GUILD, word, BEN)
    assert await storage.filters.add(GUILD, pattern, ADA)
    assert await storage.filters.add(OTHER, word, BEN)
    assert await storage.filters.all(GUILD) == [pattern, word]
    assert await storage.filters.remove(GUILD, word)
    assert not await storage.filters.remove(GUILD, word)
    assert await storage.filters.all(GUILD) == [pattern]
    assert await storage.filters.all(OTHER) == [word]
