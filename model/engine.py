"""The core loop of the worker: schedule, run, deliver.

Knows loaded models and requests. Does not know tensors, pipes or processes: `make_runner` gives it
what computes, and what it has to say goes to `deliver`. Not thread-safe; the worker calls it from
one thread.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from model.chat import HALF, fit
from model.loading import Loaded
from model.messages import Failed, Finished, Generate, Render, Rendered, Report, TextDelta
from model.runner import Runner, Said
from model.sampling import FinishReason
from model.scheduler import Scheduler
from model.sequence import Sequence

log = logging.getLogger(__name__)

LOOP = 3
"""A reply that ends in the same few tokens this many times is going round in circles."""


class Engine:
    """Answers requests with the models that are resident."""

    def __init__(
        self,
        deliver: Callable[[Report], None],
        make_runner: Callable[[Loaded], Runner],
        *,
        max_sequences: int,
    ) -> None:
        self._deliver = deliver
        self._make_runner = make_runner
        self._scheduler = Scheduler(max_sequences)
        self._resident: dict[str, Loaded] = {}
        self._models: dict[int, Loaded] = {}
        self._runners: dict[int, Runner] = {}

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do."""
        return self._scheduler.busy

    @property
    def sources(self) -> list[str]:
        """The resident models, least recently used first."""
        return list(self._resident)

    def is_in_use(self, source: str) -> bool:
        """Whether replies of a model are under way."""
        key = self._resident[source].key
        return any(one.model == key for one in self._scheduler.sequences)

    def install(self, loaded: Loaded) -> None:
        """Let a model answer from the next request on; replies under way keep theirs."""
        self._resident.pop(loaded.facts.source, None)
        self._resident[loaded.facts.source] = loaded
        self._models[loaded.key] = loaded
        self._runners[loaded.key] = self._make_runner(loaded)
        self._free_unused()

    def evict(self, source: str) -> None:
        """Forget a resident model."""
        self._resident.pop(source, None)
        self._free_unused()

    def submit(self, request: Generate) -> None:
        """Queue a request for a resident model.

        Raises:
            ValueError: the messages cannot be made a prompt.
        """
        loaded = self._use(request.source)
        params = request.params
        seed = params.seed if params.seed is not None else random.getrandbits(31)
        prompt = fit(loaded.tokenizer, request.messages, _budget(loaded, params.max_new_tokens))
        self._scheduler.add(
            Sequence(request.request_id, loaded.key, prompt.input_ids, params, seed)
        )

    def render(self, request: Render) -> None:
        """Say what the model would see.

        Raises:
            ValueError: the messages cannot be made a prompt.
        """
        loaded = self._use(request.source)
        budget = _budget(loaded, request.max_new_tokens)
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
        """One token for each running sequence of one model; new ones read their prompts."""
        step = self._scheduler.schedule()
        if step is None:
            return
        runner = self._runners[step.model]
        said = self._run(step.running, runner.decode)
        said += self._run(step.joining, lambda: runner.prefill(step.joining))
        for sequence, token in said:
            self._take(sequence, token)

    def _run(self, sequences: tuple[Sequence, ...], compute: Callable[[], Said]) -> Said:
        if not sequences:
            return []
        try:
            return compute()
        except (MemoryError, RuntimeError):  # out of memory is a RuntimeError of torch
            log.exception("a step failed")
            for sequence in sequences:
                self._fail(sequence, "The model failed to answer; it may be short of memory.")
            return []

    def _take(self, sequence: Sequence, token: int | None) -> None:
        loaded = self._models[sequence.model]
        if token is None:
            self._fail(sequence, "The model computed something that is not a number.")
            return
        if token in loaded.ends:
            sequence.reason = FinishReason.END
        else:
            sequence.reply_ids.append(token)
            self._read(sequence, loaded)
        if sequence.reason is None:
            self._send(sequence, loaded)
        else:
            self._finish(sequence)

    def _read(self, sequence: Sequence, loaded: Loaded) -> None:
        """Bring the text up to date and see whether it ends the reply."""
        text = str(
            loaded.tokenizer.decode(sequence.reply_ids, clean_up_tokenization_spaces=False)
        ).replace(HALF, "")
        for stop in loaded.stops:
            if (at := text.find(stop)) >= 0:
                text, sequence.reason = text[:at], FinishReason.END
        sequence.text = text.lstrip()
        limit = min(
            sequence.params.max_new_tokens, loaded.facts.positions - len(sequence.prompt_ids)
        )
        if sequence.reason is None and len(sequence.reply_ids) >= limit:
            sequence.reason = FinishReason.LENGTH
        if sequence.reason is None and is_looping(sequence.reply_ids):
            sequence.reason = FinishReason.END

    def _send(self, sequence: Sequence, loaded: Loaded) -> None:
        """Show what is certain: no beginning of a stop text, no last space."""
        ready = sequence.text.rstrip()
        for stop in loaded.stops:
            for size in range(len(stop) - 1, 0, -1):
                if ready.endswith(stop[:size]):
                    ready = ready[:-size]
        if len(ready) > sequence.sent:
            self._deliver(TextDelta(sequence.request_id, ready[sequence.sent :]))
            sequence.sent = len(ready)

    def _finish(self, sequence: Sequence) -> None:
        self._runners[sequence.model].drop([sequence])
        self._scheduler.remove(sequence)
        text = sequence.text.rstrip()
        ended = sequence.reason is not FinishReason.ABORTED
        if ended and not text and sequence.try_again():
            self._scheduler.add(sequence)
            return
        if ended and not text:
            self._deliver(Failed(sequence.request_id, "I found nothing to say. Please try again."))
        else:
            if len(text) > sequence.sent:
                self._deliver(TextDelta(sequence.request_id, text[sequence.sent :]))
            self._deliver(_finished(sequence, text))
        self._free_unused()

    def _fail(self, sequence: Sequence, reason: str) -> None:
        self._runners[sequence.model].drop([sequence])
        self._scheduler.remove(sequence)
        self._deliver(Failed(sequence.request_id, reason))
        self._free_unused()

    def _use(self, source: str) -> Loaded:
        loaded = self._resident.pop(source)
        self._resident[source] = loaded
        return loaded

    def _free_unused(self) -> None:
        """Let go of replaced models whose last reply has ended."""
        wanted = {one.key for one in self._resident.values()}
        wanted |= {one.model for one in self._scheduler.sequences}
        for key in self._models.keys() - wanted:
            del self._models[key], self._runners[key]


def is_looping(ids: list[int]) -> bool:
    """Whether the last tokens say the same 1 to 8 tokens LOOP times (single ones twice that)."""
    for size in range(1, 9):
        times = 2 * LOOP if size == 1 else LOOP
        tail = ids[-size * times :]
        if len(tail) == size * times and tail == tail[:size] * times:
            return True
    return False


def _budget(loaded: Loaded, max_new_tokens: int) -> int:
    """Tokens for the prompt: what the reply leaves of the positions, at least half of them."""
    positions = loaded.facts.positions
    return max(positions - max_new_tokens, positions // 2)


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
    )
