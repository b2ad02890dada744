"""The process boundary: all messages between the bot and the worker.

Frozen dataclasses, sent through a pipe. `source` identifies a model: its folder, or its id on the
Hugging Face Hub. `request_id` matches answers to their request.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.records import Message
from model.convert.int8.quality import Int8Quality
from model.sampling import FinishReason, SamplingParams

# --- commands of the bot -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Load a model, or reload it if its files changed. Answer: ModelLoaded, Failed."""

    request_id: int
    source: str


@dataclass(frozen=True, slots=True)
class Generate:
    """Reply to the last of `messages`. Answer: perhaps Queued, any number of TextDelta, then
    Finished or Failed.

    Replies of a `channel` (0: none) come in order and share a prefix cache. Scopes are scheduled
    fairly. `log_id` is in the log lines about this request, in both processes.
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
    """Prefill the first `messages` of a channel's next request when idle. A hint: no answer."""

    source: str
    messages: tuple[Message, ...]
    channel: int


@dataclass(frozen=True, slots=True)
class DropCaches:
    """Drop the cached tokens of all conversations; replies in progress leave none. No answer."""


@dataclass(frozen=True, slots=True)
class Render:
    """Build the prompt, without a reply. Answer: Rendered, Failed."""

    request_id: int
    source: str
    messages: tuple[Message, ...]
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop a reply. Answer: Finished(ABORTED), unless it has ended already."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Check that the worker's main thread is alive. Answer: Pong, between two steps."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Refuse new requests, let those in flight finish for `drain_s` seconds at most, then exit."""

    drain_s: float


@dataclass(frozen=True, slots=True)
class AskLoads:
    """Ask what the replicas do. Only of the gateway to a cluster. Answer: ReplicaLoads."""

    request_id: int


Command = LoadModel | Generate | Prefetch | DropCaches | Render | Abort | Ping | Shutdown | AskLoads

# --- events of the worker ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A loaded model. `positions` is its context length; `japanese`: its vocabulary is Japanese;
    `int8`: how near its int8 is to fp32, where it runs in that."""

    source: str
    parameters: int
    positions: int
    vocabulary: int
    dtype: str
    load_s: float
    japanese: bool = False
    int8: Int8Quality | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """The handshake: the embedded model is loaded.

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
    """A model was evicted from the worker's memory."""

    source: str


@dataclass(frozen=True, slots=True)
class ModelSetAside:
    """A model was evicted because its template or tokenizer ran away, and must not come back."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Queued:
    """The reply has to wait; it is number `queue_position` in the queue."""

    request_id: int
    queue_position: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of a reply, never empty, never half a character. `new_tokens` so far."""

    request_id: int
    text: str
    new_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a reply; `text` is all of it. `seconds` and `first_token_s` count from the arrival
    of the request. `truncated_messages` of the messages were cut or dropped to fit the prompt."""

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
    """The model's exact input; see `model.chat_template.Prompt`."""

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
    """The answer to Ping."""

    request_id: int


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """A replica: the requests that it was sent and has not finished, those of them that it has put
    into its queue, and what it has done, as seen by the gateway. `first_text_s` are the seconds to
    the first text of `first_texts` replies together. `hits` are requests of channels that came to
    it before, `moves` those of channels that came to another one before."""

    replica: str
    running: int = 0
    waiting: int = 0
    replies: int = 0
    tokens: int = 0
    first_texts: int = 0
    first_text_s: float = 0.0
    hits: int = 0
    moves: int = 0


@dataclass(frozen=True, slots=True)
class ReplicaLoads:
    """The answer to AskLoads."""

    request_id: int
    loads: tuple[ReplicaLoad, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """A request failed; `during_load`: because its model could not be loaded; `died`: because the
    process that should answer it did."""

    request_id: int
    reason: str
    during_load: bool = False
    died: bool = False


WorkerEvent = (
    Ready
    | ModelLoaded
    | ModelUnloaded
    | ModelSetAside
    | Queued
    | TextDelta
    | Finished
    | Rendered
    | Pong
    | ReplicaLoads
    | Failed
)

WorkerEvents = tuple[WorkerEvent, ...]
"""One message of the pipe: a batch of events, in order."""
