"""The origin of a reply as embeds: what the model read, its settings, and a replay. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import discord

from bot.chat.replay import ReplyOrigin
from bot.discord_ui.embeds.style import (
    BLURPLE,
    MAX_VALUE_CHARS,
    add_fields,
    author_text,
    quote_safely,
)
from core.records import ReplyRecord, Role, StoredMessage
from i18n.phrase import phrase
from i18n.reader import say
from model.worker.messages import Finished

DELETED = phrase("*(deleted)*")
NOT_KNOWN_LABEL = phrase("not known")
MAX_CONTEXT_CHARS = 4000
"""Characters of all messages together: a description may have 4,096."""
MAX_ANSWER_CHARS = 500
"""Characters of a quoted answer; escaping may double them."""
SAMPLING_LABELS = {
    "temperature": phrase("temperature"),
    "top_k": "top-k",
    "top_p": "top-p",
    "repetition_penalty": phrase("repetition penalty"),
    "no_repeat_ngram": phrase("no repeated n-grams"),
    "max_new_tokens": phrase("at most tokens"),
}


def why_embed(
    origin: ReplyOrigin, names: Mapping[int, str], *, model_exists: bool
) -> discord.Embed:
    """What the model read, and how the reply was made."""
    record = origin.record
    embed = discord.Embed(
        title=say("Why this reply?"), colour=BLURPLE, description=_context_text(origin, names)
    )
    model = quote_safely(record.model, 200)
    if record.example_id is not None or record.is_fixed:
        add_fields(embed, _known_facts(record, origin))
        return embed
    tokens = say(
        "{read:,} read, {written:,} written",
        read=record.prompt_tokens,
        written=record.completion_tokens,
    )
    facts = [
        (say("Model"), model if model_exists else say("{model} (no longer here)", model=model)),
        (say("Cut"), _cut(record)),
        (say("Tokens"), tokens),
        (say("Sampling"), sampling_text(record.sampling)),
        (say("Seed"), say(NOT_KNOWN_LABEL) if record.seed is None else str(record.seed)),
        (say("Time"), _time(record)),
        (say("Votes"), f"👍 {origin.rating.up} · 👎 {origin.rating.down}"),
    ]
    add_fields(embed, facts)
    return embed


def _known_facts(record: ReplyRecord, origin: ReplyOrigin) -> list[tuple[str, str]]:
    """Where a taught or a fixed answer comes from."""
    votes = say("Votes"), f"👍 {origin.rating.up} · 👎 {origin.rating.down}"
    if record.is_fixed:
        return [(say("Fixed text"), say("always the same; no model was asked")), votes]
    taught = say(
        "pair {number} of the data set, word for word; no model was asked",
        number=record.example_id,
    )
    return [(say("Taught"), taught), votes]


def _context_text(origin: ReplyOrigin, names: Mapping[int, str]) -> str:
    """The messages, oldest first, each cut to its share of the limit."""
    if origin.record.example_id is not None or origin.record.is_fixed:
        return "\n".join(_line(one, 300, names) for one in origin.seen[-1:])
    share = max(20, min(300, MAX_CONTEXT_CHARS // (3 * max(1, len(origin.seen)))))
    lines = "\n".join(_line(one, share, names) for one in origin.seen)
    return say("The model read these messages, the oldest first:\n{lines}", lines=lines)[
        :MAX_CONTEXT_CHARS
    ]


def _line(one: StoredMessage | None, most: int, names: Mapping[int, str]) -> str:
    if one is None:
        return f"• {say(DELETED)}"
    is_me = one.message.role is Role.ASSISTANT
    who = say("me") if is_me else author_text(one.author_id, names)
    return f"• {who}: {quote_safely(one.message.content, most)}"


def _cut(record: ReplyRecord) -> str:
    if not record.cut:
        return say("nothing")
    return say(
        "{cut} of {count} messages were shortened or did not fit",
        cut=record.cut,
        count=len(record.seen),
    )


def _time(record: ReplyRecord) -> str:
    if record.first_s is None:
        return say("{seconds:.2f} s", seconds=record.seconds)
    return say(
        "{seconds:.2f} s, {first:.2f} s to the first word",
        seconds=record.seconds,
        first=record.first_s,
    )


def sampling_text(sampling: Mapping[str, object]) -> str:
    """The settings in a line: `temperature 0.7 · top-k 40`."""
    known = [
        f"{say(SAMPLING_LABELS[name])} {sampling[name]}"
        for name in SAMPLING_LABELS
        if name in sampling
    ]
    return " · ".join(known)[:MAX_VALUE_CHARS] or say(NOT_KNOWN_LABEL)


def replay_embed(origin: ReplyOrigin, name: str, reply: Finished) -> discord.Embed:
    """The original reply beside that of another model."""
    record = origin.record
    embed = discord.Embed(title=say("The same messages, settings and seed"), colour=BLURPLE)
    then, now = say("{model}, then", model=record.model), say("{model}, now", model=name)
    embed.add_field(name=then[:100], value=_said(origin.text))
    embed.add_field(name=now[:100], value=_said(reply.text))
    missing = len(origin.seen) - len(origin.remaining)
    if missing:
        embed.description = say(
            "It could not read everything: {count} of the messages were deleted.", count=missing
        )
    embed.set_footer(
        text=say(
            "{seconds:.2f} s, seed {seed}. This is not recorded.",
            seconds=reply.seconds,
            seed=reply.seed,
        )
    )
    return embed


def _said(text: str | None) -> str:
    if text is None:
        return say(DELETED)
    return quote_safely(text, MAX_ANSWER_CHARS)[:MAX_VALUE_CHARS] or say("*nothing*")
