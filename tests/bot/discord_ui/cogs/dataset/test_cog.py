"""/dataset stats, preview, template, export and remove, on a real store and real files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from simcord import SetupError

from bot.discord_ui.embeds import charts
from bot.discord_ui.embeds.dataset import first_lines, stats_embed
from core.records import OPERATOR_AUTHOR_ID, NewExample, Pair, ReviewStatus
from data.dataset.cleaning import select_examples
from data.formats.files import read_pairs
from data.storage.storage import Storage
from data.storage.tables.examples import PAGE_EXAMPLES, Examples
from tests.bot.conftest import World

Open = Callable[..., AbstractAsyncContextManager[World]]
COMMANDS = ("stats", "preview", "template", "import", "export", "remove", "review")


def storage_of(world: World) -> Storage:
    cog: Any = world.bot.get_cog("Dataset")
    storage: Storage = cog._storage
    return storage


async def taught(world: World, *pairs: Pair, by: int | None = None) -> None:
    """Put pairs into the data set as ada's."""
    author = world.ada.id if by is None else by
    await storage_of(world).examples.add_pairs(world.guild.id, pairs, author, "teach")


def fields(embed: Any) -> dict[str, str]:
    return {field.name: field.value for field in embed.fields}


# --- stats ----------------------------------------------------------------------------------------


async def test_stats_of_nothing_say_how_to_begin(world: World) -> None:
    result = await world.ada.slash(world.general, "dataset stats")
    assert result.ephemeral
    assert "The data set is empty." in result.response.content
    assert "/dataset template" in result.response.content


async def test_stats_count_and_draw(world: World) -> None:
    await taught(world, Pair("a", "b"), Pair("c", "d", source="*faq*"), Pair("e", "f"))
    await storage_of(world).examples.set_review(world.guild.id, 2, ReviewStatus.WAITING)
    result = await world.ada.slash(world.general, "dataset stats")
    assert result.ephemeral
    [embed] = result.response.embeds
    assert embed.description == "3 examples"
    assert fields(embed) == {
        "By status": "approved 2, waiting 1",
        "May be learned now": "2",
        "By source": "teach: 2\n\\*faq\\*: 1 (waiting 1)",
    }
    [chart] = result.response.attachments
    assert embed.image.url == "attachment://dataset.png"
    assert (await chart.read()).startswith(b"\x89PNG")


async def test_stats_without_a_chart_still_have_the_numbers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts.sys, "executable", "nothing-of-that-name")
    await taught(world, Pair("a", "b"))
    result = await world.ada.slash(world.general, "dataset stats")
    [embed] = result.response.embeds
    assert fields(embed)["Chart"] == charts.CHART_FAILED
    assert fields(embed)["May be learned now"] == "1"
    assert result.response.attachments == []


def test_many_sources_fit() -> None:
    counts = {(ReviewStatus.APPROVED, f"*{'s' * 190}* {n}"): n + 1 for n in range(40)}
    shown = fields(stats_embed(counts, 820))["By source"]
    assert len(shown) <= 1024
    few = fields(stats_embed({(ReviewStatus.APPROVED, f"s{n}"): 1 for n in range(14)}, 14))[
        "By source"
    ]
    assert few.endswith("2 others: 2")


# --- preview --------------------------------------------------------------------------------------


async def test_preview_shows_what_cleaning_does(world: World) -> None:
    await taught(world, Pair("Who?", "Ask  <@1>"), Pair("Mail?", "a@example.org"), Pair("x", "ok"))
    result = await world.ada.slash(world.general, "dataset preview")
    assert result.ephemeral
    [embed] = result.response.embeds
    assert embed.description == "I learn 3 of 3 examples."
    assert "Mentions: 1" in fields(embed)
    assert result.response.content == (
        "The first ones, as I learn them:\n"
        "- “Who?” → “Ask [member]”\n-# before: “Who?” → “Ask \\<@1>”\n"
        "- “Mail?” → “[e-mail address]”\n-# before: not shown, it contains private data\n"
        "- “x” → “ok”"
    )


