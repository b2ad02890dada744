"""The data set, in Discord and in the terminal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bot.cli.dataset.files import check, convert, export_pairs, import_pairs, write_template
from bot.discord_ui.cogs.dataset import importing
from bot.discord_ui.embeds import charts
from bot.settings import SettingsError
from core.records import OPERATOR_AUTHOR_ID as OPERATOR
from core.records import NewExample, Pair, ReviewStatus
from data.storage.storage import open_storage
from i18n.reader import say, use_language
from tests.bot.conftest import World
from tests.bot.discord_ui.cogs.dataset.test_cog import storage_of, taught
from tests.bot.discord_ui.cogs.dataset.test_importing import upload
from tests.bot.japanese.discord import (
    answer,
    assert_all_japanese,
    assert_japanese,
    assert_lines_japanese,
    walk,
)


@pytest.fixture
async def world(world: World) -> World:
    """There are examples of every status and some sources."""
    await taught(world, Pair("猫は？", "かわいい。"), Pair("犬は？", "元気。", "会話", 2, "質問集"))
    masked = Pair("連絡先は？", "090-1234-5678 です。")
    await taught(world, Pair("鳥は？", "飛ぶ。"), masked, Pair("猫は？", "すばやい。"), by=OPERATOR)
    await storage_of(world).examples.set_review(world.guild.id, 2, ReviewStatus.WAITING)
    await storage_of(world).examples.set_review(world.guild.id, 3, ReviewStatus.REJECTED)
    return world


async def test_what_there_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, here, examples = world.ada, world.general, storage_of(world).examples
    drawn = await walk(ada, here, "dataset stats")
    assert "承認済み 3" in drawn.embeds[0].fields[0].value
    assert "教える: 4" in drawn.embeds[0].fields[2].value
    assert len(drawn.attachments) == 1
    monkeypatch.setattr(charts.sys, "executable", "nothing-of-that-name")
    commands = [f"dataset {one}" for one in ("stats", "preview", "export format:csv", "template")]
    await walk(ada, here, *commands)
    for source in ("teach", "質問集"):
        await examples.remove_source(world.guild.id, source)
    await walk(ada, here, *commands)
    statuses = ("waiting", "approved", "rejected", "all")
    await walk(ada, here, *(f"dataset review status:{one}" for one in statuses))
    assert_all_japanese(world, "phone", "number")  # as the model reads it


async def test_import(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    table = "user,bot\n魚は？,泳ぐ。\n虫は？,飛ぶ。\n".encode()
    first = await upload(world, "my.csv", table)
    await world.ada.click(first.response, label="取り込む")
    again = await upload(world, "my.csv", "user,bot\n魚は？,泳ぐ。\n,速い。\n\n虫は？,\n".encode())
    values = [field.value for field in again.response.embeds[0].fields]
    assert values[:2] == ["- 「魚は？」→「泳ぐ。速い。」", "2行目: 泳ぐ。速い。"]
    assert values[2].startswith("5行目: ")
    await world.ada.click(again.response, label="中止")
    await upload(world, "my.csv", table)
    await world.env.advance_time(601)
    monkeypatch.setattr(importing, "MAX_FILE_BYTES", 10)
    await upload(world, "my.csv", table)
    assert_all_japanese(world)


async def test_remove(world: World) -> None:
    ada, here, examples = world.ada, world.general, storage_of(world).examples
    offered = await ada.autocomplete(here, "dataset remove", "source", "教")
    assert [(one["name"], one["value"]) for one in offered] == [("教える", "teach")]
    options = ("", " source:質問集 example:1", " source:無", " example:99")
    await walk(ada, here, *(f"dataset remove{one}" for one in options))
    await answer(ada, here, "dataset remove example:3", "残す")
    for asked, example in (("source:teach", 1), ("example:2", 2)):
        question = await walk(ada, here, f"dataset remove {asked}")
        await examples.remove(world.guild.id, example)
        await ada.click(question, label="削除")
    await taught(world, Pair("猫は？", "かわいい。"))
    await walk(ada, here, "dataset remove source:teach")
    await world.env.advance_time(601)
    assert_all_japanese(world, "teach")


async def test_review(world: World) -> None:
    ada, storage, scope = world.ada, storage_of(world), world.guild.id
    await storage.consents.opt_in(scope, world.ben.id, 1)
    added = NewExample(scope, "朝", "夜", ada.id, "", asked_by=world.ben.id)
    await storage.examples.add(added)
    page = await walk(ada, world.general, "dataset review status:all")
    opened = await ada.click(page, label="編集…")
    await ada.submit_modal(opened, {"user": " ", "bot": "b"})
    for label in ("承認", "却下", "スキップ", "戻る", "スキップ", "スキップ", "戻る"):
        page = (await ada.click(page, label=label)).response
    await storage.examples.remove(scope, 4)
    await ada.click(page, label="却下")
    await world.env.advance_time(601)
    assert_all_japanese(world)


def test_files_in_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GPT2BOT_HOME", str(tmp_path))
    asyncio.run(create_database(tmp_path / "gpt2bot.sqlite3"))
    (tmp_path / "pairs.csv").write_text("user,bot\n猫,犬\n,鳥\n\n虫,\n", encoding="utf-8")
    (tmp_path / "right.csv").write_text("user,bot\n猫,犬\n", encoding="utf-8")
    (tmp_path / "empty.jsonl").write_text("\n")
    with use_language("ja"):
        write_template(tmp_path / "new.xlsx")
        names = ("pairs.csv", "right.csv", "empty.jsonl")
        assert [check(tmp_path / name) for name in names] == [1, 0, 1]
        convert(tmp_path / "pairs.csv", tmp_path / "out.jsonl")
        import_pairs(tmp_path / "right.csv", 7)
        export_pairs(tmp_path / "out.csv", 7)
        lines = capsys.readouterr().out.replace(str(tmp_path), "").splitlines()
        assert_lines_japanese(lines)
        for start in ("誤り、5行目：", "取り込まないもの、5行目："):
            assert len([line for line in lines if line.startswith(start)]) == 1
        for name in ("new.csv", "new.xlsx", "nowhere/new.xlsx"):
            with pytest.raises(SettingsError) as refused:
                write_template(tmp_path / name)
            assert_japanese(say(refused.value.args[0]).replace(str(tmp_path), ""), "nowhere")


async def create_database(path: Path) -> None:
    async with open_storage(path):
        pass
