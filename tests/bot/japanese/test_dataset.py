"""The data set, cards of models and clean retrains as Japanese members and servers see them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import discord
import pytest
from rich.console import Console

from bot.cli.dataset.files import check, convert, export_pairs, import_pairs, write_template
from bot.discord_ui.cogs.dataset import importing
from bot.discord_ui.cogs.dataset.cog import too_large
from bot.discord_ui.embeds import charts
from bot.discord_ui.embeds.cleaning import cleaning_embed
from bot.settings import Settings, SettingsError
from core.records import OPERATOR_AUTHOR_ID, NewExample, Pair, ReviewStatus
from data.dataset.cleaning import select_examples
from i18n.catalogue import JAPANESE
from i18n.phrase import phrase
from i18n.reader import say, use_language
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.dataset.test_cog import storage_of, taught
from tests.bot.discord_ui.cogs.dataset.test_importing import TABLE, upload
from tests.bot.discord_ui.cogs.test_models import make_checkpoint
from tests.bot.discord_ui.cogs.test_privacy import forget, trained
from tests.bot.japanese.discord import assert_japanese, speak_japanese
from tests.fakes import FakeWorker


@pytest.fixture
async def japanese(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Everybody reads Japanese; there are examples of every status and some sources."""
    speak_japanese(monkeypatch)
    await taught(world, Pair("猫は？", "かわいい。"), Pair("犬は？", "元気。", "会話", 2, "質問集"))
    await taught(world, Pair("鳥は？", "飛ぶ。"), by=OPERATOR_AUTHOR_ID)
    await storage_of(world).examples.set_review(world.guild.id, 2, ReviewStatus.WAITING)
    await storage_of(world).examples.set_review(world.guild.id, 3, ReviewStatus.REJECTED)
    return world


def shown(message: Any) -> Iterator[str]:
    """All that people read of an answer."""
    yield from filter(None, [message.content])
    for embed in message.embeds:
        yield from shown_in(embed)
    yield from labels(message)


def shown_in(embed: Any) -> Iterator[str]:
    yield from filter(None, (embed.title, embed.description, embed.footer.text))
    for field in embed.fields:
        yield from (field.name, field.value)


def labels(message: Any) -> list[str]:
    return [button["label"] for row in message.components for button in row["components"]]


def assert_all_japanese(message: Any) -> None:
    """All but values that are only a number or a member."""
    texts = [text for text in shown(message) if any(one.isalpha() for one in text)]
    assert texts
    for text in texts:
        if not text.startswith("<@"):
            assert_japanese(text)