async def test_preview_of_nothing(world: World) -> None:
    await taught(world, Pair("a", "b"))
    await storage_of(world).examples.set_review(world.guild.id, 1, ReviewStatus.REJECTED)
    result = await world.ada.slash(world.general, "dataset preview")
    assert result.response.content == "There is nothing here that may be learned now."


async def test_the_first_lines_fit_into_a_message(world: World) -> None:
    await taught(world, *(Pair(f"{n} " + "*_~" * 100, "`|>" * 100 + "  x") for n in range(3)))
    learnable = await storage_of(world).examples.trainable(world.guild.id)
    assert 500 < len(first_lines(learnable, select_examples(learnable))) <= 2000


# --- template and export --------------------------------------------------------------------------


async def test_the_template_can_be_read(world: World, tmp_path: Path) -> None:
    result = await world.ada.slash(world.general, "dataset template")
    assert result.ephemeral
    [book] = result.response.attachments
    path = tmp_path / book.filename
    path.write_bytes(await book.read())
    assert path.suffix == ".xlsx"
    assert read_pairs(path).errors == ()


@pytest.mark.parametrize("format", ["xlsx", "csv", "json", "jsonl", "yml"])
async def test_an_export_holds_what_may_be_learned_and_no_more(
    format: str, world: World, tmp_path: Path
) -> None:
    pairs = (Pair("a", "=1+1", "talk", 1, "faq"), Pair("b", "c\nd", "talk", 2, "faq"))
    await taught(world, *pairs, Pair("secret", "no"))
    await storage_of(world).examples.set_review(world.guild.id, 3, ReviewStatus.WAITING)
    result = await world.ada.slash(world.general, "dataset export", format=format)
    assert result.ephemeral
    assert result.response.content == "2 pairs: what may be learned now."
    [file] = result.response.attachments
    path = tmp_path / file.filename
    path.write_bytes(await file.read())
    assert path.name == f"dataset.{format}"
    assert read_pairs(path).pairs == pairs


@pytest.mark.parametrize(
    ("command", "options"), [("dataset stats", {}), ("dataset export", {"format": "xlsx"})]
)
async def test_a_large_data_set_is_never_in_memory_as_a_whole(
    command: str, options: dict[str, str], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    fetch = Examples._fetch_all

    async def counted(self: Examples, sql: str, *values: object) -> list[Any]:
        rows = await fetch(self, sql, *values)
        held.append(len(rows))
        return rows

    await taught(world, *(Pair(f"{n}", "a" * (n % 5)) for n in range(1, 3 * PAGE_EXAMPLES)))
    monkeypatch.setattr(Examples, "_fetch_all", counted)
    result = await world.ada.slash(world.general, command, **options)
    assert len(result.response.attachments) == 1
    assert max(held) == PAGE_EXAMPLES


async def test_words_without_consent_are_not_exported(world: World) -> None:
    storage, guild, ben = storage_of(world), world.guild.id, world.ben.id
    await storage.consents.opt_in(guild, ben, 1)
    await storage.examples.add(NewExample(guild, "my words", "hi", ben, "liked", consent_version=1))
    assert (await world.ada.slash(world.general, "dataset export", format="csv")).response.content
    await storage.consents.opt_out(guild, ben)
    result = await world.ada.slash(world.general, "dataset export", format="csv")
    assert result.response.content == "There is nothing here that may be learned now."
    assert result.response.attachments == []


async def test_an_export_that_discord_does_not_take(world: World) -> None:
    await taught(world, *(Pair(f"{n}", "a" * 4000) for n in range(6600)))
    result = await world.ada.slash(world.general, "dataset export", format="jsonl")
    assert result.response.attachments == []
    assert result.response.content == (
        "The file has 26.7 MB, and Discord accepts 26.2 MB here: choose `xlsx`, which is "
        "compressed, or ask the operator for "
        f"`gpt2bot dataset export FILE.jsonl --server {world.guild.id}`."
    )


# --- remove ---------------------------------------------------------------------------------------


async def test_a_source_is_removed_once_that_is_confirmed(world: World) -> None:
    await taught(world, Pair("a", "b", source="f_q"), Pair("c", "d", source="f_q"), Pair("e", "f"))
    asked = await world.ada.slash(world.general, "dataset remove", source="f_q")
    assert asked.ephemeral
    assert asked.response.content == (
        "Remove 2 examples of the source “f\\_q”? They cannot be brought back."
    )
    kept = await world.ada.click(asked.response, label="Keep")
    assert kept.response.content == "Nothing was removed."
    assert kept.response.components == []
    assert await storage_of(world).examples.count(world.guild.id) == 3

    asked = await world.ada.slash(world.general, "dataset remove", source="f_q")
    done = await world.ada.click(asked.response, label="Remove")
    assert done.response.content == "Removed: 2."
    [left] = await storage_of(world).examples.all(world.guild.id)
    assert left.user == "e"


async def test_one_example_is_shown_before_it_is_removed(world: World) -> None:
    await taught(world, Pair("a", "@everyone"), by=OPERATOR_AUTHOR_ID)
    asked = await world.ada.slash(world.general, "dataset remove", example=1)
    [embed] = asked.response.embeds
    assert fields(embed)["I answer"] == "@\u200beveryone"
    assert fields(embed)["Taught by"] == "the operator"
    await storage_of(world).examples.remove(world.guild.id, 1)
    done = await world.ada.click(asked.response, label="Remove")
    assert done.response.content == "Nothing was left to remove."
    assert done.response.embeds == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "Name either a source or the number of an example."),
        ({"source": "x", "example": 1}, "Name either a source or the number of an example."),
        ({"source": "<@1>"}, "There is no example of the source “\\<@1>”."),
        ({"example": 99}, "There is no example 99."),
    ],
)
async def test_what_cannot_be_removed(options: dict[str, Any], said: str, world: World) -> None:
    await taught(world, Pair("a", "b"))
    result = await world.ada.slash(world.general, "dataset remove", **options)
    assert result.response.content == said
    assert result.response.components == []


