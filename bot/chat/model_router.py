"""Which model answers whom: the choice of each server, and what stands in while it loads.

Knows the registry, the store's pointer and the worker's client. Does not know Discord or tensors.
A scope is a guild id (in a direct message: the user's id).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from cachetools import LRUCache

from core.metrics import Metrics
from core.records import TrainingJob
from core.tasks import BackgroundTasks
from data.storage.tables.model_choices import ModelChoices
from i18n.catalogue import ENGLISH
from i18n.phrase import message_of, phrase
from model.backend import GenerationBackend
from model.errors import ModelError
from model.registry import (
    ModelOption,
    checkpoint_temperature,
    default_name,
    embedded_option,
    fallback_message,
    find_option,
)
from training.checkpoints import Manifest, iter_checkpoints, read_manifest, verify
from training.errors import CorruptCheckpoint, NothingToRollBack

log = logging.getLogger(__name__)

MAX_CACHED_CHOICES = 10_000
LIST_WAIT_S = 0.5
"""Seconds that autocomplete waits for the disk; Discord waits three for it."""
LOAD_RETRY_S = 300.0
"""Seconds after which a model that could not be loaded is tried again."""


@dataclass(frozen=True, slots=True)
class Serving:
    """The model that answers now; `note` says why, if it is not the chosen one."""

    option: ModelOption
    note: str | None = None


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """Why a model could not be loaded, and when (by `time.perf_counter`)."""

    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Trial:
    """A checkpoint that serves `share` percent of a scope's channels before it serves all."""

    name: str
    share: int

    def includes(self, channel_id: int) -> bool:
        """Whether it serves a channel: by a hash of both, so a channel keeps its model."""
        digest = hashlib.sha256(f"{channel_id}:{self.name}".encode()).digest()
        return int.from_bytes(digest[:8]) % 100 < self.share


OnChoice = Callable[[int, str], Awaitable[None]]
"""Called with the scope and the name of the model that was chosen for it."""


