"""The tables for those who look after the bot: audit, pauses, filters."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from core.records import Filter, FilterKind
from data.storage.store import Store, open_store
from data.storage.tables.pauses import EVERYWHERE
from i18n.phrase import is_phrase, phrase
from tests.data.storage.records import ADA, BEN, GUILD

OTHER = GUILD + 1


async def test_the_audit_is_read_page_by_page_newest_first(store: Store) -> None:
    for n in range(5):
        await store.record_action(GUILD, ADA, "model use", f"tiny-{n}")
    await store.record_action(OTHER, BEN, "pause")
    here = await store.audit_entries(GUILD, 2)
    assert [one.detail for one in here] == ["tiny-4", "tiny-3"]
    assert [one.detail for one in await store.audit_entries(GUILD, 9, here[-1].id)] == [
        "tiny-2",
        "tiny-1",
        "tiny-0",
    ]
    newest, *_ = await store.audit_entries(None, 1)
    assert (newest.scope, newest.actor_id, newest.action, newest.detail) == (
        OTHER,
        BEN,
        "pause",
        "",
    )
    assert newest.at.tzinfo is not None


async def test_a_detail_can_be_read_in_another_language_and_is_plain_in_an_export(
    store: Store,
) -> None:
    await store.record_action(GUILD, ADA, "filter add", phrase("word {text}", text="bad"))
    await store.record_action(GUILD, ADA, "model use", "{tiny}")
    plain, made = await store.audit_entries(GUILD, 2)
    assert not is_phrase(plain.detail)
    assert is_phrase(made.detail)
    assert made.detail.template == "word {text}"
    exported = (await store.export_member(ADA))["audit"]
    assert [one["detail"] for one in exported] == ["word bad", "{tiny}"]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit SET actor_id = 1",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT id, at, scope, 1, action, detail FROM audit",
    ],
)
async def test_the_audit_takes_new_lines_only(store: Store, path: Path, sql: str) -> None:
    await store.record_action(GUILD, ADA, "model use", "tiny-1")
    with closing(sqlite3.connect(path)) as db, pytest.raises(sqlite3.IntegrityError, match="stays"):
        db.execute(sql)
    assert len(await store.audit_entries(GUILD, 9)) == 1


async def test_pauses_outlive_a_restart(path: Path) -> None:
    async with open_store(path) as store:
        assert await store.pause(GUILD, ADA)
        assert not await store.pause(GUILD, BEN), "it is paused already"
        assert await store.pause(EVERYWHERE, ADA)
    async with open_store(path) as store:
        assert await store.paused_scopes() == {GUILD, EVERYWHERE}
        assert await store.resume(GUILD)
        assert not await store.resume(GUILD)
        assert await store.paused_scopes() == {EVERYWHERE}


async def test_filters_are_those_of_their_scope(store: Store) -> None:
    word, pattern = Filter(FilterKind.WORD, "boo"), Filter(FilterKind.PATTERN, r"\bb+oo\b")
    assert await store.add_filter(GUILD, word, ADA)
    assert not await store.add_filter(GUILD, word, BEN)
    assert await store.add_filter(GUILD, pattern, ADA)
    assert await store.add_filter(OTHER, word, BEN)
    assert await store.filters(GUILD) == [pattern, word]
    assert await store.remove_filter(GUILD, word)
    assert not await store.remove_filter(GUILD, word)
    assert await store.filters(GUILD) == [pattern]
    assert await store.filters(OTHER) == [word]
