"""The process boundary: everything that the bot and the worker say to each other.

Frozen dataclasses, sent through a pipe. `source` names a model on both sides: the folder it is
in, or its id on the Hugging Face Hub. `request_id` ties answers to the request.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.records import Message
from model.sampling import FinishReason, SamplingParams

# --- what the bot says ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Load beside what is resident, or again if its files changed. Answer: ModelLoaded, Failed."""

    request_id: int
    source: str


@dataclass(frozen=True, slots=True)
class Generate:
    """Reply to the last of `messages`. Answer: perhaps Queued, any number of TextDelta, then
    Finished or Failed.

    Replies of a `channel` (0: none) come in order, and what it has read is kept for its next reply.
    A `scope` with many requests does not keep others waiting. `log_id` stands in the lines of the
    log that are about it, on both sides.
    """

    request_id: int
    source: str
    messages: tuple[Message, ...]
    params: SamplingParams
    channel: int = 0
    scope: int = 0
    log_id: str = ""


@dataclass(frozen=True, slots=True)
class Prefetch:
    """Read what is already known of a channel's next request, when there is nothing else to do.

    `messages` will be the first of it. There is no answer, and no promise.
    """

    source: str
    messages: tuple[Message, ...]
    channel: int


@dataclass(frozen=True, slots=True)
class Render:
    """Show what the model would see. Answer: Rendered, Failed."""

    request_id: int
    source: str
    messages: tuple[Message, ...]
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop a reply. Answer: Finished(ABORTED), unless it has just ended."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Give a sign of life, between two steps. Answer: Pong."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Take no new requests, finish those in flight for at most `drain_s` seconds, then exit."""

    drain_s: float


Command = LoadModel | Generate | Prefetch | Render | Abort | Ping | Shutdown

# --- what the worker says ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A loaded model. `load_s` in seconds, `positions` the most tokens it can attend to, `dtype`
    the numbers' format of its weights; `japanese`: its vocabulary was made for that."""

    source: str
    parameters: int
    positions: int
    vocabulary: int
    dtype: str
    load_s: float
    japanese: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """The handshake: the process runs and the embedded model answers.

    `training_precision` is what a training run on this machine would use.
    """

    pid: int
    device: str
    training_precision: str
    model: ModelInfo


@dataclass(frozen=True, slots=True)
class ModelLoaded:
    request_id: int
    info: ModelInfo


@dataclass(frozen=True, slots=True)
class ModelUnloaded:
    """A model left the worker's memory to make room."""

    source: str


@dataclass(frozen=True, slots=True)
class Queued:
    """The reply cannot begin yet: it is number `queue_position` of those that wait."""

    request_id: int
    queue_position: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of a reply: never empty, never half a character. `new_tokens` of the reply are
    written with it."""

    request_id: int
    text: str
    new_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a reply. `text` is all of it; `seconds` counts from the request's arrival, and so
    does `first_token_s`, when its first piece was said. `truncated_messages` of the messages were
    shortened or did not fit the prompt."""

    request_id: int
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    new_tokens: int
    seed: int
    seconds: float
    truncated_messages: int = 0
    first_token_s: float | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """Exactly what the model would see (see `model.chat_template.Prompt`)."""

    request_id: int
    text: str
    messages: tuple[Message, ...]
    token_counts: tuple[int, ...]
    total_tokens: int
    budget: int
    num_dropped: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class Pong:
    """The main thread of the worker is at work, or waits for some."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Failed:
    """`during_load` tells a model that could not be loaded from a reply that could not be made."""

    request_id: int
    reason: str
    during_load: bool = False


WorkerEvent = (
    Ready | ModelLoaded | ModelUnloaded | Queued | TextDelta | Finished | Rendered | Pong | Failed
)

WorkerEvents = tuple[WorkerEvent, ...]
"""What comes through the pipe: reports, in their order."""
