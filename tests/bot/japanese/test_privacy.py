"""/privacy, as Japanese members read it."""

from __future__ import annotations

import pytest

from bot.discord_ui.cogs import privacy as cog
from bot.discord_ui.embeds.privacy import ERASURE_QUESTION, erasure_text, show_text
from bot.discord_ui.split import MAX_MESSAGE_CHARS
from bot.learning.consent import CONSENT_TEXT
from bot.learning.erasure import AffectedScope
from bot.settings import Settings
from core.errors import StoreError
from core.records import ReviewStatus
from core.utf16 import utf16_length
from i18n.catalogue import JAPANESE
from i18n.reader import use_language
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.test_privacy import being_erased, collected, manager_of, trained
from tests.bot.japanese.discord import (
    assert_all_japanese,
    assert_japanese,
    assert_lines_japanese,
    japan,
    shown,
    speak_japanese,
)
from tests.fakes import FakeWorker


async def test_consent_and_what_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.ben.slash(world.general, "privacy show")
    for answer in ("いいえ", "同意する"):
        asked = await world.ben.slash(world.general, "privacy opt-in")
        await world.ben.click(asked.response, label=answer)
    await world.ben.slash(world.general, "privacy opt-in")
    await collected(world, "waits", ReviewStatus.WAITING)
    await trained(world, "tiny-1")
    await world.ben.slash(world.general, "privacy show")
    await world.ben.slash(world.general, "privacy export")
    for _ in range(2):
        await world.ben.slash(world.general, "privacy opt-out")
        await world.ben.user.slash("privacy opt-out")
    await world.ben.user.slash("privacy show")
    await world.ben.user.slash("privacy opt-in")
    monkeypatch.setattr(cog, "pack_export", lambda *_: None)
    await world.ben.slash(world.general, "privacy export")
    assert_all_japanese(world)
    assert "確認待ちだったペア1件を消去しました" in "".join(shown(world))


async def test_where_it_is_not_switched_on(
    settings: Settings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with japan(settings, worker, monkeypatch) as world:
        await world.ben.slash(world.general, "privacy opt-in")
        await world.ben.slash(world.general, "privacy show")
        assert_all_japanese(world)


async def test_forgetting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def locked(_member: int) -> None:
        raise StoreError("データベースがロックされています。")

    for answer in ("中止", "消去する"):
        await forget(world, answer)
    monkeypatch.setattr(world.bot.get_cog("Privacy")._erasure, "erase_member", locked)
    await forget(world)
    assert_all_japanese(world)


async def forget(world: World, answer: str = "消去する") -> None:
    asked = await world.ben.slash(world.general, "privacy forget")
    await world.ben.click(asked.response, label=answer)


async def press(world: World, number: int) -> tuple[str, str]:
    """The answer to the administrator, and the last line of the question that all can see."""
    offer = next(one for one in world.general.history() if one.author == world.bot.user)
    told = await world.ada.click(offer, custom_id=offer.components[0].children[number].custom_id)
    offer = next(one for one in world.general.history() if one.author == world.bot.user)
    return told.response.content, offer.content.splitlines()[-1]


async def test_the_clean_retrain_is_settled_in_the_language_of_all(
    settings: Settings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak_japanese(monkeypatch)
    async with open_world(settings, worker) as world:
        manager_of(world)._queue_task.cancel()
        await trained(world, "tiny-1")
        await forget(world)
        told, _ = await press(world, 0)
        assert_japanese(told)
        await world.ada.slash(world.general, "teach", user="hi", bot="hello")
        told, under = await press(world, 0)
        assert_japanese(told)
        assert under == f"-# {cog.CLEAN_RETRAIN_STARTED}", "the server reads English"
        audit = await world.ada.slash(world.general, "audit")
        [line] = audit.response.embeds[0].description.splitlines()
        assert "それを除いた再学習 開始 学習 1 のあと" in line


async def test_not_now(
    settings: Settings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(settings, worker, preferred_locale="ja") as world:
        speak_japanese(monkeypatch, world.ben)
        await trained(world, "tiny-1")
        await forget(world)
        told, under = await press(world, 1)
        assert told == cog.CLEAN_RETRAIN_POSTPONED, "the administrator reads English"
        assert_japanese(under)


def test_rare_sentences() -> None:
    with use_language(JAPANESE):
        text = erasure_text([AffectedScope(1, ("tiny-1",), 1)], lambda _: "灯台")
        assert_lines_japanese([show_text(being_erased()), text])
    assert "灯台では、**tiny-1**が" in text


def test_the_consent_fits_one_message_and_names_the_same_places() -> None:
    japanese = CONSENT_TEXT.translate_to(JAPANESE)
    assert japanese.count("\n") == CONSENT_TEXT.count("\n")
    assert japanese.count("`/プライバシー 同意取り消し`") == CONSENT_TEXT.count("opt-out")
    for text in (japanese, ERASURE_QUESTION.translate_to(JAPANESE)):
        assert utf16_length(text) <= MAX_MESSAGE_CHARS
