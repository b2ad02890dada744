"""Learning: /teach, /retrain and the buttons of a training job.

Parses, calls `bot.learning.retraining` or the TrainingManager, renders. The messages about a job
are those of `bot.discord_ui.reports.job_messages`.
"""

from __future__ import annotations

from functools import partial

from discord import app_commands
from discord.ext import commands

from bot.chat.model_router import ModelRouter
from bot.discord_ui.audit import record_audit
from bot.discord_ui.autocomplete import autocomplete_choices
from bot.discord_ui.client import BotInteraction, Gpt2Bot
from bot.discord_ui.context import channel_id_of, guild_scope, text_of_option
from bot.discord_ui.delivery.requests import defer
from bot.discord_ui.embeds.lesson import (
    left_out_text,
    lesson_is_news,
    lesson_text,
    other_lessons_text,
)
from bot.discord_ui.embeds.spelling import lesson_warning
from bot.discord_ui.embeds.style import layout
from bot.discord_ui.embeds.training.plan import main_authors, plan_card, plan_summary_card
from bot.discord_ui.names import names_of
from bot.discord_ui.permissions import (
    Rank,
    defer_for_retrainer,
    rank_of,
    require_teacher,
    requires_retrainer,
)
from bot.discord_ui.reports.job_messages import JobAction, JobButton
from bot.discord_ui.views.correction_form import LessonForm
from bot.discord_ui.views.plan import PlanView
from bot.learning.retraining import Overrides, RetrainPlan, Retrains
from bot.learning.teaching import (
    BOTH_REQUIRED,
    MAX_EXAMPLE_CHARS,
    MAX_WORDINGS,
    Standing,
    other_wordings,
    teach,
)
from bot.server.rules import ServerRules
from core.errors import Refusal
from core.server_settings import Switch, Teaching
from data.storage.storage import Storage
from i18n.phrase import phrase
from i18n.reader import say
from model.backend import GenerationBackend
from training.config import MAX_LEARNING_RATE, Method
from training.errors import NOT_OF_THIS_SERVER
from training.jobs.manager import TrainingManager

PAUSING = phrase("It pauses as soon as the current step is done. Resume continues it.")
ACCEPTED = {
    JobAction.PAUSE: PAUSING,
    JobAction.RESUME: phrase("It continues."),
    JobAction.CANCEL: phrase("Stopping it."),
}
TOO_LATE = {
    JobAction.PAUSE: phrase("That job cannot be paused any more."),
    JobAction.RESUME: phrase("That job is not paused."),
    JobAction.CANCEL: phrase("That job cannot be stopped any more."),
}


