"""A walk through each part of the bot in a Japanese server: nothing that it shows is English."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.discord_ui.audit import AUDIT_ACTIONS
from bot.discord_ui.cogs import privacy
from bot.discord_ui.delivery.split import MAX_MESSAGE_CHARS
from bot.discord_ui.embeds.privacy import ERASURE_QUESTION, erasure_text, show_text
from bot.learning.consent import CONSENT_TEXT
from bot.learning.erasure import AffectedScope
from core.errors import DiskFull, StoreError
from core.records import ReviewStatus
from core.texts import utf16_length
from i18n.reader import use_language
from model.errors import GenerationFailed, LoadFailed
from model.registry import EMBEDDED_FOLDER, with_custom_models
from model.sampling import SamplingParams
from model.worker.client import WORKER_UNRESPONSIVE, WorkerClient
from model.worker.quarantine import quarantine_message
from tests.bot.asking import ask, buttons, record_of, storage_of
from tests.bot.conftest import World
from tests.bot.discord_ui.cogs.test_feedback import close_gate, open_gate
from tests.bot.discord_ui.cogs.test_filters import forbid
from tests.bot.discord_ui.cogs.test_models import make_checkpoint
from tests.bot.discord_ui.cogs.test_privacy import being_erased, collected, trained
from tests.bot.discord_ui.test_correction_form import press
from tests.bot.japanese.conftest import MODELS
from tests.bot.japanese.discord import (
    JAPANESE,
    answer,
    assert_all_japanese,
    assert_japanese,
    assert_lines_japanese,
    shown,
    walk,
)
from tests.fakes import FakeWorker

CODE = Path(__file__).parents[3] / "bot"


async def disk_full(*_: object, **__: object) -> None:
    raise DiskFull


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first words of a reply are sent without a delay."""
    monkeypatch.setattr("bot.discord_ui.delivery.reply.FIRST_SEND_DELAY_S", 0.0)


# --- chat and feedback ---------------------------------------------------------------------------


