"""Who sees what: one's own server, one's own rank, as they are at this moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import discord
import pytest

from bot.web import access
from core.records import NewExample, ReviewStatus
from tests.bot.asking import storage_of
from tests.bot.conftest import World
from tests.bot.discord_ui.cogs.test_models import make_checkpoint
from tests.bot.web.browser import Browser, sign_in


@pytest.fixture
async def boss(site: World) -> Any:
    """A manager, who can be demoted."""
    role = site.guild.create_role("Boss", permissions=discord.Permissions(manage_guild=True))
    return site.guild.add_member(site.env.create_user("cleo"), roles=[role])


@pytest.fixture
async def elsewhere(site: World) -> AsyncIterator[int]:
    """Another server, with an example, a training and a checkpoint; its id."""
    guild = site.env.create_guild()
    storage = storage_of(site)
    await storage.examples.add(NewExample(guild.id, "their secret", "is theirs", 1, "teach"))
    await storage.jobs.add(
        scope=guild.id, requested_by=1, channel_id=1, base_model="tiny", directory="nowhere"
    )
    make_checkpoint(site, "tiny-9", guild.id)
    yield guild.id


async def teach(world: World, who: Any, user: str, bot: str, **more: Any) -> int:
    new = NewExample(world.guild.id, user, bot, who.id, "teach", **more)
    return (await storage_of(world).examples.add(new)).id


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute has passed since the last page."""
    monkeypatch.setattr(access.TTLCache, "timer", property(lambda _: iter(range(10**9)).__next__))


async def test_a_manager_who_was_demoted_loses_access(
    site: World, browser: Browser, boss: Any
) -> None:
    """The bot asks Discord again, whatever it knew five seconds ago; a form is always asked anew."""
    number = await teach(site, site.ben, "q", "a", status=ReviewStatus.WAITING)
    await sign_in(site, browser, boss)
    home = f"/s/{site.guild.id}"
    data = await browser.get(f"{home}/data")
    assert "Approve" in data.text
    await demote(site, boss)
    sent = await browser.submit(data, f"/{number}/review", "approve")
    assert sent.status == 403
    assert "somebody has just changed it" in sent.text
    for path in ("/data", f"/data/{number}", "/trainings", "/checkpoints"):
        assert (await browser.get(home + path)).status == 403, path
    own = await browser.get(home)
    assert own.status == 200
    assert "You see what you taught me" in own.text
    found = await storage_of(site).examples.get(site.guild.id, number)
    assert found is not None
    assert found.status is ReviewStatus.WAITING


async def demote(world: World, who: Any) -> None:
    """Take all roles away, as an admin of the server would."""
    await world.bot.http.request(
        discord.http.Route(
            "PATCH",
            "/guilds/{guild_id}/members/{user_id}",
            guild_id=world.guild.id,
            user_id=who.id,
        ),
        json={"roles": []},
    )
