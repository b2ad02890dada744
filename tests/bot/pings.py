"""Whether the bot lets a text ping anybody, by what it asked of Discord."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from simcord import HttpLogEntry

COMPONENTS_V2 = 1 << 15
"""The flag of a message whose text is in its components."""
NOBODY = {"parse": []}
"""No kind of mention is parsed, nobody is listed, and `replied_user` is left out, which is no."""


def messages(requests: Iterable[HttpLogEntry]) -> Iterator[dict[str, Any]]:
    """The messages, as the bot sent or edited them."""
    for one in requests:
        body = one.json if isinstance(one.json, dict) else {}
        body = body["data"] if one.path.endswith("/callback") and "data" in body else body
        shows = body.get("content") or body.get("embeds") or body.get("flags", 0) & COMPONENTS_V2
        if one.method in ("POST", "PATCH") and shows:
            yield body


def pinging(requests: Iterable[HttpLogEntry]) -> list[dict[str, Any]]:
    """The messages with which somebody could have been pinged."""
    return [one for one in messages(requests) if one.get("allowed_mentions") != NOBODY]
