"""Choosing the model of a server: who may choose which, and that it is written down."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bot.chat.model_router import ModelRouter
from bot.discord_ui.audit import record_audit
from bot.discord_ui.client import BotInteraction
from bot.discord_ui.context import guild_scope
from bot.discord_ui.permissions import Rank, rank_of
from core.errors import Refusal
from data.storage.storage import Storage
from i18n.phrase import phrase
from model.registry import ModelOption, find_option
from training.checkpoints import read_report


async def choose_model(
    asking: BotInteraction, models: ModelRouter, storage: Storage, name: str
) -> ModelOption:
    """Let a model answer in the server of the interaction.

    Raises:
        Refusal: it lost golden questions of the server, which only administrators overrule.
        UnknownModel, LoadFailed, WorkerDied, CorruptCheckpoint: the old model keeps answering.
    """
    overruled = await require_choosable(asking, models, storage, name)
    option = await models.use(guild_scope(asking), name)
    await record_audit(
        storage.audit, asking, "golden overrule" if overruled else "model use", option.name
    )
    return option


async def roll_back(asking: BotInteraction, models: ModelRouter, storage: Storage) -> ModelOption:
    """Go back to the model that answered before in the server of the interaction.

    Raises:
        Refusal: it lost golden questions of the server, which only administrators overrule.
        NothingToRollBack, LoadFailed, WorkerDied, CorruptCheckpoint: the present model stays.
    """
    overruled = False

    async def require(option: ModelOption) -> None:
        nonlocal overruled
        overruled = await _require(asking, models, storage, option)

    option = await models.rollback(guild_scope(asking), require=require)
    await record_audit(
        storage.audit,
        asking,
        "golden overrule" if overruled else "model rollback",
        phrase("to {model}", model=option.name),
    )
    return option


async def require_choosable(
    asking: BotInteraction, models: ModelRouter, storage: Storage, name: str
) -> bool:
    """Whether golden questions are overruled if the caller lets a model answer.

    Raises:
        Refusal: they would be, and the caller is no administrator.
        UnknownModel: the server has none of that name.
    """
    options = await asyncio.to_thread(models.options, guild_scope(asking))
    return await _require(asking, models, storage, find_option(options, name))


async def _require(
    asking: BotInteraction, models: ModelRouter, storage: Storage, option: ModelOption
) -> bool:
    overruled = models.is_checkpoint(option) and await _lost_golden(storage, asking, option)
    if overruled and rank_of(asking) < Rank.ADMINISTRATOR:
        raise Refusal(
            phrase(
                "**{model}** fails golden questions of this server: only somebody with the "
                "permission Administrator can choose it all the same.",
                model=option.name,
            )
        )
    return overruled


async def _lost_golden(storage: Storage, asking: BotInteraction, option: ModelOption) -> bool:
    """Whether a checkpoint lost, when it was checked, a golden question that is still there."""
    report = await asyncio.to_thread(read_report, Path(option.source))
    there = {one.id for one in await storage.golden.all(guild_scope(asking))}
    return report is not None and not there.isdisjoint(report.lost_golden)
