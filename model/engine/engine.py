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

from core.logging import request_context
from i18n.phrase import Phrase, phrase
from model.chat_template import build_prompt, encode_chat
from model.engine.kv_cache import KVCacheRows, PrefixCache
from model.engine.output import next_token, streamable_text, update_text
from model.engine.reply_length import max_reply_tokens
from model.engine.scheduler import PREFETCH_BUDGET, PREFILL_BUDGET_WHILE_DECODING, Scheduler
from model.engine.sequence import Sequence
from model.loading import LoadedModel
from model.runners.base import Logits
from model.sampling import FinishReason, SamplingParams
from model.settings import WorkerSettings
from model.worker.messages import (
    Failed,
    Finished,
    Generate,
    Prefetch,
    Queued,
    Render,
    Rendered,
    TextDelta,
    WorkerEvent,
)

log = logging.getLogger(__name__)

MIN_CONTEXT_TOKENS = 16
"""Positions with which a conversation can be had at all."""
MAX_PREFETCHES = 32
"""Channels whose next prompts wait to be read beforehand: on a busy machine they would pile up."""
MAX_DECODE_STALL_S = 0.06
"""Seconds that prompts are read between two words of a reply."""
MB = 1 << 20


class Engine:
    """Answers requests with the models that are resident."""

    def __init__(
        self,
        deliver: Callable[[WorkerEvent], None],
        settings: WorkerSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deliver = deliver
        self._clock = clock
        self._settings = settings
        self._cache_budget_bytes = int(settings.cache_mb * MB)
        self._scheduler = Scheduler(settings.max_sequences, self._cache_budget_bytes)
        self._prefix_cache = PrefixCache()
        self._resident: dict[str, LoadedModel] = {}
        self._models: dict[int, LoadedModel] = {}
        self._kv_caches: dict[int, KVCacheRows] = {}

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do."""
        return self._scheduler.has_work

    @property
    def has_requests(self) -> bool:
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
        spare = sum(batch.excess_bytes for batch in self._kv_caches.values())
        return self._scheduler.reserved_bytes + self._prefix_cache.nbytes + spare

    def is_in_use(self, source: str) -> bool:
        """Whether replies of a model are under way."""
        key = self._resident[source].key
        return any(one.model == key for one in self._scheduler.sequences)

    def install(self, loaded: LoadedModel) -> None:
        """Let a model answer from the next request on; replies under way keep theirs."""
        self._resident.pop(loaded.info.source, None)
        self._resident[loaded.info.source] = loaded
        self._models[loaded.key] = loaded
        self._kv_caches[loaded.key] = KVCacheRows(loaded.runner, self._prefix_cache)
        self._free_replaced_models()

    def evict(self, source: str) -> None:
        """Forget a resident model."""
        self._resident.pop(source, None)
        self._free_replaced_models()

    def submit(self, request: Generate) -> None:
        """Queue a request for a resident model.

        Raises:
            ValueError: the messages cannot be made a prompt, or there is no room for them.
        """
        loaded = self._touch(request.source)
        positions = self._max_length(loaded)
        most = max_reply_tokens(
            loaded.tokenizer, request.messages, request.params.max_new_tokens, positions
        )
        params = replace(request.params, max_new_tokens=most)
        prompt = build_prompt(
            loaded.tokenizer, request.messages, _max_prompt_tokens(positions, most)
        )
        if not prompt.input_ids:
            raise ValueError(phrase("its chat template makes nothing of it"))
        tokens = min(len(prompt.input_ids) + most, positions)
        self._check_queue_length()
        sequence = Sequence(
            request.request_id,
            loaded.key,
            prompt.input_ids,
            params,
            seed=params.seed if params.seed is not None else random.getrandbits(31),
            channel=request.channel,
            scope=request.scope,
            log_id=request.log_id,
            truncated_messages=prompt.num_dropped + prompt.truncated,
            max_cache_bytes=tokens * loaded.runner.kv_bytes_per_token,
            max_length=positions,
            deadline=self._clock() + self._settings.deadline_s,
        )
        self._preempt_prefetches(sequence)
        self._scheduler.add(sequence)
        place = self._scheduler.queue_position(sequence)
        log.debug("taken", extra={"prompt_tokens": len(prompt.input_ids), "place": place})
        if place:
            self._deliver(Queued(sequence.request_id, place))

    def _max_length(self, loaded: LoadedModel) -> int:
        """Positions that a reply and its prompt may use.

        Raises:
            ValueError: the cache has no room for the model's shortest conversation.
        """
        room = self._cache_budget_bytes // loaded.runner.kv_bytes_per_token
        positions = min(loaded.info.positions, room)
        if positions < MIN_CONTEXT_TOKENS:
            why = phrase("CACHE_MB has room for {n} tokens of this model only; raise it", n=room)
            raise ValueError(why)
        return positions

    def _check_queue_length(self) -> None:
        if self._scheduler.num_waiting >= self._settings.max_waiting:
            place = self._scheduler.num_waiting + 1
            raise QueueFull(
                phrase(
                    "I am busy: you would be number {place} in the queue. Please ask later.",
                    place=place,
                )
            )

    def prefetch(self, request: Prefetch) -> None:
        """Read the beginning of a channel's next prompt when there is nothing else to do."""
        loaded = self._resident.get(request.source)
        if loaded is None or not request.messages:
            return
        ids = encode_chat(loaded.tokenizer, request.messages, add_generation_prompt=False)
        memory = len(ids) * loaded.runner.kv_bytes_per_token
        if not ids or len(ids) >= loaded.info.positions or memory > self._cache_budget_bytes:
            return
        others = [
            one
            for one in self._scheduler.prefetches
            if not _belongs_to(one, loaded, request.channel)
        ]
        for one in self._scheduler.prefetches:
            if one not in others[1 - MAX_PREFETCHES :]:
                self._release(one)
        self._scheduler.add(
            Sequence(
                0,
                loaded.key,
                ids,
                SamplingParams(),
                seed=0,
                channel=request.channel,
                max_cache_bytes=memory,
                prefetch_only=True,
            )
        )

    def _preempt_prefetches(self, live: Sequence) -> None:
        """What is being read for later makes place; what was read of it is not lost."""
        for one in self._scheduler.prefetches:
            self._kv_caches[one.model].free(one, keep=True)
            if (one.model, one.channel) == (live.model, live.channel):
                self._scheduler.remove(one)

    def render(self, request: Render) -> None:
        """Say what the model would see.

        Raises:
            ValueError: the messages cannot be made a prompt.
        """
        loaded = self._touch(request.source)
        positions = self._max_length(loaded)
        most = max_reply_tokens(
            loaded.tokenizer, request.messages, request.max_new_tokens, positions
        )
        budget = _max_prompt_tokens(positions, most)
        prompt = build_prompt(loaded.tokenizer, request.messages, budget)
        self._deliver(
            Rendered(
                request_id=request.request_id,
                text=prompt.text,
                messages=prompt.messages,
                token_counts=prompt.token_counts,
                total_tokens=len(prompt.input_ids),
                budget=budget,
                num_dropped=prompt.num_dropped,
                truncated=prompt.truncated,
            )
        )

    def abort(self, request_id: int) -> None:
        """End a reply where it is."""
        for sequence in self._scheduler.sequences:
            if sequence.request_id == request_id:
                sequence.finish_reason = FinishReason.ABORTED
                self._finish(sequence)

    def step(self) -> None:
        """One token for each running sequence of one model; then new ones read their prompts."""
        self._expire_overdue()
        if (step := self._scheduler.schedule()) is None:
            return
        if step.decoding:
            self._decode(step.model, step.decoding)
        budget = step.prefill_budget
        if budget <= PREFILL_BUDGET_WHILE_DECODING:
            budget = min(budget, self._prefill_budget(step.model))
        while budget > 0 and (reader := self._scheduler.next_prefill(step.model)) is not None:
            budget -= self._prefill(reader, budget)
            if not reader.unprefilled:  # it waits for its second word from now on
                budget = min(budget, self._prefill_budget(step.model))

    def _prefill_budget(self, model: int) -> int:
        """Tokens of prompts that can be read without a pause that people would notice."""
        batch = self._kv_caches.get(model)
        if batch is None or not batch.prefill_s_per_token:
            return PREFILL_BUDGET_WHILE_DECODING
        return max(
            PREFETCH_BUDGET,
            min(PREFILL_BUDGET_WHILE_DECODING, int(MAX_DECODE_STALL_S / batch.prefill_s_per_token)),
        )

    def _decode(self, model: int, sequences: tuple[Sequence, ...]) -> None:
        try:
            order, logits = self._kv_caches[model].decode(sequences)
        except (MemoryError, RuntimeError):  # out of memory is a RuntimeError of torch
            log.exception("a step failed")
            for sequence in sequences:
                self._fail(sequence, OUT_OF_MEMORY)
            return
        for sequence, row in zip(order, logits, strict=True):
            self._sample(sequence, row)

    def _prefill(self, sequence: Sequence, budget: int) -> int:
        """Read tokens of a prompt, at most `budget`; how many it were."""
        batch = self._kv_caches[sequence.model]
        try:
            if sequence not in batch:
                batch.allocate(sequence)
                self._enforce_cache_budget(
                    sequence.max_cache_bytes if sequence.prefetch_only else 0
                )
            count = min(sequence.unprefilled, PREFETCH_BUDGET if sequence.prefetch_only else budget)
            logits = batch.prefill(sequence, count)
        except (MemoryError, RuntimeError):
            with request_context(sequence.log_id):
                log.exception("reading a prompt failed")
            self._fail(sequence, OUT_OF_MEMORY)
            return budget
        if logits is not None and sequence.prefetch_only:
            self._release(sequence)
        elif logits is not None:
            self._sample(sequence, logits)
        return budget if sequence.prefetch_only else count

    def _enforce_cache_budget(self, memory: int) -> None:
        """Caches that nobody uses now go, until all need no more than they may, `memory` more."""
        if self.cache_bytes + memory > self._cache_budget_bytes:
            for batch in self._kv_caches.values():
                batch.release_free_rows()
        self._prefix_cache.evict_to(
            self._cache_budget_bytes - self._scheduler.reserved_bytes - memory
        )

    def _sample(self, sequence: Sequence, logits: Logits) -> None:
        loaded = self._models[sequence.model]
        try:
            token = next_token(sequence, loaded, logits)
        except MemoryError:
            log.exception("choosing a token failed")
            self._fail(sequence, OUT_OF_MEMORY)
            return
        if token is None:
            self._fail(sequence, phrase("The model computed something that is not a number."))
            return
        if token in loaded.stop_token_ids:
            sequence.finish_reason = FinishReason.END
        else:
            sequence.reply_ids.append(token)
            update_text(sequence, loaded)
        if sequence.finish_reason is None:
            self._stream(sequence, loaded)
        else:
            self._finish(sequence)

    def _stream(self, sequence: Sequence, loaded: LoadedModel) -> None:
        ready = streamable_text(sequence, loaded)
        if len(ready) > sequence.sent_chars:
            self._emit_delta(sequence, ready)
            sequence.sent_chars = len(ready)

    def _emit_delta(self, sequence: Sequence, text: str) -> None:
        if sequence.first_token_time is None:
            sequence.first_token_time = time.monotonic()
        self._deliver(_text_delta(sequence, text))

    def _expire_overdue(self) -> None:
        """End replies that take too long where they are."""
        now = self._clock()
        for one in self._scheduler.sequences:
            if one.deadline is not None and now >= one.deadline:
                one.finish_reason = FinishReason.DEADLINE
                self._finish(one)

    def _finish(self, sequence: Sequence) -> None:
        self._release(sequence)
        text = sequence.text.rstrip()
        drawn = sequence.finish_reason not in (FinishReason.ABORTED, FinishReason.DEADLINE)
        if drawn and not text and sequence.retry():
            self._scheduler.add(sequence)
            return
        if not text and sequence.finish_reason is not FinishReason.ABORTED:
            self._report_failed(sequence, EMPTY_REPLY if drawn else DEADLINE_EXCEEDED)
        else:
            if len(text) > sequence.sent_chars:
                self._emit_delta(sequence, text)
            self._report_finished(_finished(sequence, text), sequence.log_id)
        self._free_replaced_models()

    def _fail(self, sequence: Sequence, reason: Phrase) -> None:
        self._release(sequence, keep=False)
        if not sequence.prefetch_only:
            self._report_failed(sequence, reason)
        self._free_replaced_models()

    def _report_finished(self, end: Finished, log_id: str) -> None:
        figures = {
            "tokens": end.new_tokens,
            "seconds": round(end.seconds, 3),
            "reason": end.finish_reason,
        }
        with request_context(log_id):
            log.debug("written", extra=figures)
        self._deliver(end)

    def _report_failed(self, sequence: Sequence, reason: Phrase) -> None:
        with request_context(sequence.log_id):
            log.info("not written: %s", reason)
        self._deliver(Failed(sequence.request_id, reason))

    def _release(self, sequence: Sequence, *, keep: bool = True) -> None:
        self._kv_caches[sequence.model].free(sequence, keep=keep)
        self._scheduler.remove(sequence)
        self._enforce_cache_budget(0)

    def _touch(self, source: str) -> LoadedModel:
        loaded = self._resident.pop(source)
        self._resident[source] = loaded
        return loaded

    def _free_replaced_models(self) -> None:
        """Let go of replaced models whose last reply has ended."""
        resident = {one.key for one in self._resident.values()}
        for one in self._scheduler.prefetches:
            if one.model not in resident:
                self._kv_caches[one.model].free(one, keep=False)
                self._scheduler.remove(one)
        wanted = resident | {one.model for one in self._scheduler.sequences}
        for key in self._models.keys() - wanted:
            del self._models[key], self._kv_caches[key]
            self._prefix_cache.drop_model(key)


class QueueFull(ValueError):
    """The queue is full; the message is for the one who asked."""


OUT_OF_MEMORY = phrase("The model failed to answer; it may be short of memory.")
EMPTY_REPLY = phrase("I found nothing to say. Please try again.")
DEADLINE_EXCEEDED = phrase("I was too busy to answer in time. Please ask again.")


def _max_prompt_tokens(positions: int, max_new_tokens: int) -> int:
    """Tokens of a prompt: what the reply leaves, at least half."""
    return max(positions - max_new_tokens, positions // 2)


def _belongs_to(sequence: Sequence, loaded: LoadedModel, channel: int) -> bool:
    return (sequence.model, sequence.channel) == (loaded.key, channel)


def _text_delta(sequence: Sequence, text: str) -> TextDelta:
    return TextDelta(sequence.request_id, text[sequence.sent_chars :], len(sequence.reply_ids))


def _finished(sequence: Sequence, text: str) -> Finished:
    assert sequence.finish_reason is not None
    return Finished(
        request_id=sequence.request_id,
        text=text,
        finish_reason=sequence.finish_reason,
        prompt_tokens=len(sequence.prompt_ids),
        new_tokens=len(sequence.reply_ids),
        seed=sequence.seed,
        seconds=time.monotonic() - sequence.arrival_time,
        truncated_messages=sequence.truncated_messages,
        first_token_s=None
        if sequence.first_token_time is None
        else sequence.first_token_time - sequence.arrival_time,
    )
