"""Where a reply comes from, as embeds. Pure. What people and models said is quoted harmless."""

from __future__ import annotations

from collections.abc import Mapping

import discord

from bot.looks import BLURPLE, LONGEST_VALUE, add_fields
from bot.outcome import quoted
from bot.replay import Origin
from data.schema import ReplyRecord, Role, StoredMessage
from model.messages import Finished

DELETED = "*(deleted)*"
MOST = 4000
"""Characters of the messages together; Discord takes 4,096 in a description."""
LONGEST_SAID = 500
"""Characters of a quoted answer; escaped they may be twice as many."""
NAMES = {
    "temperature": "temperature",
    "top_k": "top-k",
    "top_p": "top-p",
    "repetition_penalty": "repetition penalty",
    "no_repeat_ngram": "no repeated n-grams",
    "max_new_tokens": "at most tokens",
}


def why_embed(origin: Origin, *, model_exists: bool) -> discord.Embed:
    """What the model read, and how the reply was made."""
    record = origin.record
    embed = discord.Embed(title="Why this reply?", colour=BLURPLE, description=_seen(origin))
    here = "" if model_exists else " (no longer here)"
    facts = [
        ("Model", f"{quoted(record.model, 200)}{here}"),
        ("Cut", _cut(record)),
        ("Tokens", f"{record.prompt_tokens:,} read, {record.completion_tokens:,} written"),
        ("Sampling", sampling_text(record.sampling)),
        ("Seed", "not known" if record.seed is None else str(record.seed)),
        ("Time", _time(record)),
        ("Votes", f"👍 {origin.rating.up} · 👎 {origin.rating.down}"),
    ]
    add_fields(embed, facts)
    return embed


def _seen(origin: Origin) -> str:
    """The messages, oldest first; each gets its share of the room."""
    share = max(20, min(300, MOST // (3 * max(1, len(origin.seen)))))
    lines = "\n".join(_line(one, share) for one in origin.seen)
    return f"The model read these messages, the oldest first:\n{lines}"[:MOST]


def _line(one: StoredMessage | None, most: int) -> str:
    if one is None:
        return f"• {DELETED}"
    who = "me" if one.message.role is Role.ASSISTANT else f"<@{one.author_id}>"
    return f"• {who}: {quoted(one.message.content, most)}"


def _cut(record: ReplyRecord) -> str:
    if not record.cut:
        return "nothing"
    return f"{record.cut} of {len(record.seen)} messages were shortened or did not fit"


def _time(record: ReplyRecord) -> str:
    first = "" if record.first_s is None else f", {record.first_s:.2f} s to the first word"
    return f"{record.seconds:.2f} s{first}"


def sampling_text(sampling: Mapping[str, object]) -> str:
    """The settings in a line: `temperature 0.7 · top-k 40`."""
    known = [f"{NAMES[name]} {sampling[name]}" for name in NAMES if name in sampling]
    return " · ".join(known)[:LONGEST_VALUE] or "not known"


def replay_embed(origin: Origin, name: str, reply: Finished) -> discord.Embed:
    """What the reply says, beside what another model said to the same."""
    record = origin.record
    embed = discord.Embed(title="The same messages, settings and seed", colour=BLURPLE)
    embed.add_field(name=f"{record.model}, then"[:100], value=_said(origin.text))
    embed.add_field(name=f"{name}, now"[:100], value=_said(reply.text))
    missing = len(origin.seen) - len(origin.left)
    if missing:
        embed.description = f"It could not read all: {missing} of the messages were deleted."
    embed.set_footer(text=f"{reply.seconds:.2f} s, seed {reply.seed}. This is recorded nowhere.")
    return embed


def _said(text: str | None) -> str:
    if text is None:
        return DELETED
    return quoted(text, LONGEST_SAID)[:LONGEST_VALUE] or "*nothing*"