async def test_stats(world: World, japanese: World, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = await world.ada.slash(world.general, "dataset stats")
    assert_all_japanese(drawn.response)
    assert "承認済み 1" in drawn.response.embeds[0].fields[0].value
    assert "教える: 2" in drawn.response.embeds[0].fields[2].value
    assert len(drawn.response.attachments) == 1

    monkeypatch.setattr(charts.sys, "executable", "nothing-of-that-name")
    undrawn = await world.ada.slash(world.general, "dataset stats")
    assert_all_japanese(undrawn.response)
    await storage_of(world).examples.remove_source(world.guild.id, "teach")
    await storage_of(world).examples.remove_source(world.guild.id, "質問集")
    assert_all_japanese((await world.ada.slash(world.general, "dataset stats")).response)


async def test_preview_template_and_export(japanese: World) -> None:
    world, storage = japanese, storage_of(japanese)
    for name in ("preview", "template"):
        assert_all_japanese((await world.ada.slash(world.general, f"dataset {name}")).response)
    exported = await world.ada.slash(world.general, "dataset export", format="csv")
    assert_all_japanese(exported.response)
    await storage.examples.remove_source(world.guild.id, "teach")
    assert_all_japanese((await world.ada.slash(world.general, "dataset preview")).response)
    nothing = await world.ada.slash(world.general, "dataset export", format="csv")
    assert_all_japanese(nothing.response)


async def test_the_audit_keeps_english(japanese: World) -> None:
    await japanese.ada.slash(japanese.general, "dataset export", format="csv")
    [entry] = await storage_of(japanese).audit.entries(japanese.guild.id, 9)
    assert entry.action == "dataset export"


async def test_what_is_too_large() -> None:
    with use_language(JAPANESE):
        for kind in ("xlsx", "csv"):
            assert_japanese(too_large(30_000_000, 25_000_000, kind, 7))


async def test_what_cleaning_did(japanese: World) -> None:
    examples = await storage_of(japanese).examples.all(japanese.guild.id)
    words = phrase("Left out")
    selection = replace(
        select_examples(examples),
        dropped={words: 2},
        rule_counts={words: 3, phrase("*nothing*"): 1},
        samples={words: ("猫", "")},
    )
    with use_language(JAPANESE):
        for one in (selection, replace(selection, rule_counts={})):
            for text in shown_in(cleaning_embed(one)):
                assert_japanese(text)


async def test_import(japanese: World) -> None:
    world = japanese
    first = await upload(world, "my.csv", "user,bot\n魚は？,泳ぐ。\n虫は？,飛ぶ。\n".encode())
    assert_all_japanese(first.response)
    assert labels(first.response) == ["取り込む", "中止"]
    assert_all_japanese((await world.ada.click(first.response, label="取り込む")).response)
    again = await upload(world, "my.csv", "user,bot\n魚は？,泳ぐ。\n,速い。\n\n虫は？,\n".encode())
    [embed] = again.response.embeds
    assert_japanese(embed.title)
    assert_japanese(embed.description)
    assert_japanese(embed.footer.text)
    assert embed.fields[0].value == "- 「魚は？」→「泳ぐ。速い。」"
    for field in embed.fields:
        assert_japanese(field.name)
    assert embed.fields[1].value == "2行目: 泳ぐ。速い。"
    assert embed.fields[2].value.startswith("5行目: ")
    assert_all_japanese((await world.ada.click(again.response, label="中止")).response)


async def test_an_import_that_is_left(japanese: World) -> None:
    left = await upload(japanese, "my.csv", TABLE)
    await japanese.env.advance_time(601)
    assert_all_japanese(left.response)


async def test_files_that_cannot_be_taken(japanese: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "MAX_FILE_BYTES", 10)
    assert_all_japanese((await upload(japanese, "my.csv", TABLE)).response)


async def test_remove(japanese: World) -> None:
    world = japanese
    offered = await world.ada.autocomplete(world.general, "dataset remove", "source", "教")
    assert [(one["name"], one["value"]) for one in offered] == [("教える", "teach")]
    for options in ({}, {"source": "質問集", "example": 1}, {"source": "無"}, {"example": 99}):
        answer = await world.ada.slash(world.general, "dataset remove", **options)
        assert_all_japanese(answer.response)
    asked = await world.ada.slash(world.general, "dataset remove", example=3)
    assert_all_japanese(asked.response)
    assert labels(asked.response) == ["取り除く", "残す"]
    assert_all_japanese((await world.ada.click(asked.response, label="残す")).response)
    asked = await world.ada.slash(world.general, "dataset remove", source="teach")
    assert_all_japanese(asked.response)
    await storage_of(world).examples.remove(world.guild.id, 1)
    assert_all_japanese((await world.ada.click(asked.response, label="取り除く")).response)
    asked = await world.ada.slash(world.general, "dataset remove", example=2)
    await storage_of(world).examples.remove(world.guild.id, 2)
    assert_all_japanese((await world.ada.click(asked.response, label="取り除く")).response)


async def test_a_question_that_is_left(japanese: World) -> None:
    asked = await japanese.ada.slash(japanese.general, "dataset remove", example=1)
    await japanese.env.advance_time(601)
    assert_all_japanese(asked.response)


async def test_review(japanese: World) -> None:
    world, storage = japanese, storage_of(japanese)
    await storage.consents.opt_in(world.guild.id, world.ben.id, 1)
    await storage.examples.add(
        NewExample(world.guild.id, "朝", "夜", world.ada.id, "", asked_by=world.ben.id)
    )
    page = await world.ada.slash(world.general, "dataset review", status="all")
    assert_all_japanese(page.response)
    opened = await world.ada.click(page.response, label="編集…")
    assert_japanese(opened.modal["title"])
    for one in opened.modal["components"]:
        assert_japanese(one["label"])
    refused = await world.ada.submit_modal(opened, {"user": " ", "bot": "b"})
    assert_all_japanese(refused.response)
    for label in ("承認", "却下", "スキップ", "戻る", "スキップ", "スキップ"):
        page = await world.ada.click(page.response, label=label)
        assert_all_japanese(page.response)
    assert page.response.content.startswith("これが最後でした。")
    page = await world.ada.click(page.response, label="戻る")
    await storage.examples.remove(world.guild.id, 4)
    gone = await world.ada.click(page.response, label="却下")
    assert_all_japanese(gone.response)
    assert "取り除きました" in gone.response.content
    await world.env.advance_time(601)
    assert_all_japanese(gone.response)


async def test_review_of_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    speak_japanese(monkeypatch)
    for status in ("waiting", "approved", "rejected", "all"):
        page = await world.ada.slash(world.general, "dataset review", status=status)
        assert_all_japanese(page.response)


async def test_two_managers_read_their_own_language(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = world.guild.create_role("Boss", permissions=discord.Permissions(manage_guild=True))
    cleo = world.guild.add_member(world.env.create_user("cleo"), roles=[role])
    speak_japanese(monkeypatch, world.ada)
    await taught(world, Pair("a", "b"), Pair("c", "d"))
    for _ in range(2):
        hers = await cleo.slash(world.general, "dataset review", status="all")
        assert (hers.response.content, labels(hers.response)[0]) == ("None waiting.", "Approve")
        mine = await world.ada.slash(world.general, "dataset review", status="all")
        assert (mine.response.content, labels(mine.response)[0]) == (
            "確認待ちはありません。",
            "承認",
        )
    assert (await cleo.click(hers.response, label="Skip")).response.content == "None waiting."


async def test_the_card_of_a_checkpoint(settings: Settings, worker: FakeWorker) -> None:
    """Everybody sees it, so it is in the language of the server."""
    trained_with = {"batch_size": 8, "gradient_accumulation": 2}
    scores = {"first_loss": 2.5, "last_loss": 0.25}
    parents = ["tiny-0", "tiny-1"]
    async with open_world(settings, worker, preferred_locale="ja") as world:
        make_checkpoint(world, "tiny-2", parents=parents, settings=trained_with, scores=scores)
        make_checkpoint(world, "tiny-3", report={"refusal": "…"})
        values: set[str | None] = set()
        for name in ("tiny-2", "tiny-3"):
            card = (await world.ben.slash(world.general, "model info", name=name)).response
            [embed] = card.embeds
            for field in embed.fields:
                assert_japanese(field.name)
            values |= {field.value for field in embed.fields}
    assert_japanese(embed.description)
    assert {"なし", "不明", "1 MB未満", "tiny-0、tiny-1"} <= values


async def test_each_server_is_asked_in_its_own_language(world: World) -> None:
    other = world.env.create_guild(preferred_locale="ja")
    room = other.create_text_channel("there")
    for scope, channel in ((world.guild.id, world.general.id), (other.id, room.id)):
        await trained(world, f"tiny-{scope}", scope=scope, channel=channel)
    make_checkpoint(world, "tiny-b", scope=other.id, parents=[f"tiny-{other.id}"])
    await forget(world)
    here, there = world.general.last_message, room.last_message
    assert "learned from examples that have since been withdrawn" in here.content
    assert buttons(here) == ["Retrain without it", "Not now"]
    for text in (there.content, *buttons(there)):
        assert_japanese(text)


def buttons(message: discord.Message) -> list[str]:
    return [button.label for row in message.components for button in row.children]


def test_files_in_the_terminal(tmp_path: Path) -> None:
    """Each line of it; what is wrong with a row is said by `data.formats`."""
    (tmp_path / "pairs.csv").write_text("user,bot\n猫,犬\n,鳥\n\n虫,\n", encoding="utf-8")
    (tmp_path / "right.csv").write_text("user,bot\n猫,犬\n", encoding="utf-8")
    (tmp_path / "empty.jsonl").write_text("\n")
    written = StringIO()
    console = Console(file=written, width=200)
    with use_language(JAPANESE):
        write_template(tmp_path / "new.xlsx", console)
        assert [check(tmp_path / name, console) for name in ("pairs.csv", "right.csv")] == [1, 0]
        assert check(tmp_path / "empty.jsonl", console) == 1
        convert(tmp_path / "right.csv", tmp_path / "out.jsonl", console)
        import_pairs(tmp_path / "right.csv", tmp_path / "new.sqlite3", 7, console)
        export_pairs(tmp_path / "out.csv", tmp_path / "new.sqlite3", 7, console)
    lines = written.getvalue().replace(str(tmp_path), "").splitlines()
    of_rows = [line for line in lines if line.startswith("誤り、5行目：")]
    assert len(of_rows) == 1
    for line in lines:
        if line not in of_rows and re.search(r"\w", re.sub(r"\w+\.(csv|jsonl)\s*$", "", line)):
            assert_japanese(line)


@pytest.mark.parametrize("name", ["new.csv", "taken.xlsx"])
def test_what_the_terminal_refuses(name: str, tmp_path: Path) -> None:
    (tmp_path / "taken.xlsx").touch()
    with pytest.raises(SettingsError) as refused:
        write_template(tmp_path / name, Console(file=StringIO()))
    with use_language(JAPANESE):
        assert_japanese(say(refused.value.args[0]).replace(str(tmp_path), ""))