class ModelRouter:
    """Keeps each scope's choice, and loads before it switches. A scope that never chose gets the
    model `default`; if it is None, that of its language."""

    def __init__(
        self,
        choices: ModelChoices,
        worker: GenerationBackend,
        options: Mapping[str, ModelOption],
        *,
        default: str | None,
        checkpoints: Path,
        tasks: BackgroundTasks,
        language_of: Callable[[int], str] = lambda _scope: ENGLISH,
        metrics: Metrics | None = None,
    ) -> None:
        self._table = choices
        self._worker = worker
        self._options = options
        self._default = default
        self._language_of = language_of
        self._checkpoints = checkpoints
        self._tasks = tasks
        self._metrics = metrics or Metrics()
        self._loading: set[str] = set()
        self._listings: WeakValueDictionary[int, asyncio.Task[None]] = WeakValueDictionary()
        self._last_listed: LRUCache[int, list[ModelOption]] = LRUCache(MAX_CACHED_CHOICES)
        self._load_failures: dict[str, LoadFailure] = {}
        # Every message asks for the choice; only `use` and `rollback` change it.
        self._choices: LRUCache[int, str | None] = LRUCache(MAX_CACHED_CHOICES)
        self._trials: dict[int, Trial] = {}
        self._on_choice: OnChoice | None = None

    def options(self, scope: int) -> list[ModelOption]:
        """Every model that the scope can use; its own checkpoints come last, by age."""
        return [*self._options.values(), *self._own_checkpoints(scope)]

    @property
    def bases(self) -> list[ModelOption]:
        """The models that no scope made."""
        return list(self._options.values())

    def _own_checkpoints(self, scope: int) -> list[ModelOption]:
        whole = iter_checkpoints(self._checkpoints / str(scope))
        by_age = sorted(whole, key=lambda one: (one[1].created_at, len(one[0].name), one[0].name))
        return [as_option(folder, manifest) for folder, manifest in by_age]

    async def options_at_once(self, scope: int) -> list[ModelOption]:
        """`options` for autocomplete: with a slow disk, the checkpoints as they were last seen."""
        return [*self._options.values(), *await self._listed_at_once(scope)]

    async def training_bases_at_once(self, scope: int) -> list[ModelOption]:
        """`training_bases` for autocomplete."""
        return [*self._options.values(), *reversed(await self._listed_at_once(scope))]

    async def _listed_at_once(self, scope: int) -> Sequence[ModelOption]:
        if (listing := self._listings.get(scope)) is None or listing.done():
            listing = self._tasks.spawn(self._list_checkpoints(scope), name="list of checkpoints")
            self._listings[scope] = listing
        await asyncio.wait({listing}, timeout=LIST_WAIT_S)
        return self._last_listed.get(scope, ())

    async def _list_checkpoints(self, scope: int) -> None:
        self._last_listed[scope] = await asyncio.to_thread(self._own_checkpoints, scope)

    async def chosen(self, scope: int) -> str | None:
        """The name of the scope's choice, even if that model is gone; None if it never chose."""
        if scope not in self._choices:
            self._choices[scope] = await self._table.active(scope)
        return self._choices[scope]

    async def active(self, scope: int) -> ModelOption:
        """The scope's choice; the default where there is none, or where it is gone."""
        if (name := await self.chosen(scope)) is None:
            return self.default(scope)
        return self.find(scope, name) or self.default(scope)

    def find(self, scope: int, name: str) -> ModelOption | None:
        """A model that the scope can use; None if it is gone."""
        return self._options.get(name) or self._checkpoint(scope, name)

    def default(self, scope: int) -> ModelOption:
        """The model of a scope that never chose."""
        return self.default_for(self._language_of(scope))

    def default_for(self, language: str) -> ModelOption:
        """The model where this language is spoken and nobody chose one."""
        return self._options[self._default or default_name(language)]

    def _checkpoint(self, scope: int, name: str) -> ModelOption | None:
        folder = self._checkpoints / str(scope) / name
        try:
            return as_option(folder, read_manifest(folder))
        except CorruptCheckpoint as e:
            log.warning("a model of %s is gone: %s", scope, e)
            return None

    def on_choice(self, listener: OnChoice) -> None:
        """Have it called whenever a model was chosen."""
        self._on_choice = listener

    def set_trial(self, scope: int, trial: Trial | None) -> None:
        """Begin or end the trial of a checkpoint beside the scope's choice."""
        if trial is None:
            self._trials.pop(scope, None)
        else:
            self._trials[scope] = trial

    def trial(self, scope: int) -> Trial | None:
        """The checkpoint that is on trial in a scope."""
        return self._trials.get(scope)

    async def _choice_in(self, scope: int, channel_id: int) -> ModelOption:
        """The scope's choice, or what is on trial in the channel."""
        trial = self._trials.get(scope)
        tried = self.find(scope, trial.name) if trial and trial.includes(channel_id) else None
        return tried or await self.active(scope)

    async def serving(self, scope: int, channel_id: int) -> Serving:
        """Who answers now in a channel. If the choice is not loaded, it starts to load, and the
        embedded model of the scope's language stands in."""
        choice = await self._choice_in(scope, channel_id)
        if choice.source in self._worker.models:
            return Serving(choice)
        stand_in = self._stand_in(scope)
        if choice == stand_in:
            return Serving(stand_in)
        if (reason := self._worker.quarantined.get(choice.source)) is not None:
            return Serving(stand_in, fallback_message(reason, stand_in.name))
        if (failure := self._load_unless_failed(choice)) is None:
            return Serving(
                stand_in,
                phrase(
                    "{model} is loading; {embedded} answers meanwhile.",
                    model=choice.name,
                    embedded=stand_in.name,
                ),
            )
        return Serving(stand_in, fallback_message(failure.reason, stand_in.name))

    def _stand_in(self, scope: int) -> ModelOption:
        """The embedded model of the scope's language, for whose load a reply may wait. If it cannot
        be loaded, the one that the worker always has."""
        option = embedded_option(self._language_of(scope))
        if option.source in self._worker.models or self._worker.ready is None:
            return option
        if option.source in self._worker.quarantined or self._load_unless_failed(option):
            always = self._worker.ready.model.source
            return next((one for one in self._options.values() if one.source == always), option)
        return option

    def _load_unless_failed(self, option: ModelOption) -> LoadFailure | None:
        """Load a model in the background; why not, if it could not be loaded of late."""
        failure = self._load_failures.get(option.source)
        if failure is None or time.perf_counter() - failure.at >= LOAD_RETRY_S:
            self.load_in_background(option)
        return failure

    def is_ready(self, option: ModelOption) -> bool:
        """Whether a model can answer at once; if not, it begins to load, unless it failed to."""
        if option.source in self._worker.models:
            return True
        if option.source not in self._worker.quarantined:
            self._load_unless_failed(option)
        return False

    def is_quarantined(self, scope: int, name: str) -> bool:
        """Whether the worker died of a model, so that another one answers in its place."""
        option = self.find(scope, name)
        return option is not None and option.source in self._worker.quarantined

    def training_bases(self, scope: int) -> list[ModelOption]:
        """What a retrain can start from; the scope's own checkpoints come last, newest first."""
        return [*self._options.values(), *reversed(self._own_checkpoints(scope))]

    def is_checkpoint(self, option: ModelOption) -> bool:
        """Whether it was made here by a retrain."""
        folder = Path(option.source)
        return folder.parents[1:2] == (self._checkpoints,) and folder.parent.name.isdigit()

    def parents(self, option: ModelOption) -> tuple[str, ...]:
        """The checkpoints that whatever learns from this model comes from, the newest first.

        Raises:
            CorruptCheckpoint: it is a checkpoint and its manifest is gone.
        """
        if not self.is_checkpoint(option):
            return ()
        return (option.name, *read_manifest(Path(option.source)).parents)

    async def resolve_training_base(self, scope: int, name: str | None) -> ModelOption:
        """The base of a retrain: the model of that name, else the base of the one in use.

        Unless it is named, a checkpoint stands for the base that it came from: the data set holds
        all that it learned, so learning it again from there gives the same without piling up
        damage. If a checkpoint was made from another one that is gone, learning goes on from it.

        Raises:
            UnknownModel: no such name.
        """
        if name:
            return find_option(self.options(scope), name)
        option = await self.active(scope)
        if not self.is_checkpoint(option):
            return option
        manifest = read_manifest(Path(option.source))
        bases = self.training_bases(scope)
        for one in bases:
            if one.source == manifest.base:
                return one
        for one in bases:  # the bot was moved, and its folders with it
            if one.name == manifest.base_name:
                return one
        return option if manifest.parents else self.default(scope)

    def load_in_background(self, option: ModelOption) -> None:
        """Load a model unless that is under way; a failure is kept for the next reply's note."""
        if option.source not in self._loading:
            self._loading.add(option.source)
            self._tasks.spawn(self._load_and_log_failure(option), name=f"load {option.name}")

    async def _load_and_log_failure(self, option: ModelOption) -> None:
        try:
            await self._load(option)
        except ModelError as e:
            log.warning("%s could not be loaded: %s", option.name, e)
            self._load_failures[option.source] = LoadFailure(message_of(e), time.perf_counter())
        finally:
            self._loading.discard(option.source)

    def choosing(self, scope: int) -> asyncio.Lock:
        """Held while a model of the scope is loaded and then chosen or tried: nobody may choose
        another one in between. `use` and `rollback` take it themselves."""
        return self._table.lock(scope)

    async def use(
        self, scope: int, name: str, *, if_still: Callable[[], bool] = lambda: True
    ) -> ModelOption:
        """Load the model, and only then make it the scope's choice.

        If the condition `if_still` does not hold once it is loaded, the choice stays as it is, and
        is returned.

        Raises:
            UnknownModel: no such name.
            LoadFailed, WorkerDied, CorruptCheckpoint: the old model keeps answering.
        """
        async with self._table.lock(scope):  # a load takes long, and the last request must win
            option = find_option(self.options(scope), name)
            with self._metrics.observe_switch():
                await self.ensure_loaded(option)
            if not if_still():
                return await self.active(scope)
            try:
                if await self._table.active(scope) is None:
                    # What a rollback of the first choice leads back to.
                    await self._table.set_active(scope, self.default(scope).name)
                await self._table.set_active(scope, option.name)
            finally:
                self._choices.pop(scope, None)
            await self._tell_choice(scope, option)
        return option

    async def _tell_choice(self, scope: int, option: ModelOption) -> None:
        if self._on_choice is not None:
            await self._on_choice(scope, option.name)

    async def rollback(
        self, scope: int, *, require: Callable[[ModelOption], Awaitable[object]] | None = None
    ) -> ModelOption:
        """Load the model that answered before, and only then make it the scope's choice again.

        Models that are gone are passed over, and forgotten. `require` may refuse the one that it
        would be, by raising: then nothing changes. While a checkpoint is on trial, what answered
        before it is the choice still: then only the trial ends, and nobody is asked.

        Raises:
            NothingToRollBack: no other one answered before.
            LoadFailed, WorkerDied, CorruptCheckpoint: the present model keeps answering.
        """
        async with self._table.lock(scope):
            if scope in self._trials:
                option = await self.active(scope)
                await self._tell_choice(scope, option)
                return option
            option = await self._previous_model(scope)
            if require is not None:
                await require(option)
            with self._metrics.observe_switch():
                await self.ensure_loaded(option)
            try:
                while name := await self._table.roll_back(scope):
                    if name == option.name:
                        break
                    log.info("%s of %d is passed over: it is gone", name, scope)
            finally:
                self._choices.pop(scope, None)
        return option

    async def _previous_model(self, scope: int) -> ModelOption:
        present = await self._table.active(scope)
        for name in await self._table.previous(scope):
            option = self.find(scope, name)
            if option is not None and name != present:
                return option
        raise NothingToRollBack(
            phrase("No other model answered here before: there is nothing to go back to.")
        )

    async def ensure_loaded(self, option: ModelOption) -> None:
        """Verify and load a model that is about to answer; who answers otherwise stays.

        Raises:
            LoadFailed, WorkerDied, CorruptCheckpoint: it cannot.
        """
        own = self.is_checkpoint(option)
        if own:
            await asyncio.to_thread(verify, Path(option.source))
        if option.source not in self._worker.models:
            await self._load(option)
            if own:
                read_manifest(Path(option.source))  # it may have been deleted meanwhile

    async def promote(self, job: TrainingJob, folder: Path) -> None:
        """Put a new checkpoint into service for its scope; on any error nothing changes."""
        await self.use(job.scope, folder.name)

    async def _load(self, option: ModelOption) -> None:
        facts = await self._worker.load(option.source)
        self._load_failures.pop(option.source, None)
        log.info(
            "loaded %s: %s parameters, %s, %.1f s",
            option.name,
            f"{facts.parameters:,}",
            facts.dtype,
            facts.load_s,
        )


def as_option(folder: Path, manifest: Manifest) -> ModelOption:
    """A fine-tuned checkpoint as something to choose."""
    loss = manifest.scores.get("last_loss")
    day = manifest.created_at[:10]
    return ModelOption(
        name=folder.name,
        source=str(folder),
        parameters=f"{manifest.parameters / 1e6:.3g}M",
        memory_usage=phrase("as its base"),
        inference_speed=phrase("as its base"),
        quality=phrase("learned {day}, training loss {loss:.2f}", day=day, loss=loss)
        if loss is not None
        else phrase("learned {day}", day=day),
        temperature=checkpoint_temperature(folder.name),
    )
