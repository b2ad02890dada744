"""The data set, cards of models and clean retrains as Japanese members and servers see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import discord
import pytest

from bot.cli.dataset.files import check, convert, export_pairs, import_pairs, write_template
from bot.discord_ui.cogs.dataset import importing
from bot.discord_ui.embeds import charts
from bot.discord_ui.embeds.cleaning import cleaning_embed
from bot.settings import Settings, SettingsError
from core.records import OPERATOR_AUTHOR_ID, NewExample, Pair, ReviewStatus
from data.dataset.cleaning import select_examples
from data.storage.storage import open_storage
from i18n.catalogue import JAPANESE
from i18n.phrase import phrase
from i18n.reader import say, use_language
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.dataset.test_cog import storage_of, taught
from tests.bot.discord_ui.cogs.dataset.test_importing import upload
from tests.bot.discord_ui.cogs.test_models import make_checkpoint
from tests.bot.discord_ui.cogs.test_privacy import forget, trained
from tests.bot.japanese.discord import (
    assert_all_japanese,
    assert_japanese,
    assert_lines_japanese,
    shown,
    speak_japanese,
    texts,
)
from tests.fakes import FakeWorker


@pytest.fixture
async def english(settings: Settings, worker: FakeWorker) -> AsyncIterator[World]:
    """An English server, whose members read English unless a test says otherwise."""
    async with open_world(settings, worker) as world:
        yield world


@pytest.fixture
async def world(english: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An English server whose members read Japanese."""
    speak_japanese(monkeypatch)
    return english


@pytest.fixture
async def japanese(world: World) -> World:
    """There are examples of every status and some sources."""
    await taught(world, Pair("猫は？", "かわいい。"), Pair("犬は？", "元気。", "会話", 2, "質問集"))
    await taught(world, Pair("鳥は？", "飛ぶ。"), by=OPERATOR_AUTHOR_ID)
    await storage_of(world).examples.set_review(world.guild.id, 2, ReviewStatus.WAITING)
    await storage_of(world).examples.set_review(world.guild.id, 3, ReviewStatus.REJECTED)
    return world


def labels(message: Any) -> list[str]:
    return [button["label"] for row in message.components for button in row["components"]]


