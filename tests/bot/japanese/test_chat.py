"""Chatting, feedback and looking after the bot, as Japanese people read it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bot.discord_ui.audit import AUDIT_ACTIONS
from bot.discord_ui.cogs.chat import NOTHING_TO_READ
from bot.discord_ui.errors import UNEXPECTED, error_message, is_expected
from bot.discord_ui.presence import Presence
from bot.settings import Settings
from core.errors import DiskFull
from data.storage.storage import Storage
from data.storage.tables.pauses import EVERYWHERE
from i18n.reader import use_language
from tests.bot.asking import ask, buttons, storage_of
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.test_feedback import close_gate, open_gate
from tests.bot.discord_ui.cogs.test_filters import forbid
from tests.bot.discord_ui.test_correction_form import press
from tests.bot.japanese.discord import (
    assert_all_japanese,
    assert_japanese,
    japan,
    shown,
    speak_japanese,
)
from tests.fakes import FakeWorker

CODE = Path(__file__).parents[3] / "bot"


# --- chat ----------------------------------------------------------------------------------------


async def test_a_conversation(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.ben.slash(world.general, "context")
    await world.say(world.ben, "お元気ですか")
    await world.ben.slash(world.general, "chat", text="こんにちは")
    await world.ben.slash(world.general, "context")
    await world.say(world.ben, "")
    await world.say(world.ben, "長い" * 51)
    await world.ben.slash(world.general, "reset")
    for command in ("enable", "disable"):
        await world.ada.slash(world.general, f"channel {command}")
    monkeypatch.setattr(world.bot.intents, "message_content", False)
    await world.ada.slash(world.general, "channel enable")
    await world.open_to_all("channel")
    await world.ben.slash(world.general, "channel enable")
    await world.ada.user.slash("pause")
    assert_all_japanese(world, "intent")
    assert "「サーバー管理」" in "".join(shown(world))


async def test_who_waits_and_who_is_too_quick(
    settings: Settings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.discord_ui.reply.FIRST_SEND_DELAY_S", 0.0)
    slow = {"member_per_minute": 2, "server_per_minute": 3}
    async with japan(settings, worker, monkeypatch, **slow) as world:
        close_gate(world, worker, at=1)
        first = world.guild.create_text_channel("first")
        await world.ben.slash(first, "chat", text="ひとつ")
        await world.ben.slash(world.general, "chat", text="ふたつ")
        await open_gate(world, worker)
        await world.say(world.ben, "みっつ")
        await world.say(world.ada, "よっつ")
        await world.say(world.ada, "いつつ")
        assert_all_japanese(world)
    assert len([one for one in shown(world) if "秒後に" in one]) == 2
    assert any("順番待ち" in one for one in shown(world))


async def test_errors(world: World, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.failure = RuntimeError("a bug")
    await world.say(world.ben, "どうして？")
    with use_language("ja"):
        assert world.last() == error_message(RuntimeError("a bug"))
        assert not is_expected(RuntimeError("a bug"))
    worker.failure = None
    monkeypatch.setattr(storage_of(world).messages, "add", disk_full)
    await world.say(world.ben, "こんにちは")
    assert "。ディスクがいっぱい" in (world.last() or "")
    assert_all_japanese(world)


async def disk_full(*_: object, **__: object) -> None:
    raise DiskFull


# --- feedback ------------------------------------------------------------------------------------


async def test_feedback(world: World, worker: FakeWorker) -> None:
    reply = await ask(world, "誰ですか")
    for vote in ("up", "up", "down"):
        await world.ben.click(reply, custom_id=f"reply:{vote}:")
    for who, answer in ((world.ben, "私はボットです"), (world.ada, "ボットです")):
        form = await press(who, reply)
        await who.submit_modal(form, {"question": "誰ですか？", "answer": answer})
    await world.ben.click(reply, custom_id="reply:again:")
    outsider = world.guild.add_member(world.env.create_user("cid"))
    await outsider.click(reply, custom_id="reply:again:")
    theirs = await world.ben.send(world.general, "違います")
    await world.ada.context_menu(world.general, "Better answer", theirs)
    assert_all_japanese(world)


async def test_a_reply_that_is_stopped(
    world: World, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.discord_ui.reply.FIRST_SEND_DELAY_S", 0.0)
    close_gate(world, worker, at=1)
    await world.ben.slash(world.general, "chat", text="こんにちは")
    [stop] = buttons(world.general.last_message)
    await world.ben.click(world.general.last_message, custom_id=stop)
    assert world.general.last_message.components[0].children[-1].label == "もっとよい答え…"
    await open_gate(world, worker)
    worker.answer = lambda _: " "
    await world.say(world.ben, "もしもし")
    assert_all_japanese(world)


async def test_everybody_reads_the_servers_language_and_each_member_their_own(
    settings: Settings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(settings, worker, check_errors=False) as world:
        speak_japanese(monkeypatch, world.ben)
        for who in (world.ada, world.ben):
            await world.say(who, "")
            assert world.last() == NOTHING_TO_READ, "a message is answered in the server's language"
            told = await who.slash(world.general, "reset")
            assert told.response.content.startswith("Forgotten.")
        english = await world.ada.slash(world.general, "context")
        assert english.response.content.startswith("Nothing yet")
        japanese = await world.ben.slash(world.general, "context")
        assert_japanese(japanese.response.content)
        reply = await ask(world, "こんにちは", world.ada)
        assert [one.label for one in reply.components[0].children][-1] == "Better answer…"
        refused = await world.ben.click(reply, custom_id="reply:again:")
        assert_japanese(refused.response.content)
        again = await world.ada.click(reply, custom_id="reply:again:")
        assert again.response.content == "はい そうです"
        assert (await press(world.ada, reply)).modal["title"] == "A better answer"
        assert_japanese((await press(world.ben, reply)).modal["title"])


async def test_why_there_is_no_answer_is_said_to_who_reads_it(
    settings: Settings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands where the answer was to be, so in an English server all can read it."""
    worker.failure = RuntimeError("a bug")
    async with open_world(settings, worker, check_errors=False) as world:
        speak_japanese(monkeypatch, world.ben)
        failed = await world.ben.slash(world.general, "chat", text="こんにちは")
        assert (failed.response.content, failed.response.ephemeral) == (UNEXPECTED, False)
        monkeypatch.setattr(storage_of(world).messages, "reset_context", disk_full)
        reset = await world.ben.slash(world.general, "reset")
        assert (reset.response.content, reset.response.ephemeral) == (str(DiskFull()), False)
        await world.open_to_all("pause")
        refused = await world.ben.slash(world.general, "pause")
        assert refused.response.ephemeral
        assert_japanese(refused.response.content)


