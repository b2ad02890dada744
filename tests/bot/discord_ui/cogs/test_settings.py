"""/settings: the panel, what each choice does to the bot, and the file. Real discord.py, SQLite."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import AsyncIterator
from typing import Any

import discord
import pytest
from simcord import SetupError

from bot.app import build_bot
from bot.discord_ui.cogs.settings import NO_EVERYONE, NOTHING_NEW
from bot.discord_ui.embeds.settings import ONLY_ADMINISTRATORS_CHOOSE
from bot.discord_ui.permissions import ONLY_A_ROLE_RETRAINS, ONLY_MANAGERS_TEACH
from bot.discord_ui.views.confirm import VIEW_TIMEOUT_S
from bot.discord_ui.views.settings import PANEL_CLOSED
from bot.settings import Settings
from core.records import ReviewStatus
from core.server_settings import ButtonsUnder, ReplyLength, ServerSettings, Teaching
from data.storage.tables.server_settings import ServerSettingsTable
from tests.bot.asking import ask, buttons, storage_of
from tests.bot.cards import parts, text_of
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.test_models import MANAGER, make_checkpoint
from tests.bot.japanese.discord import assert_japanese, speak_japanese
from tests.fakes import FakeWorker

NEEDS_MANAGER = "You need the permission Manage Server for that."
LEARNING, SCHEDULE = "settings:page:learning", "settings:page:schedule"
PAGES = {
    LEARNING: ("teaching", "known_at_once", "retrainers", "role"),
    SCHEDULE: ("nightly", "new_lessons"),
}
SELECTS = (3, 5, 6, 7, 8)


@pytest.fixture
async def world(settings: Settings, worker: FakeWorker) -> AsyncIterator[World]:
    """Much of what is tried is refused, and that is told."""
    async with open_world(settings, worker, check_errors=False) as world:
        yield world


def told_in(result: Any) -> str:
    """What somebody is told: in place of a deferred answer, or beside the panel."""
    return str((result.followups or [result.response])[-1].content)


def manager_of(world: World, name: str = "cleo") -> Any:
    role = world.guild.create_role(f"Managers of {name}", permissions=MANAGER)
    return world.guild.add_member(world.env.create_user(name), roles=[role])


async def open_panel(world: World, who: Any = None, *, page: str = "") -> Any:
    shown = await (who or world.ada).slash(world.general, "settings open")
    assert shown.ephemeral
    if page:
        await (who or world.ada).click(shown.response, custom_id=page)
    return shown.response


async def choose(world: World, name: str, *values: Any, who: Any = None) -> Any:
    """Open the panel and choose something; what is told besides it, if anything is."""
    page = next((page for page, names in PAGES.items() if name in names), "")
    panel = await open_panel(world, who, page=page)
    return await (who or world.ada).select(panel, list(values), custom_id=f"settings:{name}")


def menu(panel: Any, name: str) -> dict[str, Any]:
    return next(one for one in parts(panel) if one.get("custom_id") == f"settings:{name}")


def chosen(panel: Any, name: str) -> list[str]:
    return [one["value"] for one in menu(panel, name)["options"] if one["default"]]


def rules_of(world: World) -> ServerSettings:
    found = world.bot.get_cog("SettingsCommands")._rules.of(world.guild.id)
    assert isinstance(found, ServerSettings)
    return found


async def audited(world: World) -> list[tuple[int, str, str]]:
    lines = await storage_of(world).audit.entries(world.guild.id, 50)
    return [(one.actor_id, one.action, str(one.detail)) for one in reversed(lines)]


# --- the panel -----------------------------------------------------------------------------------


async def test_the_panel_shows_how_things_are_and_fits_a_phone(world: World) -> None:
    panel = await open_panel(world)
    shown = list(parts(panel))
    assert len(shown) <= 40, "Discord takes no more components"
    assert len([one for one in shown if one["type"] in SELECTS]) == 6
    assert chosen(panel, "length") == ["long"]
    assert chosen(panel, "model") == ["tiny"]
    assert "The operator allows 60 tokens at most." in text_of(panel)
    await world.ada.click(panel, custom_id=LEARNING)
    assert chosen(panel, "teaching") == ["review-others"]
    assert chosen(panel, "retrainers") == ["administrators"]
    assert len([one for one in parts(panel) if one["type"] in SELECTS]) == 5


async def test_a_choice_is_stored_shown_and_audited(world: World) -> None:
    panel = await open_panel(world)
    await world.ada.select(panel, ["short"], custom_id="settings:length")
    assert chosen(panel, "length") == ["short"]
    await world.ada.select(panel, ["last"], custom_id="settings:buttons")
    assert (chosen(panel, "length"), chosen(panel, "buttons")) == (["short"], ["last"])
    assert await storage_of(world).server_settings.all() == [
        (world.guild.id, "length", "short"),
        (world.guild.id, "buttons", "last"),
    ]
    assert await audited(world) == [
        (world.ada.id, "settings change", "Length of a reply: Short: at most 20 tokens"),
        (world.ada.id, "settings change", "Buttons under replies: Under the last reply only"),
    ]


async def test_choices_survive_a_restart(
    world: World, settings: Settings, worker: FakeWorker
) -> None:
    await choose(world, "length", "short")
    async with build_bot(settings, worker=worker) as again:
        await world.env.restart_bot(again)
        world.bot = again
        await world.say(world.ben, "hi")
    assert worker.asked[-1].max_new_tokens == 20


async def test_what_the_operator_has_closed_is_said_and_not_offered(
    settings: Settings, worker: FakeWorker
) -> None:
    strict = settings.model_copy(
        update={"reply_buttons": False, "known_at_once": False, "temperature": 0.5}
    )
    async with open_world(strict, worker) as world:
        panel = await open_panel(world)
        assert "The operator has switched the buttons off." in text_of(panel)
        assert menu(panel, "buttons")["disabled"]
        assert "The operator allows a temperature of 0.5 at most." in text_of(panel)
        assert [one["value"] for one in menu(panel, "liveliness")["options"]] == ["model", "calm"]
        await world.ada.click(panel, custom_id=LEARNING)
        assert "The operator has left this to a retrain." in text_of(panel)
        assert menu(panel, "known_at_once")["disabled"]
        assert "unreviewed" not in [one["value"] for one in menu(panel, "teaching")["options"]]


async def test_only_managers_open_it_and_only_who_opened_it_uses_it(world: World) -> None:
    await world.open_to_all("settings")
    refused = await world.ben.slash(world.general, "settings open")
    assert refused.response.content == NEEDS_MANAGER
    panel = await open_panel(world)
    with pytest.raises(SetupError):  # Discord shows it to nobody else
        await manager_of(world).select(panel, ["short"], custom_id="settings:length")


async def test_a_manager_who_was_demoted_changes_nothing(world: World) -> None:
    role = world.guild.create_role("Managers", permissions=MANAGER)
    cleo = world.guild.add_member(world.env.create_user("cleo"), roles=[role])
    panel = await open_panel(world, cleo)
    world.env.backend.remove_member_role(world.guild.id, cleo.id, role.id)
    refused = await cleo.select(panel, ["short"], custom_id="settings:length")
    assert refused.response.content == NEEDS_MANAGER
    assert rules_of(world).length is ReplyLength.LONG
    refused = await cleo.click(panel, custom_id=LEARNING)
    assert refused.response.content == NEEDS_MANAGER


async def test_two_managers_never_undo_each_others_choice(world: World) -> None:
    cleo = manager_of(world)
    first, second = await open_panel(world), await open_panel(world, cleo)
    await world.ada.select(first, ["short"], custom_id="settings:length")
    await cleo.select(second, ["none"], custom_id="settings:buttons")
    assert (rules_of(world).length, rules_of(world).buttons) == (
        ReplyLength.SHORT,
        ButtonsUnder.NONE,
    )
    assert chosen(second, "length") == ["short"], "each sees the other's"
    games = world.guild.create_text_channel("games")
    await world.ada.select(first, [world.general], custom_id="settings:channels")
    await cleo.select(second, [games], custom_id="settings:channels")
    enabled = await storage_of(world).channels.enabled()
    assert enabled == {world.general.id, games.id}, "cleo saw none to take out"


async def test_what_cannot_be_stored_is_told_and_the_menu_shows_what_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = await open_panel(world)
    db = storage_of(world)._db
    await db.execute("PRAGMA query_only = on")
    try:
        told = await world.ada.select(panel, ["short"], custom_id="settings:length")
    finally:
        await db.execute("PRAGMA query_only = off")
    assert "The database cannot be used" in told_in(told)
    assert chosen(panel, "length") == ["long"]
    assert rules_of(world).length is ReplyLength.LONG


async def test_a_panel_that_nobody_presses_closes(world: World) -> None:
    panel = await open_panel(world)
    await world.env.advance_time(VIEW_TIMEOUT_S + 1)
    assert text_of(panel) == PANEL_CLOSED


# --- what each choice does -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("liveliness", "temperature"),
    [("calm", 0.2), ("normal", 0.7), ("lively", 1.0), ("model", 0.2)],
)
async def test_how_freely_it_talks_is_asked_of_the_model(
    world: World, worker: FakeWorker, liveliness: str, temperature: float
) -> None:
    await choose(world, "liveliness", liveliness)
    await world.say(world.ben, "hi")
    assert worker.asked[-1].temperature == temperature
    assert worker.asked[-1].max_new_tokens == 60


async def test_the_length_is_asked_of_the_model_here_only(world: World, worker: FakeWorker) -> None:
    await choose(world, "length", "normal")
    reply = await ask(world)
    assert worker.asked[-1].max_new_tokens == 40
    await world.ben.click(reply, custom_id="reply:again:")
    assert worker.asked[-1].max_new_tokens == 40
    await world.ben.send_dm("hi")
    assert worker.asked[-1].max_new_tokens == 60


async def test_buttons_nowhere(world: World) -> None:
    await choose(world, "buttons", "none")
    assert buttons(await ask(world)) == []
    told = await world.ben.slash(world.general, "chat", text="hi")
    assert told.response.components == []
    assert "👍" not in (await world.ben.slash(world.general, "help")).response.content


async def test_buttons_under_the_last_reply_only(world: World) -> None:
    first = await ask(world)
    await choose(world, "buttons", "last")
    second = await ask(world)
    third = await world.ben.slash(world.general, "chat", text="hi")
    shown = {one.id: buttons(one) for one in world.general.history()}
    assert (shown[first.id], shown[second.id]) == ([], [])
    assert third.response.components
    games = world.guild.create_text_channel("games")
    await world.say(world.ben, "hi", games)
    assert buttons(games.last_message)
    assert third.response.components, "each channel has a last reply of its own"


async def test_the_language_of_what_everybody_sees(world: World) -> None:
    await choose(world, "language", "ja")
    told = await world.ben.slash(world.general, "reset")
    assert_japanese(told.response.content)
    assert chosen(await open_panel(world), "language") == ["ja"], "and ada's own is English"
    await choose(world, "language", "automatic")
    told = await world.ben.slash(world.general, "reset")
    assert told.response.content == "Forgotten. We start fresh from here."


async def test_the_model_is_that_of_model_use(world: World, worker: FakeWorker) -> None:
    make_checkpoint(world, "tiny-1")
    panel = await open_panel(world)
    await world.ada.select(panel, ["tiny-1"], custom_id="settings:model")
    assert chosen(panel, "model") == ["tiny-1"]
    sent = [str(one.json) for one in world.env.http_requests]
    assert any("Loading tiny-1…" in one for one in sent), "it may take long"
    assert "Loading" not in text_of(panel)
    await world.say(world.ben, "hi")
    assert worker.heard[-1][0].endswith("tiny-1")
    back = await world.ada.slash(world.general, "model rollback")
    assert back.response.content == "Back to **tiny**: it answers from now on."
    assert (world.ada.id, "model use", "tiny-1") in await audited(world)


async def test_a_model_that_cannot_be_loaded_is_told_and_not_chosen(
    world: World, worker: FakeWorker
) -> None:
    folder = make_checkpoint(world, "tiny-1")
    worker.broken[str(folder)] = "It is made of cheese."
    told = await choose(world, "model", "tiny-1")
    assert told_in(told) == "It is made of cheese."
    assert chosen(await open_panel(world), "model") == ["tiny"]


async def test_a_model_that_is_gone_is_shown(world: World) -> None:
    folder = make_checkpoint(world, "tiny-1")
    await choose(world, "model", "tiny-1")
    shutil.rmtree(folder)
    panel = await open_panel(world)
    assert "tiny-1 was chosen, but it is gone: tiny answers." in text_of(panel)
    assert chosen(panel, "model") == ["tiny"]


async def test_the_channels_are_those_of_channel_enable(world: World, worker: FakeWorker) -> None:
    games = world.guild.create_text_channel("games")
    await world.ada.slash(world.general, "channel enable")
    panel = await open_panel(world)
    [default] = menu(panel, "channels")["default_values"]
    assert int(default["id"]) == world.general.id
    await world.ada.select(panel, [games], custom_id="settings:channels")
    await world.ben.send(world.general, "hello?")
    assert worker.heard == []
    await world.ben.send(games, "hello?")
    assert world.last(games) == "you said hello?"
    assert [(action, detail) for _, action, detail in await audited(world)] == [
        ("channel enable", world.general.mention),
        ("channel enable", games.mention),
        ("channel disable", world.general.mention),
    ]


async def test_a_channel_that_is_gone_is_shown_and_can_be_forgotten(world: World) -> None:
    games = world.guild.create_text_channel("games")
    await choose(world, "channels", games, world.general)
    world.env.backend.delete_channel(games.id)
    panel = await open_panel(world)
    assert "1 of them I cannot see: deleted, archived or hidden." in text_of(panel)
    await world.ada.click(panel, custom_id="settings:forget")
    assert "cannot see" not in text_of(panel)
    assert await storage_of(world).channels.enabled() == {world.general.id}


async def test_members_may_be_refused_to_teach(world: World) -> None:
    reply = await ask(world)
    form = await world.ben.click(reply, custom_id="reply:better:")
    await choose(world, "teaching", "managers")
    told = await world.ben.slash(world.general, "teach", user="hi", bot="hello")
    late = await world.ben.submit_modal(form, {"question": "hi", "answer": "hello"})
    early = await world.ben.click(reply, custom_id="reply:better:")
    assert [one.response.content for one in (told, late, early)] == [ONLY_MANAGERS_TEACH] * 3
    assert "/teach" not in (await world.ben.slash(world.general, "help")).response.content
    assert await storage_of(world).examples.count(world.guild.id) == 0
    told = await world.ada.slash(world.general, "teach", user="hi", bot="hello")
    assert told.response.content.startswith("Noted.")


async def test_all_that_members_teach_may_wait_for_a_review(world: World) -> None:
    await choose(world, "teaching", "review-all")
    told = await world.ben.slash(world.general, "teach", user="hi", bot="hello", also="hey")
    assert told.ephemeral
    assert "reviews it first" in told.response.content
    await world.ada.slash(world.general, "teach", user="bye", bot="see you")
    stored = await storage_of(world).examples.all(world.guild.id)
    assert [(one.user, one.status) for one in stored] == [
        ("hi", ReviewStatus.WAITING),
        ("hey", ReviewStatus.WAITING),
        ("bye", ReviewStatus.APPROVED),
    ]


async def test_members_may_replace_answers_where_the_operator_lets_them(
    settings: Settings, worker: FakeWorker
) -> None:
    async with open_world(
        settings.model_copy(update={"review_new_answers": False}), worker
    ) as world:
        await world.ada.slash(world.general, "teach", user="Who is it?", bot="Ada.")
        await choose(world, "teaching", "review-others")
        told = await world.ben.slash(world.general, "teach", user="Who is it?", bot="Ben.")
        assert "reviews it first" in told.response.content
        await choose(world, "teaching", "unreviewed")
        told = await world.ben.slash(world.general, "teach", user="Who is it?", bot="Bo.")
        assert told.response.content.startswith("Noted.")
        assert not told.ephemeral


async def test_what_was_taught_may_wait_for_a_retrain(world: World) -> None:
    told = await world.ada.slash(world.general, "teach", user="Who is our admin?", bot="Marlow.")
    learns = "learns it at the next `/retrain` (1 example so far)."
    assert told.response.content.endswith(f"-# I know it now. My model {learns}")
    assert (await world.say(world.ben, "Who is our admin?") or "").startswith("Marlow.")
    await choose(world, "known_at_once", "off")
    assert await world.say(world.ben, "Who is our admin?") == "you said Who is our admin?"
    told = await world.ada.slash(world.general, "teach", user="And cook?", bot="Ada.")
    assert told.response.content.endswith(
        "-# I learn it at the next `/retrain` (2 examples so far)."
    )
    await choose(world, "known_at_once", "on")
    assert (await world.say(world.ben, "Who is our admin?") or "").startswith("Marlow.")


# --- who may retrain -----------------------------------------------------------------------------


async def retrain_as(world: World, who: Any) -> Any:
    return await who.slash(world.general, "retrain", dry_run=True)


async def test_managers_may_be_let_retrain(world: World) -> None:
    cleo = manager_of(world)
    await world.ada.slash(world.general, "teach", user="hi", bot="hello")
    refused = await retrain_as(world, cleo)
    assert refused.response.content == "You need the permission Administrator for that."
    assert "/retrain" not in (await cleo.slash(world.general, "help")).response.content
    await choose(world, "retrainers", "managers")
    assert "Nothing was started" in text_of((await retrain_as(world, cleo)).response)
    assert "/retrain" in (await cleo.slash(world.general, "help")).response.content
    await world.open_to_all("retrain")
    assert (await retrain_as(world, world.ben)).response.content == NEEDS_MANAGER


async def test_a_plan_is_not_started_by_who_may_not_retrain_any_more(world: World) -> None:
    cleo = manager_of(world)
    await world.ada.slash(world.general, "teach", user="hi", bot="hello")
    await choose(world, "retrainers", "managers")
    plan = await cleo.slash(world.general, "retrain")
    await choose(world, "retrainers", "administrators")
    refused = await cleo.click(plan.response, label="Start")
    assert refused.response.content == "You need the permission Administrator for that."
    assert await storage_of(world).jobs.all(world.guild.id) == []


async def test_a_role_may_be_let_retrain_and_nobody_if_it_is_gone(world: World) -> None:
    trainers = world.guild.create_role("Trainers")
    dana = world.guild.add_member(world.env.create_user("dana"), roles=[trainers])
    await world.ada.slash(world.general, "teach", user="hi", bot="hello")
    await choose(world, "role", trainers)
    commands = await world.bot.tree.fetch_commands()
    retrain = next(one for one in commands if one.name == "retrain")
    world.guild.set_command_permissions(retrain, {dana: True, world.ben: True})
    assert "Nothing was started" in text_of((await retrain_as(world, dana)).response)
    assert (await retrain_as(world, world.ben)).response.content == ONLY_A_ROLE_RETRAINS
    panel = await open_panel(world, page=LEARNING)
    assert "Now: the role Trainers." in text_of(panel)
    assert [int(one["id"]) for one in menu(panel, "role")["default_values"]] == [trainers.id]
    world.env.backend.delete_role(world.guild.id, trainers.id)
    assert (await retrain_as(world, dana)).response.content == ONLY_A_ROLE_RETRAINS
    panel = await open_panel(world, page=LEARNING)
    assert "Now: a role that is gone, so administrators only." in text_of(panel)
    assert menu(panel, "role").get("default_values", []) == []
    assert "Nothing was started" in text_of((await retrain_as(world, world.ada)).response)


async def test_everybody_is_no_role_to_retrain(world: World) -> None:
    told = await choose(world, "role", world.guild.default_role)
    assert told_in(told) == NO_EVERYONE
    assert rules_of(world) == ServerSettings(teaching=Teaching.REVIEW_RIVALS)


async def test_only_an_administrator_chooses_who_may_retrain(world: World) -> None:
    cleo = manager_of(world)
    panel = await open_panel(world, cleo, page=LEARNING)
    assert ONLY_ADMINISTRATORS_CHOOSE in text_of(panel)
    assert menu(panel, "retrainers")["disabled"]
    assert menu(panel, "role")["disabled"]
    file = ("settings.json", b'{"retrainers": "managers"}')
    refused = await cleo.slash(world.general, "settings import", file=file)
    assert told_in(refused) == ONLY_ADMINISTRATORS_CHOOSE


async def test_an_administrator_who_was_demoted_cannot_choose_it(world: World) -> None:
    both = world.guild.create_role("Managers", permissions=MANAGER)
    high = world.guild.create_role("High", permissions=discord.Permissions(administrator=True))
    dana = world.guild.add_member(world.env.create_user("dana"), roles=[both, high])
    panel = await open_panel(world, dana, page=LEARNING)
    world.env.backend.remove_member_role(world.guild.id, dana.id, high.id)
    told = await dana.select(panel, ["managers"], custom_id="settings:retrainers")
    assert told_in(told) == ONLY_ADMINISTRATORS_CHOOSE
    assert menu(panel, "retrainers")["disabled"]


# --- the file ------------------------------------------------------------------------------------


async def exported(world: World) -> bytes:
    told = await world.ada.slash(world.general, "settings export")
    [file] = told.response.attachments
    return await file.read()


async def read_back(world: World, data: bytes, who: Any = None) -> Any:
    file = ("settings.json", data)
    return await (who or world.ada).slash(world.general, "settings import", file=file)


async def test_what_was_exported_is_imported_again_once_it_is_confirmed(world: World) -> None:
    make_checkpoint(world, "tiny-1")
    trainers = world.guild.create_role("Trainers")
    for name, value in (("length", "short"), ("model", "tiny-1"), ("role", trainers)):
        await choose(world, name, value)
    await choose(world, "channels", world.general)
    data = await exported(world)
    same = await read_back(world, data)
    assert same.response.content == NOTHING_NEW
    for name, value in (("length", "long"), ("model", "tiny"), ("retrainers", "managers")):
        await choose(world, name, value)
    await choose(world, "channels")
    await choose(world, "buttons", "last")
    before = len(await audited(world))
    preview = await read_back(world, data)
    assert preview.response.content.splitlines() == [
        "This would change:",
        "**Model**: tiny → **tiny-1**",
        "**Length of a reply**: Long: at most 60 tokens → **Short: at most 20 tokens**",
        "**Buttons under replies**: Under the last reply only → **Under every reply**",
        "**Who may retrain me**: Managers (Manage Server) → **the role Trainers**",
        f"**Where I answer everything** + {world.general.mention}",
    ]
    assert rules_of(world).length is ReplyLength.LONG, "nothing yet"
    await world.ada.click(preview.response, label="Change it")
    assert preview.response.content == "Done: these settings count from now on."
    assert await exported(world) == data
    assert [action for _, action, _ in (await audited(world))[before:]] == [
        "model use",
        *["settings change"] * 3,
        "channel enable",
        "settings export",
    ]


async def test_an_import_can_be_left(world: World) -> None:
    preview = await read_back(world, b'{"length": "short"}')
    await world.ada.click(preview.response, label="Leave it")
    assert preview.response.content == "Nothing was changed."
    assert rules_of(world).length is ReplyLength.LONG


async def test_a_mistake_in_a_file_changes_nothing(world: World) -> None:
    told = await read_back(world, b'{"length": "short", "buttons": "some", "colour": 1}')
    lines = told_in(told).splitlines()
    assert lines[:2] == [
        "Nothing was changed.",
        "“buttons” is some, but it must be one of all, last, none.",
    ]
    assert lines[2].startswith("“colour” is not a setting: they are model, language, ")
    assert len(lines) == 3
    assert rules_of(world).length is ReplyLength.LONG
    assert await storage_of(world).server_settings.all() == []


async def test_a_file_that_is_none_is_refused(world: World) -> None:
    for data in (b"\x89PNG", b"[1]"):
        told = await read_back(world, data)
        assert "is not what `/settings export` writes (JSON)" in told_in(told)
    told = await read_back(world, b" " * 200_000)
    assert "too large" in told_in(told)


async def test_what_is_gone_before_it_is_confirmed_is_told(world: World) -> None:
    folder = make_checkpoint(world, "tiny-1")
    preview = await read_back(world, b'{"model": "tiny-1", "length": "short"}')
    shutil.rmtree(folder)
    told = await world.ada.click(preview.response, label="Change it")
    assert "There is no model tiny-1 here" in told_in(told)
    assert rules_of(world).length is ReplyLength.LONG


async def test_a_model_that_fails_to_load_leaves_everything_as_it_was(
    world: World, worker: FakeWorker
) -> None:
    folder = make_checkpoint(world, "tiny-1")
    worker.broken[str(folder)] = "It is made of cheese."
    preview = await read_back(world, b'{"model": "tiny-1", "length": "short"}')
    told = await world.ada.click(preview.response, label="Change it")
    assert told_in(told) == "It is made of cheese."
    assert await storage_of(world).server_settings.all() == []


async def test_the_export_is_a_small_readable_file(world: World) -> None:
    data = await exported(world)
    assert len(data) < 1000
    assert json.loads(data)["length"] == "long"
    assert re.search(rb'^  "teaching": "review-others",$', data, re.MULTILINE)


# --- the end, and Japanese -----------------------------------------------------------------------


async def test_they_go_when_the_server_removes_the_bot(world: World) -> None:
    await choose(world, "length", "short")
    await choose(world, "channels", world.general)
    storage = storage_of(world)
    other = ServerSettingsTable(storage._db)
    await other.set(1, "length", "short")
    world.env.backend.remove_guild(world.guild.id)
    await world.env.settle()
    assert await storage.server_settings.all() == [(1, "length", "short")]
    assert await storage.channels.enabled() == set()
    assert rules_of(world).length is ReplyLength.LONG


async def test_a_server_that_comes_back_begins_anew(world: World) -> None:
    """It removed the bot while that was off, so nothing was forgotten then."""
    await choose(world, "length", "short")
    world.bot.dispatch("guild_join", world.bot.get_guild(world.guild.id))
    await world.env.settle()
    assert await storage_of(world).server_settings.all() == []
    assert rules_of(world).length is ReplyLength.LONG


async def test_the_panel_in_japanese(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    speak_japanese(monkeypatch, world.ada)
    games = world.guild.create_text_channel("games")
    await choose(world, "channels", games)
    world.env.backend.delete_channel(games.id)
    await choose(world, "language", "ja")
    await choose(world, "nightly", "04:00")
    for page in ("", LEARNING, SCHEDULE):
        panel = await open_panel(world, page=page)
        for one in parts(panel):
            for key in ("content", "label", "placeholder"):
                for line in str(one.get(key) or "").splitlines():
                    assert_japanese(line, "Test Guild", "Asia", "Tokyo")
            if one.get("custom_id") != "settings:model":
                for option in one.get("options", []):
                    assert_japanese(option["label"])
    told = await read_back(world, b'{"length": 1}')
    assert_japanese(told_in(told).splitlines()[1], "length", "short", "normal", "long")
