"""/dataset import: from the upload over the preview to the data set, with real files."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import discord
import psutil
import pytest
from openpyxl import Workbook, load_workbook
from simcord.actors import _component_click, _slash

from bot.discord_ui.cogs.dataset import importing, offers
from bot.discord_ui.cogs.dataset.importing import imported_text
from bot.discord_ui.cogs.dataset.offers import REPLACED, ReadSlots
from bot.discord_ui.embeds.dataset import import_embed
from bot.settings import Paths
from core.records import Pair
from data.formats.import_result import ImportResult, JoinedText, RowError
from data.formats.records import NOT_LEARNED
from data.storage.tables.examples import Examples
from tests.bot.conftest import World
from tests.bot.discord_ui.cogs.dataset.test_cog import fields, storage_of, taught

Open = Callable[..., AbstractAsyncContextManager[World]]
TABLE = b"user,bot,source\nWho?,Ada.,faq\nWhen?,At noon.,\n,Or later.,\n\nWhere?,,\n"
NO_ANSWER = "The bot's text is missing."
BIG = b"".join(b'{"user": "q%d", "bot": "%s"}\n' % (n, b"a" * 40) for n in range(200_000))


async def upload(world: World, name: str, content: bytes, who: Any = None) -> Any:
    result = await (who or world.ada).slash(world.general, "dataset import", file=(name, content))
    assert result.ephemeral
    return result


def workbook(*rows: tuple[str | None, ...]) -> bytes:
    book = Workbook()
    for row in (("user", "bot"), *rows):
        book.active.append(row)  # type: ignore[union-attr]
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


async def stored(world: World) -> list[tuple[str, str, str, int]]:
    examples = await storage_of(world).examples.all(world.guild.id)
    return [(one.user, one.bot, one.source, one.author_id) for one in examples]


async def test_a_table_is_shown_and_then_taken_in(world: World) -> None:
    await taught(world, Pair("Who?", "Ada."))
    shown = await upload(world, "my_pairs.csv", TABLE)
    [embed] = shown.response.embeds
    assert embed.title == "Import 2 pairs?"
    assert embed.description == (
        "my\\_pairs.csv: 4 rows, 2 pairs. The data set has 1 of them already."
    )
    assert fields(embed) == {
        "The first pairs": "- “Who?” → “Ada.”\n- “When?” → “At noon. Or later.”",
        "Joined from several cells or lines: 1": "row 3: At noon. Or later.",
        "Invalid rows, which are left out: 1": f"row 6: {NO_ANSWER}",
    }
    [copy] = shown.response.attachments
    assert copy.filename == "my_pairs-problems.csv"
    assert f"Where?,,,{NO_ANSWER}" in (await copy.read()).decode()
    assert len(await stored(world)) == 1

    done = await world.ada.click(shown.response, label="Import")
    assert done.response.content == "Imported: 1 new pair. The data set had 1 already."
    assert done.response.embeds == done.response.components == done.response.attachments == []
    assert (await stored(world))[1:] == [("When?", "At noon. Or later.", "import", world.ada.id)]


async def test_the_marked_copy_of_a_workbook_opens(world: World) -> None:
    rows = (("a", "b"), (None, None), ("alone", None))
    shown = await upload(world, "pairs.xlsx", workbook(*rows))
    [copy] = shown.response.attachments
    assert copy.filename == "pairs-problems.xlsx"
    sheet = load_workbook(io.BytesIO(await copy.read())).active
    assert sheet is not None
    reasons = [row[-1] for row in sheet.iter_rows(values_only=True)]
    assert reasons == ["problem", None, None, NO_ANSWER]


async def test_a_formula_without_a_value_is_told(world: World) -> None:
    shown = await upload(world, "pairs.xlsx", workbook(("a", "b"), ("c", "=1+1")))
    [told] = [text for name, text in fields(shown.response.embeds[0]).items() if "nvalid" in name]
    assert told.startswith("row 3, Sheet: A formula has no stored value")
    await world.ada.click(shown.response, label="Import")
    assert [user for user, *_ in await stored(world)] == ["a"]


async def test_pairs_of_one_conversation_stay_together(world: World) -> None:
    talk = [
        {"role": role, "content": text}
        for role, text in (("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"))
    ]
    shown = await upload(world, "a.jsonl", json.dumps({"messages": talk}).encode())
    await world.ada.click(shown.response, label="Import")
    examples = await storage_of(world).examples.all(world.guild.id)
    assert [(one.conversation, one.turn) for one in examples] == [
        ("a.jsonl#1", 1),
        ("a.jsonl#1", 2),
    ]


async def test_cancel_takes_nothing_in(world: World) -> None:
    shown = await upload(world, "a.csv", b"user,bot\na,b\n")
    done = await world.ada.click(shown.response, label="Cancel")
    assert done.response.content == "Nothing was imported."
    assert done.response.embeds == done.response.components == []
    assert await stored(world) == []


async def test_a_preview_that_nobody_confirms_is_closed(world: World) -> None:
    shown = await upload(world, "a.csv", b"user,bot\na,b\n")
    await world.env.advance_time(601)
    assert shown.response.content.startswith("Nothing was imported.")
    assert shown.response.embeds == shown.response.components == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xlsx", b"no zip", "a.xlsx is named .xlsx but is no Excel workbook"),
        ("a.exe", b"MZ", "a.exe is of no kind that is known: save it as .xlsx, .csv,"),
        ("a.csv", workbook(("a", "b")), "a.csv is named .csv but is an Excel workbook"),
        ("a.json", b'{"user": "a"}', "a.json must be a list of"),
        ("@here_.csv", b"", "@\u200bhere\\_.csv is empty."),
        (
            "a.csv",
            b"x" * 20_000_001,
            "a.csv has 20.0 MB, and at most 20 MB are accepted: split it into parts.",
        ),
    ],
)
async def test_what_is_refused(name: str, content: bytes, said: str, world: World) -> None:
    result = await upload(world, name, content)
    assert result.response.content.startswith(said)
    assert result.response.components == []
    assert await stored(world) == []


async def test_a_file_that_is_too_big_is_not_even_fetched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(discord.Attachment, "read", lambda self: fetched.append(self.filename))
    shown = await upload(world, "a.csv", b"x" * 20_000_001)
    assert "at most 20 MB are accepted" in shown.response.content
    assert fetched == []


async def test_a_file_without_a_pair_cannot_be_imported(world: World) -> None:
    shown = await upload(world, "a.csv", b"user,bot\nalone,\n")
    assert shown.response.embeds[0].title == "There are no pairs in it"
    assert shown.response.components == []
    assert len(shown.response.attachments) == 1


async def test_a_file_that_discord_does_not_give(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(self: discord.Attachment) -> bytes:
        return await self._http.get_from_cdn("https://cdn.discordapp.com/attachments/1/2/none")

    monkeypatch.setattr(discord.Attachment, "read", read)
    result = await upload(world, "a.csv", b"user,bot\na,b\n")
    assert result.response.content == "a.csv could not be downloaded from Discord: try again."


# --- at the same time -----------------------------------------------------------------------------


def children() -> list[psutil.Process]:
    running = psutil.Process(os.getpid()).children(recursive=True)
    return [one for one in running if "data.formats.sandbox.child" in one.cmdline()]


async def test_cancel_ends_the_reading(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "EDIT_INTERVAL_S", 0)
    reading = asyncio.create_task(upload(world, "big.jsonl", BIG))
    try:
        message = await cancellable(world)
        assert re.fullmatch(r"Reading big\.jsonl… [0-9,]+ rows so far\.", message.content)
        await _component_click(world.ada, message, label="Cancel", custom_id=None)
    finally:
        result = await reading
    assert result.response.content == "The import was stopped; nothing was imported."
    assert result.response.components == []
    assert children() == []
    assert left(world) == []
    assert await stored(world) == []


def left(world: World) -> list[Path]:
    """What uploads have left on the disk."""
    return list(Paths(world.home).transfers.iterdir())


async def cancellable(world: World) -> Any:
    """The message with the button, once it says how far the reading is."""
    async with asyncio.timeout(30):
        while True:
            shown = [one for one in world.general.history(viewer=world.ada) if one.components]
            if shown and "000 rows" in shown[-1].content and children():
                return shown[-1]
            await asyncio.sleep(0)


async def test_nothing_is_left_once_it_is_answered(world: World) -> None:
    for press in ("Import", "Cancel"):
        shown = await upload(world, "a.csv", b"user,bot\na,b\n")
        assert len(left(world)) == 1
        await world.ada.click(shown.response, label=press)
        assert left(world) == []
    await upload(world, "a.csv", b"user,bot\na,b\n")
    await world.env.advance_time(601)
    assert left(world) == []
    await upload(world, "a.csv", b"user,bot\nalone,\n")
    assert left(world) == []


async def test_a_newer_import_takes_the_place_of_the_older(world: World) -> None:
    first = await upload(world, "a.csv", b"user,bot\na,b\n")
    second = await upload(world, "b.csv", b"user,bot\nc,d\n")
    assert first.response.content == REPLACED
    assert first.response.components == first.response.embeds == []
    assert len(left(world)) == 1
    await world.ada.click(second.response, label="Import")
    assert [user for user, *_ in await stored(world)] == ["c"]


async def upload_beside(world: World, name: str, content: bytes) -> Any:
    """An upload while another one is under way."""
    return await _slash(world.ada, world.general, "dataset import", {"file": (name, content)})


async def test_a_newer_import_also_replaces_one_that_is_about_to_be_shown(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, counted = asyncio.Event(), asyncio.Event()
    count = Examples.count_existing_pairs

    async def count_the_older_last(self: Examples, scope: int, pairs: Iterable[Pair]) -> int:
        if not counting.is_set():
            counting.set()
            await counted.wait()
        known = await count(self, scope, pairs)
        counted.set()
        return known

    monkeypatch.setattr(Examples, "count_existing_pairs", count_the_older_last)
    older = asyncio.create_task(upload_beside(world, "a.csv", b"user,bot\na,b\n"))
    await counting.wait()
    newer = await upload_beside(world, "b.csv", b"user,bot\nc,d\n")
    first = await older
    assert first.response.content == REPLACED
    assert first.response.components == first.response.embeds == []
    assert len(left(world)) == 1
    await world.ada.click(newer.response, label="Import")
    assert [user for user, *_ in await stored(world)] == ["c"]
    assert left(world) == []


async def test_of_two_imports_at_the_same_moment_one_stays(world: World) -> None:
    pairs = b"user,bot\na,b\n"
    both = await asyncio.gather(*(upload_beside(world, name, pairs) for name in ("a.csv", "b.csv")))
    assert sorted(len(one.response.components) for one in both) == [0, 1]
    assert len(left(world)) == 1


@pytest.mark.parametrize("limit", ["MAX_OFFERS_PER_SERVER", "MAX_OFFERS"])
async def test_of_too_many_imports_the_oldest_is_closed(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(offers, limit, 2)
    role = world.guild.create_role("Boss", permissions=discord.Permissions(manage_guild=True))
    members = [world.guild.add_member(world.env.create_user(n), roles=[role]) for n in "xyz"]
    shown = [await upload(world, "a.csv", b"user,bot\na,b\n", who) for who in members]
    assert [one.response.content for one in shown] == [REPLACED, "", ""]
    assert len(left(world)) == 2


async def test_one_server_reads_one_file_at_a_time() -> None:
    """A server that has many files read holds up itself, and no other."""
    slots = ReadSlots()
    async with slots.taken(1):
        second = asyncio.create_task(_take(slots, 1))
        await asyncio.wait_for(_take(slots, 2), 10)
        assert not second.done()
    await asyncio.wait_for(second, 10)


async def _take(slots: ReadSlots, scope: int) -> None:
    async with slots.taken(scope):
        pass


async def test_a_table_without_headings_is_asked_about(world: World) -> None:
    shown = await upload(world, "a.csv", b"Frage,Antwort\nWo?,Hier.\n")
    [embed] = shown.response.embeds
    assert fields(embed)["Is this right?"].startswith("There are no headings that I know")
    assert await stored(world) == []


async def test_what_else_was_left_out_is_told(world: World) -> None:
    record = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "weight": 0}]}
    shown = await upload(world, "a.jsonl", json.dumps(record).encode())
    assert fields(shown.response.embeds[0])["Also left out"] == NOT_LEARNED


async def test_two_managers_import_the_same_at_once(world: World) -> None:
    role = world.guild.create_role("Boss", permissions=discord.Permissions(manage_guild=True))
    cleo = world.guild.add_member(world.env.create_user("cleo"), roles=[role])
    shown = [
        await upload(world, "a.csv", b"user,bot\na,b\nc,d\n", who) for who in (world.ada, cleo)
    ]
    first = await world.ada.click(shown[0].response, label="Import")
    second = await cleo.click(shown[1].response, label="Import")
    assert first.response.content == "Imported: 2 new pairs."
    assert second.response.content == "Imported: 0 new pairs. The data set had 2 already."
    assert [user for user, *_ in await stored(world)] == ["a", "c"]


async def test_a_store_that_fails_takes_nothing_in(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        more_than_free_pages = b"".join(b"c%d,%s\n" % (n, b"x" * 3900) for n in range(20))
        shown = await upload(world, "a.csv", b"user,bot\na,b\n" + more_than_free_pages)
        db = storage_of(world)._db
        [[pages]] = await db.execute_fetchall("PRAGMA page_count")
        await db.execute(f"PRAGMA max_page_count = {pages}")
        done = await world.ada.click(shown.response, label="Import")
        assert done.response.content == "Nothing was imported."
        [told] = done.followups
        assert told.content.startswith("The disk is full")
        assert await stored(world) == []


def test_the_preview_fits_whatever_there_is() -> None:
    text = "*<@_`|" * 300
    many = ImportResult(
        tuple(Pair(text, text) for _ in range(50)),
        tuple(RowError(n, text, text) for n in range(500)),
        tuple(JoinedText(n, text, text) for n in range(500)),
        2_000,
        guesses=(text,) * 9,
        notes=(text,) * 9,
    )
    embed = import_embed("n" * 250, many.summarize(), 40)
    assert len(embed) <= 6000
    assert len(embed.title or "") <= 256
    assert all(0 < len(str(field.value)) <= 1024 for field in embed.fields)


def test_what_an_import_came_to() -> None:
    assert imported_text(1200, 1200) == "Imported: 1,200 new pairs."
