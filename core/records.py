"""The records that the rooms hand to each other: frozen values, no I/O.

Knows nothing of Discord, SQL or torch. A `scope` is the id of the guild that owns a record
(in a direct message: the id of the user), so what one server teaches never reaches another.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """A message of a channel's history. `discord_id` is unique in the store.

    `scope` is None where it was recorded by a version of the bot that did not know it.
    """

    discord_id: int
    channel_id: int
    author_id: int
    message: Message
    created_at: datetime
    scope: int | None = None


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


class ReviewStatus(StrEnum):
    """Whether an example may be learned: only what is approved is."""

    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"


IMPORT_SOURCE = "import"
"""The source of pairs of a file that names none."""
OPERATOR_AUTHOR_ID = 0
"""The author of examples that the operator brought in from a terminal: no member of Discord."""


@dataclass(frozen=True, slots=True)
class NewExample:
    """An example to be stored; the fields are those of `Example`."""

    scope: int
    user: str
    bot: str
    author_id: int
    source: str
    asked_by: int | None = None
    reply_id: int | None = None
    consent_version: int | None = None
    corrects: bool = False
    status: ReviewStatus = ReviewStatus.APPROVED
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Example:
    """A pair in the data set: the bot should answer `user` with `bot`.

    It is learned `weight` times. `conversation` and `turn` are as in `Pair`. `author_id` taught the
    pair; `asked_by` is the member who wrote `user`, None if nobody in particular did. `reply_id` is
    the bot's message that it comes from; if `corrects`, `bot` is a better answer than that message,
    whose ratings then do not count. `consent_version` is that of the consent under which the pair
    was collected from a conversation; None if it was handed over on purpose.
    """

    id: int
    scope: int
    user: str
    bot: str
    author_id: int
    source: str
    created_at: datetime
    status: ReviewStatus = ReviewStatus.APPROVED
    weight: int = 1
    conversation: str = ""
    turn: int = 0
    asked_by: int | None = None
    reply_id: int | None = None
    consent_version: int | None = None
    corrects: bool = False


@dataclass(frozen=True, slots=True)
class Consent:
    """A member let their words in a scope be learned; `version` is that of the text they read."""

    scope: int
    user_id: int
    version: int
    given_at: datetime
    withdrawn_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RatingSummary:
    """How many like a reply and how many do not; `mine` is +1, -1 or 0 (not rated)."""

    up: int = 0
    down: int = 0
    mine: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyRecord:
    """What a reply was made from. It holds no words, only the ids of what was said.

    `asked_id` is the message that it answers, `asked_by` who wrote that. `model` is the name of the
    model and `source` its folder or Hub id. `seen` are the messages of the history that were read,
    oldest first; `cut` of them were shortened or did not fit. It took `seconds`, and
    `first_token_s` of them until its first word (None: not known).
    """

    reply_id: int
    channel_id: int
    scope: int
    asked_id: int
    asked_by: int
    model: str
    source: str
    seen: tuple[int, ...]
    cut: int
    prompt_tokens: int
    completion_tokens: int
    seed: int | None
    sampling: Mapping[str, object]
    seconds: float
    created_at: datetime
    first_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberDataSummary:
    """How much is stored about a member.

    `messages` they wrote, `replies` to them, `examples` that hold their words or that they taught,
    `ratings` they gave, training `jobs` that learned their words; `consent` is the standing one.
    """

    messages: int
    replies: int
    examples: int
    ratings: int
    jobs: int
    consent: Consent | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureResult:
    """What was erased of a member. `replies` are those of the bot to them."""

    messages: int = 0
    replies: int = 0
    examples: int = 0
    ratings: int = 0
    consents: int = 0

    def __add__(self, other: ErasureResult) -> ErasureResult:
        return ErasureResult(
            messages=self.messages + other.messages,
            replies=self.replies + other.replies,
            examples=self.examples + other.examples,
            ratings=self.ratings + other.ratings,
            consents=self.consents + other.consents,
        )

    def __bool__(self) -> bool:
        return self != ErasureResult()


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


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A line of the audit: at this time (UTC), somebody did this in a scope."""

    id: int
    at: datetime
    scope: int
    actor_id: int
    action: str
    detail: str


class FilterKind(StrEnum):
    """Whether a whole word is meant, or a regular expression."""

    WORD = "word"
    PATTERN = "pattern"


@dataclass(frozen=True, slots=True)
class Filter:
    """What a reply must not say."""

    kind: FilterKind
    pattern: str