async def test_chat(world: World, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    here = world.general
    await walk(world.ben, here, "context", "chat text:こんにちは", "context", "reset")
    for text in ("お元気ですか", "", "長い" * 51):
        await world.say(world.ben, text)
    await walk(world.ada, here, "channel enable", "channel disable")
    monkeypatch.setattr(world.bot.intents, "message_content", False)
    await walk(world.ada, here, "channel enable")
    await world.open_to_all("channel")
    await walk(world.ben, here, "channel enable")
    await world.ada.user.slash("pause")
    worker.answer = lambda _: " "
    for worker.failure in (None, RuntimeError("a bug")):
        await world.say(world.ben, "もしもし")
    worker.failure = None
    monkeypatch.setattr(storage_of(world).messages, "add", disk_full)
    await world.say(world.ben, "こんにちは")
    assert_all_japanese(world, "intent")
    assert "「サーバー管理」" in "".join(shown(world)), "Discord's permissions have Japanese names"


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("world", [{"member_per_minute": 2, "server_per_minute": 3}], indirect=True)
async def test_who_waits_and_who_is_too_quick(world: World, worker: FakeWorker) -> None:
    close_gate(world, worker, at=1)
    first = world.guild.create_text_channel("first")
    for channel in (first, world.general):
        await walk(world.ben, channel, "chat text:ひとつ")
    await open_gate(world, worker)
    for who in (world.ben, world.ada, world.ada):
        await world.say(who, "みっつ")
    assert_all_japanese(world)
    assert len([one for one in shown(world) if "秒後に" in one]) == 2
    assert any("順番待ち" in one for one in shown(world))


@pytest.mark.usefixtures("at_once")
async def test_feedback(world: World, worker: FakeWorker) -> None:
    close_gate(world, worker, at=1)
    await walk(world.ben, world.general, "chat text:こんにちは")
    [stop] = buttons(world.general.last_message)
    await world.ben.click(world.general.last_message, custom_id=stop)
    await open_gate(world, worker)
    reply = await ask(world, "誰ですか")
    for vote in ("up", "up", "down"):
        await world.ben.click(reply, custom_id=f"reply:{vote}:")
    for who, words in ((world.ben, "私はボットです"), (world.ada, "ボットです")):
        form = await press(who, reply)
        await who.submit_modal(form, {"question": "誰ですか？", "answer": words})
    outsider = world.guild.add_member(world.env.create_user("cid"))
    for who in (world.ben, outsider):
        await who.click(reply, custom_id="reply:again:")
    theirs = await world.ben.send(world.general, "違います")
    await world.ada.context_menu(world.general, "Better answer", theirs)
    assert_all_japanese(world)


async def test_why_and_a_replay(world: World, worker: FakeWorker) -> None:
    async def why(who: Any) -> Any:
        return (await who.context_menu(world.general, "Why this reply?", reply)).response

    async def replay(who: Any, told: Any) -> Any:
        custom_id = told.components[0]["components"][0]["custom_id"]
        return (await who.select(told, ["gpt2"], custom_id=custom_id)).response

    question = await world.ben.send(world.general, f"{world.bot.user.mention} もしもし")
    reply = await ask(world, "元気？")
    await world.ben.delete(question)
    [replayed] = (await replay(world.ada, await why(world.ada))).embeds
    assert [field.name for field in replayed.fields] == ["tiny（前回）", "gpt2（今回）"]
    own = await why(world.ben)
    worker.models.pop("gpt2")
    await replay(world.ben, own)
    storage, record = storage_of(world), await record_of(world, reply)
    bare = replace(record, model="tiny-9", source="gone", seed=None, sampling={}, cut=1)
    await storage.replies.add(replace(bare, first_s=None))
    await why(world.ben)
    await storage._execute("DELETE FROM replies")
    await why(world.ben)
    assert_all_japanese(world, "top", "gram", "mine")


# --- models, filters, pauses, the audit ----------------------------------------------------------


async def test_models(world: World, worker: FakeWorker) -> None:
    trained_with = {"batch_size": 8, "gradient_accumulation": 2}
    scores, parents = {"first_loss": 2.5, "last_loss": 0.25}, ["tiny-8", "tiny-9"]
    make_checkpoint(world, "tiny-1", scores=scores, settings=trained_with, parents=parents)
    make_checkpoint(world, "tiny-2", report={"refusal": "…"})
    here, names = world.general, (*with_custom_models(MODELS), "tiny-1", "tiny-2")
    listed = await walk(world.ben, here, "about", "help", "model list")
    assert "/モデル 使う" in listed.embeds[0].footer.text
    await walk(world.ben, here, *(f"model info name:{name}" for name in names))
    used = (f"model use name:{name}" for name in ("tiny-1", "tiny-2", "gpt5"))
    await walk(world.ada, here, "model rollback", *used)
    worker.broken["gpt2"] = WORKER_UNRESPONSIVE
    await walk(world.ada, here, "model use name:gpt2")
    for notes in range(3):
        await world.say(world.ben, "もしもし")
        if notes == 1:
            worker.quarantined["gpt2"] = quarantine_message("gpt2")
    worker.models.clear()
    worker.ready = None
    await walk(world.ada, here, "about", "model rollback")
    await answer(world.ada, here, "model delete name:tiny-2", "残す", "削除")
    assert_all_japanese(world, "gpt5", "mine", "some", "where", "cpu", "int", "bot")
    lines = "\n".join(shown(world)).splitlines()
    facts = {line.rpartition("** ")[2] for line in lines}
    assert {"tiny · 使用中", "なし", "不明", "1 MB未満", "tiny-8、tiny-9"} <= facts


async def test_an_error_of_the_worker_and_its_build(
    real_worker: WorkerClient, tmp_path: Path
) -> None:
    """It comes out of these processes as a sentence that can be translated."""
    (tmp_path / "nobodys").mkdir()
    for name in ("nobodys", "nowhere"):
        with pytest.raises(LoadFailed) as failed:
            await real_worker.load(str(tmp_path / name))
        assert_japanese(failed.value.args[0].translate_to("ja"), name, "safetensors")
    with pytest.raises(GenerationFailed) as refused:
        await anext(real_worker.generate(str(EMBEDDED_FOLDER), (), SamplingParams()))
    assert JAPANESE.search(refused.value.args[0].translate_to("ja"))


async def test_filters(world: World, worker: FakeWorker) -> None:
    words = ["だめ", "だめ", " \u200b", "。" * 100, *(f"{n}番" for n in range(100))]
    wrong = ["いい[", "(", "a**", r"\q", f"({'a?' * 40}){{50}}", r"(\d{1,99}){99}"]
    patterns = [r"\d{4}", ".*", "a{1000}{1000}", *wrong, *(f"[{n}]x" for n in range(20))]
    await walk(world.ada, world.general, "filter list")
    for pattern in patterns:
        await forbid(world, "pattern", pattern)
    for word in words:
        await forbid(world, "word", word)
    await walk(world.ada, world.general, "filter list")
    await walk(world.ada, world.general, *["filter remove kind:word text:だめ"] * 2)
    worker.answer = lambda _: "1234"
    await world.say(world.ben, "数は？")
    assert_all_japanese(world, "RE2", "github", "com", "google", "wiki", "Syntax")
    assert "パターンは上限の20個" in "".join(shown(world))
    assert "フィルターは上限の100個" in "".join(shown(world))


async def test_silence(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.bot.operators.add(world.ada.id)
    await world.open_to_all("pause")
    await walk(world.ben, world.general, "pause everywhere:True")
    await walk(world.ada, world.general, "pause", "pause", "pause everywhere:True")
    await world.say(world.ben, "こんにちは")
    await walk(world.ben, world.general, "chat text:こんにちは")
    await walk(world.ada, world.general, "resume", "resume", "resume everywhere:True")
    monkeypatch.setattr(storage_of(world).pauses, "add", disk_full)
    told = await walk(world.ada, world.general, "pause")
    assert "次に起動するまで" in told.content
    assert_all_japanese(world)


async def test_the_audit(world: World) -> None:
    """It is kept in English and read in Japanese."""
    await walk(world.ada, world.general, "audit")
    for action in AUDIT_ACTIONS:
        await storage_of(world).audit.record(world.guild.id, world.ada.id, action)
    for name in ("tiny-1", "tiny-2"):
        make_checkpoint(world, name)
        await walk(world.ada, world.general, f"model use name:{name}")
    await walk(world.ada, world.general, "model rollback")
    await forbid(world, "word", "だめ")
    entries = await storage_of(world).audit.entries(world.guild.id, 2)
    assert {entry.action for entry in entries} == {"filter add", "model rollback"}
    world.bot.operators.add(world.ada.id)
    first = await walk(world.ada, world.general, "audit")
    for _ in range(2):
        await world.ada.click(first, label="古い記録")
    everywhere = await walk(world.ada, world.general, "audit everywhere:True")
    added, back, *_ = everywhere.embeds[0].description.splitlines()
    assert f"（サーバー {world.guild.name}）：フィルター 追加 単語 だめ" in added
    assert back.endswith("tiny-1 へ")
    assert_all_japanese(world)


def test_whatever_is_written_down_can_be_said_in_japanese() -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in CODE.rglob("*.py"))
    noted = re.findall(r'\brecord_audit\(\s*[\w.]+,\s*\w+,\s*(?:phrase\()?"([a-z -]+)"', code)
    assert len(noted) > 10
    assert set(noted) <= set(AUDIT_ACTIONS)


# --- privacy -------------------------------------------------------------------------------------


async def test_privacy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def locked(_member: int) -> None:
        raise StoreError("データベースがロックされています。")

    ben, here = world.ben, world.general
    await walk(ben, here, "privacy show")
    await answer(ben, here, "privacy opt-in", "いいえ", "同意する")
    await collected(world, "waits", ReviewStatus.WAITING)
    await trained(world, "tiny-1")
    await walk(ben, here, "privacy opt-in", "privacy show", "privacy export")
    await walk(ben, here, "privacy opt-out", "privacy opt-out")
    for command in ("opt-out", "show", "opt-in"):
        await ben.user.slash(f"privacy {command}")
    monkeypatch.setattr(privacy, "pack_export", lambda *_: None)
    await walk(ben, here, "privacy export")
    await answer(ben, here, "privacy forget", "中止", "消去する")
    monkeypatch.setattr(world.bot.get_cog("Privacy")._erasure, "erase_member", locked)
    await answer(ben, here, "privacy forget", "消去する")
    assert_all_japanese(world)
    assert "確認待ちだったペア1件を消去しました" in "".join(shown(world))


@pytest.mark.parametrize("world", [{"learn_from_chat": False}], indirect=True)
async def test_privacy_where_nothing_is_learned_from_chat(world: World) -> None:
    await walk(world.ben, world.general, "privacy opt-in", "privacy show")
    assert_all_japanese(world)


def test_the_texts_about_privacy() -> None:
    consent, question = (text.translate_to("ja") for text in (CONSENT_TEXT, ERASURE_QUESTION))
    assert consent.count("\n") == CONSENT_TEXT.count("\n")
    assert consent.count("`/プライバシー 同意取り消し`") == CONSENT_TEXT.count("opt-out")
    assert max(map(utf16_length, (consent, question))) <= MAX_MESSAGE_CHARS
    with use_language("ja"):
        text = erasure_text([AffectedScope(1, ("tiny-1",), 1)], lambda _: "灯台")
        assert_lines_japanese([show_text(being_erased()), text])
