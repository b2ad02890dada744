"""Golden questions as text: the list, and what came of asking them, fit for a phone. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import discord

from bot.discord_ui.embeds.style import BLURPLE, MAX_TITLE_CHARS, quote_safely
from bot.judgement.golden import Added, GoldenRun
from core.records import GOLDEN_DRAWS, GoldenQuestion, GoldenScore
from data.judgement.golden import GoldenResult, describe
from data.storage.tables.judgement.golden import GoldenTally
from i18n.phrase import Phrase, phrase, phrases
from i18n.reader import say

MAX_FAILED_SHOWN, MAX_PASSED_SHOWN, MAX_REFUSED_SHOWN = 6, 15, 10
"""Questions of which a message shows so much."""
MAX_SHOWN_CHARS = 80
"""Characters shown of a text, before escaping."""
NOTHING = phrase("*nothing*")


def describe_question(question: GoldenQuestion) -> Phrase:
    """`“How old are you?” should contain “three” (3 of 5)`."""
    safe = replace(question, expected=quote_safely(question.expected, MAX_SHOWN_CHARS))
    return phrase(
        "“{question}” should {expected} ({needed} of {draws})",
        question=quote_safely(question.question, MAX_SHOWN_CHARS),
        expected=describe(safe),
        needed=question.needed,
        draws=GOLDEN_DRAWS,
    )


def list_text(
    questions: Sequence[GoldenQuestion], model: str, scores: Mapping[int, GoldenScore]
) -> str:
    """A line for each question: its number, and how the `model` in service last answered."""
    lines = []
    for one in questions:
        score = scores.get(one.id)
        mark = "·" if score is None else "✅" if score.passed else "❌"
        lines.append(f"{mark} **{one.id}** {say(describe_question(one))}")
    passed = sum(one.passed for one in scores.values())
    known = phrase(
        "-# {model} passes {passed} of {asked} that it was asked; `/golden run` asks all.",
        model=model,
        passed=passed,
        asked=len(scores),
    )
    return "\n".join([*lines, say(known)])


def run_embed(run: GoldenRun) -> discord.Embed:
    """What a model answered: what it failed with its words, then what it passed."""
    passed = [one for one in run.results if one.passed]
    failed = [one for one in run.results if not one.passed]
    title = say("Golden questions: {model}", model=run.model)
    embed = discord.Embed(title=title[:MAX_TITLE_CHARS], colour=BLURPLE)
    lines = [say("{passed} of {all} passed.", passed=len(passed), all=len(run.results))]
    lines += [f"✅ {_asked(one.question)}" for one in passed[:MAX_PASSED_SHOWN]]
    embed.description = "\n".join(lines)
    for one in sorted(failed, key=lambda one: not run.passed_before(one))[:MAX_FAILED_SHOWN]:
        embed.add_field(
            name=f"❌ {_asked(one.question)}",
            value=_failed_text(one, passed_before=bool(run.passed_before(one))),
            inline=False,
        )
    if notes := _notes(run, hidden=len(failed) - MAX_FAILED_SHOWN):
        embed.set_footer(text=" ".join(notes))
    return embed


def _asked(question: GoldenQuestion) -> str:
    return f"{question.id}: {quote_safely(question.question, MAX_SHOWN_CHARS)}"


def _failed_text(one: GoldenResult, *, passed_before: bool) -> str:
    safe = replace(one.question, expected=quote_safely(one.question.expected, MAX_SHOWN_CHARS))
    said = quote_safely(one.said, MAX_SHOWN_CHARS) if one.said.strip() else NOTHING
    lines = [
        phrase("should {expected}", expected=describe(safe)),
        phrase("said: {said}", said=said),
        good_text(one),
    ]
    if passed_before:
        lines.append(phrase("The model in service passed it the last time."))
    return "\n".join(map(say, lines))


def good_text(one: GoldenResult | GoldenScore) -> Phrase:
    """How many of its replies were good."""
    return phrase(
        "good: {alone} of {draws}, amid talk {in_talk}",
        alone=one.alone,
        draws=GOLDEN_DRAWS,
        in_talk=one.in_talk,
    )


def _notes(run: GoldenRun, *, hidden: int) -> list[str]:
    notes = []
    if hidden > 0:
        notes.append(phrases("{count} more failed.", "{count} more failed.", hidden))
    if run.unasked:
        notes.append(
            phrases(
                "There was no time for {count} question.",
                "There was no time for {count} questions.",
                len(run.unasked),
            )
        )
    return [say(one) for one in notes]


def added_text(added: Added) -> str:
    """What became of the rows of a file."""
    text = phrases(
        "Added: {count} golden question.", "Added: {count} golden questions.", added.count
    )
    lines = [say(text)]
    for question, why in added.refused[:MAX_REFUSED_SHOWN]:
        asked = quote_safely(question, MAX_SHOWN_CHARS)
        lines.append(say("- not “{question}”: {why}", question=asked, why=quote_safely(why, 300)))
    if (more := len(added.refused) - MAX_REFUSED_SHOWN) > 0:
        lines.append(say("- and not {more} more", more=more))
    return "\n".join(lines)


def tally_text(tally: GoldenTally) -> str:
    """`7 of 9 passed, <when>`."""
    return say(
        "{passed} of {asked} passed, {when}",
        passed=tally.passed,
        asked=tally.asked,
        when=discord.utils.format_dt(tally.asked_at, "R"),
    )
