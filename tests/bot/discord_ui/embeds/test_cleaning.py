"""What cleaning did, as Discord shows it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import discord

from bot.discord_ui.embeds.cleaning import LEFT_OUT_LABEL, NO_SAMPLE, cleaning_embed
from core.records import Example
from data.dataset.cleaning import Selection, select_examples
from data.dataset.rules import RULES


def chosen(*pairs: tuple[str, str]) -> Selection:
    noon = datetime(2025, 6, 1, tzinfo=UTC)
    return select_examples(
        Example(n, 1, user, bot, 7, "teach", noon) for n, (user, bot) in enumerate(pairs)
    )


def fields(embed: discord.Embed) -> dict[str, str]:
    return {str(field.name): str(field.value) for field in embed.fields}


def test_each_rule_before_and_after_and_each_reason() -> None:
    embed = cleaning_embed(
        chosen(("Who?", "Ask  <@1>"), ("Mail?", "a@example.org"), ("x", " "), ("y", ""))
    )
    assert embed.description == "I learn 2 of 4 examples."
    assert fields(embed) == {
        LEFT_OUT_LABEL: "2: empty after cleaning",
        "Mentions: 1": "before: Ask␣␣\\<@1>\nafter: Ask␣␣[member]",
        "White space: 1": "before: Ask␣␣[member]\nafter: Ask [member]",
        "Private data: 1": "before: •••••\nafter: [e-mail address]",
    }


def test_what_is_quoted_is_harmless() -> None:
    shown = fields(cleaning_embed(chosen(("a", "**x** @everyone <@&5>  [a](b)"))))
    text = "\n".join(shown.values()).replace("\\<", "")
    assert "@everyone" not in text
    assert "<@" not in text
    assert "**" not in text


def test_nothing_to_clean_is_said() -> None:
    embed = cleaning_embed(chosen(("a", "b")))
    assert embed.description == "I learn 1 of 1 example. None of them had to be changed."
    assert not embed.fields


def test_a_rule_without_a_sample_has_its_count() -> None:
    embed = cleaning_embed(chosen(("a", "b  c@example.org")))
    assert fields(embed)["White space: 1"] == NO_SAMPLE


def test_it_fits_into_an_embed_whatever_there_is() -> None:
    rules = [*RULES, *(f"rule {n}" for n in range(12))]
    full = replace(
        chosen(),
        dropped={f"reason {n} " * 10: n + 1 for n in range(20)},
        rule_counts=dict.fromkeys(rules, 100_000),
        samples=dict.fromkeys(rules, ("*<@_" * 30, "`|" * 60)),
    )
    embed = cleaning_embed(full)
    assert len(embed) <= 6000
    assert len(embed.fields) <= 25
    assert all(len(str(field.value)) <= 1024 for field in embed.fields)
    assert len(embed.fields) == len(rules) + 1
