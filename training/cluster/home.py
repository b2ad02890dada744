"""The folder of a run on the machine that trains: made from an assignment, removed after it.

Knows what lies where, and what of it goes back. Does not know how the run is started. Everything
here blocks. The words of members are on this machine's disk only as long as the run goes on: what a
killed run left is removed by its keeper (`training.cluster.keeper`) or else by the next run.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from core.cluster.parcels import Parcel, describe, ship, unpack
from model.cluster.versions import NodeModels
from training.checkpoints import iter_checkpoints
from training.cluster.messages import Assignment, Line, Logged, Message, NewBase, Results, SavedStep
from training.config import Replaced, TrainingConfig
from training.jobs.events import Event, Finished, Rejected, Saved, to_line
from training.jobs.folder import (
    CONFIG_FILE,
    LOCK_PREFIX,
    LOG_FILE,
    STEPS_DIR,
    latest_saved_step,
)

LOCK_SUFFIX = ".lock"
BASES_DIR = "bases"
LOG_BYTES = 1 << 20
"""The most of the log that is sent at once."""


class RunHome:
    """ROOT/NAME-ID: the job's folder under its name, the models that it needs, and the shared bases
    that it writes."""

    def __init__(self, root: Path, assignment: Assignment, models: NodeModels) -> None:
        self.folder = root / f"{assignment.name}-{uuid.uuid4().hex[:8]}"
        self.job = self.folder / assignment.name
        self._assignment = assignment
        self._models = models
        self._bases = self.folder / BASES_DIR
        self._known: Parcel = assignment.folder.parcel
        self._known_bases = set(assignment.known_bases)
        self._sent_steps: set[str] = set()
        self._told_of_log = 0

    @classmethod
    @contextmanager
    def open(cls, assignment: Assignment, node: Path) -> Iterator[RunHome]:
        """The folder with everything in it; it is gone after the block.

        Raises:
            ClusterError: something did not arrive whole.
            OSError: it cannot be written.
        """
        root, models = node / "runs", NodeModels.of(node)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_leftovers(root)
        home = cls(root, assignment, models)
        with FileLock(f"{home.folder}{LOCK_SUFFIX}", thread_local=False):
            try:
                home._fill()
                yield home
            finally:
                shutil.rmtree(home.folder, ignore_errors=True)
        Path(f"{home.folder}{LOCK_SUFFIX}").unlink(missing_ok=True)

    def _fill(self) -> None:
        sent = self._assignment
        self.folder.mkdir(mode=0o700)
        unpack(sent.folder.parcel, sent.folder.fetch(), self.job)
        self._models.receive(sent.models_sent)
        if (data := sent.replaced_data) is not None:
            unpack(data.parcel, data.fetch(), self.folder / "replaced_data")
        (self.job / LOG_FILE).touch()
        config = self.job / CONFIG_FILE
        self._with_own_paths(TrainingConfig.load(config)).save(config)

    def _with_own_paths(self, config: TrainingConfig) -> TrainingConfig:
        """The settings with the folders that models have on this machine."""
        sent = self._assignment
        config = replace(
            config,
            base=config.base and self._folder_of("base", config.base),
            serving=config.serving and self._folder_of("serving", config.serving),
            shared_bases=str(self._bases) if sent.shares_base else None,
        )
        if config.replaces is None:
            return config
        data = self.folder / "replaced_data" / Path(config.replaces.dataset).name
        checkpoint = self._folder_of("replaced", config.replaces.checkpoint)
        return replace(config, replaces=Replaced(checkpoint, str(data)))

    def _folder_of(self, role: str, source: str) -> str:
        """One that is missing on the bot's machine is missing here as well, under its name."""
        ref = self._assignment.models.get(role)
        if ref is None:
            return str(self.folder / "missing" / Path(source).name)
        return str(self._models.folder(ref))

    def keep_models(self) -> None:
        """Say that the models are in use, so that the cache of this machine keeps them."""
        self._models.tidy(self._assignment.refs)

    def messages(self, event: Event) -> list[Message]:
        """What is told when the run tells an event: the files that it speaks of come before it."""
        told = Line(to_line(event))
        match event:
            case Saved():
                step = self._saved_step()
                return [*self._log(), step, told] if step is not None else []
            case Finished() | Rejected():
                return [*self.results(), told]
            case _:
                return [told]

    def _saved_step(self) -> SavedStep | None:
        """The newest saved step; None if the run has removed it already, as there is a newer one.
        The run may do so at any time, so the files are linked to first."""
        held, folder = self.folder / "held", self.job
        try:
            saved = latest_saved_step(self.job)
            if saved is None:
                return None
            folder = saved.folder
            shutil.copytree(folder, held, copy_function=_link)
            self._sent_steps = {STEPS_DIR}
            return SavedStep(ship(held, describe(held, name=folder.name)))
        except (FileNotFoundError, shutil.Error):
            if folder != self.job and folder.is_dir():
                raise  # it is there, and cannot be read
            return None
        finally:
            shutil.rmtree(held, ignore_errors=True)

    def results(self) -> list[Message]:
        """All that is new or changed in the job's folder since the last time, and the new shared
        bases."""
        found: list[Message] = [*self._log()]
        for folder, _ in iter_checkpoints(self._bases):
            if folder.name not in self._known_bases:
                self._known_bases.add(folder.name)
                found.append(NewBase(ship(folder, describe(folder))))
        before = {one.name: one for one in self._known.files}
        self._known = now = describe(self.job, self._returning())
        changed = tuple(one for one in now.files if before.get(one.name) != one)
        there = {path.name for path in self.job.iterdir()}
        gone = ({name.partition("/")[0] for name in before} | self._sent_steps) - there
        if changed or gone:
            files = ship(self.job, Parcel(now.name, changed))
            found.append(Results(files, tuple(sorted(gone))))
        return found

    def _returning(self) -> Iterator[Path]:
        for path in sorted(self.job.rglob("*")):
            top = path.relative_to(self.job).parts[0]
            stays = top in (CONFIG_FILE, LOG_FILE, STEPS_DIR) or top.startswith((LOCK_PREFIX, "."))
            if path.is_file() and not stays:
                yield path

    def _log(self) -> list[Message]:
        with (self.job / LOG_FILE).open("rb") as file:
            file.seek(self._told_of_log)
            text = file.read(LOG_BYTES)
        self._told_of_log += len(text)
        return [Logged(text.decode("utf-8", "replace"))] if text else []


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _remove_leftovers(root: Path) -> None:
    """Remove what runs left that were killed together with all that watched over them."""
    for lock in root.glob(f"*{LOCK_SUFFIX}"):
        with suppress(Timeout, OSError), FileLock(lock, timeout=0):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
