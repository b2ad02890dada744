"""Learning: /teach and /retrain.

Parses, calls the store or the TrainingManager, renders. What happens to a job is told by
`bot.discord_ui.job_messages`.
"""

from __future__ import annotations

from dataclasses import replace

import discord
from discord import app_commands
from discord.ext import commands

from bot.chat.model_router import ModelRouter
from bot.discord_ui.audit import record_audit
from bot.discord_ui.client import Gpt2Bot, ReportsFailure
from bot.discord_ui.cogs.models import autocomplete_choices, require_guild_scope
from bot.discord_ui.embeds.plan import RetrainPlan, examples_text, plan_embed
from bot.discord_ui.job_messages import JobButton
from bot.discord_ui.locale import use_server_language
from bot.discord_ui.permissions import Rank, require_rank, requires_rank
from bot.learning.corrections import BOTH_REQUIRED, MAX_EXAMPLE_CHARS
from bot.learning.retraining import default_config
from data.storage.storage import Storage
from i18n.phrase import phrase
from i18n.reader import say
from model.worker.client import WorkerClient
from training.config import MAX_LEARNING_RATE, Method, TrainingConfig, default_learning_rate
from training.errors import EmptyDataset, JobAlreadyOpen
from training.jobs.manager import JOB_ALREADY_OPEN, TrainingManager

PAUSING = phrase("It pauses as soon as the step under way is done. Resume lets it go on.")
NOTHING_TAUGHT = phrase(
    "There is nothing to learn from yet. Teach me something first, with `/teach`."
)


class Training(commands.Cog):
    """Takes examples and starts training jobs."""

    def __init__(
        self,
        bot: Gpt2Bot,
        storage: Storage,
        models: ModelRouter,
        training: TrainingManager,
        worker: WorkerClient,
    ) -> None:
        self._bot = bot
        self._storage = storage
        self._models = models
        self._training = training
        self._worker = worker

    async def cog_load(self) -> None:
        self._bot.add_dynamic_items(JobButton)

    @app_commands.command(description="Teach me an answer; I learn it at the next /retrain")
    @app_commands.describe(user="What people say to me", bot="What I should answer")
    @app_commands.guild_only()
    async def teach(
        self,
        interaction: discord.Interaction[Gpt2Bot],
        user: app_commands.Range[str, 1, MAX_EXAMPLE_CHARS],
        bot: app_commands.Range[str, 1, MAX_EXAMPLE_CHARS],
    ) -> None:
        scope = require_guild_scope(interaction)
        if not user.strip() or not bot.strip():
            await interaction.response.send_message(say(BOTH_REQUIRED), ephemeral=True)
            return
        await self._storage.examples.add(
            scope, user.strip(), bot.strip(), interaction.user.id, "teach"
        )
        count = await self._storage.examples.count(scope)
        use_server_language(interaction)
        await interaction.response.send_message(
            say(
                "Noted. To “{user}” I should answer: “{bot}”\n"
                "-# {examples} so far. I learn them when an admin starts `/retrain`.",
                user=user.strip(),
                bot=bot.strip(),
                examples=examples_text(count),
            )
        )

    @app_commands.command(description="Fine-tune me on everything that was taught here")
    @app_commands.describe(
        base="The model to start from (the one in use, if left out)",
        epochs="How often each example is seen",
        learning_rate="How far each step goes, for example 0.00003",
        method="All weights, or (with less memory) small matrices beside them",
        dry_run="Only show what would be learned and what it takes",
    )
    @app_commands.guild_only()
    @app_commands.default_permissions(administrator=True)
    @requires_rank(Rank.ADMINISTRATOR)
    async def retrain(
        self,
        interaction: discord.Interaction[Gpt2Bot],
        base: str | None = None,
        epochs: app_commands.Range[float, 0.1, 100.0] | None = None,
        learning_rate: app_commands.Range[float, 1e-7, MAX_LEARNING_RATE] | None = None,
        method: Method | None = None,
        dry_run: bool = False,
    ) -> None:
        await interaction.response.defer(ephemeral=True)
        scope = require_guild_scope(interaction)
        if not await self._storage.examples.count(scope):
            raise EmptyDataset(NOTHING_TAUGHT)
        if not dry_run and await self._storage.jobs.unfinished(scope):
            raise JobAlreadyOpen(JOB_ALREADY_OPEN)
        option = await self._models.resolve_training_base(scope, base)
        to_server = self._bot.languages.for_server(interaction.guild)
        usual = await default_config(self._models, scope, option, to_server)
        config = with_overrides(usual, epochs, learning_rate, method)
        preview = await self._training.preview(scope, option, config)
        plan = RetrainPlan(scope, interaction.channel_id or scope, option, config, preview)
        embed = plan_embed(plan, self._precision())
        if dry_run:
            text = say("Nothing was started: this is what a retrain would be.")
            await interaction.edit_original_response(content=text, embed=embed)
            return
        await interaction.edit_original_response(embed=embed, view=StartView(self, plan))

    @retrain.autocomplete("base")
    async def complete_base(
        self, interaction: discord.Interaction[Gpt2Bot], current: str
    ) -> list[app_commands.Choice[str]]:
        options = self._models.training_bases(require_guild_scope(interaction))
        return autocomplete_choices([option.name for option in options], current)

    def _precision(self) -> str:
        ready = self._worker.ready
        if ready is None:
            return say("chosen at the start")
        return say(
            "{precision} on {device}", precision=ready.training_precision, device=ready.device
        )

    async def start(self, interaction: discord.Interaction[Gpt2Bot], plan: RetrainPlan) -> None:
        """The admin pressed Start; the interaction was answered."""
        job = await self._training.submit(
            scope=plan.scope,
            requested_by=interaction.user.id,
            channel_id=plan.channel_id,
            base=plan.base,
            config=plan.config,
        )
        what = phrase("job {job} from {base}", job=job.id, base=plan.base.name)
        await record_audit(self._storage, interaction, "retrain start", what)
        await interaction.edit_original_response(
            content=say("Started. Its progress is shown in the channel; chat goes on meanwhile."),
            embed=None,
            view=None,
        )

    async def pause(self, interaction: discord.Interaction[Gpt2Bot], job_id: int) -> None:
        """Somebody pressed Pause."""
        await defer_for_administrator(interaction)
        paused = await self._training.pause(job_id)
        text = PAUSING if paused else phrase("That job cannot be paused any more.")
        await self._record_job_action(interaction, "pause", job_id, done=paused)
        await interaction.edit_original_response(content=say(text))

    async def resume(self, interaction: discord.Interaction[Gpt2Bot], job_id: int) -> None:
        """Somebody pressed Resume."""
        await defer_for_administrator(interaction)
        resumed = await self._training.resume(job_id)
        text = phrase("It goes on.") if resumed else phrase("That job is not paused.")
        await self._record_job_action(interaction, "resume", job_id, done=resumed)
        await interaction.edit_original_response(content=say(text))

    async def cancel(self, interaction: discord.Interaction[Gpt2Bot], job_id: int) -> None:
        """Somebody pressed Cancel under a job's progress."""
        await defer_for_administrator(interaction)
        stopped = await self._training.cancel(job_id)
        text = phrase("Stopping it.") if stopped else phrase("That job cannot be stopped any more.")
        await self._record_job_action(interaction, "cancel", job_id, done=stopped)
        await interaction.edit_original_response(content=say(text))

    async def _record_job_action(
        self, interaction: discord.Interaction[Gpt2Bot], action: str, job_id: int, *, done: bool
    ) -> None:
        if done:
            what = phrase("job {job}", job=job_id)
            await record_audit(self._storage, interaction, f"retrain {action}", what)


