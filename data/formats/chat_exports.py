"""Recognises the exports of chat programs, which are no files of pairs. Pure.

Nothing in them says which message answers which, and they hold other people's names and words; as
a table without known headings they would be learned as pairs of a time and a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data.formats.headings import MESSAGES_KEYS, ROLE_KEYS, Field, surest_fields
from i18n.phrase import phrase

SOME_PROGRAM = phrase("a chat program")
_MIN_LINES = 2
"""Lines that look like messages, from which a text is an export."""
_BEGINNINGS = {
    re.compile(r"(?i)\ufeff*\s*(<!doctype html|<html)"): None,  # decided by _MENTIONS
    re.compile(r"\ufeff*(\[LINE\]|.{1,60}のトーク履歴\s*\n)"): "LINE",
    re.compile(r"\ufeff*=+\s+Guild: "): "Discord",
}
_MENTIONS = {
    "DiscordChatExporter": "Discord",
    "chatlog__message": "Discord",
    "Exported Data</title>": "Telegram",
    "tgme_widget_message": "Telegram",
}
_LINE = re.compile(r"\d{1,2}:\d{2}(?: ?[AP]M)?\t[^\t]+\t")
_LINE_DAY = re.compile(r"[^\t\d]{0,12}\d{1,4}[./-]\d{1,2}[./-]\d{1,4}[^\t]*$")
"""LINE writes each day on a line above its messages; a table of times has none."""
_LINES = {
    _LINE: "LINE",
    re.compile(
        r"\[?\d{1,4}[./-]\d{1,2}[./-]\d{1,4},? \d{1,2}[:.]\d{2}(?:[:.]\d{2})?"
        r"(?:[ \xa0\u202f]?[AaPp]\.?[ \xa0\u202f]?[Mm]\.?)?(?:\]| -) [^:]{1,60}: "
    ): "WhatsApp",
    re.compile(r"\[\d{1,4}[./-]\d{1,2}[./-]\d{1,4} \d{1,2}:\d{2}(?: ?[AP]M)?\] \S"): "Discord",
}
_WHO, _WHEN, _WHAT = (
    frozenset(names.split())
    for names in (
        "author authorid authorname sender sendername sendertype from fromid senderid nick "
        "nickname user userid username name displayname "
        "名前 送信者 送信者名 送信者タイプ 投稿者 発言者 ユーザー名",
        "date time datetime timestamp timestampms ts sent sentat createdat unixtime "
        "日時 日付 時刻 送信日 送信日付 送信時刻 送信日時 投稿日時",
        "content contents message text body messagetext attachments "
        "内容 本文 メッセージ メッセージ内容 トーク内容",
    )
)
"""Headings and keys of who wrote, when, and what."""


def text_export(start: str) -> str | None:
    """The program that exported a text, by its first line; None if it is no export."""
    for beginning, program in _BEGINNINGS.items():
        if beginning.match(start):
            return program or _mentioned(start) or None
    return None


def lines_export(start: str) -> str | None:
    """The program whose exports have lines as a text has; None if it is no export."""
    lines = [line.strip("\u200e\u200f\ufeff\r") for line in start.split("\n") if line.strip()][:40]
    for line, program in _LINES.items():
        if line is _LINE and not any(map(_LINE_DAY.match, lines)):
            continue
        if sum(bool(line.match(one)) for one in lines) >= max(_MIN_LINES, len(lines) // 3):
            return program
    return None


def _mentioned(start: str) -> str | None:
    return next((program for word, program in _MENTIONS.items() if word in start), None)


def headings_export(headings: Iterable[str]) -> str | None:
    """The program whose exports have such headings or keys: who wrote, when, and what."""
    names = {re.sub(r"[\s_:-]+", "", heading).casefold() for heading in headings}
    if {"authorid", "content"} <= names or {"timestamp", "contents"} <= names:
        return "Discord"
    return SOME_PROGRAM if names & _WHO and names & _WHEN and names & _WHAT else None


def json_export(content: Any) -> str | None:
    """The program that exported a JSON document; None if it is no export."""
    if isinstance(content, Mapping):
        if {"guild", "channel", "messages"} <= content.keys():
            return "Discord"
        messages = content.get("messages")
        first = messages[0] if isinstance(messages, list) and messages else None
        if isinstance(first, Mapping) and not {"role", "content"} <= first.keys():
            known = "Telegram" if "from_id" in first or "date_unixtime" in first else None
            return known or headings_export(first)
        return None
    for record in content[:_MIN_LINES] if isinstance(content, Sequence) else ():
        if isinstance(record, Mapping) and (program := _record_export(record)):
            return program
    return None


def _record_export(record: Mapping[str, Any]) -> str | None:
    if _has_pairs(record):
        return None
    if {"ts", "text"} <= record.keys():
        return "Slack"
    if {"mapping", "create_time"} <= record.keys():
        return "ChatGPT"
    return headings_export(record)


def _has_pairs(record: Mapping[str, Any]) -> bool:
    """Whether a record names user and bot, or has messages with roles."""
    fields = surest_fields(list(record))
    said = {
        field
        for field, value in zip(fields, record.values(), strict=True)
        if not isinstance(value, Mapping | list) or _have_roles(value)
    }
    return {Field.USER, Field.BOT} <= said or any(
        _have_roles(record.get(key)) for key in MESSAGES_KEYS
    )


def _have_roles(messages: Any) -> bool:
    first = messages[0] if isinstance(messages, list) and messages else None
    return isinstance(first, Mapping) and any(key in first for key in ROLE_KEYS)


def export_error(name: str, program: str) -> str:
    return phrase(
        "{name} is an export of chat messages from {program}, not a file of pairs: it does not say "
        "which message answers which. Write what the bot should learn into a table with the "
        "headings “user” and “bot”.",
        name=name,
        program=program,
    )
