"""The core loop of the worker: schedule, run, deliver.

Knows loaded models and requests. Does not know tensors, pipes or processes: what it has to say goes
to `deliver`. Not thread-safe; the worker calls it from one thread.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace

from core.logging import speaking_of
from i18n.phrase import Phrase, phrase
from model.chat_template import fit, token_ids
from model.engine.kv_cache import Batch, KeptCaches
from model.engine.output import certain, look, next_token
from model.engine.reply_length import reply_tokens
from model.engine.scheduler import IDLE, IN_COMPANY, Scheduler
from model.engine.sequence import Sequence
from model.loading import Loaded
from model.runners.base import Logits
from model.sampling import FinishReason, SamplingParams
from model.settings import WorkerSettings
from model.worker.messages import (
    Failed,
    Finished,
    Generate,
    Prepare,
    Queued,
    Render,
    Rendered,
    Report,
    TextDelta,
)

log = logging.getLogger(__name__)

SHORTEST = 16
"""Positions with which a conversation can be had at all."""
MOST_IDLE = 32
"""Channels whose next prompts wait to be read beforehand: on a busy machine they would pile up."""
PAUSE_S = 0.06
"""Seconds that prompts are read between two words of a reply."""
MB = 1 << 20


class Engine:
    """Answers requests with the models that are resident."""

    def __init__(
        self,
        deliver: Callable[[Report], None],
        settings: WorkerSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deliver = deliver
        self._clock = clock
        self._settings = settings
        self._memory = int(settings.cache_mb * MB)
        self._scheduler = Scheduler(settings.max_sequences, self._memory)
        self._kept = KeptCaches()
        self._resident: dict[str, Loaded] = {}
        self._models: dict[int, Loaded] = {}
        self._batches: dict[int, Batch] = {}

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do."""
        return self._scheduler.busy

    @property
    def answering(self) -> bool:
        """Whether somebody waits for a reply."""
        return bool(self._scheduler.sequences)

    @property
    def sources(self) -> list[str]:
        """The resident models, least recently used first."""
        return list(self._resident)

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights of the resident models."""
        return sum(one.runner.weight_bytes for one in self._resident.values())

    @property
    def cache_bytes(self) -> int:
        """Memory that what was read takes, or may come to take."""
        spare = sum(batch.spare for batch in self._batches.values())
        return self._scheduler.reserved + self._kept.memory + spare

    def is_in_use(self, source: str) -> bool:
        """Whether replies of a model are under way."""
        key = self._resident[source].key
        return any(one.model == key for one in self._scheduler.sequences)

    def install(self, loaded: Loaded) -> None:
        """Let a model answer from the next request on; replies under way keep theirs."""
        self._resident.pop(loaded.facts.source, None)
        self._resident[loaded.facts.source] = loaded
        self._models[loaded.key] = loaded
        self._batches[loaded.key] = Batch(loaded.runner, self._kept)
        self._free_unused()

    def evict(self, source: str) -> None:
        """Forget a resident model."""
        self._resident.pop(source, None)
        self._free_unused()

    def submit(self, request: Generate) -> None:
        """Queue a request for a resident model.

        Raises:
            ValueError: the messages cannot be made a prompt, or there is no room for them.
        """
        loaded = self._use(request.source)
        positions = self._positions(loaded)
        most = reply_tokens(
            loaded.tokenizer, request.messages, request.params.max_new_tokens, positions
        )
        params = replace(request.params, max_new_tokens=most)
        prompt = fit(loaded.tokenizer, request.messages, _prompt_tokens(positions, most))
        if not prompt.input_ids:
            raise ValueError(phrase("its chat template makes nothing of it"))
        tokens = min(len(prompt.input_ids) + most, positions)
        self._admit()
        sequence = Sequence(
            request.request_id,
            loaded.key,
            prompt.input_ids,
            params,
            seed=params.seed if params.seed is not None else random.getrandbits(31),
            channel=request.channel,
            scope=request.scope,
            log_id=request.log_id,
            cut=prompt.dropped + prompt.shortened,
            memory=tokens * loaded.runner.token_bytes,
            positions=positions,
            deadline=self._clock() + self._settings.deadline_s,
        )
        self._put_idle_aside(sequence)
        self._scheduler.add(sequence)
        place = self._scheduler.place(sequence)
        log.debug("taken", extra={"prompt_tokens": len(prompt.input_ids), "place": place})
        if place:
            self._deliver(Queued(sequence.request_id, place))

    def _positions(self, loaded: Loaded) -> int:
        """Positions that a reply and its prompt may use.

        Raises:
            ValueError: the cache has no room for the model's shortest conversation.
        """
        room = self._memory // loaded.runner.token_bytes
        positions = min(loaded.facts.positions, room)
        if positions < SHORTEST:
            why = phrase("CACHE_MB has room for {n} tokens of this model only; raise it", n=room)
            raise ValueError(why)
        return positions

    def _admit(self) -> None:
        if self._scheduler.waiting >= self._settings.max_waiting:
            place = self._scheduler.waiting + 1
            raise Busy(
                phrase(
                    "I am busy: you would be number {place} in the queue. Please ask later.",
                    place=place,
                )
            )

    def prepare(self, request: Prepare) -> None:
        """Read the beginning of a channel's next prompt when there is nothing else to do."""
        loaded = self._resident.get(request.source)
        if loaded is None or not request.messages:
            return
        ids = token_ids(loaded.tokenizer, request.messages, cue=False)
        memory = len(ids) * loaded.runner.token_bytes
        if not ids or len(ids) >= loaded.facts.positions or memory > self._memory:
            return
        others = [one for one in self._scheduler.idle if not _is_of(one, loaded, request.channel)]
        for one in self._scheduler.idle:
            if one not in others[1 - MOST_IDLE :]:
                self._leave(one)
        self._scheduler.add(
            Sequence(
                0,
                loaded.key,
                ids,
                SamplingParams(),
                seed=0,
                channel=request.channel,
                memory=memory,
                idle=True,
            )
        )

    def _put_idle_aside(self, live: Sequence) -> None:
        """What is being read for later makes place; what was read of it is not lost."""
        for one in self._scheduler.idle:
            self._batches[one.model].leave(one, keep=True)
            if (one.model, one.channel) == (live.model, live.channel):
                self._scheduler.remove(one)

    def render(self, request: Render) -> None:
        """Say what the model would see.

        Raises:
            ValueError: the messages cannot be made a prompt.
        """
        loaded = self._use(request.source)
        positions = self._positions(loaded)
        most = reply_tokens(loaded.tokenizer, request.messages, request.max_new_tokens, positions)
        budget = _prompt_tokens(positions, most)
        prompt = fit(loaded.tokenizer, request.messages, budget)
        self._deliver(
            Rendered(
                request_id=request.request_id,
                text=prompt.text,
                kept=prompt.kept,
                counts=prompt.counts,
                total=len(prompt.input_ids),
                budget=budget,
                dropped=prompt.dropped,
                shortened=prompt.shortened,
            )
        )

    def abort(self, request_id: int) -> None:
        """End a reply where it is."""
        for sequence in self._scheduler.sequences:
            if sequence.request_id == request_id:
                sequence.reason = FinishReason.ABORTED
                self._finish(sequence)

    def step(self) -> None:
        """One token for each running sequence of one model; then new ones read their prompts."""
        self._end_overdue()
        if (step := self._scheduler.schedule()) is None:
            return
        if step.decoding:
            self._decode(step.model, step.decoding)
        budget = step.budget
        if budget <= IN_COMPANY:
            budget = min(budget, self._room(step.model))
        while budget > 0 and (reader := self._scheduler.reader(step.model)) is not None:
            budget -= self._read(reader, budget)
            if not reader.unread:  # it waits for its second word from now on
                budget = min(budget, self._room(step.model))

    def _room(self, model: int) -> int:
        """Tokens of prompts that can be read without a pause that people would notice."""
        batch = self._batches.get(model)
        if batch is None or not batch.pace:
            return IN_COMPANY
        return max(IDLE, min(IN_COMPANY, int(PAUSE_S / batch.pace)))

    def _decode(self, model: int, sequences: tuple[Sequence, ...]) -> None:
        try:
            order, logits = self._batches[model].decode(sequences)
        except (MemoryError, RuntimeError):  # out of memory is a RuntimeError of torch
            log.exception("a step failed")
            for sequence in sequences:
                self._fail(sequence, SHORT_OF_MEMORY)
            return
        for sequence, row in zip(order, logits, strict=True):
            self._take(sequence, row)

    def _read(self, sequence: Sequence, budget: int) -> int:
        """Read tokens of a prompt, at most `budget`; how many it were."""
        batch = self._batches[sequence.model]
        try:
            if sequence not in batch:
                batch.join(sequence)
                self._keep_budget(sequence.memory if sequence.idle else 0)
            count = min(sequence.unread, IDLE if sequence.idle else budget)
            logits = batch.read(sequence, count)
        except (MemoryError, RuntimeError):
            with speaking_of(sequence.log_id):
                log.exception("reading a prompt failed")
            self._fail(sequence, SHORT_OF_MEMORY)
            return budget
        if logits is not None and sequence.idle:
            self._leave(sequence)
        elif logits is not None:
            self._take(sequence, logits)
        return budget if sequence.idle else count

    def _keep_budget(self, memory: int) -> None:
        """Caches that nobody uses now go, until all need no more than they may, `memory` more."""
        if self.cache_bytes + memory > self._memory:
            for batch in self._batches.values():
                batch.release()
        self._kept.trim(self._memory - self._scheduler.reserved - memory)

    def _take(self, sequence: Sequence, logits: Logits) -> None:
        loaded = self._models[sequence.model]
        try:
            token = next_token(sequence, loaded, logits)
        except MemoryError:
            log.exception("choosing a token failed")
            self._fail(sequence, SHORT_OF_MEMORY)
            return
        if token is None:
            self._fail(sequence, phrase("The model computed something that is not a number."))
            return
        if token in loaded.ends:
            sequence.reason = FinishReason.END
        else:
            sequence.reply_ids.append(token)
            look(sequence, loaded)
        if sequence.reason is None:
            self._send(sequence, loaded)
        else:
            self._finish(sequence)

    def _send(self, sequence: Sequence, loaded: Loaded) -> None:
        ready = certain(sequence, loaded)
        if len(ready) > sequence.sent:
            self._say(sequence, ready)
            sequence.sent = len(ready)

    def _say(self, sequence: Sequence, text: str) -> None:
        if sequence.began is None:
            sequence.began = time.monotonic()
        self._deliver(_piece(sequence, text))

    def _end_overdue(self) -> None:
        """End replies that take too long where they are."""
        now = self._clock()
        for one in self._scheduler.sequences:
            if one.deadline is not None and now >= one.deadline:
                one.reason = FinishReason.DEADLINE
                self._finish(one)

    def _finish(self, sequence: Sequence) -> None:
        self._leave(sequence)
        text = sequence.text.rstrip()
        drawn = sequence.reason not in (FinishReason.ABORTED, FinishReason.DEADLINE)
        if drawn and not text and sequence.try_again():
            self._scheduler.add(sequence)
            return
        if not text and sequence.reason is not FinishReason.ABORTED:
            self._tell_failed(sequence, NOTHING if drawn else TOO_LATE)
        else:
            if len(text) > sequence.sent:
                self._say(sequence, text)
            self._tell_finished(_finished(sequence, text), sequence.log_id)
        self._free_unused()

    def _fail(self, sequence: Sequence, reason: Phrase) -> None:
        self._leave(sequence, keep=False)
        if not sequence.idle:
            self._tell_failed(sequence, reason)
        self._free_unused()

    def _tell_finished(self, end: Finished, log_id: str) -> None:
        figures = {"tokens": end.new_tokens, "seconds": round(end.seconds, 3), "reason": end.reason}
        with speaking_of(log_id):
            log.debug("written", extra=figures)
        self._deliver(end)

    def _tell_failed(self, sequence: Sequence, reason: Phrase) -> None:
        with speaking_of(sequence.log_id):
            log.info("not written: %s", reason)
        self._deliver(Failed(sequence.request_id, reason))

    def _leave(self, sequence: Sequence, *, keep: bool = True) -> None:
        self._batches[sequence.model].leave(sequence, keep=keep)
        self._scheduler.remove(sequence)
        self._keep_budget(0)

    def _use(self, source: str) -> Loaded:
        loaded = self._resident.pop(source)
        self._resident[source] = loaded
        return loaded

    def _free_unused(self) -> None:
        """Let go of replaced models whose last reply has ended."""
        resident = {one.key for one in self._resident.values()}
        for one in self._scheduler.idle:
            if one.model not in resident:
                self._batches[one.model].leave(one, keep=False)
                self._scheduler.remove(one)
        wanted = resident | {one.model for one in self._scheduler.sequences}
        for key in self._models.keys() - wanted:
            del self._models[key], self._batches[key]
            self._kept.forget(key)