async def defer_for_administrator(interaction: discord.Interaction[Gpt2Bot]) -> None:
    """Let an administrator in, and promise an answer that only they see.

    Raises:
        MissingPermissions: it is somebody else.
    """
    require_rank(interaction, Rank.ADMINISTRATOR)
    await interaction.response.defer(ephemeral=True, thinking=True)


def with_overrides(
    config: TrainingConfig,
    epochs: float | None,
    learning_rate: float | None,
    method: Method | None,
) -> TrainingConfig:
    """The settings with what the admin chose; LoRA learns faster unless a rate is given."""
    if epochs is not None:
        config = replace(config, epochs=epochs, min_steps=0)
    if method == "lora":
        config = replace(config, method=method, learning_rate=default_learning_rate(config, method))
    if learning_rate is not None:
        config = replace(config, learning_rate=learning_rate)
    return config


class StartView(ReportsFailure, discord.ui.View):
    """Start and Cancel under the plan; only its caller sees it."""

    def __init__(self, cog: Training, plan: RetrainPlan) -> None:
        super().__init__(timeout=600)
        self._cog = cog
        self._plan = plan
        self.start.label, self.cancel.label = say("Start"), say("Cancel")

    @discord.ui.button(style=discord.ButtonStyle.primary)
    async def start(
        self, interaction: discord.Interaction[Gpt2Bot], _: discord.ui.Button[StartView]
    ) -> None:
        require_rank(interaction, Rank.ADMINISTRATOR)  # the caller may have lost it meanwhile
        self.stop()
        for button in self.children:
            button.disabled = True  # type: ignore[attr-defined]
        await interaction.response.edit_message(view=self)
        await self._cog.start(interaction, self._plan)

    @discord.ui.button(style=discord.ButtonStyle.secondary)
    async def cancel(
        self, interaction: discord.Interaction[Gpt2Bot], _: discord.ui.Button[StartView]
    ) -> None:
        self.stop()
        await interaction.response.edit_message(
            content=say("Nothing was started."), embed=None, view=None
        )
