"""/growth: the picture and the link, for managers. The page itself: `tests/bot/web`."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest

from bot.settings import Settings
from tests.bot.conftest import World
from tests.bot.web.browser import open_site
from tests.fakes import FakeWorker
from tests.ports import free_port


@pytest.fixture
async def world(settings: Settings, worker: FakeWorker) -> AsyncIterator[World]:
    """With a page, so that there is a link."""
    async with open_site(settings, worker, free_port(), check_errors=False) as world:
        yield world


async def test_managers_get_a_picture_and_a_link_that_nobody_else_sees(world: World) -> None:
    await world.ben.slash(world.general, "teach", user="Who is it?", bot="Ada.")
    told = await world.ada.slash(world.general, "growth")
    assert told.ephemeral
    [embed] = told.response.embeds
    assert embed.description == "**Examples** 1\n**Checkpoints** 0\n**Answers now** tiny"
    assert embed.image.url
    assert "The page is here: <http://127.0.0.1:" in told.response.content


async def test_members_get_neither(world: World) -> None:
    await world.open_to_all("growth")
    refused = await world.ben.slash(world.general, "growth")
    assert refused.response.content == "You need the permission Manage Server for that."
    assert refused.response.embeds == []


async def test_without_the_picture_the_numbers_and_the_link_stay(world: World) -> None:
    shutil.rmtree(world.home / "transfers")
    told = await world.ada.slash(world.general, "growth")
    [embed] = told.response.embeds
    assert [one.name for one in embed.fields] == ["Chart"]
    assert embed.fields[0].value.startswith("The chart could not be drawn;")
    assert "**Answers now** tiny" in embed.description
    assert "The page is here" in told.response.content
