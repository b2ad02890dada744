"""Why a message gets no reply. Knows nothing of Discord.

Refusal            what a person asks for cannot be done (core.errors)
└── NotAdmitted    too fast, paused, the queue is full, or it waited too long
ReplyDeleted       somebody deleted the reply while it was being written
"""

from __future__ import annotations

from core.errors import Refusal


class NotAdmitted(Refusal):
    """No reply now. If `already_notified`, a message is ignored, since its channel (or author) has
    just been given the reason; commands and buttons always show it."""

    def __init__(self, sentence: str, *, already_notified: bool = False) -> None:
        super().__init__(sentence)
        self.already_notified = already_notified


class ReplyDeleted(Exception):
    """Somebody deleted the reply while it was being written. Raised by a `ReplySink`."""
