"""The rules that clean a text: named functions from text to text, in a fixed order. Pure.

Markdown such as **bold** stays, since Discord renders it and the bot may use it. So do control
tokens that people typed: `model.control_tokens` escapes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from core.japanese import LATIN_WORD_END, LATIN_WORD_START
from core.letters import normalize_letters
from data.dataset.pii import is_webhook_url
from i18n.phrase import phrase

MAX_PASSES = 5
"""Passes of all rules over a text, since one may uncover work for another. Two are usual."""

DIRTY_MARKERS = ("`", "<", "@", "  ", " \n", "\n\n\n", "://", "discord.gg/")
"""A printable ASCII text without any of these is already clean; most are."""

INVISIBLE_CHARS = (
    r"\xad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
)
CONTROLS = r"\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"
JOINABLE_CHAR = rf"[^\x00-\x7f\s\u200c\u200d{INVISIBLE_CHARS}{CONTROLS}]"
INVISIBLE = re.compile(
    rf"[{INVISIBLE_CHARS}{CONTROLS}] | (?<!{JOINABLE_CHAR})[\u200c\u200d]"
    rf" | [\u200c\u200d](?!{JOINABLE_CHAR})",
    re.VERBOSE,
)

CODE_BLOCK = re.compile(r"```.*?```", re.DOTALL)
INLINE_CODE = re.compile(r"(?<!`)(`{1,2})([^`]+)\1(?!`)")

URL = r"(?:https?://|(?<![\w.-])discord\.gg/)(?:[^\s<>()\[\]\"`\u3000-\u9fff\uff00-\uffef]|\([^\s<>()]*\))+"
MARKDOWN_LINK = re.compile(
    rf"(?:(?<!\w)!)? \[(?P<text>[^\[\]\n]+)\] \( <? (?P<to>{URL}) >? (?:[ ]\"[^\"\n]*\")? \)",
    re.VERBOSE | re.IGNORECASE,
)
LINK = re.compile(
    rf"<(?P<quiet>{URL})> | (?P<bare>{URL}(?<![.,;:!?'*_~|]))", re.VERBOSE | re.IGNORECASE
)

EVERYONE_MENTION = rf"@(?:everyone|here){LATIN_WORD_END}"
MENTION = rf"(?:<@[!&]?[0-9]+>|{EVERYONE_MENTION})"
LEADING_MENTIONS = re.compile(
    rf"\A(?:\s*{MENTION})+(?:[ ]?[,:]\s+|[ ]?[\u3001\uff0c\uff1a]\s*|[ ]*\n\s*)(?=\S)"
)
MENTION_REPLACEMENTS = (
    (re.compile(r"<@!?[0-9]+>"), "[member]"),
    (re.compile(r"<@&[0-9]+>"), "[role]"),
    (re.compile(r"<#[0-9]+>|<id:[a-z-]+>"), "[channel]"),
    (re.compile(r"</([\w -]+):[0-9]+>"), r"/\1"),
    (re.compile(rf"(?<![.@]){LATIN_WORD_START}{EVERYONE_MENTION}"), "everyone"),
)
CUSTOM_EMOJI = re.compile(r"<a?:(\w+):[0-9]+>")
TIMESTAMP = re.compile(r"<t:-?[0-9]+(?::[tTdDfFRsS])?>")

LINE_END = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
SPACES = re.compile(r"(?:[^\S\n]|[\u2800\u3164\uffa0])+")
EMPTY_LINES = re.compile(r"\n{3,}")

PLACEHOLDER = re.compile(r"\[(?:link|code|member|role|channel|time)\]")
"""What the rules substitute for things that a model cannot learn."""


@dataclass(frozen=True, slots=True)
class RuleChange:
    """A change that one rule made to a text."""

    rule: str
    before: str
    after: str


def clean_text(text: str) -> str:
    """The text after all rules. Idempotent."""
    for change in apply_rules(text):
        text = change.after
    return text


def apply_rules(text: str) -> Iterator[RuleChange]:
    """The changes that the rules make, in order; none for a clean text."""
    for _ in range(MAX_PASSES):
        trimmed = _is_plain(text) and text == text.strip()
        if trimmed and not any(mark in text for mark in DIRTY_MARKERS):
            return
        before = text
        for name, rule in RULES.items():
            after = rule(text)
            if after != text:
                yield RuleChange(name, text, after)
                text = after
        if text == before:
            return


def strip_invisible(text: str) -> str:
    """Remove control characters, zero-width spaces and marks of the writing direction.

    People don't see them, but they change a word's tokens. The joiners U+200C and U+200D stay
    between letters of scripts that need them, and in emoji."""
    return text if _is_plain(text) else INVISIBLE.sub("", text)


def _is_plain(text: str) -> bool:
    """Whether it is printable ASCII, apart from line ends: a cheap check."""
    return text.isascii() and text.replace("\n", "").isprintable()


def replace_code(text: str) -> str:
    """Code blocks, which a small model can only imitate, become `[code]`; inline code stays."""
    return INLINE_CODE.sub(r"\2", CODE_BLOCK.sub("[code]", text)) if "`" in text else text


def replace_links(text: str) -> str:
    """URLs become `[link]`: a model that learns some invents dead ones. Markdown links keep their
    text. Webhook addresses are secrets, and left for `mask_pii`."""
    if "://" not in text and "discord.gg/" not in text:
        return text
    text = MARKDOWN_LINK.sub(
        lambda match: match[0] if is_webhook_url(match["to"]) else match["text"], text
    )
    return LINK.sub(
        lambda match: match[0] if is_webhook_url(match["quiet"] or match["bare"]) else "[link]",
        text,
    )


def replace_mentions(text: str) -> str:
    """Mentions become `[member]`, `[role]`, `[channel]`, "everyone" or a command's name.

    A model would invent ids, which ping strangers; a placeholder keeps the sentence whole. A
    mention that only addresses someone ("@Ada, thanks") is removed."""
    if "@" not in text and "<" not in text:
        return text
    text = LEADING_MENTIONS.sub("", text)
    for pattern, word in MENTION_REPLACEMENTS:
        text = pattern.sub(word, text)
    return text


def replace_custom_emoji(text: str) -> str:
    """Custom emoji become `:name:`: the id is noise."""
    return CUSTOM_EMOJI.sub(r":\1:", text) if "<" in text else text


def replace_timestamps(text: str) -> str:
    """Discord timestamps become `[time]`: Unix seconds mean nothing to a model."""
    return TIMESTAMP.sub("[time]", text) if "<t:" in text else text


def normalize_whitespace(text: str) -> str:
    """Collapse runs of white space, strip lines, and keep at most one empty line in a row. GPT-2's
    tokens include the space before a word, so each kind of space makes other tokens."""
    if not _is_plain(text) or "  " in text:
        text = SPACES.sub(" ", LINE_END.sub("\n", text))
    text = text.replace(" \n", "\n").strip()
    return EMPTY_LINES.sub("\n\n", text) if "\n\n\n" in text else text


RULES: dict[str, Callable[[str], str]] = {
    phrase("invisible characters"): strip_invisible,
    phrase("unusual letters"): normalize_letters,
    phrase("code"): replace_code,
    phrase("links"): replace_links,
    phrase("mentions"): replace_mentions,
    phrase("custom emoji"): replace_custom_emoji,
    phrase("timestamps"): replace_timestamps,
    phrase("white space"): normalize_whitespace,
}
"""In order: code before links and mentions, so that code blocks are not searched for those; white
space last, since the others may leave some."""

COMMAND = re.compile(
    r"""
    (?: [/!] (?=[a-zA-Z]) | [?.$] (?=[a-z]) )
    (?! (?i: shrug | tableflip | unflip | me | tts             # Discord makes text of these
        | s | j | hj | srs | gen | genq | lh | nm | pos | neg  # signs of the tone
        | net | com | org | io | exe | env | txt | png | jpg | gif | zip | json | md | py | js
    ) (?:\s|\Z) )
    [\w-]+ (?:\s|\Z)
    """,
    re.VERBOSE,
)


def is_command(text: str) -> bool:
    """Whether a message is a bot command, such as `!play song` or `/help`. Not "...", "?!", "!!",
    "$5", "/shrug", "/s", ".NET", ".exe", "/home/ada" or "!important!"."""
    return COMMAND.match(text) is not None
