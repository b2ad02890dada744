"""From a conversation to the data set: only with the operator, the member and a manager."""

from __future__ import annotations

import pytest

from bot.settings import Settings
from core.records import ReviewStatus
from data.storage.storage import Storage
from tests.bot.conftest import World, open_world
from tests.fakes import FakeWorker


def storage_of(world: World) -> Storage:
    storage: Storage = world.bot.get_cog("Privacy")._storage
    return storage


async def waiting(world: World) -> list[tuple[str, str]]:
    found = await storage_of(world).examples.all(world.guild.id, ReviewStatus.WAITING)
    return [(one.user, one.bot) for one in found]


@pytest.mark.parametrize("switched_on", [True, False])
async def test_what_a_member_said_is_learned_only_if_all_agree(
    settings: Settings, worker: FakeWorker, switched_on: bool
) -> None:
    settings = settings.model_copy(update={"learn_from_chat": switched_on})
    async with open_world(settings, worker) as world:
        storage, guild = storage_of(world), world.guild.id
        await world.ada.slash(world.general, "channel enable")
        await world.say(world.ben, "before I agreed")
        offer = await world.ben.slash(world.general, "privacy opt-in")
        if not switched_on:
            assert "has not switched it on" in offer.response.content
            await storage.consents.opt_in(guild, world.ben.id, 1)  # from a time when it was on
            await world.say(world.ben, "hello")
            assert await storage.examples.all(guild) == []
            return
        await world.ben.click(offer.response, label="I agree")
        await world.say(world.ben, "hello")
        await world.say(world.ada, "nobody asked me")
        assert await waiting(world) == [("hello", "you said hello")]
        assert await storage.examples.trainable(guild) == []
        page = await world.ada.slash(world.general, "dataset review")
        await world.ada.click(page.response, label="Approve")
        assert [one.user for one in await storage.examples.trainable(guild)] == ["hello"]
        await world.ben.slash(world.general, "privacy opt-out")
        assert await storage.examples.trainable(guild) == []
