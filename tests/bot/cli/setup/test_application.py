"""The intent and the invitation, which the setup sees to at Discord, beside a real server."""

from __future__ import annotations

import asyncio

import pytest
from discord.http import Route

from bot.cli.setup.application import Application, offer_message_content
from bot.cli.setup.browser import offer_page
from bot.cli.setup.invitation import invite
from tests.bot.discord_api import (
    APPLICATION,
    MESSAGE_CONTENT,
    MESSAGE_CONTENT_LIMITED,
    TOKEN,
    Api,
    serve,
)

COMMAND_BADGE = 1 << 23
BY_HAND = "Switch on Message Content Intent on the Bot page"


@pytest.mark.parametrize(
    ("api", "servers", "told"),
    [
        (Api(flags=COMMAND_BADGE), 99, "Message Content Intent is on.\n"),
        (Api(flags=0, edit_status=403), 0, "Discord does not let the bot do that (403 Forbidden"),
        (Api(flags=0, edit_status=400), 0, "Discord did not take it (400 Bad Request"),
        (Api(flags=0, obeys=False), 0, "Discord has answered, but it is still off."),
        (Api(flags=0, status=404), 0, "Discord answers with the status 404"),
    ],
)
async def test_the_intent_is_switched_on_or_it_is_said_why_not(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    api: Api,
    servers: int,
    told: str,
) -> None:
    before = api.flags
    async with serve(api):
        monkeypatch.setattr(Route, "BASE", api.url)
        await switch_on(Application(APPLICATION, reads_messages=False, servers=servers))
    shown = capsys.readouterr().out
    assert shown.startswith(told)
    assert shown.count("\n") == 1
    assert (BY_HAND in shown) is ("is on" not in told)
    asked = api.status == 200
    assert api.edits == [{"flags": before | MESSAGE_CONTENT_LIMITED}] * asked, "the rest stays"


async def test_a_discord_that_cannot_be_reached_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Route, "BASE", "http://127.0.0.1:9")
    application = Application(APPLICATION, reads_messages=False, servers=0)
    await switch_on(application)
    await asyncio.to_thread(invite, TOKEN, application, browser=False, interactive=True)
    switched, link, _, invited = capsys.readouterr().out.splitlines()
    assert switched.startswith("Discord cannot be reached")
    assert BY_HAND in switched
    assert f"client_id={APPLICATION}" in link
    assert invited.endswith("`gpt2bot doctor` tells later whether the bot is in a server.")


async def test_from_a_hundred_servers_on_discord_has_to_approve_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serve(Api(flags=0)) as api:
        monkeypatch.setattr(Route, "BASE", api.url)
        await switch_on(Application(APPLICATION, reads_messages=False, servers=100))
    assert "from 100 on, Discord has to approve it" in capsys.readouterr().out
    assert api.edits == []


async def test_who_is_in_a_server_already_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    application = Application(APPLICATION, reads_messages=True, servers=1)
    async with serve(Api(flags=MESSAGE_CONTENT, guilds=[("The Pier", 0)])) as api:
        monkeypatch.setattr(Route, "BASE", api.url)
        await switch_on(application)
        await asyncio.to_thread(invite, TOKEN, application, browser=None, interactive=True)
    link, asked_for, told = capsys.readouterr().out.splitlines()
    assert f"client_id={APPLICATION}" in link
    assert asked_for == (
        "It asks for these permissions: View Channels, Send Messages, Send Messages in Threads, "
        "Read Message History, Attach Files."
    )
    assert told == "It is in The Pier already."
    assert api.edits == []


@pytest.mark.parametrize(
    "env", [{}, {"DISPLAY": ":0", "SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"}], ids=["none", "ssh"]
)
def test_without_a_display_no_browser_is_opened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], env: dict[str, str]
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    offer_page("https://discord.com", wanted=None)
    assert capsys.readouterr() == ("", "")


async def switch_on(application: Application) -> None:
    await asyncio.to_thread(
        offer_message_content, TOKEN, application, wanted=True, interactive=False
    )
