"""Keeps the files that were sent to a follower until it has them.

Ray may drop what a message of a stream refers to before the message is read, and a step may be
saved before the one before it has travelled.
"""

from __future__ import annotations

from collections import deque

from training.cluster.messages import Message, NewBase, Results, SavedStep

WITH_FILES = SavedStep | NewBase | Results


class Unreceived:
    """Of one stream. Messages are received in the order in which they were sent."""

    def __init__(self) -> None:
        self._kept: deque[Message] = deque()

    def sent(self, message: Message) -> Message:
        """Keep a message, if files go with it; returns it."""
        if isinstance(message, WITH_FILES):
            self._kept.append(message)
        return message

    def received(self) -> None:
        """The follower has the files of the first message that is kept."""
        if self._kept:
            self._kept.popleft()
