"""What a job sends to the machine that trains it: its folder, its models, other data that it needs.

Runs on the bot's machine, in a process of its own. Blocks, and hashes whole models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.cluster.parcels import Parcel, Shipment, describe, ship
from i18n.phrase import message_of
from model.cluster.messages import ModelRef
from model.cluster.versions import Version, Versions
from model.errors import LoadFailed
from training.checkpoints import LEARNED_FILE, iter_checkpoints
from training.cluster.messages import Assignment
from training.config import TrainingConfig
from training.errors import BaseUnavailable
from training.jobs.folder import CHECKPOINT_DIR, CONFIG_FILE, LOCK_PREFIX, LOG_FILE

KEPT_HERE = (LOG_FILE, CHECKPOINT_DIR, f"{CHECKPOINT_DIR}.partial")
"""What of a job's folder does not travel."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A job, described and not yet sent. `parcels` are those of its models, with their folders."""

    job: Path
    config: TrainingConfig
    models: dict[str, ModelRef | None]
    parcels: dict[str, tuple[Path, Parcel]]

    @property
    def refs(self) -> tuple[ModelRef, ...]:
        return tuple(one for one in self.models.values() if one is not None)

    @classmethod
    def describe(cls, job: Path) -> Outgoing:
        """Raises BaseUnavailable: the model to start from cannot be used. Raises ValueError,
        OSError: the settings cannot be read."""
        config = TrainingConfig.load(job / CONFIG_FILE)
        versions, found = Versions(), dict[str, Version | None]()
        if config.base is not None:
            try:
                found["base"] = versions.describe(config.base)
            except LoadFailed as e:
                raise BaseUnavailable(message_of(e)) from e
        if config.serving is not None:
            found["serving"] = _describe_other(versions, config.serving)
        if config.replaces is not None:
            found["replaced"] = _describe_other(versions, config.replaces.checkpoint)
        parcels = {
            digest: parcel
            for one in found.values()
            if one is not None
            for digest, parcel in one.parcels.items()
        }
        models = {role: one.ref if one else None for role, one in found.items()}
        return cls(job, config, models, parcels)

    def send(self, launcher: tuple[str, ...], missing: Iterable[str]) -> Assignment:
        """Put into the object store what the other machine needs, and lacks of the models.

        Raises:
            ClusterError: there is no room.
            OSError: a file cannot be read.
        """
        config, data = self.config, None
        if config.replaces is not None and Path(config.replaces.dataset).is_file():
            data = _ship_files(
                Path(config.replaces.dataset).parent, [Path(config.replaces.dataset)]
            )
        return Assignment(
            name=self.job.name,
            launcher=launcher,
            folder=_ship_files(self.job, _travelling(self.job)),
            models=self.models,
            models_sent=tuple(ship(*self.parcels[one]) for one in sorted(set(missing))),
            replaced_data=data,
            shares_base=self._shares_base(),
            known_bases=self._known_bases(),
        )

    def _shares_base(self) -> bool:
        """A shared base holds nothing that a server taught (`training.run.shared_base`)."""
        base, shared = self.config.base, self.config.shared_bases
        return shared is not None and not (Path(base or "") / LEARNED_FILE).is_file()

    def _known_bases(self) -> frozenset[str]:
        if self.config.shared_bases is None:
            return frozenset()
        found = iter_checkpoints(Path(self.config.shared_bases))
        return frozenset(folder.name for folder, _ in found)


def _describe_other(versions: Versions, source: str) -> Version | None:
    """None if it cannot be used: the run then does without, or says so."""
    try:
        return versions.describe(source)
    except LoadFailed:
        return None


def _travelling(job: Path) -> Iterator[Path]:
    for path in sorted(job.rglob("*")):
        top = path.relative_to(job).parts[0]
        if path.is_file() and top not in KEPT_HERE and not top.startswith((LOCK_PREFIX, ".")):
            yield path


def _ship_files(folder: Path, files: Iterable[Path]) -> Shipment:
    return ship(folder, describe(folder, files))
