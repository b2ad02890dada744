"""/golden add, list, remove, run, import and export. Only the caller sees the answers."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import discord
from discord import app_commands
from discord.ext import commands

from bot.discord_ui.audit import record_audit
from bot.discord_ui.autocomplete import MAX_CHOICES, autocomplete_choices
from bot.discord_ui.client import BotInteraction
from bot.discord_ui.cogs.dataset.importing import download
from bot.discord_ui.context import guild_scope
from bot.discord_ui.delivery.requests import defer
from bot.discord_ui.delivery.split import split_message
from bot.discord_ui.embeds.golden import added_text, describe_question, list_text, run_embed
from bot.discord_ui.permissions import Rank, rank_of, requires_rank
from bot.judgement.golden import (
    MAX_EXPECTED_CHARS,
    MAX_GOLDEN,
    MAX_QUESTION_CHARS,
    NO_GOLDEN,
    Added,
    GoldenQuestions,
)
from bot.judgement.golden_file import USUAL_NEEDED, as_pair, from_pair
from core.errors import ImportRefused, Refusal
from core.records import GOLDEN_DRAWS, GoldenKind, GoldenQuestion, Pair
from core.texts import one_line
from data.formats.sandbox.client import read_in_subprocess
from data.formats.sandbox.export import write_in_subprocess
from data.storage.tables.audit import AuditLog
from i18n.phrase import message_of, phrase, phrases
from i18n.reader import say

Kind = Literal["contain", "equal", "match", "without"]
Draws = app_commands.Range[int, 1, GOLDEN_DRAWS]
MAX_FILE_BYTES = 10**6
MAX_CHOICE_CHARS = 100
"""Discord's limit for a choice."""
NOTHING_EXPECTED = phrase(
    "Say with `expected` what the answer should be. For `contain` and `equal` it can be left out, "
    "if I was taught an answer."
)
TAUGHT_TOO_LONG = phrase(
    "The answer that I was taught has over {most} characters: say with `expected` what part of it "
    "is needed.",
    most=MAX_EXPECTED_CHARS,
)


