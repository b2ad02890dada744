"""Discord as a Japanese member has it, and what of the bot's words is not Japanese."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import simcord.interactions as interactions

from tests.bot.conftest import World

JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
NO_WORDS = [
    r"```.*?```",  # what a model reads
    r"`[^`]*`",
    r"<(?:[@#:/]|t:)[^>]*>",
    r"\d m?s\b|\de-\d",  # units, small numbers
    r"https?://\S+",
    r"\b[A-Z][A-Z0-9_]*[A-Z0-9]\b",  # settings, kinds of files
    r"\b[\w-]+\.(?:xlsx|csv|jsonl?|yml|md|png|sqlite3|env)\b",
]
NAMES = {
    *("GPT", "gpt2", "tiny", "ja", "medium", "Discord", "Hugging", "Face", "Hub", "Excel", "LoRA"),
    *("ada", "ben", "Server", "Manage", "Administrator", "Message", "Content", "Trainer", "torch"),
    *("Test", "Guild"),
}
"""Words that Japanese people write in these letters as well, and the names in our tests."""
PLACES = ("/messages", "/callback", "/webhooks")
"""The parts of Discord's API through which people are shown something."""
TEXTS = {"content", "title", "description", "label", "placeholder", "text", "name", "value"}
"""The keys under which Discord is sent what people see."""


def speak_japanese(monkeypatch: pytest.MonkeyPatch, *who: Any) -> None:
    """Let Discord say of these members (none: of all) that they read Japanese."""
    payload: Callable[..., Any] = interactions.base_payload
    ids = {one.id for one in who}

    def of_japanese(*args: Any, **options: Any) -> Any:
        record, sent = payload(*args, **options)
        user = (sent.get("member") or sent)["user"]
        if not ids or int(user["id"]) in ids:
            sent["locale"] = "ja"
        return record, sent

    monkeypatch.setattr(interactions, "base_payload", of_japanese)


async def walk(who: Any, channel: Any, *commands: str) -> Any:
    """Use slash commands, each with its options (`model use name:tiny`); the last response."""
    for command in commands:
        name, *options = re.split(r" (?=\w+:)", command)
        values = dict(option.split(":", 1) for option in options)
        told = await who.slash(channel, name, **{key: _typed(one) for key, one in values.items()})
    return told.response


def _typed(value: str) -> object:
    return int(value) if value.isdigit() else {"True": True, "False": False}.get(value, value)


async def answer(who: Any, channel: Any, command: str, *labels: str) -> Any:
    """Use a command once for each button, and press that under the response; the last response."""
    for label in labels:
        told = await who.click(await walk(who, channel, command), label=label)
    return told.response


def texts(sent: Any) -> Iterator[str]:
    """All that people see of a JSON body sent to Discord: a message, embeds, buttons, a form."""
    if isinstance(sent, list):
        for one in sent:
            yield from texts(one)
    elif isinstance(sent, dict):
        for key, value in sent.items():
            if isinstance(value, (dict, list)) and key not in ("emoji", "attachments"):
                yield from texts(value)
            elif key in TEXTS and isinstance(value, str) and value:
                yield value


def shown(world: World) -> list[str]:
    """Each text in a message or form that the bot ever sent, edits included."""
    requests = [one for one in world.env.http_requests if any(it in one.path for it in PLACES)]
    return [text for one in requests if one.method != "GET" for text in texts(one.json)]


def assert_all_japanese(world: World, *names: str) -> None:
    """Everything the bot sent in this world is Japanese; `names` may be there as they are."""
    assert_lines_japanese(shown(world), *names)


def assert_lines_japanese(lines: Iterator[str] | list[str], *names: str) -> None:
    """Every text is Japanese, or has no words: a number, a member, a name, a line of a table."""
    found = list(lines)
    assert any(map(JAPANESE.search, found))
    for text in found:
        assert english_in(text, *names) == [], text


def english_in(text: str, *names: str) -> list[str]:
    """The English words in a Japanese text: none, if all of it was translated. `names` may be
    there, as may code, mentions, settings and file names."""
    for pattern in NO_WORDS:
        text = re.sub(pattern, " ", text, flags=re.DOTALL | re.ASCII)
    known = {name.lower() for name in (*NAMES, *names)}
    words = re.findall(r"[A-Za-z]{3,}" if JAPANESE.search(text) else r"[A-Za-z]+", text)
    return [word for word in words if word.lower() not in known]


def assert_japanese(text: str | None, *names: str) -> None:
    """It is Japanese, and nothing of it was forgotten."""
    assert JAPANESE.search(text or ""), f"not Japanese: {text!r}"
    assert text is not None
    assert english_in(text, *names) == [], text
