"""Who sees what: one's own server, one's own rank, as they are at this moment."""

from __future__ import annotations

from typing import Any

import discord
import pytest

from bot.web import access
from bot.web.site import SECTIONS
from core.records import NewExample, ReviewStatus
from tests.bot.asking import storage_of
from tests.bot.conftest import World
from tests.bot.discord_ui.cogs.test_models import make_checkpoint
from tests.bot.web.browser import Browser, sign_in


@pytest.fixture(autouse=True)
def _a_minute_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two requests, what the bot knew of members has become too old."""
    monkeypatch.setattr(access, "MEMBER_LIFE_S", 0.0)


@pytest.fixture
def boss(site: World) -> Any:
    """A manager, who can be demoted."""
    role = site.guild.create_role("Boss", permissions=discord.Permissions(manage_guild=True))
    return site.guild.add_member(site.env.create_user("cleo"), roles=[role])


async def teach(world: World, who: Any, user: str, bot: str, **more: Any) -> int:
    new = NewExample(world.guild.id, user, bot, who.id, "teach", **more)
    return (await storage_of(world).examples.add(new)).id


async def request(world: World, method: str, path: str, **ids: int) -> None:
    """What an admin of the server does."""
    route = discord.http.Route(method, path, guild_id=world.guild.id, **ids)
    body = {"json": {"roles": []}} if method == "PATCH" else {}
    await world.bot.http.request(route, **body)


async def test_a_manager_who_was_demoted_loses_access(
    site: World, browser: Browser, boss: Any
) -> None:
    number = await teach(site, site.ben, "q", "a", status=ReviewStatus.WAITING)
    home = f"/s/{site.guild.id}"
    await sign_in(site, browser, boss)
    data = await browser.get(f"{home}/data")
    assert "Approve" in data.text
    await request(site, "PATCH", "/guilds/{guild_id}/members/{user_id}", user_id=boss.id)
    for path in ("/data", f"/data/{number}", "/trainings", "/checkpoints"):
        refused = await browser.get(home + path)
        assert refused.status == 403, path
        assert "somebody has just changed it" in refused.text
    assert (await browser.submit(data, f"/{number}/review", "approve")).status == 403
    own = await browser.get(home)
    assert own.status == 200
    assert "You see what you taught me" in own.text
    found = await storage_of(site).examples.get(site.guild.id, number)
    assert found is not None
    assert found.status is ReviewStatus.WAITING


async def test_who_left_the_server_sees_nothing(site: World, browser: Browser, boss: Any) -> None:
    await sign_in(site, browser, boss)
    await request(site, "DELETE", "/guilds/{guild_id}/members/{user_id}", user_id=boss.id)
    assert (await browser.get(f"/s/{site.guild.id}")).status == 404
    assert "I am in no server that you are in." in (await browser.get("/")).text


async def test_another_servers_ids_lead_nowhere(site: World, browser: Browser) -> None:
    """Ada manages that one too, but the link was for this one."""
    storage, guild = storage_of(site), site.env.create_guild()
    other = await storage.examples.add(NewExample(guild.id, "secret", "theirs", 1, "teach"))
    job = await storage.jobs.add(
        scope=guild.id, requested_by=1, channel_id=1, base_model="tiny", directory="nowhere"
    )
    make_checkpoint(site, "tiny-9", guild.id)
    await sign_in(site, browser, site.ada)
    mine = f"/s/{site.guild.id}"
    data = await browser.get(f"{mine}/data")
    forged = {"csrf": data.form("/out").fields["csrf"], "decision": "reject", "seen": ""}
    for path in (
        *(f"/s/{guild.id}{one.path}" for one in SECTIONS),
        f"/s/{guild.id}/trainings/{job.id}",
        f"{mine}/trainings/{job.id}",
        f"{mine}/data/{other.id}",
        "/s/1",
        f"/s/{10**19}/data",
    ):
        answer = await browser.get(path)
        assert (answer.status, path) == (404, path)
        assert "secret" not in answer.text
    for home in (mine, f"/s/{guild.id}"):
        assert (await browser.post(f"{home}/data/{other.id}/review", forged)).status == 404
    assert await storage.examples.get(guild.id, other.id) == other
    assert "tiny-9" not in (await browser.get(f"{mine}/checkpoints")).text
    for path in ("", "/data?q=secret"):
        assert "theirs" not in (await browser.get(mine + path)).text


async def test_a_member_sees_their_own_lessons_only(
    site: World, browser: Browser, boss: Any
) -> None:
    """Demoted, a manager is a member like any other."""
    await teach(site, boss, "mine", "I taught this.")
    await teach(site, site.ben, "what ben said", "what cleo corrected")
    await teach(site, site.ada, "what ada taught", "is ada's")
    await teach(site, site.ben, "shared", "both taught this")
    await teach(site, boss, "shared", "both taught this")
    await sign_in(site, browser, boss)
    await request(site, "PATCH", "/guilds/{guild_id}/members/{user_id}", user_id=boss.id)
    own = await browser.get(f"/s/{site.guild.id}")
    assert "I taught this." in own.text
    assert "both taught this" in own.text
    assert "ada" not in own.text
    assert "ben" not in own.text
    assert [tag["href"] for name, tag in own.tags if tag.get("aria-current")] == [
        f"/s/{site.guild.id}"
    ]


async def test_health_is_for_operators(
    site: World, browser: Browser, other_browser: Browser
) -> None:
    await sign_in(site, browser, site.ada)
    assert (await browser.get("/health")).status == 404
    site.bot.operators.add(site.ada.id)
    page = await browser.get("/health")
    assert page.status == 200
    assert "database ok" in page.text
    assert (await other_browser.get("/health")).status == 401


async def test_an_operator_may_open_every_server(site: World, browser: Browser) -> None:
    guild = site.env.create_guild()
    site.bot.operators.add(site.ada.id)
    await sign_in(site, browser, site.ada)
    assert (await browser.get(f"/s/{guild.id}/data")).status == 200
    assert (await browser.get("/")).text.count("Choose a server") > 0


async def test_while_discord_is_away_nobody_is_let_in(
    site: World, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sign_in(site, browser, site.ada)
    monkeypatch.setattr(site.bot, "is_ready", lambda: False)
    away = await browser.get(f"/s/{site.guild.id}/data")
    assert away.status == 503
    assert "Discord cannot be reached right now" in away.text
