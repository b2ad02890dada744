"""Counts how each reply ended, and logs it in one line; its text only with LOG_CONTENT."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bot.chat.errors import ReplyDeleted
from bot.chat.request import ReplyRequest, ReplyTarget
from core.errors import Refusal, StoreError
from core.metrics import Metrics
from model.errors import LoadFailed, ModelError, WorkerDied
from model.sampling import FinishReason
from model.worker.messages import Finished

log = logging.getLogger(__name__)

WITHDRAWN = "withdrawn"
"""The outcome of a message that lost its turn: it was deleted, or the bot is stopping."""
TAUGHT = "taught"
"""The outcome of a taught answer, given without the model."""
FIXED = "fixed"
"""The outcome of a fixed answer to a question about the bot."""
WITHHELD = "withheld"
"""The outcome of a reply that a filter blocked."""
OTHER_DROPS = ("merged", "repeated")
"""Other outcomes without a reply: `merged` (the reply to the next message answers it too),
`repeated` (delivered before)."""
UNEXPECTED_ERROR = "error"
"""The outcome of any other error."""
NOT_POSTED = "not_posted"
"""The outcome of a reply that Discord did not accept."""
OUTCOME_BY_ERROR: dict[type[BaseException], str] = {
    WorkerDied: "worker_died",
    LoadFailed: "load_failed",
    ModelError: "model_failed",
    StoreError: "store_failed",
    Refusal: "refused",
    ReplyDeleted: "deleted",
    asyncio.CancelledError: "cancelled",
}
"""Outcomes by the error that ended the reply; the first match counts."""
OUTCOMES = (
    *FinishReason,
    *dict.fromkeys(OUTCOME_BY_ERROR.values()),
    NOT_POSTED,
    WITHDRAWN,
    *OTHER_DROPS,
    WITHHELD,
    TAUGHT,
    FIXED,
    UNEXPECTED_ERROR,
)


@dataclass(slots=True)
class ReplyTrace:
    """What is known so far of a reply in flight. Times are in seconds."""

    target: ReplyTarget
    started_at: float = field(default_factory=time.perf_counter)
    first_s: float | None = None
    request: ReplyRequest | None = None
    result: Finished | None = None
    drop_reason: str = WITHDRAWN

    def mark_first_token(self) -> None:
        """The first text has arrived."""
        if self.first_s is None:
            self.first_s = time.perf_counter() - self.started_at

    def mark_finished(self, request: ReplyRequest, end: Finished) -> None:
        """The generation is complete."""
        self.request, self.result = request, end


class ReplyTelemetry:
    """Observes replies. With `log_content`, the log holds what people and the bot say.

    `delivery_errors` are what a sink raises when it cannot show a reply.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        log_content: bool = False,
        delivery_errors: Sequence[type[BaseException]] = (),
    ) -> None:
        self._metrics = metrics
        self._outcome_by_error = {**OUTCOME_BY_ERROR, **dict.fromkeys(delivery_errors, NOT_POSTED)}
        metrics.init_outcomes(OUTCOMES)
        self._log_content = log_content

    @contextmanager
    def trace(self, asked: ReplyTarget) -> Iterator[ReplyTrace]:
        """Observe a reply until the end of the block."""
        trace = ReplyTrace(asked)
        try:
            yield trace
        except BaseException as e:
            self._record_end(trace, self._outcome_of(e))
            raise
        self._record_end(trace, trace.result.finish_reason if trace.result else trace.drop_reason)

    def _record_end(self, trace: ReplyTrace, outcome: str) -> None:
        seconds, end, request = (
            time.perf_counter() - trace.started_at,
            trace.result,
            trace.request,
        )
        self._metrics.observe_reply(outcome, seconds, trace.first_s if end else None)
        asked = trace.target
        fields: dict[str, object] = {
            "reason": outcome,
            "seconds": round(seconds, 3),
            "asked": asked.asked_id,
            "channel": asked.channel_id,
            "scope": asked.scope,
        }
        if end is not None and request is not None:
            model = request.serving.option.name
            self._metrics.observe_generation(
                model, prompt=end.prompt_tokens, reply=end.new_tokens, seconds=end.seconds
            )
            fields |= {"model": model, "tokens": end.new_tokens}
            if trace.first_s is not None:
                fields["first_s"] = round(trace.first_s, 3)
            if self._log_content:
                fields |= {"question": request.asked_text, "answer": end.text}
        log.info("a reply ended", extra=fields)

    def _outcome_of(self, error: BaseException) -> str:
        outcomes = self._outcome_by_error.items()
        return next((name for kind, name in outcomes if isinstance(error, kind)), UNEXPECTED_ERROR)