class Golden(commands.Cog):
    """Lets managers choose which questions every new model must answer."""

    golden = app_commands.Group(
        name="golden",
        description="Questions that every new model must answer well",
        guild_only=True,
        default_permissions=discord.Permissions(manage_guild=True),
    )

    def __init__(self, questions: GoldenQuestions, audit: AuditLog, transfers: Path) -> None:
        self._questions = questions
        self._audit = audit
        self._transfers = transfers
        self._reading = asyncio.Lock()

    @golden.command(description="Add a question that every new model must answer well")
    @app_commands.describe(
        question="What is asked; offered is what I was taught most often",
        expected="What the answer must contain, be or match (the taught answer, if left out)",
        kind="How that is compared; match is a regular expression",
        draws="How many of five answers must be good (3, if left out)",
    )
    @requires_rank(Rank.MANAGER)
    async def add(
        self,
        interaction: BotInteraction,
        question: app_commands.Range[str, 1, MAX_QUESTION_CHARS],
        expected: app_commands.Range[str, 1, MAX_EXPECTED_CHARS] | None = None,
        kind: Kind = "contain",
        draws: Draws = USUAL_NEEDED,
    ) -> None:
        await defer(interaction, ephemeral=True)
        scope = guild_scope(interaction)
        expected = expected or await self._taught_answer(scope, question, kind)
        new = GoldenQuestion(
            0, scope, question, GoldenKind(kind), expected, draws, interaction.user.id
        )
        added = await self._questions.add(new)
        await record_audit(self._audit, interaction, "golden add", f"#{added.id}")
        text = say(
            "Golden question {number}: {question}, alone and amid other talk. A new model that "
            "fails it, and the present one not, will not be put into service.",
            number=added.id,
            question=describe_question(added),
        )
        await interaction.edit_original_response(content=text)

    async def _taught_answer(self, scope: int, question: str, kind: Kind) -> str:
        """What is expected if nobody says.

        Raises:
            Refusal: nothing was taught, it is too long, or it says nothing about this kind.
        """
        answer = None
        if kind in ("contain", "equal"):
            answer = await self._questions.taught_answer(scope, question)
        if answer is None:
            raise Refusal(NOTHING_EXPECTED)
        if len(answer) > MAX_EXPECTED_CHARS:
            raise Refusal(TAUGHT_TOO_LONG)
        return answer

    @golden.command(name="list", description="See the golden questions, and which are passed")
    @requires_rank(Rank.MANAGER)
    async def list_questions(self, interaction: BotInteraction) -> None:
        await defer(interaction, ephemeral=True)
        scope = guild_scope(interaction)
        if questions := await self._questions.all(scope):
            text = list_text(questions, *await self._questions.scores(scope))
        else:
            text = say(NO_GOLDEN)
        first, *more = split_message(text)
        await interaction.edit_original_response(content=first)
        for part in more:
            await interaction.followup.send(part, ephemeral=True)

    @golden.command(description="Remove a golden question")
    @app_commands.describe(number="Its number in /golden list")
    @requires_rank(Rank.MANAGER)
    async def remove(
        self, interaction: BotInteraction, number: app_commands.Range[int, 1, 2**53 - 1]
    ) -> None:
        await defer(interaction, ephemeral=True)
        gone = await self._questions.remove(guild_scope(interaction), number)
        await record_audit(self._audit, interaction, "golden remove", f"#{number}")
        text = say("No golden question any more: {question}.", question=describe_question(gone))
        await interaction.edit_original_response(content=text)

    @golden.command(description="Ask the model that answers here all golden questions")
    @requires_rank(Rank.MANAGER)
    async def run(self, interaction: BotInteraction) -> None:
        await defer(interaction, ephemeral=True, thinking=True)
        run = await self._questions.run(guild_scope(interaction))
        await interaction.edit_original_response(embed=run_embed(run))

    @golden.command(name="import", description="Add the golden questions of a file")
    @app_commands.describe(
        file="Question and expected text in two columns; “source” may say: contain 3"
    )
    @requires_rank(Rank.MANAGER)
    async def import_file(self, interaction: BotInteraction, file: discord.Attachment) -> None:
        await defer(interaction, ephemeral=True, thinking=True)
        added = await self._import(interaction, await self._read(file))
        if added.count:
            many = phrases("{count} golden question", "{count} golden questions", added.count)
            await record_audit(self._audit, interaction, "golden import", many)
        first, *_ = split_message(added_text(added))
        await interaction.edit_original_response(content=first)

    async def _read(self, file: discord.Attachment) -> list[Pair]:
        """The rows of an upload, read in a child process.

        Raises:
            ImportRefused: it is too large, or cannot be read.
        """
        if file.size > MAX_FILE_BYTES:
            raise ImportRefused(
                phrase(
                    "{name} has over 1 MB, which is too much for golden questions: a server has "
                    "{most} at most.",
                    name=file.filename,
                    most=MAX_GOLDEN,
                )
            )
        async with self._reading:  # each may take a gigabyte of memory
            with tempfile.TemporaryDirectory(dir=self._transfers) as made:
                folder = Path(made)
                await download(file, folder / "upload")
                staged = await read_in_subprocess(folder / "upload", folder, name=file.filename)
                _check_rows(file.filename, staged.summary.pairs, staged.summary.errors)
                return await asyncio.to_thread(lambda: list(staged.pairs()))

    async def _import(self, interaction: BotInteraction, pairs: list[Pair]) -> Added:
        scope, me = guild_scope(interaction), interaction.user.id
        several: list[GoldenQuestion] = []
        refused: list[tuple[str, str]] = []
        for pair in pairs:
            try:
                several.append(from_pair(pair, scope, me))
            except Refusal as e:
                refused.append((pair.user, message_of(e)))
        added = await self._questions.add_all(several)
        return Added(added.count, [*refused, *added.refused])

    @golden.command(description="Export the golden questions as a file, to edit and import again")
    @app_commands.describe(format="jsonl for programs, xlsx for people")
    @requires_rank(Rank.MANAGER)
    async def export(
        self, interaction: BotInteraction, format: Literal["xlsx", "jsonl"] = "xlsx"
    ) -> None:
        await defer(interaction, ephemeral=True, thinking=True)
        questions = await self._questions.all(guild_scope(interaction))
        if not questions:
            await interaction.edit_original_response(content=say(NO_GOLDEN))
            return

        async def pages() -> AsyncIterator[list[Pair]]:
            yield [as_pair(one) for one in questions]

        with tempfile.TemporaryDirectory(dir=self._transfers) as folder:
            path = Path(folder, f"golden.{format}")
            await write_in_subprocess(pages(), path)
            many = phrases("{count} golden question", "{count} golden questions", len(questions))
            await interaction.edit_original_response(
                content=say(many), attachments=[discord.File(path)]
            )
        await record_audit(self._audit, interaction, "golden export", many)

    @add.autocomplete("question")
    async def complete_question(
        self, interaction: BotInteraction, current: str
    ) -> list[app_commands.Choice[str]]:
        if rank_of(interaction) < Rank.MANAGER:
            return []
        suggested = await self._questions.suggestions(guild_scope(interaction))
        fitting = [user for user in suggested if len(user) <= MAX_CHOICE_CHARS]
        return autocomplete_choices(fitting, current)

    @add.autocomplete("expected")
    async def complete_expected(
        self, interaction: BotInteraction, current: str
    ) -> list[app_commands.Choice[str]]:
        question = interaction.namespace.question
        if rank_of(interaction) < Rank.MANAGER or not question:
            return []
        answer = await self._questions.taught_answer(guild_scope(interaction), question)
        fitting = [answer] if answer and len(answer) <= MAX_CHOICE_CHARS else []
        return autocomplete_choices(fitting, current)

    @remove.autocomplete("number")
    async def complete_number(
        self, interaction: BotInteraction, current: str
    ) -> list[app_commands.Choice[int]]:
        if rank_of(interaction) < Rank.MANAGER:
            return []
        there = await self._questions.all(guild_scope(interaction))
        typed = str(current)  # Discord sends a number once it is one
        found = [one for one in there if str(one.id).startswith(typed)]
        return [
            app_commands.Choice(name=one_line(f"{one.id}: {one.question}", 100), value=one.id)
            for one in found[:MAX_CHOICES]
        ]


def _check_rows(name: str, pairs: int, errors: int) -> None:
    """Raise ImportRefused for a file whose rows cannot be golden questions."""
    if errors:
        raise ImportRefused(
            phrases(
                "{count} row of {name} has no question or no expected text: correct it first.",
                "{count} rows of {name} have no question or no expected text: correct them first.",
                errors,
                name=name,
            )
        )
    if not 0 < pairs <= MAX_GOLDEN:
        raise ImportRefused(
            phrase(
                "{name} has {pairs:,} rows, and a server has 1 to {most} golden questions.",
                name=name,
                pairs=pairs,
                most=MAX_GOLDEN,
            )
        )