class Training(commands.Cog):
    """Stores examples, starts and controls training jobs."""

    def __init__(
        self,
        bot: Gpt2Bot,
        storage: Storage,
        models: ModelRouter,
        retrains: Retrains,
        training: TrainingManager,
        worker: GenerationBackend,
        *,
        rules: ServerRules,
        standing: Standing,
    ) -> None:
        self._bot = bot
        self._storage = storage
        self._models = models
        self._retrains = retrains
        self._training = training
        self._worker = worker
        self._rules = rules
        self._standing = standing

    async def cog_load(self) -> None:
        self._bot.add_dynamic_items(JobButton)

    @app_commands.command(description="Teach me an answer; my model learns it at the next /retrain")
    @app_commands.describe(
        user="What people say to me",
        bot="What I should answer",
        also="Other ways to ask, separated by ; (at most 5)",
    )
    @app_commands.guild_only()
    async def teach(
        self,
        interaction: BotInteraction,
        user: app_commands.Range[str, 1, MAX_EXAMPLE_CHARS],
        bot: app_commands.Range[str, 1, MAX_EXAMPLE_CHARS],
        also: app_commands.Range[str, 1, MAX_EXAMPLE_CHARS] = "",
    ) -> None:
        await self.submit_lesson(interaction, user, bot, also)

    async def open_form(self, press: BotInteraction) -> None:
        """The button "Teach me something" was pressed: ask for what /teach has as its options."""
        # before somebody writes in vain
        require_teacher(press, self._rules.of(guild_scope(press)).teaching)
        await press.response.send_modal(LessonForm(self.submit_lesson))

    async def submit_lesson(
        self, interaction: BotInteraction, user: str, bot: str, also: str
    ) -> None:
        """Store a pair with its other wordings, and answer what becomes of it."""
        scope, bot = guild_scope(interaction), bot.strip()
        teaching = self._rules.of(scope).teaching
        require_teacher(interaction, teaching)
        user = text_of_option(user, interaction)
        if not user or not bot:
            await interaction.response.send_message(say(BOTH_REQUIRED), ephemeral=True)
            return
        wordings = other_wordings(text_of_option(also, interaction), user)
        lesson, *others = [
            await teach(
                self._storage.examples,
                scope,
                interaction.user.id,
                question,
                bot,
                by_manager=rank_of(interaction) >= Rank.MANAGER,
                may_replace=teaching is Teaching.AT_ONCE,
                reviewed=teaching is Teaching.REVIEW_ALL,
                standing=self._standing,
            )
            for question in (user, *wordings[:MAX_WORDINGS])
        ]
        count = await self._storage.examples.count(scope)
        is_news = lesson_is_news(lesson)
        if is_news:
            interaction.client.languages.use_server(interaction)
        at_once = self._rules.of(scope).known_at_once is Switch.ON
        text = lesson_text(lesson, count, at_once=at_once)
        text += other_lessons_text(lesson, others) + left_out_text(wordings)
        text += lesson_warning(await self._retrains.hard_answer(scope, bot))
        await interaction.response.send_message(text, ephemeral=not is_news)

    @app_commands.command(description="Fine-tune me on everything that was taught here")
    @app_commands.describe(
        base="The model to start from (if left out, the base of the one in use)",
        epochs="How often each example is seen",
        learning_rate="How far each step goes, for example 0.00003",
        method="All weights, or small matrices beside them; by default these for up to 300 pairs",
        dry_run="Only show what would be learned and what it takes",
    )
    @app_commands.guild_only()
    # Shown to managers too: a server may let them retrain, and Discord cannot be told so.
    @app_commands.default_permissions(manage_guild=True)
    @requires_retrainer
    async def retrain(
        self,
        interaction: BotInteraction,
        base: str | None = None,
        epochs: app_commands.Range[float, 0.1, 1000.0] | None = None,
        learning_rate: app_commands.Range[float, 1e-7, MAX_LEARNING_RATE] | None = None,
        method: Method | None = None,
        dry_run: bool = False,
    ) -> None:
        await defer(interaction, ephemeral=True)
        plan = await self._retrains.plan(
            guild_scope(interaction),
            base,
            Overrides(epochs, learning_rate, method),
            language=interaction.client.languages.for_server(interaction.guild),
            dry_run=dry_run,
        )
        authors = main_authors(plan.preview.selection.by_author)
        names = await names_of(interaction, authors)
        details = plan_card(plan, self._number_format(), names)
        if dry_run:
            text = say("Nothing was started: this is what a retrain would look like.")
            await interaction.edit_original_response(view=layout(text, details))
            return
        view = PlanView(plan_summary_card(plan), details, partial(self._start, plan))
        await interaction.edit_original_response(view=view)

    @retrain.autocomplete("base")
    async def complete_base(
        self, interaction: BotInteraction, current: str
    ) -> list[app_commands.Choice[str]]:
        options = await self._models.training_bases_at_once(guild_scope(interaction))
        return autocomplete_choices([one.name for one in options], current)

    def _number_format(self) -> str:
        ready = self._worker.ready
        if ready is None:
            return say("chosen at the start")
        return say(
            "{precision} on {device}", precision=ready.training_precision, device=ready.device
        )

    async def _start(self, plan: RetrainPlan, interaction: BotInteraction) -> None:
        job = await self._retrains.start(
            plan, requested_by=interaction.user.id, channel_id=channel_id_of(interaction)
        )
        what = phrase("job {job} from {base}", job=job.id, base=plan.base.name)
        await record_audit(self._storage.audit, interaction, "retrain start", what)
        text = say(
            "Started. Its progress is shown in the channel; you can keep chatting meanwhile."
        )
        await interaction.edit_original_response(view=layout(text))

    async def control(self, interaction: BotInteraction, action: JobAction, job_id: int) -> None:
        """A button under a job's progress was pressed."""
        await defer_for_retrainer(interaction)
        job = await self._storage.jobs.get(job_id)
        if job is None or job.scope != interaction.guild_id:
            raise Refusal(NOT_OF_THIS_SERVER)
        controls = {
            JobAction.PAUSE: self._training.pause,
            JobAction.RESUME: self._training.resume,
            JobAction.CANCEL: self._training.cancel,
        }
        accepted = await controls[action](job_id)
        if accepted:
            what = phrase("job {job}", job=job_id)
            await record_audit(self._storage.audit, interaction, f"retrain {action}", what)
        text = (ACCEPTED if accepted else TOO_LATE)[action]
        await interaction.edit_original_response(content=say(text))
