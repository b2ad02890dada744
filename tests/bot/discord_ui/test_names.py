"""People, channels and servers have their names where Discord may show a mention as a number."""

from __future__ import annotations

from typing import Any

from tests.bot.conftest import World

GONE = 123456789012345678


async def test_the_audit_has_names_and_ids_only_of_what_cannot_be_found(world: World) -> None:
    cog: Any = world.bot.get_cog("Admin")
    guild, left = world.guild.id, world.env.create_user("*cleo*")
    await world.ada.slash(world.general, "channel enable")
    for actor, detail in ((left.id, f"<#{GONE}>"), (GONE, "of somebody"), (0, "of nobody")):
        await cog._audit.record(guild, actor, "pause", detail)
    shown = await world.ada.slash(world.general, "audit")
    [embed] = shown.response.embeds
    assert [line.partition("> ")[2] for line in embed.description.splitlines()] == [
        "—: pause of nobody",
        f"{GONE}: pause of somebody",
        f"\\*cleo\\*: pause \\#{GONE}",
        "ada: channel enable \\#general",
    ]
