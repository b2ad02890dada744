"""What is on a message of discord.py's layout views, which has neither content nor embeds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

TEXT = 10
"""Discord's number for a text in a layout."""


def parts(shown: Any) -> Iterator[dict[str, Any]]:
    """Everything in it, in order."""

    def walk(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for item in items:
            yield item
            yield from walk(item.get("components", []))

    return walk(shown.components)


def text_of(shown: Any) -> str:
    """All that it says, without its buttons."""
    assert (shown.content, shown.embeds) == ("", [])
    return "\n".join(one["content"] for one in parts(shown) if one["type"] == TEXT)


def lines_of(shown: Any) -> list[str]:
    """The lines of `text_of`."""
    return text_of(shown).split("\n")


def facts_of(shown: Any) -> dict[str, str]:
    """The facts of a card, which has a line for each."""
    return dict(re.findall(r"^\*\*(.+?)\*\* (.*)$", text_of(shown), re.MULTILINE))


def labels_of(shown: Any) -> list[str]:
    """What its buttons say."""
    return [one["label"] for one in parts(shown) if "label" in one]
