"""Rules for texts: how pieces are joined, and which pairs are refused. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from core.records import Pair
from i18n.phrase import phrase

MAX_TEXT_CHARS = 4000
MAX_NAME_CHARS = 200
"""Of a conversation or source."""

_LINE_END = re.compile(r"\r\n|\r|\n")
_CJK = re.compile(
    "[\u3000-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uff9f"
    "\U00020000-\U0003fffd]"
)
"""Japanese and Chinese, with punctuation; not Korean, which uses spaces."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_UNREADABLE = re.compile("[\0\ud800-\udfff]")


def split_lines(text: str) -> list[str]:
    """The lines that are not blank, stripped."""
    if "\n" not in text and "\r" not in text:
        return [text.strip()] if text.strip() else []
    return [line.strip() for line in _LINE_END.split(text) if line.strip()]


def has_line_breaks(text: str) -> bool:
    return "\n" in text or "\r" in text


def join_pieces(pieces: Sequence[str]) -> str:
    """Join non-blank pieces with spaces, but without one next to a Japanese or Chinese letter."""
    parts = [*pieces[:1]]
    for before, piece in pairwise(pieces):
        if not (_CJK.match(before[-1]) or _CJK.match(piece)):
            parts.append(" ")
        parts.append(piece)
    return "".join(parts)


def pair_error(pair: Pair) -> str | None:
    """Why the pair is refused, as a sentence, or None."""
    if not pair.user.strip():
        return phrase("There is no text of the user.")
    if not pair.bot.strip():
        return phrase("There is no text of the bot.")
    if (size := len(pair.user)) > (most := MAX_TEXT_CHARS):
        return phrase(
            "The text of the user has {size:,} characters; {most:,} are the most.",
            size=size,
            most=most,
        )
    if (size := len(pair.bot)) > most:
        return phrase(
            "The text of the bot has {size:,} characters; {most:,} are the most.",
            size=size,
            most=most,
        )
    if max(len(pair.conversation), len(pair.source)) > MAX_NAME_CHARS:
        return phrase(
            "The name of a conversation or source has over {most} characters.", most=MAX_NAME_CHARS
        )
    if _UNREADABLE.search("".join((pair.user, pair.bot, pair.conversation, pair.source))):
        return phrase("There are characters that cannot be read: save the file as UTF-8.")
    return None


def has_lone_surrogates(text: str) -> bool:
    """Whether the text has lone surrogates, which stand for undecodable bytes."""
    return bool(_LONE_SURROGATE.search(text))


def strip_pair(pair: Pair) -> Pair:
    """The pair as reading returns it: texts stripped, no turn outside a conversation."""
    conversation = pair.conversation.strip()
    turn = max(pair.turn, 0) if conversation else 0
    return Pair(pair.user.strip(), pair.bot.strip(), conversation, turn, pair.source.strip())