async def test_sources_are_offered(world: World) -> None:
    await taught(world, Pair("a", "b", source="x" * 150), Pair("a", "c", source="faq"))
    await taught(world, Pair("a", "d"))
    offered = await world.ada.autocomplete(world.general, "dataset remove", "source", "")
    assert [one["value"] for one in offered] == ["faq", "teach"]


async def test_a_question_that_nobody_answers_is_closed(world: World) -> None:
    await taught(world, Pair("a", "b"))
    asked = await world.ada.slash(world.general, "dataset remove", example=1)
    await world.env.advance_time(601)
    assert "not confirmed for ten minutes" in asked.response.content
    assert asked.response.components == []
    assert await storage_of(world).examples.count(world.guild.id) == 1


# --- who may --------------------------------------------------------------------------------------


async def test_only_managers_may(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        file = ("a.csv", b"user,bot\na,b\n")
        options: dict[str, Any] = {"import": {"file": file}, "export": {"format": "csv"}}
        with pytest.raises(SetupError, match="default-member-permissions"):
            await world.ben.slash(world.general, "dataset stats")
        await world.open_to_all("dataset")
        for name in COMMANDS:
            result = await world.ben.slash(
                world.general, f"dataset {name}", **options.get(name, {})
            )
            assert result.ephemeral
            assert result.response.content == "You need the permission Manage Server for that."
        offered = await world.ben.autocomplete(world.general, "dataset remove", "source", "")
        assert offered == []
        assert await storage_of(world).examples.count(world.guild.id) == 0


async def test_who_lost_the_permission_cannot_press(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        await taught(world, Pair("a", "b"))
        asked = await world.ada.slash(world.general, "dataset remove", example=1)
        [role] = [one for one in world.guild.roles.values() if one.name == "Admins"]
        world.env.backend.remove_member_role(world.guild.id, world.ada.id, role.id)
        pressed = await world.ada.click(asked.response, label="Remove")
        [told] = pressed.followups or [pressed.response]
        assert told.content == "You need the permission Manage Server for that."
        assert await storage_of(world).examples.count(world.guild.id) == 1


async def test_what_a_killed_bot_left_behind_is_removed(world: World) -> None:
    left = world.home / "transfers" / "tmpabc"
    left.mkdir(parents=True)
    (left / "upload").write_text("words of people")
    await world.bot.get_cog("Dataset").cog_load()
    assert list(left.parent.iterdir()) == []
