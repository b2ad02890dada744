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
from data.storage.tables.audit import AuditLog
from i18n.phrase import phrase
from model.registry import ModelOption, find_option
from training.checkpoints import read_report

ONLY_ADMINISTRATORS_OVERRULE = phrase(
    "That model fails golden questions of this server: only somebody with the permission "
    "Administrator can choose it all the same."
)


async def choose_model(
    asking: BotInteraction, models: ModelRouter, audit: AuditLog, name: str
) -> ModelOption:
    """Let a model answer in the server of the interaction.

    Raises:
        Refusal: it was refused for golden questions alone, which administrators overrule.
        UnknownModel, LoadFailed, WorkerDied, CorruptCheckpoint: the old model keeps answering.
    """
    scope = guild_scope(asking)
    overruled = await asyncio.to_thread(_fails_golden, models, scope, name)
    if overruled and rank_of(asking) < Rank.ADMINISTRATOR:
        raise Refusal(ONLY_ADMINISTRATORS_OVERRULE)
    option = await models.use(scope, name)
    await record_audit(audit, asking, "golden overrule" if overruled else "model use", option.name)
    return option


def _fails_golden(models: ModelRouter, scope: int, name: str) -> bool:
    """Whether a model was refused for its answers to golden questions alone (blocking)."""
    option = find_option(models.options(scope), name)
    report = read_report(Path(option.source)) if models.is_checkpoint(option) else None
    return report is not None and report.golden_only
