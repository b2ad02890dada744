"""Discord as a Japanese member has it, and what of the bot's words is not Japanese."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import simcord.interactions as interactions

JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
NO_WORDS = [
    r"```.*?```",  # what a model reads
    r"`[^`]*`",
    r"<[@#:/][^>]*>",
    r"https?://\S+",
    r"\b[A-Z][A-Z0-9_]*[A-Z0-9]\b",  # settings, kinds of files
    r"\b[\w-]+\.(?:xlsx|csv|jsonl?|yml|md|png|sqlite3|env)\b",
]
NAMES = {
    *("GPT", "gpt2", "tiny", "medium", "Discord", "Hugging", "Face", "Hub", "Excel", "LoRA"),
    *("ada", "ben", "Server", "Manage", "Administrator", "Message", "Content", "Trainer", "torch"),
}
"""Words that Japanese people write in these letters as well, and the names in our tests."""


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


def english_in(text: str, *names: str) -> list[str]:
    """The English words in a Japanese text: none, if all of it was translated. `names` may be
    there, as may code, mentions, settings and file names."""
    for pattern in NO_WORDS:
        text = re.sub(pattern, " ", text, flags=re.DOTALL | re.ASCII)
    known = {name.lower() for name in (*NAMES, *names)}
    words = re.findall(r"[A-Za-z]{3,}", text)
    return [word for word in words if word.lower() not in known]


def assert_japanese(text: str | None, *names: str) -> None:
    """It is Japanese, and nothing of it was forgotten."""
    assert JAPANESE.search(text or ""), f"not Japanese: {text!r}"
    assert text is not None
    assert english_in(text, *names) == [], text
