"""/teach and /retrain up to the start of a job: what is shown, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import discord
import pytest
from simcord import SetupError

from bot.discord_ui.embeds.training.plan import format_shares, memory_text
from bot.settings import Settings, load_settings
from core.records import NewExample, ReviewStatus
from model.registry import base_family
from tests.bot.asking import storage_of
from tests.bot.cards import facts_of, labels_of, lines_of, text_of
from tests.bot.conftest import World, open_world
from tests.fakes import FakeWorker
from tests.japanese_folders import make_japanese_folder

Open = Callable[..., AbstractAsyncContextManager[World]]


async def test_teach_notes_the_pair_and_counts(world: World) -> None:
    first = await world.ben.slash(world.general, "teach", user="Who made tea?", bot="A leaf.")
    assert "To “Who made tea?” I should answer: “A leaf.”" in first.response.content
    assert "1 example so far" in first.response.content
    second = await world.ada.slash(world.general, "teach", user="And coffee?", bot="A bean.")
    assert "2 examples so far" in second.response.content


async def test_other_wordings_are_taught_with_the_same_answer(world: World) -> None:
    async def teach(who: Any, user: str, bot: str, also: str) -> Any:
        return await who.slash(world.general, "teach", user=user, bot=bot, also=also)

    told = await teach(world.ben, "When is game night?", "Friday.", "game night when；GAME NIGHT?;")
    assert "To “When is game night?” I should answer: “Friday.”" in told.response.content
    assert told.response.content.endswith("-# The same answer to “game night when”, “GAME NIGHT?”.")
    stored = await storage_of(world).examples.all(world.guild.id)
    assert [(one.user, one.bot, one.author_id, one.weight) for one in stored] == [
        (question, "Friday.", world.ben.id, 1)
        for question in ("When is game night?", "game night when", "GAME NIGHT?")
    ]
    again = await teach(world.ben, "When is game night?", "Friday.", "game night!")
    assert "You have taught me that already" in again.response.content
    cleo = world.guild.add_member(world.env.create_user("cleo"))
    waits = await teach(cleo, "When do we play?", "Never.", "game night?; when to play")
    lines = waits.response.content.split("\n")
    assert lines[-2] == "-# The same answer to “when to play”."
    assert lines[-1].startswith("-# “game night?”: Somebody with the permission Manage Server")
    assert not waits.ephemeral
    many = await teach(world.ben, "a?", "b", ";".join(f"a{n}?" for n in range(7)))
    assert many.response.content.endswith(
        "-# I take 5 other ways to ask at a time: teach me those from “a5?” on again."
    )
    assert "a4?" in {one.user for one in await storage_of(world).examples.all(world.guild.id)}


async def test_the_same_pair_is_counted_once_and_told(world: World) -> None:
    results = [
        await world.ben.slash(world.general, "teach", user="hi", bot="hello") for _ in range(2)
    ]
    assert [one.response.content.split("\n")[0] for one in results] == [
        "Noted. To “hi” I should answer: “hello”",
        "You have taught me that already: to “hi” I should answer “hello”",
    ]
    assert [one.ephemeral for one in results] == [False, True]
    assert all("(1 example so far)" in one.response.content for one in results)


async def test_what_a_manager_rejected_stays_rejected(world: World) -> None:
    examples = storage_of(world).examples
    await world.ben.slash(world.general, "teach", user="hi", bot="nonsense")
    await examples.set_review(world.guild.id, 1, ReviewStatus.REJECTED)
    for user in ("hi", " HI!"):
        again = await world.ben.slash(world.general, "teach", user=user, bot="nonsense")
        assert again.ephemeral
        assert "was rejected here before" in again.response.content
    assert await examples.trainable(world.guild.id) == []
    await world.ada.slash(world.general, "teach", user="hi", bot="nonsense")
    assert len(await examples.trainable(world.guild.id)) == 1


async def learned(world: World) -> list[str]:
    return [one.bot for one in await storage_of(world).examples.trainable(world.guild.id)]


async def test_a_new_answer_to_what_others_taught_waits_for_a_manager(world: World) -> None:
    await world.ada.slash(world.general, "teach", user="Who is it?", bot="Ada.")
    waits = await world.ben.slash(world.general, "teach", user="who is it?", bot="Ben.")
    assert waits.ephemeral
    assert "reviews it first" in waits.response.content
    assert await learned(world) == ["Ada."]
    own = await world.ada.slash(world.general, "teach", user="Who is it?", bot="Bo.")
    assert not own.ephemeral
    others = await world.ben.slash(world.general, "teach", user="Who is it?", bot="Ada.")
    assert "another answer to it is newer" in others.response.content
    await storage_of(world).examples.set_review(world.guild.id, 2, ReviewStatus.APPROVED)
    assert await learned(world) == ["Ada.", "Ben.", "Bo."]


async def test_an_earlier_answer_that_is_taught_again_is_the_newest(world: World) -> None:
    for bot in ("Tea.", "Coffee.", "Tea."):
        told = await world.ben.slash(world.general, "teach", user="What to drink?", bot=bot)
        assert told.response.content.startswith("Noted.")
    assert await learned(world) == ["Coffee.", "Tea."]
    await world.ada.slash(world.general, "teach", user="What to drink?", bot="Water.")
    stays = await world.ben.slash(world.general, "teach", user="What to drink?", bot="Tea.")
    assert "another answer to it is newer" in stays.response.content
    assert await learned(world) == ["Coffee.", "Tea.", "Water."]
    told = await world.ada.slash(world.general, "teach", user="What to drink?", bot="Tea.")
    assert not told.ephemeral
    assert await learned(world) == ["Coffee.", "Water.", "Tea."]


async def test_the_operator_may_let_members_replace_answers(
    settings: Settings, worker: FakeWorker
) -> None:
    free = load_settings(
        gpt2bot_home=settings.gpt2bot_home, default_model="tiny", review_new_answers=False
    )
    async with open_world(free, worker) as world:
        await world.ada.slash(world.general, "teach", user="Who is it?", bot="Ada.")
        await world.ben.slash(world.general, "teach", user="Who is it?", bot="Ben.")
        assert await learned(world) == ["Ada.", "Ben."]


async def test_words_that_wait_for_another_members_review_go_on_waiting(world: World) -> None:
    storage, guild = storage_of(world), world.guild.id
    await storage.consents.opt_in(guild, world.ben.id, 1)
    said = NewExample(
        guild, "hi", "hello", world.ben.id, "chat", asked_by=world.ben.id, consent_version=1,
        status=ReviewStatus.WAITING,
    )  # fmt: skip
    first = await storage.examples.add(said)
    cleo = world.guild.add_member(world.env.create_user("cleo"))
    waits = await cleo.slash(world.general, "teach", user="hi", bot="hello")
    assert "reviews it first" in waits.response.content
    assert await storage.examples.all(guild) == [first]
    await storage.examples.set_review(guild, first.id, ReviewStatus.APPROVED)
    await world.ben.slash(world.general, "privacy opt-out")
    assert await learned(world) == []


async def test_blank_examples_are_refused(world: World) -> None:
    result = await world.ben.slash(world.general, "teach", user="   ", bot="hello")
    assert result.ephemeral
    assert "give me both" in result.response.content


async def test_retrain_with_nothing_taught_says_what_to_do(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        result = await world.ada.slash(world.general, "retrain")
        assert "Teach me something first" in result.response.content


async def test_retrain_shows_every_setting_before_it_starts(world: World) -> None:
    await world.ben.slash(world.general, "teach", user="hi", bot="hello")
    result = await world.ada.slash(
        world.general, "retrain", base="gpt2", epochs=2.0, learning_rate=1e-4
    )
    assert result.ephemeral
    details = await world.ada.click(result.response, label="Details")
    title, description, *_ = lines_of(details.response)
    fields = facts_of(details.response)
    assert title == "### Retrain from gpt2?"
    assert "1 example" in description
    assert fields["Epochs"] == "2"
    assert fields["Batch size"] == "18"
    assert fields["Gradient accumulation"] == "1"
    assert fields["Learning rate"] == "0.0001"
    assert fields["Number format"] == "fp32 on cpu"


async def fields_of(world: World, **options: Any) -> dict[str, str]:
    """All that the plan says, behind its button Details."""
    result = await world.ada.slash(world.general, "retrain", **options)
    details = await world.ada.click(result.response, label="Details")
    return facts_of(details.response)


async def test_retrain_shows_what_is_learned_and_from_whom(world: World) -> None:
    for n in range(3):
        await world.ben.slash(world.general, "teach", user=f"question {n}", bot=f"answer {n}")
    await world.ada.slash(world.general, "teach", user="question 0", bot="write to a@example.com")
    fields = await fields_of(world)
    assert fields["Examples"] == "teach 3"
    assert "1" in fields["Left out"]
    assert fields["By author"] == "ben 67 %, ada 33 %"
    assert fields["Masked"] == "e-mail address 1"
    assert int(fields["Rows"].replace(",", "")) > 3
    assert "epochs" in fields["Steps"]
    assert fields["Time"].startswith("about ")
    assert fields["Memory"].startswith(("about ", "⚠"))


async def test_retrain_shows_what_was_cleaned(world: World) -> None:
    await world.ben.slash(world.general, "teach", user="hi  you", bot="a@example.com is  mine")
    await world.ben.slash(world.general, "teach", user="where?", bot="see https://example.com")
    assert (await fields_of(world))["Cleaned"] == "links 1, white space 1"


async def test_retrain_shows_how_it_is_learned(world: World) -> None:
    await world.ben.slash(world.general, "teach", user="hi", bot="hello")
    fields = await fields_of(world)
    assert fields["Left out"] == "none"
    assert "Cleaned" not in fields
    assert fields["Masked"] == "nothing found"
    assert fields["Base"] == "tiny"
    assert fields["Mixed in"].startswith("questions that only look alike, and general talk")
    assert fields["Method"] == "LoRA, rank 32"
    assert fields["Epochs"] == "100 (at least 92 steps)"
    assert fields["Warm-up"] == "10 % of the steps"
    assert fields["Loss on"] == "the bot's tokens only"
    assert "tokens (at most 128)" in fields["Longest example"]


@pytest.mark.parametrize(
    ("options", "how"),
    [
        ({}, ("LoRA, rank 32", "0.007")),
        ({"method": "lora"}, ("LoRA, rank 32", "0.007")),
        ({"method": "full"}, ("full fine-tuning", "0.0007")),
        ({"base": "gpt2"}, ("LoRA, rank 32", "0.0003")),
        ({"base": "gpt2", "method": "full"}, ("full fine-tuning", "3e-05")),
        ({"base": "gpt2", "learning_rate": 1e-4}, ("LoRA, rank 32", "0.0001")),
    ],
)
async def test_lora_learns_ten_times_as_fast(
    world: World, options: dict[str, Any], how: tuple[str, str]
) -> None:
    await world.ben.slash(world.general, "teach", user="hi", bot="hello")
    fields = await fields_of(world, **options)
    assert (fields["Method"], fields["Learning rate"]) == how


@pytest.mark.parametrize(
    ("name", "kind"),
    [("tiny-3", "tiny"), ("tiny-3-1", "tiny"), ("gpt2-medium-12", "gpt2-medium")],
)
def test_a_checkpoint_is_of_the_family_that_it_is_named_after(name: str, kind: str) -> None:
    assert base_family(name) == kind


def test_a_run_that_does_not_fit_comes_with_advice() -> None:
    assert memory_text(None, 100.0, "full") == "not known"
    assert memory_text(900.4, None, "full") == "about 900 MB"
    assert memory_text(900.0, 2000.0, "full") == "about 900 MB, 2,000 MB are free"
    too_much = "⚠️ about 9,000 MB, 2,000 MB are free. It may not fit: choose "
    assert memory_text(9000.0, 2000.0, "full") == (
        f"{too_much}LoRA (`method: lora`) or a smaller base."
    )
    assert memory_text(9000.0, 2000.0, "lora") == f"{too_much}a smaller base."


def test_the_shares_of_many_authors_are_the_largest_five() -> None:
    authors = dict.fromkeys(range(1, 9), 1) | {9: 12}
    names = {9: "ada", 1: "ben"}
    assert format_shares(authors, names) == "ada 60 %, ben 5 %, 2 5 %, 3 5 %, 4 5 %, 4 more"


async def test_a_dry_run_shows_the_same_and_starts_nothing(world: World) -> None:
    await world.ben.slash(world.general, "teach", user="hi", bot="hello")
    fields = await fields_of(world)
    dry = await world.ada.slash(world.general, "retrain", dry_run=True)
    assert dry.ephemeral
    assert lines_of(dry.response)[0] == (
        "Nothing was started: this is what a retrain would look like."
    )
    assert labels_of(dry.response) == []
    assert list(facts_of(dry.response)) == list(fields)


async def test_of_two_admins_who_press_start_one_is_told_of_the_other(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        role = world.guild.create_role("Boss", permissions=discord.Permissions(administrator=True))
        cleo = world.guild.add_member(world.env.create_user("cleo"), roles=[role])
        training = world.bot.get_cog("Training")
        training._training._queue_task.cancel()  # so that nothing is trained
        await world.ben.slash(world.general, "teach", user="hi", bot="hello")
        plans = [await who.slash(world.general, "retrain") for who in (world.ada, cleo)]
        first = await world.ada.click(plans[0].response, label="Start")
        assert text_of(first.response).startswith("Started.")
        assert labels_of(first.response) == []
        second = await cleo.click(plans[1].response, label="Start")
        [told] = second.followups
        assert told.content == "A training job is under way in this server already."
        assert labels_of(second.response) == []
        assert len(await training._storage.jobs.unfinished(world.guild.id)) == 1
        late = await world.ada.slash(world.general, "retrain")
        assert late.response.content == "A training job is under way in this server already."


async def test_cancel_starts_nothing(world: World) -> None:
    await world.ben.slash(world.general, "teach", user="hi", bot="hello")
    plan = await world.ada.slash(world.general, "retrain")
    after = await world.ada.click(plan.response, label="Cancel")
    assert text_of(after.response) == "Nothing was started."
    assert not (world.home / "jobs").exists() or not any((world.home / "jobs").iterdir())


async def test_only_admins_retrain(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        with pytest.raises(SetupError, match="default-member-permissions"):
            await world.ben.slash(world.general, "retrain")
        await world.open_to_all("retrain")
        result = await world.ben.slash(world.general, "retrain")
        assert result.response.content == "You need the permission Administrator for that."


async def test_an_unknown_base_is_refused(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        await world.ben.slash(world.general, "teach", user="hi", bot="hello")
        result = await world.ada.slash(world.general, "retrain", base="gpt9")
        assert "There is no model called “gpt9”" in result.response.content


async def test_autocomplete_of_base_offers_models_to_start_from(world: World) -> None:
    choices = await world.ada.autocomplete(world.general, "retrain", "base", "gpt")
    assert [choice["value"] for choice in choices] == ["gpt2", "gpt2-medium"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("On Friday – at eight.", None),
        ("金曜日の夜です。", "tiny can hardly write Japanese"),
        ("Yes ❤️", "tiny can hardly write emoji; gpt2 can"),
        ("Привет!", "tiny can hardly write its letters"),
    ],
)
async def test_answers_that_the_model_can_hardly_write_are_told(
    world: World, answer: str, why: str | None
) -> None:
    told = await world.ben.slash(world.general, "teach", user="hi", bot=answer)
    *_, last = told.response.content.split("\n")
    assert last == (f"-# I will remember it, but {why}." if why else last)
    assert ("hardly" in last) == bool(why)
    await world.ben.slash(world.general, "teach", user="bye", bot="Goodbye.")
    plan = await world.ada.slash(world.general, "retrain", base="tiny", dry_run=True)
    _, _, what, warning, *_ = lines_of(plan.response)
    assert what.endswith("the old one stays.")
    assert (warning == f"⚠️ 1 answer will hardly be learned: {why}.") == bool(why)


async def test_a_model_of_the_operator_that_can_write_it_is_named(
    settings: Settings, worker: FakeWorker, tmp_path: Path
) -> None:
    folder = make_japanese_folder(tmp_path / "ja")
    own = settings.model_copy(update={"models": {"ja": str(folder)}})
    async with open_world(own, worker) as world:
        told = await world.ben.slash(world.general, "teach", user="hi", bot="猫が好きです。")
        assert told.response.content.endswith("can hardly write Japanese; ja can.")
        await world.ben.slash(world.general, "teach", user="bye", bot="こんにちは。")
        plan = await world.ada.slash(world.general, "retrain", base="tiny", dry_run=True)
        assert lines_of(plan.response)[3] == (
            "⚠️ 2 answers will hardly be learned: tiny can hardly write Japanese; ja can."
        )
        fine = await world.ada.slash(world.general, "retrain", base="ja", dry_run=True)
        assert "hardly be learned" not in text_of(fine.response)
