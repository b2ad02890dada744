"""What a follower (`training.cluster.follower`) and the machine that trains say to each other.

Values only. The machine that trains gets an `Assignment`, and answers with a stream of `Message`.
Files travel as parcels; no path of the one machine means anything on the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from core.cluster.connection import ClusterError
from core.cluster.parcels import Shipment
from model.cluster.messages import ModelRef, code_digest, skew_message
from model.cluster.messages import build_id as model_build_id

ROLES = ("base", "serving", "replaced")
"""The models that a run may need: the one to start from, the one in service, and the one that
learned what is to be left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A run: its job's `folder`, and the models that its settings name, by their role; one that is
    None is missing on the bot's machine.

    `launcher` are arguments of Python, before those that run `training.run`. `models_sent` are the
    parcels that the machine lacked, `replaced_data` the data set of the replaced model.
    `shares_base`: an adapter may refer to a shared base; `known_bases` need not be sent back."""

    name: str
    launcher: tuple[str, ...]
    folder: Shipment
    models: dict[str, ModelRef | None]
    models_sent: tuple[Shipment, ...] = ()
    replaced_data: Shipment | None = None
    shares_base: bool = False
    known_bases: frozenset[str] = frozenset()

    @property
    def refs(self) -> tuple[ModelRef, ...]:
        return tuple(one for one in self.models.values() if one is not None)


@dataclass(frozen=True, slots=True)
class Line:
    """An event of the run (`training.jobs.events.to_line`)."""

    text: str


@dataclass(frozen=True, slots=True)
class Logged:
    """What was written to the run's log since the last time."""

    text: str


@dataclass(frozen=True, slots=True)
class SavedStep:
    """The folder of a saved step, called as there."""

    step: Shipment


@dataclass(frozen=True, slots=True)
class NewBase:
    """A shared base that the run wrote."""

    base: Shipment


@dataclass(frozen=True, slots=True)
class Results:
    """The files of the job's folder that are new or changed; the top-level names in `gone` were
    removed there."""

    files: Shipment
    gone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The last message: the exit status of the run, below 0 the number of the signal."""

    status: int


Message = Line | Logged | SavedStep | NewBase | Results | Ended


def require_same_build(build: str) -> None:
    """Raise ClusterError if another version of the bot is installed here."""
    if build != build_id():
        raise ClusterError(skew_message(build_id(), build))


@cache
def build_id() -> str:
    """Of this installation: two that differ must not speak to each other."""
    return f"{model_build_id()}-{code_digest(Path(__file__).parent)}"