async def test_a_direct_message_is_answered_in_the_language_in_which_it_is_written(
    world: World, worker: FakeWorker
) -> None:
    worker.failure = RuntimeError("a bug")
    await world.ben.send_dm("こんにちは")
    await world.ben.send_dm("hello")
    japanese, english = shown(world)
    assert_japanese(japanese)
    assert english == UNEXPECTED


# --- looking after it ----------------------------------------------------------------------------


async def test_filters(world: World, worker: FakeWorker) -> None:
    await world.ada.slash(world.general, "filter list")
    for kind, text in (
        *(("word", "だめ"), ("word", "だめ"), ("word", " \u200b"), ("word", "。" * 100)),
        *(("pattern", r"\d{4}"), ("pattern", ".*"), ("pattern", "a{1000}{1000}")),
        *(("pattern", f"({'a?' * 40}){{50}}"), ("pattern", r"(\d{1,99}){99}")),
        *(("pattern", "いい["), ("pattern", "("), ("pattern", "a**"), ("pattern", r"\q")),
    ):
        await forbid(world, kind, text)
    await world.ada.slash(world.general, "filter list")
    for _ in range(2):
        await world.ada.slash(world.general, "filter remove", kind="word", text="だめ")
    worker.answer = lambda _: "1234"
    await world.say(world.ben, "数は？")
    for n in range(20):
        await forbid(world, "pattern", f"[{n}]x")
    for n in range(100):
        await forbid(world, "word", f"{n}番")
    assert_all_japanese(world, "RE2", "github", "com", "google", "wiki", "Syntax")
    assert "パターンは上限の20個" in "".join(shown(world))
    assert "フィルターは上限の100個" in "".join(shown(world))


async def test_silence(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.bot.operators.add(world.ada.id)
    await world.open_to_all("pause")
    await world.ben.slash(world.general, "pause", everywhere=True)
    for everywhere in (False, False, True):
        await world.ada.slash(world.general, "pause", everywhere=everywhere)
    await world.say(world.ben, "こんにちは")
    await world.ben.slash(world.general, "chat", text="こんにちは")
    for everywhere in (False, False, True):
        await world.ada.slash(world.general, "resume", everywhere=everywhere)
    monkeypatch.setattr(storage_of(world).pauses, "add", disk_full)
    told = await world.ada.slash(world.general, "pause")
    assert "次に起動するまで" in told.response.content
    assert_all_japanese(world)


async def test_the_audit_is_read_in_the_language_of_whoever_reads_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.ada.slash(world.general, "audit")
    for action in AUDIT_ACTIONS:
        await storage_of(world).audit.record(world.guild.id, world.ada.id, action)
    await forbid(world, "word", "だめ")
    world.bot.operators.add(world.ada.id)
    first = await world.ada.slash(world.general, "audit")
    for _ in range(2):
        await world.ada.click(first.response, label="古い記録")
    everywhere = await world.ada.slash(world.general, "audit", everywhere=True)
    line = everywhere.response.embeds[0].description.splitlines()[0]
    assert f"（サーバー {world.guild.id}）: フィルター 追加 単語 だめ" in line
    assert_all_japanese(world)
    monkeypatch.undo()
    english = await world.ada.slash(world.general, "audit")
    assert "filter add word だめ" in english.response.embeds[0].description


def test_whatever_is_written_down_can_be_said_in_japanese() -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in CODE.rglob("*.py"))
    noted = re.findall(r'\brecord_audit\(\s*[\w.]+,\s*\w+,\s*(?:phrase\()?"([a-z -]+)"', code)
    assert len(noted) > 10
    assert set(noted) <= set(AUDIT_ACTIONS)


async def test_the_presence_is_in_the_language_of_the_operator(
    settings: Settings, worker: FakeWorker, storage: Storage
) -> None:
    chosen = settings.model_copy(update={"bot_language": "ja"})
    async with open_world(chosen, worker) as world:
        presence = Presence(world.bot, storage.pauses, "gpt2")
        assert str(world.bot.activity) == "gpt2 · /教える と /話す"
        await storage.pauses.add(EVERYWHERE, 1)
        await presence.show()
        assert str(world.bot.activity) == "一時停止中"
