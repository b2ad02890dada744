"""The plan of a retrain as an administrator has it: three lines, all of it, and its buttons."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import discord
import pytest

from bot.discord_ui.embeds.style import Card
from bot.discord_ui.embeds.training.plan import MAX_AUTHORS_SHOWN, plan_card, plan_summary_card
from bot.learning.retraining import RetrainPlan
from bot.learning.spelling import HardAnswers
from bot.settings import Settings
from core.records import OPERATOR_AUTHOR_ID, Example, ReviewStatus
from core.texts import utf16_length
from data.dataset.cleaning import CHAT_SOURCE, Selection
from i18n.reader import use_language
from model.registry import ModelOption
from model.spelling import Script
from tests.bot.asking import storage_of
from tests.bot.cards import facts_of, labels_of, lines_of, parts, text_of
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.test_admin import LACKS
from tests.bot.japanese.discord import speak_japanese
from tests.fakes import FakeWorker
from training.config import TrainingConfig
from training.jobs.folder import DATASET_FILE
from training.jobs.preview import Preview

PHONE_CHARS = 90
"""A line that a phone shows in two or three rows."""
SAFE = "Nothing is at risk: the new model is used only if it passes its checks."


@pytest.fixture
async def world(
    settings: Settings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """Refusals are expected, memory is free, and nothing is trained."""
    free = SimpleNamespace(available=64e9, total=64e9)
    monkeypatch.setattr("training.jobs.preview.psutil.virtual_memory", lambda: free)
    async with open_world(settings, worker, check_errors=False) as world:
        world.bot.get_cog("Training")._training._queue_task.cancel()
        yield world


async def plan_of(world: World, who: Any = None) -> Any:
    """The answer to `/retrain`, once two people have taught three things and one was corrected."""
    await world.ben.slash(world.general, "teach", user="Who made tea?", bot="A leaf.")
    await world.ben.slash(world.general, "teach", user="And coffee?", bot="A bean.")
    await world.ada.slash(world.general, "teach", user="And coffee?", bot="Two beans.")
    await world.ada.slash(world.general, "teach", user="And cocoa?", bot="A nut.")
    told = await (who or world.ada).slash(world.general, "retrain", base="tiny")
    assert told.ephemeral
    return told.response


async def press(who: Any, shown: Any, label: str) -> Any:
    return (await who.click(shown, label=label)).response


async def learned_by_the_job(world: World) -> set[str]:
    [job] = await storage_of(world).jobs.unfinished(world.guild.id)
    lines = (Path(job.directory) / DATASET_FILE).read_text(encoding="utf-8").splitlines()
    return {json.loads(line)["bot"] for line in lines}


# --- what is shown -------------------------------------------------------------------------------


async def test_a_plan_is_three_lines_and_its_main_button_comes_first(world: World) -> None:
    shown = await plan_of(world)
    title, learned, time, risk = lines_of(shown)
    assert title == "### Retrain?"
    assert learned == "I learn 3 things that 2 people taught, on top of `tiny` (1 left out)."
    assert time.startswith("It takes about ")
    assert time.endswith("; people can keep chatting meanwhile.")
    assert risk == SAFE
    assert labels_of(shown) == ["Start", "Details", "Cancel"]
    primary = discord.ButtonStyle.primary.value
    styles = [one["style"] for one in parts(shown) if "style" in one]
    assert [style == primary for style in styles] == [True, False, False]


async def test_details_show_all_that_a_dry_run_shows_and_back_hides_it(world: World) -> None:
    short = await plan_of(world)
    dry = await world.ada.slash(world.general, "retrain", base="tiny", dry_run=True)
    note, *told = lines_of(dry.response)  # the time is measured, so it may be another one
    assert note == "Nothing was started: this is what a retrain would look like."
    assert labels_of(dry.response) == []
    summary = text_of(short)
    for _ in range(2):
        full = await press(world.ada, short, "Details")
        assert labels_of(full) == ["Start", "Back", "Cancel"]
        assert lines_of(full)[:2] == told[:2]
        assert list(facts_of(full)) == list(facts_of(dry.response))
        short = await press(world.ada, full, "Back")
        assert labels_of(short) == ["Start", "Details", "Cancel"]
        assert text_of(short) == summary


async def test_a_plan_in_japanese(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    speak_japanese(monkeypatch, world.ada)
    shown = await plan_of(world)
    _, learned, time, risk = lines_of(shown)
    assert learned == "2人が教えた3件を、`tiny` を元に学びます（1件は除外）。"
    assert time.startswith("約")
    assert time.endswith("かかります。その間も会話を続けられます。")
    assert risk.startswith("失敗しても今のモデルは変わりません。")
    assert labels_of(shown) == ["開始", "詳細", "中止"]
    full = await press(world.ada, shown, "詳細")
    assert labels_of(full) == ["開始", "戻る", "中止"]
    assert lines_of(full)[0] == "### tiny から再学習しますか？"
    started = await press(world.ada, await press(world.ada, full, "戻る"), "開始")
    assert text_of(started).startswith("始めました。")


async def test_a_warning_takes_the_place_of_the_assurance(world: World) -> None:
    await world.ben.slash(world.general, "teach", user="hi", bot="Yes ❤️")
    shown = await plan_of(world)
    *_, risk = lines_of(shown)
    assert risk == "⚠️ 1 answer will hardly be learned: tiny can hardly write emoji; gpt2 can."


def summary_lines(plan: RetrainPlan) -> list[str]:
    """The lines under the title."""
    _, text = card_texts(plan_summary_card(plan))
    return text.split("\n")


def card_texts(card: Card) -> list[str]:
    return [one.content for one in card.walk_children() if isinstance(one, discord.ui.TextDisplay)]


CONFIG = TrainingConfig(name="tiny-1", base=None, base_name="tiny")
SELECTION = Selection((), {"too long": 1234}, {}, {}, dict.fromkeys(range(999), 1), {}, {})
PREVIEW = Preview(SELECTION, 1, 2, False, 3, 4.5, 86_399.0, 9_000.0, 99_000.0, 9)
PLAN = RetrainPlan(1, ModelOption("gpt2-medium", "", "", "", "", ""), CONFIG, PREVIEW, None)
NO_MEMORY = replace(PREVIEW, free_mb=2_000.0)
TOO_LONG = replace(PREVIEW, longest=CONFIG.max_length + 1)
HARD = HardAnswers("tiny", 12, Script.OTHER, "gpt2-medium")


@pytest.mark.parametrize(
    ("plan", "begins"),
    [
        (PLAN, ["Nothing is at risk"]),
        (replace(PLAN, preview=replace(PREVIEW, memory_mb=None)), ["Nothing is at risk"]),
        (replace(PLAN, preview=replace(NO_MEMORY, free_mb=None)), ["Nothing is at risk"]),
        (replace(PLAN, preview=replace(PREVIEW, seconds=None)), ["Nothing is at risk"]),
        (replace(PLAN, preview=NO_MEMORY), ["⚠️ Memory may run out"]),
        (replace(PLAN, hard_answers=HARD), ["⚠️ 12 answers"]),
        (replace(PLAN, preview=TOO_LONG), ["The longest example is cut"]),
        (
            replace(PLAN, preview=replace(TOO_LONG, free_mb=2_000.0), hard_answers=HARD),
            ["⚠️ Memory may run out", "⚠️ 12 answers"],
        ),
    ],
)
def test_what_could_go_wrong_is_said_in_short_lines(plan: RetrainPlan, begins: list[str]) -> None:
    """All that may ask for another base or method; of the rest nothing where there is such."""
    told = {}
    for language in ("en", "ja"):
        with use_language(language):
            told[language] = summary_lines(plan)
    for lines in told.values():
        assert len(lines) == 2 + len(begins)
        assert max(map(len, lines)) <= PHONE_CHARS
    for line, begin in zip(told["en"][2:], begins, strict=True):
        assert line.startswith(begin)


def test_the_longest_details_fit_one_message() -> None:
    """Imported files may name thousands of sources, and everybody has the longest name."""
    many = dict.fromkeys((f"source {n}" for n in range(5000)), 99_999)
    authors = dict.fromkeys(range(10**18, 10**18 + 5000), 99_999)
    selection = Selection((), many, many, many, authors, many, many)
    config = replace(CONFIG, base_name="x" * 5000, gradient_accumulation=99, threads=999)
    preview = replace(NO_MEMORY, selection=selection, longest=99_999_999)
    plan = RetrainPlan(1, ModelOption("y" * 5000, "", "", "", "", ""), config, preview, HARD)
    names = {10**18 + n: "\\_" * 32 for n in range(MAX_AUTHORS_SHOWN)}
    for language in ("en", "ja"):
        with use_language(language):
            texts = card_texts(plan_card(plan, "bf16 on cuda", names))
        assert sum(map(utf16_length, texts)) <= 4000


def learned(kept: int, left_out: int = 0, **counts: Any) -> str:
    """The line about what is learned; `counts` are those of the Selection."""
    taught = Example(1, 1, "hi", "hello", 1, "teach", datetime.now(UTC))
    selection = replace(SELECTION, kept=(taught,) * kept, dropped={"too long": left_out}, **counts)
    plan = replace(PLAN, preview=replace(PREVIEW, selection=selection))
    line, *_ = summary_lines(plan)
    assert len(line) <= PHONE_CHARS
    return line


def test_numbers_agree_with_their_nouns() -> None:
    line = learned(1, by_author={1: 1})
    assert line == "I learn 1 thing that 1 person taught, on top of `gpt2-medium`."


@pytest.mark.parametrize("by_author", [{OPERATOR_AUTHOR_ID: 300}, {OPERATOR_AUTHOR_ID: 299, 1: 1}])
def test_the_operator_is_not_a_person_who_taught(by_author: dict[int, int]) -> None:
    """And what the operator imported was not taught by the others."""
    assert learned(300, by_author=by_author) == "I learn 300 things, on top of `gpt2-medium`."
    with use_language("ja"):
        assert learned(300, by_author=by_author) == "300件を、`gpt2-medium` を元に学びます。"


def test_what_was_collected_from_conversations_was_not_taught() -> None:
    sources = {"teach": 100, CHAT_SOURCE: 1200}
    assert learned(1300, 1234, by_source=sources) == (
        "I learn 1,300 things, 1,200 from conversations, on top of `gpt2-medium` (1,234 left out)."
    )
    with use_language("ja"):
        assert learned(1300, by_source=sources) == (
            "1,300件（うち会話から1,200件）を、`gpt2-medium` を元に学びます。"
        )


# --- what its buttons do -------------------------------------------------------------------------


@pytest.mark.parametrize("pressed", [["Start"], ["Details", "Start"], ["Details", "Back", "Start"]])
async def test_start_from_both(world: World, pressed: list[str]) -> None:
    shown = await plan_of(world)
    for label in pressed:
        shown = await press(world.ada, shown, label)
    assert text_of(shown).startswith("Started.")
    assert labels_of(shown) == []
    assert await learned_by_the_job(world) == {"A leaf.", "Two beans.", "A nut."}


@pytest.mark.parametrize("pressed", [["Cancel"], ["Details", "Cancel"]])
async def test_cancel_from_both(world: World, pressed: list[str]) -> None:
    shown = await plan_of(world)
    for label in pressed:
        shown = await press(world.ada, shown, label)
    assert text_of(shown) == "Nothing was started."
    assert labels_of(shown) == []
    assert await storage_of(world).jobs.unfinished() == []


async def test_two_administrators_each_have_a_plan_of_their_own(world: World) -> None:
    role = world.guild.create_role("Boss", permissions=discord.Permissions(administrator=True))
    cleo = world.guild.add_member(world.env.create_user("cleo"), roles=[role])
    theirs = await plan_of(world, cleo)
    hers = await plan_of(world)
    theirs = await press(cleo, theirs, "Details")
    assert labels_of(hers) == ["Start", "Details", "Cancel"]
    assert text_of(await press(world.ada, hers, "Start")).startswith("Started.")
    theirs = await press(cleo, theirs, "Back")
    late = await cleo.click(theirs, label="Start")
    assert [one.content for one in late.followups] == [
        "A training job is under way in this server already."
    ]
    assert labels_of(late.response) == []
    assert len(await storage_of(world).jobs.unfinished(world.guild.id)) == 1


async def test_a_stale_plan_learns_what_is_there_when_it_starts(world: World) -> None:
    shown = await press(world.ada, await plan_of(world), "Details")
    await world.ben.slash(world.general, "teach", user="And juice?", bot="An apple.")
    await storage_of(world).examples.set_review(world.guild.id, 1, ReviewStatus.REJECTED)
    assert text_of(await press(world.ada, shown, "Start")).startswith("Started.")
    assert await learned_by_the_job(world) == {"Two beans.", "A nut.", "An apple."}


async def test_a_plan_of_which_nothing_is_left_starts_nothing(world: World) -> None:
    shown = await plan_of(world)
    for example in await storage_of(world).examples.all(world.guild.id):
        await storage_of(world).examples.set_review(
            world.guild.id, example.id, ReviewStatus.REJECTED
        )
    told = await world.ada.click(shown, label="Start")
    assert len(told.followups) == 1
    assert labels_of(told.response) == []
    assert await storage_of(world).jobs.unfinished() == []


@pytest.mark.parametrize("label", ["Start", "Details", "Cancel"])
async def test_each_button_is_for_administrators_at_each_press(world: World, label: str) -> None:
    shown = await plan_of(world)
    guild = world.bot.get_guild(world.guild.id)
    [role] = [one for one in guild.roles if one.permissions.administrator]
    await role.edit(permissions=discord.Permissions())
    assert (await press(world.ada, shown, label)).content == LACKS["administrator"]
    assert await storage_of(world).jobs.unfinished() == []
