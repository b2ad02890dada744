"""The core loop of the worker: schedule, run, deliver.

Knows loaded models and requests. Does not know pipes or processes: what it has to say goes to
`deliver`. Not thread-safe; the worker calls it from one thread.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from model.chat import HALF, fit
from model.errors import GenerationFailed
from model.loading import Loaded
from model.messages import Failed, Finished, Generate, Render, Rendered, Report, TextDelta
from model.sampling import FinishReason
from model.scheduler import Scheduler
from model.sequence import Sequence
from model.torch_runner import TorchRunner

log = logging.getLogger(__name__)

LOOP = 3
"""A reply that ends in the same few tokens this many times is going round in circles."""


class Engine:
    """Answers requests with the models that are resident."""

    def __init__(self, deliver: Callable[[Report], None], *, max_sequences: int) -> None:
        self._deliver = deliver
        self._scheduler = Scheduler(max_sequences)
        self._resident: dict[str, Loaded] = {}
        self._models: dict[int, Loaded] = {}
        self._runners: dict[int, TorchRunner] = {}

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
        eos = int(loaded.tokenizer.eos_token_id)
        self._runners[loaded.key] = TorchRunner(
            loaded.model, pad_id=eos, end_ids=(eos, *_stop_ids(loaded))
        )
        self._free_unused()

    def evict(self, source: str) -> None:
        """Forget a resident model."""
        self._resident.pop(source, None)
        self._free_unused()

    def submit(self, request: Generate) -> None:
        """Queue a request for a resident model."""
        loaded = self._use(request.source)
        params = request.params
        seed = params.seed if params.seed is not None else random.getrandbits(31)
        prompt = fit(loaded.tokenizer, request.messages, _budget(loaded, params.max_new_tokens))
        self._scheduler.add(
            Sequence(request.request_id, loaded.key, prompt.input_ids, params, seed)
        )

    def render(self, request: Render) -> None:
        """Say what the model would see."""
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
        try:
            said = runner.decode() if step.running else []
            if step.joining:
                said += zip(step.joining, runner.prefill(step.joining), strict=True)
        except (GenerationFailed, MemoryError, RuntimeError) as e:
            self._fail([*step.joining, *step.running], e)
            return
        for sequence, token in said:
            self._take(sequence, token)

    def _take(self, sequence: Sequence, token: int) -> None:
        loaded = self._models[sequence.model]
        if token == loaded.tokenizer.eos_token_id:
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
        text = str(loaded.tokenizer.decode(sequence.reply_ids, skip_special_tokens=True))
        sequence.text = text.lstrip()
        for stop in loaded.stops:
            if (at := sequence.text.find(stop)) >= 0:
                sequence.text, sequence.reason = sequence.text[:at], FinishReason.END
        limit = min(
            sequence.params.max_new_tokens, loaded.facts.positions - len(sequence.prompt_ids)
        )
        if sequence.reason is None and len(sequence.reply_ids) >= limit:
            sequence.reason = FinishReason.LENGTH
        if sequence.reason is None and is_looping(sequence.reply_ids):
            sequence.reason = FinishReason.END

    def _send(self, sequence: Sequence, loaded: Loaded) -> None:
        """Show what is certain: no half character, no beginning of a stop text, no last space."""
        ready = sequence.text.rstrip(HALF).rstrip()
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
        text = sequence.text.rstrip(HALF).rstrip()
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

    def _fail(self, sequences: list[Sequence], error: Exception) -> None:
        log.error("a step failed", exc_info=error)
        reason = (
            str(error) if isinstance(error, GenerationFailed) else "The model failed to answer."
        )
        for sequence in sequences:
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


def _stop_ids(loaded: Loaded) -> tuple[int, ...]:
    """Tokens that are a stop text by themselves."""
    ids = (loaded.tokenizer.encode(stop, add_special_tokens=False) for stop in loaded.stops)
    return tuple(one[0] for one in ids if len(one) == 1)


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
