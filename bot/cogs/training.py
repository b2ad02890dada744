"""Learning: /teach and /retrain.

Parses, calls the store or the TrainingManager, renders. What happens to a job is told by
`bot.reports`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import discord
from discord import app_commands
from discord.ext import commands

from bot.client import Gpt2Bot, tell_failure
from bot.cogs.models import BLURPLE, choices, scope_of
from bot.models import ModelSwitch
from bot.reports import StopButton
from data.store import Store
from model.client import WorkerClient
from model.registry import ModelOption
from training.config import TrainingConfig, defaults_for
from training.errors import EmptyDataset, JobRunning
from training.manager import TrainingManager

LONGEST = 500
"""Characters of a taught question or answer."""
NOTHING_TAUGHT = "There is nothing to learn from yet. Teach me something first, with `/teach`."


@dataclass(frozen=True, slots=True)
class Plan:
    """A retrain that waits for the admin's "Start"."""

    scope: int
    channel_id: int
    base: ModelOption
    config: TrainingConfig
    examples: int


class Training(commands.Cog):
    """Takes examples and starts training jobs."""

    def __init__(
        self,
        bot: Gpt2Bot,
        store: Store,
        models: ModelSwitch,
        training: TrainingManager,
        worker: WorkerClient,
    ) -> None:
        self._bot = bot
        self._store = store
        self._models = models
        self._training = training
        self._worker = worker

    async def cog_load(self) -> None:
        self._bot.add_dynamic_items(StopButton)

    @app_commands.command(description="Teach me an answer; I learn it at the next /retrain")
    @app_commands.describe(user="What people say to me", bot="What I should answer")
    @app_commands.guild_only()
    async def teach(
        self,
        interaction: discord.Interaction[Gpt2Bot],
        user: app_commands.Range[str, 1, LONGEST],
        bot: app_commands.Range[str, 1, LONGEST],
    ) -> None:
        scope = scope_of(interaction)
        if not user.strip() or not bot.strip():
            await interaction.response.send_message(
                "Please give me both: what people say, and what I should answer.", ephemeral=True
            )
            return
        await self._store.add_example(
            scope, user.strip(), bot.strip(), interaction.user.id, "teach"
        )
        count = await self._store.count_examples(scope)
        await interaction.response.send_message(
            f"Noted. To “{user.strip()}” I should answer: “{bot.strip()}”\n"
            f"-# {examples_text(count)} so far. I learn them when an admin starts `/retrain`."
        )

    @app_commands.command(description="Fine-tune me on everything that was taught here")
    @app_commands.describe(
        base="The model to start from (the one in use, if left out)",
        epochs="How often each example is seen",
        learning_rate="How far each step goes, for example 0.00003",
    )
    @app_commands.guild_only()
    @app_commands.default_permissions(administrator=True)
    @app_commands.checks.has_permissions(administrator=True)
    async def retrain(
        self,
        interaction: discord.Interaction[Gpt2Bot],
        base: str | None = None,
        epochs: app_commands.Range[float, 0.1, 100.0] | None = None,
        learning_rate: app_commands.Range[float, 1e-7, 1e-2] | None = None,
    ) -> None:
        await interaction.response.defer(ephemeral=True)
        scope = scope_of(interaction)
        count = await self._store.count_examples(scope)
        if not count:
            raise EmptyDataset(NOTHING_TAUGHT)
        if await self._store.open_jobs(scope):
            raise JobRunning("A training job is under way in this server already.")
        option = await self._models.trainable(scope, base)
        config = defaults_for(option.name, option.source)
        if epochs is not None:
            config = replace(config, epochs=epochs, min_steps=0)
        if learning_rate is not None:
            config = replace(config, learning_rate=learning_rate)
        plan = Plan(scope, interaction.channel_id or scope, option, config, count)
        await interaction.edit_original_response(
            embed=plan_embed(plan, self._precision()), view=StartView(self, plan)
        )

    @retrain.autocomplete("base")
    async def complete_base(
        self, interaction: discord.Interaction[Gpt2Bot], current: str
    ) -> list[app_commands.Choice[str]]:
        return choices([option.name for option in self._models.bases()], current)

    def _precision(self) -> str:
        ready = self._worker.ready
        return f"{ready.training_precision} on {ready.device}" if ready else "chosen at the start"

    async def start(self, interaction: discord.Interaction[Gpt2Bot], plan: Plan) -> None:
        """The admin pressed Start."""
        await interaction.response.defer()
        await self._training.submit(
            scope=plan.scope,
            requested_by=interaction.user.id,
            channel_id=plan.channel_id,
            base=plan.base,
            config=plan.config,
        )
        await interaction.edit_original_response(
            content="Started. Its progress is shown in the channel; chat goes on meanwhile.",
            embed=None,
            view=None,
        )

    async def stop(self, interaction: discord.Interaction[Gpt2Bot], job_id: int) -> None:
        """Somebody pressed "Stop training"."""
        if not interaction.permissions.administrator:
            raise app_commands.MissingPermissions(["administrator"])
        stopped = await self._training.cancel(job_id)
        text = "Stopping it." if stopped else "That job has ended already."
        await interaction.response.send_message(text, ephemeral=True)


class StartView(discord.ui.View):
    """Start and Cancel under the plan; only its caller sees it."""

    def __init__(self, cog: Training, plan: Plan) -> None:
        super().__init__(timeout=600)
        self._cog = cog
        self._plan = plan

    @discord.ui.button(label="Start", style=discord.ButtonStyle.primary)
    async def start(
        self, interaction: discord.Interaction[Gpt2Bot], _: discord.ui.Button[StartView]
    ) -> None:
        self.stop()
        await self._cog.start(interaction, self._plan)

    @discord.ui.button(label="Cancel", style=discord.ButtonStyle.secondary)
    async def cancel(
        self, interaction: discord.Interaction[Gpt2Bot], _: discord.ui.Button[StartView]
    ) -> None:
        self.stop()
        await interaction.response.edit_message(
            content="Nothing was started.", embed=None, view=None
        )

    async def on_error(
        self,
        interaction: discord.Interaction[Gpt2Bot],  # type: ignore[override]
        error: Exception,
        _item: discord.ui.Item[StartView],
    ) -> None:
        await tell_failure(interaction, error)


def plan_embed(plan: Plan, precision: str) -> discord.Embed:
    """Every setting of a retrain, before it starts."""
    config = plan.config
    embed = discord.Embed(
        title=f"Retrain from {plan.base.name}?",
        colour=BLURPLE,
        description=(
            f"I learn {examples_text(plan.examples)} in a process of its own. "
            "The new model answers here once it has passed its checks; "
            "if anything fails, the old one stays."
        ),
    )
    epochs = f"{config.epochs:g}"
    if config.min_steps:
        epochs += f" (at least {config.min_steps} steps)"
    for name, value in (
        ("Epochs", epochs),
        ("Batch size", f"{config.batch_size}"),
        ("Gradient accumulation", f"{config.gradient_accumulation}"),
        ("Learning rate", f"{config.learning_rate:g}"),
        ("Number format", precision),
        ("Longest example", f"{config.max_length} tokens"),
    ):
        embed.add_field(name=name, value=value)
    return embed


def examples_text(count: int) -> str:
    """`1 example`, `2 examples`."""
    return f"{count} example" if count == 1 else f"{count} examples"