async def test_stats(japanese: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world, storage = japanese, storage_of(japanese)
    drawn = await world.ada.slash(world.general, "dataset stats")
    assert "承認済み 1" in drawn.response.embeds[0].fields[0].value
    assert "教える: 2" in drawn.response.embeds[0].fields[2].value
    assert len(drawn.response.attachments) == 1
    monkeypatch.setattr(charts.sys, "executable", "nothing-of-that-name")
    await world.ada.slash(world.general, "dataset stats")
    for source in ("teach", "質問集"):
        await storage.examples.remove_source(world.guild.id, source)
    await world.ada.slash(world.general, "dataset stats")
    assert_all_japanese(world)


async def test_preview_template_and_export(japanese: World) -> None:
    world, storage = japanese, storage_of(japanese)
    for name in ("preview", "template", "export", "preview", "export"):
        options = {"format": "csv"} if name == "export" else {}
        await world.ada.slash(world.general, f"dataset {name}", **options)
        if options:
            await storage.examples.remove_source(world.guild.id, "teach")
    assert_all_japanese(world)
    [*_, entry] = await storage.audit.entries(world.guild.id, 9)
    assert entry.action == "dataset export", "the audit is kept in English"


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
            assert_lines_japanese(texts(cleaning_embed(one).to_dict()))


async def test_import(japanese: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = japanese
    table = "user,bot\n魚は？,泳ぐ。\n虫は？,飛ぶ。\n".encode()
    first = await upload(world, "my.csv", table)
    await world.ada.click(first.response, label="取り込む")
    again = await upload(world, "my.csv", "user,bot\n魚は？,泳ぐ。\n,速い。\n\n虫は？,\n".encode())
    [embed] = again.response.embeds
    values = [field.value for field in embed.fields]
    assert values[:2] == ["- 「魚は？」→「泳ぐ。速い。」", "2行目: 泳ぐ。速い。"]
    assert values[2].startswith("5行目: ")
    await world.ada.click(again.response, label="中止")
    await upload(world, "my.csv", table)
    await world.env.advance_time(601)
    monkeypatch.setattr(importing, "MAX_FILE_BYTES", 10)
    await upload(world, "my.csv", table)
    assert_all_japanese(world)


async def test_remove(japanese: World) -> None:
    world, examples = japanese, storage_of(japanese).examples

    async def ask(**options: object) -> Any:
        return (await world.ada.slash(world.general, "dataset remove", **options)).response

    offered = await world.ada.autocomplete(world.general, "dataset remove", "source", "教")
    assert [(one["name"], one["value"]) for one in offered] == [("教える", "teach")]
    for options in ({}, {"source": "質問集", "example": 1}, {"source": "無"}, {"example": 99}):
        await ask(**options)
    await world.ada.click(await ask(example=3), label="残す")
    asked = await ask(source="teach")
    await examples.remove(world.guild.id, 1)
    await world.ada.click(asked, label="取り除く")
    asked = await ask(example=2)
    await examples.remove(world.guild.id, 2)
    await world.ada.click(asked, label="取り除く")
    await taught(world, Pair("猫は？", "かわいい。"))
    assert labels(await ask(source="teach")) == ["取り除く", "残す"]
    await world.env.advance_time(601)
    assert_all_japanese(world, "teach")


async def test_review(japanese: World) -> None:
    world, storage = japanese, storage_of(japanese)
    await storage.consents.opt_in(world.guild.id, world.ben.id, 1)
    await storage.examples.add(
        NewExample(world.guild.id, "朝", "夜", world.ada.id, "", asked_by=world.ben.id)
    )
    page = await world.ada.slash(world.general, "dataset review", status="all")
    opened = await world.ada.click(page.response, label="編集…")
    await world.ada.submit_modal(opened, {"user": " ", "bot": "b"})
    for label in ("承認", "却下", "スキップ", "戻る", "スキップ", "スキップ"):
        page = await world.ada.click(page.response, label=label)
    assert page.response.content.startswith("これが最後でした。")
    page = await world.ada.click(page.response, label="戻る")
    await storage.examples.remove(world.guild.id, 4)
    gone = await world.ada.click(page.response, label="却下")
    assert "取り除きました" in gone.response.content
    await world.env.advance_time(601)
    assert_all_japanese(world)


async def test_review_of_nothing(world: World) -> None:
    for status in ("waiting", "approved", "rejected", "all"):
        await world.ada.slash(world.general, "dataset review", status=status)
    assert_all_japanese(world)


async def test_two_managers_read_their_own_language(
    english: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = english
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
        for name in ("tiny-2", "tiny-3"):
            await world.ben.slash(world.general, "model info", name=name)
        assert_all_japanese(world)
    assert {"なし", "不明", "1 MB未満", "tiny-0、tiny-1"} <= {*shown(world)}


async def test_each_server_is_asked_in_its_own_language(english: World) -> None:
    world = english
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


def test_files_in_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line of it; what is wrong with a row is said by `data.formats`."""
    monkeypatch.setenv("GPT2BOT_HOME", str(tmp_path))
    asyncio.run(create_database(tmp_path / "gpt2bot.sqlite3"))
    (tmp_path / "pairs.csv").write_text("user,bot\n猫,犬\n,鳥\n\n虫,\n", encoding="utf-8")
    (tmp_path / "right.csv").write_text("user,bot\n猫,犬\n", encoding="utf-8")
    (tmp_path / "empty.jsonl").write_text("\n")
    with use_language(JAPANESE):
        write_template(tmp_path / "new.xlsx")
        assert [check(tmp_path / name) for name in ("pairs.csv", "right.csv")] == [1, 0]
        assert check(tmp_path / "empty.jsonl") == 1
        convert(tmp_path / "pairs.csv", tmp_path / "out.jsonl")
        import_pairs(tmp_path / "right.csv", 7)
        export_pairs(tmp_path / "out.csv", 7)
    lines = capsys.readouterr().out.replace(str(tmp_path), "").splitlines()
    assert_lines_japanese(lines)
    assert len([line for line in lines if line.startswith("誤り、5行目：")]) == 1
    assert len([line for line in lines if line.startswith("取り込まないもの、5行目：")]) == 1
    for name in ("new.csv", "new.xlsx", "nowhere/new.xlsx"):
        with use_language(JAPANESE), pytest.raises(SettingsError) as refused:
            write_template(tmp_path / name)
        with use_language(JAPANESE):
            assert_japanese(say(refused.value.args[0]).replace(str(tmp_path), ""))


async def create_database(path: Path) -> None:
    async with open_storage(path):
        pass