class Busy(ValueError):
    """The queue is full; the message is for the one who asked."""


SHORT_OF_MEMORY = phrase("The model failed to answer; it may be short of memory.")
NOTHING = phrase("I found nothing to say. Please try again.")
TOO_LATE = phrase("I was too busy to answer in time. Please ask again.")


def _prompt_tokens(positions: int, max_new_tokens: int) -> int:
    """Tokens of a prompt: what the reply leaves, at least half."""
    return max(positions - max_new_tokens, positions // 2)


def _is_of(sequence: Sequence, loaded: Loaded, channel: int) -> bool:
    return (sequence.model, sequence.channel) == (loaded.key, channel)


def _piece(sequence: Sequence, text: str) -> TextDelta:
    return TextDelta(sequence.request_id, text[sequence.sent :], len(sequence.reply_ids))


def _finished(sequence: Sequence, text: str) -> Finished:
    assert sequence.reason is not None
    return Finished(
        request_id=sequence.request_id,
        text=text,
        reason=sequence.reason,
        prompt_tokens=len(sequence.prompt_ids),
        new_tokens=len(sequence.reply_ids),
        seed=sequence.seed,
        seconds=time.monotonic() - sequence.arrived,
        cut=sequence.cut,
        first_s=None if sequence.began is None else sequence.began - sequence.arrived,
    )
