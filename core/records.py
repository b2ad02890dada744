"""The values that packages pass to each other: frozen, no I/O.

A `scope` is the id of the guild that owns a record (in a direct message: of the user): what one
server teaches never reaches another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from enum import StrEnum


class Role(StrEnum):
    """The speaker of a message, named as in Hugging Face's chat format."""

    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the model sees it."""

    role: Role
    content: str


Conversation = tuple[Message, ...]
"""The messages of a conversation, oldest first."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message in a channel's history.

    `scope` is None in messages stored by early versions of the bot.
    """

    discord_id: int
    channel_id: int
    author_id: int
    message: Message
    created_at: datetime
    scope: int | None = None


@dataclass(frozen=True, slots=True)
class ChannelActivity:
    """A channel, and the oldest recorded message of a person after the newest one that was answered
    there; None if there is none."""

    channel_id: int
    unanswered_id: int | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and its answer in a file.

    Pairs of one `conversation` are ordered by `turn`, from 1. A pair with conversation "" stands
    alone, and its turn is 0. `source` is "" if the file names none.
    """

    user: str
    bot: str
    conversation: str = ""
    turn: int = 0
    source: str = ""


class ReviewStatus(StrEnum):
    """Whether an example may be learned: only approved ones are."""

    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"


IMPORT_SOURCE = "import"
"""The source of imported pairs whose file does not name one."""
OPERATOR_AUTHOR_ID = 0
"""The author of examples that the operator imported in a terminal: no Discord user."""


@dataclass(frozen=True, slots=True)
class NewExample:
    """An example to be stored; the fields are those of `Example`.

    `by_manager`: whoever teaches it also decides about it, so it waits for nobody. `may_replace`:
    it need not wait although others have taught another answer to the question.
    """

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
    by_manager: bool = False
    may_replace: bool = False


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
class JudgedReply:
    """A reply of a model that people judged, and whose question may be learned.

    `example` is the approved pair that was collected from it, or the better answer that `corrects`
    it; `reply` is what the model said. `votes` are +1 or -1 by member; a correction has none.
    """

    example: Example
    reply: str
    votes: Mapping[int, int]

    @property
    def judges(self) -> tuple[int, ...]:
        """Who voted, or gave the better answer."""
        return (self.example.author_id,) if self.example.corrects else tuple(self.votes)

    @property
    def asked_by(self) -> int:
        """Whose words the question is."""
        asked_by = self.example.asked_by
        return self.example.author_id if asked_by is None else asked_by

    def with_texts(self, user: str, bot: str, reply: str) -> JudgedReply:
        return replace(self, example=replace(self.example, user=user, bot=bot), reply=reply)


@dataclass(frozen=True, slots=True)
class TaughtGroup:
    """The `count` examples that an author taught on one day (in UTC) from one source, the newest of
    which is `last_id`."""

    day: date
    author_id: int
    source: str
    count: int
    last_id: int


@dataclass(frozen=True, slots=True)
class Consent:
    """A member's consent to training on their words in a scope; `version` is that of its text."""

    scope: int
    user_id: int
    version: int
    given_at: datetime
    withdrawn_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RatingSummary:
    """Likes and dislikes of a reply; `mine` is one member's: +1, -1 or 0 (none)."""

    up: int = 0
    down: int = 0
    mine: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyRecord:
    """How a reply was generated. Holds ids of messages, never their words.

    `asked_id` is the message that it answers, `asked_by` its author. `model` is the model's name,
    `source` its folder or Hub id. `seen` are the messages of its context, oldest first, of which
    `cut` were shortened or did not fit. It took `seconds`, and `first_s` to the first token (None
    if unknown). `example_id`: it is the answer of that example, and no model was asked.
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
    example_id: int | None = None

    @property
    def is_fixed(self) -> bool:
        """Whether it is a fixed text of the bot: neither a model wrote it nor did anybody teach it.
        A model's reply has a token at least, or it would not have been recorded."""
        return self.example_id is None and not self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberDataSummary:
    """How much is stored about a member.

    `messages` by them, `replies` to them, `examples` with their words or taught by them, `ratings`
    by them, training `jobs` that learned their words; `consent` is the active one.
    """

    messages: int
    replies: int
    examples: int
    ratings: int
    jobs: int
    consent: Consent | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureResult:
    """How much of a member's data was erased. `replies` are the bot's to them."""

    messages: int = 0
    replies: int = 0
    examples: int = 0
    ratings: int = 0
    consents: int = 0

    def __add__(self, other: ErasureResult) -> ErasureResult:
        counts = {name: n + getattr(other, name) for name, n in asdict(self).items()}
        return ErasureResult(**counts)

    def __bool__(self) -> bool:
        return self != ErasureResult()


