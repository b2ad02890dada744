"""What the gateway and the replicas say to each other. Values only.

A model is named by its content (`ModelRef`), never by a path, which would mean something else on
another machine. A replica answers a request for a reply with batches of `ReplicaEvent`; an empty
batch is a sign of life.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from core.cluster.parcels import Shipment
from core.records import Message
from i18n.phrase import phrase
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker import messages as worker_messages
from model.worker.messages import Failed, Finished, ModelInfo, Queued, TextDelta

BEAT_S = 1.0
"""Seconds after which a replica that has nothing to say gives a sign of life."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """An embedded model by its name, which every machine has, or another one by the digest of its
    parcel. Of an adapter the `base` belongs to it."""

    embedded: str | None = None
    digest: str | None = None
    base: ModelRef | None = None

    @property
    def key(self) -> str:
        """Tells models apart."""
        mine = self.embedded or self.digest or ""
        return f"{mine}+{self.base.key}" if self.base else mine


@dataclass(frozen=True, slots=True)
class ReplyRequest:
    """`Generate`, for a replica. `key` names the request in `abort`, `epoch` changes
    whenever the caches are to be dropped."""

    key: str
    model: ModelRef
    messages: tuple[Message, ...]
    params: SamplingParams
    channel: int
    scope: int
    log_id: str
    epoch: int
    shipments: tuple[Shipment, ...] = ()


@dataclass(frozen=True, slots=True)
class Began:
    """The first event: which replica took the request."""

    replica: str


@dataclass(frozen=True, slots=True)
class NotHere:
    """The replica lacks these parcels; the request was not begun."""

    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Crashed:
    """The replica's worker died or hung under the request; it is being restarted."""

    reason: str


ReplicaEvent = Began | NotHere | Queued | TextDelta | Finished | Failed | Crashed


@dataclass(frozen=True, slots=True)
class Loaded:
    """The answer of a replica that was told to load a model: its facts, what is missing, or why it
    cannot; nothing yet while it loads."""

    replica: str
    info: ModelInfo | None = None
    missing: tuple[str, ...] = ()
    failure: str | None = None

    @property
    def is_loading(self) -> bool:
        return self.info is None and self.failure is None and not self.missing


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """What a replica tells of itself. `restarts` are those of its worker."""

    replica: str
    build: str
    wish: str
    node: str
    device: str
    training_precision: str
    model: ModelInfo
    restarts: int
    num_pending: int


@dataclass(frozen=True, slots=True)
class ReplicaOptions:
    """What all replicas of an application are given. `build` is that of the bot; `wish` stands for
    all options of the application (empty: somebody else chose them); `embedded` is the name of the
    model that each starts with; `cache` a folder on each node (None: the user's cache); `worker` as
    in `model.cluster.options.GatewayOptions`."""

    build: str
    wish: str
    embedded: str
    settings: WorkerSettings
    cache: str | None = None
    worker: Callable[..., Any] | None = None


@cache
def build_id() -> str:
    """Of this installation: two that differ must not speak to each other. The package's version,
    and a digest of the code that both sides share."""
    code = code_digest(Path(__file__).parent, Path(worker_messages.__file__))
    return f"{version('gpt2-discord-bot')}-{code}"


def code_digest(room: Path, *others: Path) -> str:
    """Of the modules in a folder, and of other files."""
    digest = hashlib.sha256()
    for path in (*sorted(room.glob("*.py")), *others):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def skew_message(theirs: str, ours: str) -> str:
    """Of a machine whose installation differs from the bot's."""
    return phrase(
        "A machine of the cluster has gpt2-discord-bot {theirs}, the bot is {ours}: install the "
        "bot's version on all machines.",
        theirs=theirs,
        ours=ours,
    )
