"""The records that the rooms hand to each other: frozen values, no I/O.

Knows nothing of Discord, SQL or torch. A `scope` is the id of the guild that owns a record
(in a direct message: the id of the user), so what one server teaches never reaches another.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """Who said a message; the names are those of the Hugging Face chat form."""

    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One message as the model sees it."""

    role: Role
    content: str


Conversation = tuple[Message, ...]
"""Messages of one conversation, oldest first."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of a channel's history. `discord_id` is unique in the store."""

    discord_id: int
    channel_id: int
    author_id: int
    message: Message
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and its answer as a file holds them.

    Pairs of one `conversation` follow each other by `turn`, from 1; in a conversation "" each
    stands alone, and `turn` is 0. `source` says where it comes from, "" if the file does not.
    """

    user: str
    bot: str
    conversation: str = ""
    turn: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """A taught pair: to `user`, the wished answer is `bot`.

    Pairs of one `conversation` follow each other by `turn`, from 1; in a conversation "" each
    stands alone, and `turn` is 0. `weight` says how often it counts.
    """

    id: int
    scope: int
    user: str
    bot: str
    author_id: int
    source: str
    created_at: datetime
    conversation: str = ""
    turn: int = 0
    weight: int = 1


class JobState(StrEnum):
    """The life of a training job. The last five are final."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    @property
    def is_final(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One fine-tuning job of a scope.

    `directory` holds its snapshot and log; `checkpoint` is the name of what it made, once made;
    `detail` is the sentence for the admin once the job has ended or was paused; `message_id` is the
    message that shows its progress; `attempts` counts how often its process was started.
    """

    id: int
    scope: int
    requested_by: int
    channel_id: int
    base_model: str
    directory: str
    state: JobState
    created_at: datetime
    checkpoint: str | None = None
    detail: str | None = None
    message_id: int | None = None
    attempts: int = 0