class JobState(StrEnum):
    """The states of a training job; the last five are final."""

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
    """A fine-tuning job of a scope.

    `directory` holds its snapshot and log, `checkpoint` names its result, `detail` is the sentence
    about how it ended or why it is paused, `message_id` is the message that shows its progress, and
    `attempts` counts the starts of its process.
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


class Choice(StrEnum):
    """Which of a duel's models wrote the better answer."""

    A = "a"
    B = "b"
    ALIKE = "alike"


class DuelOutcome(StrEnum):
    """How a duel ended. ALIKE: whatever difference there is does not matter; UNDECIDED: all the
    votes that are waited for could not tell; EXPIRED: there were too few of them in time; GONE: one
    of its models was deleted."""

    A = "a"
    B = "b"
    ALIKE = "alike"
    UNDECIDED = "undecided"
    EXPIRED = "expired"
    STOPPED = "stopped"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Duel:
    """A blind comparison of two models of a scope by its members: of `share` percent of the replies
    in `channels` (empty: everywhere) there are two. `report_channel_id` is where its end is
    announced."""

    id: int
    scope: int
    model_a: str
    model_b: str
    share: int
    channels: frozenset[int]
    report_channel_id: int
    started_at: datetime
    ended_at: datetime | None = None
    outcome: DuelOutcome | None = None

    @property
    def winner(self) -> str | None:
        """The model that was found to be better."""
        models = {DuelOutcome.A: self.model_a, DuelOutcome.B: self.model_b}
        return None if self.outcome is None else models.get(self.outcome)


@dataclass(frozen=True, slots=True)
class DuelPair:
    """Two answers to one message, shown together as the reply `reply_id`. The history has the upper
    one, which is model A's if `a_first`; `other` is the lower one with what it was made from, as
    JSON, until one of them was chosen. `choice` is the vote."""

    reply_id: int
    duel_id: int
    a_first: bool
    other: str | None
    choice: Choice | None = None


class ReplyFault(StrEnum):
    """What went wrong with a reply. FAILED: there was none, or not in time."""

    WITHHELD = "withheld"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ReplyCounts:
    """How many replies there were, and how many of them were bad; `one_member` are those of them
    that only one member found bad, of the member with most of these."""

    bad: int
    replies: int
    one_member: int = 0

    @property
    def counted(self) -> int:
        """The bad ones, where no member weighs more than all others together: one alone counts
        nothing, and of two each as much as the other."""
        return min(self.bad, 2 * (self.bad - self.one_member))


class CanaryOutcome(StrEnum):
    """How a canary ended. REPLACED: somebody chose a model, or the bot left the server; GONE: its
    checkpoint was deleted; FAILED: it could not be loaded, or the worker died of it."""

    WORSE = "worse"
    PROMOTED = "promoted"
    REPLACED = "replaced"
    GONE = "gone"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A new checkpoint on trial: `model` serves `share` percent of a scope's channels in place of
    `old_model`, of whose last `base_replies` replies `base_bad` were bad."""

    id: int
    scope: int
    model: str
    old_model: str
    share: int
    base_bad: int
    base_replies: int
    report_channel_id: int
    started_at: datetime
    ended_at: datetime | None = None
    outcome: CanaryOutcome | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A row of the audit log; `at` is in UTC."""

    id: int
    at: datetime
    scope: int
    actor_id: int
    action: str
    detail: str


class FilterKind(StrEnum):
    """A whole word, or a regular expression."""

    WORD = "word"
    PATTERN = "pattern"


@dataclass(frozen=True, slots=True)
class Filter:
    """What a reply must not contain."""

    kind: FilterKind
    pattern: str


class GoldenKind(StrEnum):
    """What a golden answer must be, compared with its text."""

    EQUAL = "equal"
    CONTAIN = "contain"
    MATCH = "match"
    """A regular expression, as RE2 reads it."""
    WITHOUT = "without"


GOLDEN_DRAWS = 5
"""How often a golden question is asked alone, and again amid other talk."""


@dataclass(frozen=True, slots=True)
class GoldenQuestion:
    """A question whose answer must stay good: `needed` of GOLDEN_DRAWS replies, alone and amid
    other talk, are what `kind` and `expected` say. `added_by` is 0 once that member is erased."""

    id: int
    scope: int
    question: str
    kind: GoldenKind
    expected: str
    needed: int
    added_by: int = 0


@dataclass(frozen=True, slots=True)
class GoldenScore:
    """How many of GOLDEN_DRAWS replies of a model to a golden question were good, of those alone
    and of those amid other talk; it passes with `needed` of each. `asked_at` is in UTC."""

    golden_id: int
    model: str
    alone: int
    in_talk: int
    needed: int
    asked_at: datetime

    @property
    def passed(self) -> bool:
        return min(self.alone, self.in_talk) >= self.needed
