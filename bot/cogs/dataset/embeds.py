"""The data set, a file before its import and a single example, as Discord shows them. Pure.

What people wrote is quoted harmless, and cut to what Discord takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import discord

from bot.looks import BLURPLE, LONGEST_VALUE, author_text, many
from bot.outcome import quoted
from bot.plan import counted, examples_text
from data.cleaning import Selection
from data.formats.imported import Imported, Joined, Problem
from data.masking import mask
from data.schema import Example, Pair, Review

SOURCES = 12
"""Sources with a line of their own."""
PAIRS, JOINED, PROBLEMS = 3, 3, 5
"""How many of each are shown of a file."""
SHORT, LONG = 100, 1000
"""Characters of a quoted text."""
FIRST_LINES = 3
CONTENT = 2000
"""Characters that Discord takes in a message."""


def stats_embed(counts: Mapping[tuple[Review, str], int], learnable: int) -> discord.Embed:
    """How much there is, of which status and source, and what may be learned of it."""
    total = sum(counts.values())
    embed = discord.Embed(title="The data set", colour=BLURPLE, description=examples_text(total))
    by_status: Counter[str] = Counter()
    for (status, _), count in counts.items():
        by_status[status.value] += count
    embed.add_field(name="By status", value=counted(by_status) or "none")
    embed.add_field(name="May be learned now", value=f"{learnable:,}")
    embed.add_field(name="By source", value=_sources(counts) or "none", inline=False)
    embed.set_footer(text="/dataset preview shows what cleaning leaves of it.")
    return embed


def _sources(counts: Mapping[tuple[Review, str], int]) -> str:
    """A line for each of the largest sources, with the status where it is not approved."""
    by_source: dict[str, Counter[str]] = {}
    for (status, source), count in counts.items():
        by_source.setdefault(source, Counter())[status.value] += count
    most_first = sorted(by_source.items(), key=lambda one: (-one[1].total(), one[0]))
    lines = [_source(source, states) for source, states in most_first[:SOURCES]]
    if others := most_first[SOURCES:]:
        rest = sum(states.total() for _, states in others)
        lines.append(f"{many(len(others), 'other')}: {rest:,}")
    return fitting(lines, LONGEST_VALUE)


def _source(source: str, states: Counter[str]) -> str:
    line = f"{quoted(source, 40) or 'unknown'}: {states.total():,}"
    other = {state: n for state, n in states.items() if state != Review.APPROVED}
    return f"{line} ({counted(states)})" if other else line


def fitting(lines: Iterable[str], most: int) -> str:
    """As many whole lines as fit."""
    shown = ""
    for line in lines:
        if len(shown) + len(line) + 1 > most:
            break
        shown += f"{line}\n"
    return shown.rstrip("\n")


def first_lines(learnable: Sequence[Example], selection: Selection) -> str:
    """The first examples as they are learned, and as they were where cleaning changed them."""
    taught = {one.id: one for one in learnable}
    shown = [_before_and_after(taught[one.id], one) for one in selection.kept[:FIRST_LINES]]
    return fitting(["The first ones, as I learn them:", *shown], CONTENT) if shown else ""


def _before_and_after(taught: Example, learned: Example) -> str:
    line = f"- {_pair(learned)}"
    if (taught.user, taught.bot) == (learned.user, learned.bot):
        return line
    if mask(taught.user)[1] or mask(taught.bot)[1]:
        return f"{line}\n-# before: not shown, it holds private data"
    return f"{line}\n-# before: {_pair(taught)}"


def import_embed(name: str, imported: Imported, known: int) -> discord.Embed:
    """What a file would bring in, what was joined in it, and what is wrong with it."""
    pairs = len(imported.pairs)
    has = f" The data set has {known:,} of them already." if known else ""
    embed = discord.Embed(
        title=f"Import {many(pairs, 'pair')}?" if pairs else "There is no pair in it",
        colour=BLURPLE,
        description=f"{quoted(name, SHORT)}: {many(imported.rows, 'row')}, {many(pairs, 'pair')}."
        + has,
    )
    if pairs:
        shown = fitting((f"- {_pair(one)}" for one in imported.pairs[:PAIRS]), LONGEST_VALUE)
        embed.add_field(name="The first pairs", value=shown, inline=False)
    if imported.joined:
        lines = (f"{_place(one)}: {quoted(one.text, SHORT)}" for one in imported.joined)
        title = f"Joined from several cells or lines: {len(imported.joined):,}"
        embed.add_field(name=title, value=_some(lines, JOINED), inline=False)
    if imported.problems:
        lines = (f"{_place(one)}: {quoted(one.reason, 200)}" for one in imported.problems)
        title = f"Wrong rows, which are left out: {len(imported.problems):,}"
        embed.add_field(name=title, value=_some(lines, PROBLEMS), inline=False)
    return embed


def _some(lines: Iterator[str], most: int) -> str:
    return fitting((line for line, _ in zip(lines, range(most), strict=False)), LONGEST_VALUE)


def _place(one: Problem | Joined) -> str:
    return f"row {one.row}" + (f", {quoted(one.sheet, 30)}" if one.sheet else "")


def _pair(pair: Pair | Example) -> str:
    return f"“{quoted(pair.user, SHORT)}” → “{quoted(pair.bot, SHORT)}”"


def example_embed(example: Example) -> discord.Embed:
    """One example with all that a reviewer needs to know of it."""
    embed = discord.Embed(title=f"Example {example.id}", colour=BLURPLE)
    for name, text in (("People say", example.user), ("I answer", example.bot)):
        embed.add_field(name=name, value=passage(text), inline=False)
    embed.add_field(name="Status", value=example.status.value)
    embed.add_field(name="Weight", value=str(example.weight))
    embed.add_field(name="Source", value=quoted(example.source, SHORT) or "unknown")
    embed.add_field(name="Taught by", value=author_text(example.author_id))
    if example.asked_by not in (None, example.author_id):
        embed.add_field(name="Said by", value=f"<@{example.asked_by}>")
    if example.conversation:
        of = f"turn {example.turn} of {quoted(example.conversation, SHORT)}"
        embed.add_field(name="Conversation", value=of)
    return embed


def passage(text: str) -> str:
    """A long quotation; it says so where it is cut."""
    shown = quoted(text, LONG)
    if len(shown) > LONGEST_VALUE:  # what is escaped takes more room
        shown = quoted(text, LONG // 3)
    return shown or "*nothing*"


def chart_numbers(
    examples: Sequence[Example], counts: Mapping[tuple[Review, str], int]
) -> Mapping[str, object]:
    """What the chart needs to know."""
    by_status, by_source = Counter[str](), Counter[str]()
    for (status, source), count in counts.items():
        by_status[status.value] += count
        by_source[source] += count
    return {
        "lengths_user": [len(one.user) for one in examples],
        "lengths_bot": [len(one.bot) for one in examples],
        "by_source": by_source,
        "by_status": by_status,
    }
