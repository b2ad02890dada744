"""/dataset review: one example after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from simcord import SetupError

from bot.discord_ui.embeds.dataset import quote_long_text
from core.records import NewExample, Pair, ReviewStatus
from tests.bot.conftest import World
from tests.bot.discord_ui.cogs.dataset.test_cog import fields, storage_of, taught

Open = Callable[..., AbstractAsyncContextManager[World]]


async def waiting(world: World, *pairs: Pair) -> None:
    await taught(world, *pairs)
    storage = storage_of(world)
    for one in await storage.examples.all(world.guild.id):
        await storage.examples.set_review(world.guild.id, one.id, ReviewStatus.WAITING)


async def review(world: World, **options: Any) -> Any:
    result = await world.ada.slash(world.general, "dataset review", **options)
    assert result.ephemeral
    return result


async def press(world: World, shown: Any, label: str) -> Any:
    """The page after the press; it is the same message."""
    pressed = await world.ada.click(shown.response, label=label)
    assert pressed.response.id == shown.response.id
    return pressed


def title(shown: Any) -> str | None:
    embeds = shown.response.embeds
    return embeds[0].title if embeds else None


def labels(shown: Any, *, disabled: bool = False) -> list[str]:
    buttons = [one for row in shown.response.components for one in row["components"]]
    return [one["label"] for one in buttons if one.get("disabled", False) is disabled]


async def statuses(world: World) -> list[str]:
    return [one.status.value for one in await storage_of(world).examples.all(world.guild.id)]


async def test_nothing_waits(world: World) -> None:
    await taught(world, Pair("a", "b"))
    shown = await review(world)
    assert shown.response.content == "No example waits."
    assert shown.response.components == []
    rejected = await review(world, status="rejected")
    assert rejected.response.content == "There is no rejected example. None waiting."


async def test_an_example_is_shown_with_all_that_is_known(world: World) -> None:
    pair = Pair("**Hi** <@&5>\nthere", "@everyone", "my_talk", 2, "faq")
    await waiting(world, pair)
    shown = await review(world)
    assert shown.response.content == "1 waiting."
    assert title(shown) == "Example 1"
    assert fields(shown.response.embeds[0]) == {
        "People say": "\\*\\*Hi\\*\\* \\<@&5> there",
        "I answer": "@\u200beveryone",
        "Status": "waiting",
        "Weight": "1",
        "Source": "faq",
        "Taught by": "ada",
        "Conversation": "turn 2 of my\\_talk",
    }
    assert labels(shown) == ["Approve", "Edit…", "Reject", "Skip"]
    assert labels(shown, disabled=True) == ["Back"]


async def test_whose_words_it_holds_is_shown(world: World) -> None:
    storage, guild, ben = storage_of(world), world.guild.id, world.ben.id
    await storage.consents.opt_in(guild, ben, 1)
    await storage.examples.add(NewExample(guild, "a", "b", world.ada.id, "better", asked_by=ben))
    shown = await review(world, status="approved")
    assert fields(shown.response.embeds[0])["Said by"] == "ben"


async def test_one_after_the_other_until_the_last(world: World) -> None:
    await waiting(world, *(Pair(f"q{n}", "a") for n in range(3)))
    first = await review(world)
    second = await press(world, first, "Approve")
    assert (title(second), second.response.content) == ("Example 2", "2 waiting.")
    third = await press(world, second, "Reject")
    assert (title(third), third.response.content) == ("Example 3", "1 waiting.")
    end = await press(world, third, "Skip")
    assert end.response.content == "That was the last one. 1 waiting."
    assert end.response.embeds == []
    assert labels(end) == ["Back"]
    assert await statuses(world) == ["approved", "rejected", "waiting"]


async def test_back_shows_what_was_decided(world: World) -> None:
    await waiting(world, *(Pair(f"q{n}", "a") for n in range(3)))
    second = await press(world, await review(world), "Approve")
    end = await press(world, await press(world, second, "Approve"), "Approve")
    assert end.response.content == "That was the last one. None waiting."
    third = await press(world, end, "Back")
    assert fields(third.response.embeds[0])["Status"] == "approved"
    await storage_of(world).examples.remove(world.guild.id, 2)
    first = await press(world, third, "Back")
    assert title(first) == "Example 1"
    assert "Back" in labels(first, disabled=True)
    await press(world, first, "Reject")
    assert await statuses(world) == ["rejected", "approved"]


async def test_the_form_changes_both_texts(world: World) -> None:
    await waiting(world, Pair("helo", "hi", "talk", 1), Pair("how?", "so", "talk", 2))
    shown = await review(world)
    opened = await world.ada.click(shown.response, label="Edit…")
    inputs = [one["component"] for one in opened.modal["components"]]
    assert [(one["custom_id"], one["value"]) for one in inputs] == [("user", "helo"), ("bot", "hi")]
    changed = await world.ada.submit_modal(opened, {"user": " hello ", "bot": "Hi!"})
    assert title(changed) == "Example 1"
    assert fields(changed.response.embeds[0])["People say"] == "hello"
    example = await storage_of(world).examples.get(world.guild.id, 1)
    assert example is not None
    assert (example.user, example.bot, example.status) == ("hello", "Hi!", ReviewStatus.WAITING)
    assert (example.conversation, example.turn) == ("talk", 1)
    assert title(await press(world, changed, "Approve")) == "Example 2"


async def test_a_text_of_nothing_is_refused(world: World) -> None:
    await waiting(world, Pair("a", "b"))
    opened = await world.ada.click((await review(world)).response, label="Edit…")
    refused = await world.ada.submit_modal(opened, {"user": "  ", "bot": "b"})
    assert refused.ephemeral
    assert "give me both" in refused.response.content
    example = await storage_of(world).examples.get(world.guild.id, 1)
    assert example is not None
    assert example.user == "a"


async def test_a_pair_that_is_there_already_is_refused(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        await waiting(world, Pair("a", "b"), Pair("c", "d"))
        shown = await review(world)
        opened = await world.ada.click(shown.response, label="Edit…")
        refused = await world.ada.submit_modal(opened, {"user": "c", "bot": "d"})
        assert refused.followups[0].content == "The data set already has this pair."
        assert title(await press(world, shown, "Skip")) == "Example 2"


async def test_what_somebody_removed_meanwhile_is_told(world: World) -> None:
    await waiting(world, *(Pair(f"q{n}", "a") for n in range(3)))
    shown = await review(world)
    opened = await world.ada.click(shown.response, label="Edit…")
    await storage_of(world).examples.remove(world.guild.id, 1)
    second = await world.ada.submit_modal(opened, {"user": "x", "bot": "y"})
    assert second.response.content == "Somebody has already removed that example. 2 waiting."
    assert title(second) == "Example 2"
    await storage_of(world).examples.remove(world.guild.id, 2)
    third = await press(world, second, "Approve")
    assert third.response.content == "Somebody has already removed that example. 1 waiting."
    assert await statuses(world) == ["waiting"]


async def test_two_managers_see_what_the_other_did(world: World) -> None:
    await waiting(world, *(Pair(f"q{n}", "a") for n in range(2)))
    mine, other = await review(world), await review(world)
    await press(world, mine, "Reject")
    await press(world, other, "Approve")
    assert await statuses(world) == ["approved", "waiting"]


async def test_an_old_page_decides_nothing(world: World) -> None:
    await waiting(world, *(Pair(f"q{n}", "a") for n in range(2)))
    shown = await review(world)
    [row] = shown.response.components
    approve = row["components"][0]["custom_id"]
    await press(world, shown, "Approve")
    with pytest.raises(SetupError, match="No matching component"):
        await world.ada.click(shown.response, custom_id=approve)
    assert await statuses(world) == ["approved", "waiting"]


async def test_a_text_too_long_for_the_form_cannot_be_edited(world: World) -> None:
    await storage_of(world).examples.add(
        NewExample(world.guild.id, "a" * 4001, "b", world.ada.id, "liked")
    )
    shown = await review(world, status="all")
    assert "Edit…" in labels(shown, disabled=True)
    assert len(fields(shown.response.embeds[0])["People say"]) == 1000


async def test_the_other_servers_examples_are_not_shown(world: World) -> None:
    await storage_of(world).examples.add_pairs(world.guild.id + 1, [Pair("a", "b")], 1, "teach")
    shown = await review(world, status="all")
    assert shown.response.content.startswith("There is no example.")


async def test_a_review_that_is_left_is_closed(world: World) -> None:
    await waiting(world, Pair("a", "b"))
    shown = await review(world)
    await world.env.advance_time(601)
    assert shown.response.content.startswith("The review was closed after ten minutes.")
    assert shown.response.embeds == shown.response.components == []


def test_a_long_passage_fits_into_a_field() -> None:
    assert len(quote_long_text("*_<" * 2000)) <= 1024
    assert quote_long_text(" ") == "*nothing*"
