"""The core loop of the worker: schedule, run, deliver.

Knows loaded models and requests. Does not know tensors, pipes or processes: its events go to the
callback `deliver`, and `on_run` gets the sources of models before anything of them runs. Not
thread-safe; the worker calls it from one thread.

Models that share a runner are one base with different adapters: they share its rows, too.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection
from dataclasses import replace

from core.logging import request_context
from core.records import Message
from i18n.phrase import Phrase, phrase
from model.chat_template import Prompt, build_prompt, count_tokens, encode_chat
from model.engine.kv_cache import KVCacheRows, PrefixCache
from model.engine.output import next_token, streamable_text, update_text
from model.engine.reply_length import max_reply_tokens
from model.engine.scheduler import Scheduler
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
"""Positions below which no conversation is possible."""
OUT_OF_MEMORY = phrase("The model failed to answer; it may be short of memory.")
EMPTY_REPLY = phrase("I found nothing to say. Please try again.")
DEADLINE_EXCEEDED = phrase("I was too busy to answer in time. Please ask again.")
MB = 1 << 20


class QueueFull(ValueError):
    """The queue is full; the message is for the person who asked."""


class Engine:
    """Answers requests with the models in memory."""

    def __init__(
        self,
        deliver: Callable[[WorkerEvent], None],
        settings: WorkerSettings,
        clock: Callable[[], float] = time.monotonic,
        on_run: Callable[[Collection[str]], None] = lambda _sources: None,
    ) -> None:
        self._deliver = deliver
        self._on_run = on_run
        self._clock = clock
        self._settings = settings
        self._cache_budget_bytes = int(settings.cache_mb * MB)
        self._scheduler = Scheduler(settings.max_sequences, self._cache_budget_bytes, clock)
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
        """Whether a reply is running or queued."""
        return bool(self._scheduler.sequences)

    @property
    def sources(self) -> list[str]:
        """The models in memory, least recently used first."""
        return list(self._resident)

    @property
    def weight_bytes(self) -> int:
        """Memory of the models' weights; what adapters share counts once."""
        runners = {id(one.runner): one.runner for one in self._resident.values()}
        adapters = [one.adapter for one in self._resident.values() if one.adapter]
        return sum(one.weight_bytes for one in runners.values()) + sum(
            one.nbytes for one in adapters
        )

    @property
    def cache_bytes(self) -> int:
        """Memory of the KV caches: reserved by running sequences, saved prefixes, and excess."""
        excess = sum(rows.excess_bytes for rows in self._kv_caches.values())
        return self._scheduler.reserved_bytes + self._prefix_cache.nbytes + excess

    def is_in_use(self, source: str) -> bool:
        """Whether a model has replies in progress."""
        key = self._resident[source].key
        return any(one.model == key for one in self._scheduler.sequences)

    def takes_memory(self, source: str) -> bool:
        """Whether evicting a model frees any; a base stays in memory for its adapters."""
        loaded = self._resident[source]
        return loaded.adapter is not None or not any(
            one.runner is loaded.runner for one in self._resident.values() if one is not loaded
        )

    def install(self, loaded: LoadedModel) -> None:
        """Add a model, or hot-swap one of the same source between two steps.

        New requests get the new weights. Replies in progress keep the old ones, since their KV
        cache was computed with them; the old model is freed when the last of these has ended.
        """
        self._resident.pop(loaded.info.source, None)
        self._resident[loaded.info.source] = loaded
        self._models[loaded.key] = loaded
        if loaded.batch_key not in self._kv_caches:
            self._kv_caches[loaded.batch_key] = KVCacheRows(loaded.runner, self._prefix_cache)
        self._free_replaced_models()

    def evict(self, source: str) -> None:
        """Remove a model from memory, once its replies in progress have ended."""
        self._resident.pop(source, None)
        self._free_replaced_models()

    def submit(self, request: Generate) -> None:
        """Queue a request for a resident model.

        Raises:
            ValueError: the messages cannot be made a prompt, or there is no room for them.
        """
        loaded = self._touch(request.source)
        prompt, most, positions = self._fit(loaded, request.messages, request.params.max_new_tokens)
        if not prompt.input_ids:
            raise ValueError(phrase("its chat template makes nothing of it"))
        tokens = min(len(prompt.input_ids) + most, positions)
        self._check_queue_length()
        params = replace(request.params, max_new_tokens=most)
        sequence = Sequence(
            request.request_id,
            loaded.key,
            prompt.input_ids,
            params,
            seed=params.seed if params.seed is not None else random.getrandbits(31),
            batch=loaded.batch_key,
            adapter=loaded.adapter,
            channel=request.channel,
            scope=request.scope,
            log_id=request.log_id,
            truncated_messages=prompt.num_dropped + prompt.truncated,
            max_cache_bytes=tokens * loaded.runner.kv_bytes_per_token,
            max_length=positions,
            deadline=self._clock() + self._settings.deadline_s,
        )
        self._preempt_prefetches(sequence)
        _, sequence.num_known_tokens = self._prefix_cache.longest_match(sequence)
        self._scheduler.add(sequence)
        place = self._scheduler.queue_position(sequence)
        log.debug("taken", extra={"prompt_tokens": len(prompt.input_ids), "place": place})
        if place:
            self._deliver(Queued(sequence.request_id, place))

    def _fit(
        self, loaded: LoadedModel, messages: tuple[Message, ...], max_new_tokens: int
    ) -> tuple[Prompt, int, int]:
        """The prompt, the most tokens of its reply, and the positions that they share."""
        positions = self._max_length(loaded)
        most = max_reply_tokens(loaded.tokenizer, messages, max_new_tokens, positions)
        budget = _max_prompt_tokens(positions, most)
        return build_prompt(loaded.tokenizer, messages, budget), most, positions

    def _max_length(self, loaded: LoadedModel) -> int:
        """Positions that a prompt and its reply share.

        Raises:
            ValueError: the cache is too small for any conversation with this model.
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
        """Prefill the known beginning of a channel's next prompt, when otherwise idle."""
        loaded = self._resident.get(request.source)
        if loaded is None or not request.messages:
            return
        self._on_run([request.source])
        ids = encode_chat(loaded.tokenizer, request.messages, add_generation_prompt=False)
        nbytes = len(ids) * loaded.runner.kv_bytes_per_token
        if not ids or len(ids) >= loaded.info.positions or nbytes > self._cache_budget_bytes:
            return
        sequence = Sequence(
            0,
            loaded.key,
            ids,
            SamplingParams(),
            seed=0,
            batch=loaded.batch_key,
            adapter=loaded.adapter,
            channel=request.channel,
            max_cache_bytes=nbytes,
            prefetch_only=True,
        )
        for displaced in self._scheduler.add_prefetch(sequence):
            self._release(displaced)

    def drop_caches(self) -> None:
        """Drop the cached prefixes and the prefetches; replies in progress leave no prefix."""
        for prefetch in self._scheduler.prefetches:
            self._rows_of(prefetch).free(prefetch, keep=False)
            self._scheduler.remove(prefetch)
        for sequence in self._scheduler.sequences:
            sequence.channel = 0
        self._prefix_cache.evict_to(0)
        for rows in self._kv_caches.values():
            rows.release_free_rows()
        for tokenizer in {one.tokenizer for one in self._models.values()}:
            tokenizer.clear_cache()

    def _preempt_prefetches(self, live: Sequence) -> None:
        """Free the rows of all prefetches for a request; the prefix cache keeps their progress."""
        for prefetch in self._scheduler.prefetches:
            self._rows_of(prefetch).free(prefetch, keep=True)
            if (prefetch.model, prefetch.channel) == (live.model, live.channel):
                self._scheduler.remove(prefetch)

    def render(self, request: Render) -> None:
        """Deliver the prompt that the model would see.

        Raises:
            ValueError: the messages cannot be made a prompt.
        """
        loaded = self._touch(request.source)
        prompt, most, positions = self._fit(loaded, request.messages, request.max_new_tokens)
        self._deliver(
            Rendered(
                request_id=request.request_id,
                text=prompt.text,
                messages=prompt.messages,
                token_counts=count_tokens(loaded.tokenizer, prompt.messages),
                total_tokens=len(prompt.input_ids),
                budget=_max_prompt_tokens(positions, most),
                num_dropped=prompt.num_dropped,
                truncated=prompt.truncated,
            )
        )

    def abort(self, request_id: int) -> None:
        """End a reply early, with the text so far."""
        for sequence in self._scheduler.sequences:
            if sequence.request_id == request_id:
                sequence.finish_reason = FinishReason.ABORTED
                self._finish(sequence)

    def step(self) -> None:
        """Schedule, run, deliver: those of one runner decode a token each, then prefill."""
        self._expire_overdue()
        if (step := self._scheduler.schedule()) is None:
            return
        rows = self._kv_caches[step.batch]
        if step.decoding:
            self._begin(step.decoding)
            self._decode(rows, step.decoding)
        prefills = self._scheduler.prefills(
            step, lambda: rows.prefill_s_per_token, rows.pack_tokens
        )
        for group, budget in prefills:
            if not self._prefill(rows, group, budget):
                break

    def _begin(self, sequences: Collection[Sequence]) -> None:
        """Report which models run now."""
        models = dict.fromkeys(one.model for one in sequences)
        self._on_run([self._models[model].info.source for model in models])

    def _rows_of(self, sequence: Sequence) -> KVCacheRows:
        return self._kv_caches[sequence.batch]

    def _decode(self, rows: KVCacheRows, sequences: tuple[Sequence, ...]) -> None:
        try:
            order, logits = rows.decode(sequences)
        except (MemoryError, RuntimeError):  # torch raises RuntimeError when out of memory
            log.exception("a decode step failed")
            for sequence in sequences:
                self._fail(sequence, OUT_OF_MEMORY)
            return
        for sequence, row in zip(order, logits, strict=True):
            self._sample(sequence, row)

    def _prefill(self, rows: KVCacheRows, group: list[Sequence], budget: int) -> bool:
        """Prefill at most `budget` tokens of prompts together; False if that failed."""
        self._begin(group)
        try:
            for sequence in group:
                if sequence not in rows:
                    self._allocate(rows, sequence)
            complete = rows.prefill(group, budget)
        except (MemoryError, RuntimeError):
            log.exception("prefilling prompts failed")
            for sequence in group:
                self._fail(sequence, OUT_OF_MEMORY)
            return False
        for sequence, logits in complete:
            if sequence.prefetch_only:
                self._release(sequence)
            else:
                self._sample(sequence, logits)
        return True

    def _allocate(self, rows: KVCacheRows, sequence: Sequence) -> None:
        rows.allocate(sequence)
        # the scheduler has reserved memory for replies, but none for prefetches
        self._enforce_cache_budget(sequence.max_cache_bytes if sequence.prefetch_only else 0)

    def _enforce_cache_budget(self, needed: int) -> None:
        """Free unused rows and cached prefixes until `needed` more bytes fit the budget."""
        if self.cache_bytes + needed > self._cache_budget_bytes:
            for rows in self._kv_caches.values():
                rows.release_free_rows()
        self._prefix_cache.evict_to(
            self._cache_budget_bytes - self._scheduler.reserved_bytes - needed
        )

    def _sample(self, sequence: Sequence, logits: Logits) -> None:
        loaded = self._models[sequence.model]
        try:
            token = next_token(sequence, loaded, logits)
        except MemoryError:
            log.exception("sampling a token failed")
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
        if sequence.first_token_s is None:
            sequence.first_token_s = time.monotonic() - sequence.arrival_time
        piece = text[sequence.sent_chars :]
        self._deliver(TextDelta(sequence.request_id, piece, len(sequence.reply_ids)))

    def _expire_overdue(self) -> None:
        """End the replies whose deadline has passed, with the text so far."""
        now = self._clock()
        for sequence in self._scheduler.sequences:
            if sequence.deadline is not None and now >= sequence.deadline:
                sequence.finish_reason = FinishReason.DEADLINE
                self._finish(sequence)

    def _finish(self, sequence: Sequence) -> None:
        """A reply has ended: deliver it, retry an empty one, or report that there is none."""
        self._release(sequence)
        text = sequence.text.rstrip()
        if not text and sequence.ended_naturally and sequence.retry():
            self._scheduler.add(sequence)
            return
        if text or sequence.finish_reason is FinishReason.ABORTED:
            self._complete(sequence, text)
        else:
            reason = EMPTY_REPLY if sequence.ended_naturally else DEADLINE_EXCEEDED
            self._report_failed(sequence, reason)
        self._free_replaced_models()

    def _complete(self, sequence: Sequence, text: str) -> None:
        if len(text) > sequence.sent_chars:
            self._emit_delta(sequence, text)
        end = _finished(sequence, text)
        figures = {
            "tokens": end.new_tokens,
            "seconds": round(end.seconds, 3),
            "reason": end.finish_reason,
        }
        with request_context(sequence.log_id):
            log.debug("written", extra=figures)
        self._deliver(end)

    def _fail(self, sequence: Sequence, reason: Phrase) -> None:
        self._release(sequence, keep=False)
        if not sequence.prefetch_only:
            self._report_failed(sequence, reason)
        self._free_replaced_models()

    def _report_failed(self, sequence: Sequence, reason: Phrase) -> None:
        with request_context(sequence.log_id):
            log.info("not written: %s", reason)
        self._deliver(Failed(sequence.request_id, reason))

    def _release(self, sequence: Sequence, *, keep: bool = True) -> None:
        rows = self._rows_of(sequence)
        rows.free(sequence, keep=keep)
        if not sequence.channel:
            rows.release_free_rows()
        self._scheduler.remove(sequence)
        self._enforce_cache_budget(0)

    def _touch(self, source: str) -> LoadedModel:
        self._on_run([source])
        loaded = self._resident.pop(source)
        self._resident[source] = loaded
        return loaded

    def _free_replaced_models(self) -> None:
        """Free the models that were replaced or evicted and whose last reply has ended."""
        resident = {one.key for one in self._resident.values()}
        for prefetch in self._scheduler.prefetches:
            if prefetch.model not in resident:
                self._rows_of(prefetch).free(prefetch, keep=False)
                self._scheduler.remove(prefetch)
        in_use = resident | {one.model for one in self._scheduler.sequences}
        for key in self._models.keys() - in_use:
            del self._models[key]
            self._prefix_cache.drop_model(key)
        batches = {one.batch_key for one in self._models.values()}
        for key in self._kv_caches.keys() - batches:
            del self._kv_caches[key]


def _max_prompt_tokens(positions: int, max_new_tokens: int) -> int:
    """The prompt's share of the positions: what the reply leaves, but at least half."""
    return max(positions - max_new_tokens, positions // 2)


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
        first_token_s=sequence.first_token_s,
    )
