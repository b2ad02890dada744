"""What ends a message without a reply; Discord is not known here.

Refusal            what a person asks for cannot be done (core.errors)
└── NotAdmitted    too fast, paused, the queue is full, or it waited too long
ReplyDeleted       somebody deleted the reply while it was being written
"""

from __future__ import annotations

from core.errors import Refusal


class NotAdmitted(Refusal):
    """No reply now. With `already_notified`, a message is met with silence, because this channel
    (or person) was given the reason a moment ago; commands and buttons always show it."""

    def __init__(self, sentence: str, *, already_notified: bool = False) -> None:
        super().__init__(sentence)
        self.already_notified = already_notified


class ReplyDeleted(Exception):
    """Somebody deleted the reply while it was being written. Raised by a `ReplySink`."""
