"""One reply from its message to its end: how it went is counted, and told in one line of the log.

Knows how replies end. What was said is told only where the operator asked for that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import discord

from bot.chat.request import Asked, Request
from bot.discord_ui.errors import Refusal
from bot.discord_ui.http_errors import FAULTS
from bot.discord_ui.reply import ReplyDeleted
from core.errors import StoreError
from core.metrics import Metrics, Written
from model.errors import LoadFailed, ModelError, WorkerDied
from model.sampling import FinishReason
from model.worker.messages import Finished

log = logging.getLogger(__name__)

LOST = "withdrawn"
"""The outcome of a message that lost its turn: it was deleted, or the bot closes."""
LOST_OTHERWISE = ("merged", "repeated", "withheld")
"""Those of one that another reply answers, that came before, whose reply must not be said."""
UNKNOWN = "error"
"""That of a reply that ended with an error which nobody thought of."""
ERRORS: dict[type[BaseException], str] = {
    WorkerDied: "worker_died",
    LoadFailed: "load_failed",
    ModelError: "model_failed",
    StoreError: "store_failed",
    Refusal: "refused",
    ReplyDeleted: "deleted",
    discord.DiscordException: "not_posted",
    **dict.fromkeys(FAULTS, "not_posted"),
    asyncio.CancelledError: "cancelled",
}
"""The outcome of a reply that ended with an error; the first that fits."""
OUTCOMES = (*FinishReason, *dict.fromkeys(ERRORS.values()), LOST, *LOST_OTHERWISE, UNKNOWN)


@dataclass(slots=True)
class Watched:
    """A reply that is waited for; what is known of it grows. Times are in seconds."""

    asked: Asked
    since: float = field(default_factory=time.perf_counter)
    first_s: float | None = None
    request: Request | None = None
    end: Finished | None = None
    lost: str = LOST

    def said(self) -> None:
        """The model said something."""
        if self.first_s is None:
            self.first_s = time.perf_counter() - self.since

    def written(self, request: Request, end: Finished) -> None:
        """The model wrote all of it."""
        self.request, self.end = request, end


class Watching:
    """Watches replies. `log_content`: whether the log has what people say."""

    def __init__(self, metrics: Metrics, *, log_content: bool = False) -> None:
        self._metrics = metrics
        metrics.expect(OUTCOMES)
        self._log_content = log_content

    @contextmanager
    def reply(self, asked: Asked) -> Iterator[Watched]:
        """Somebody waits for a reply until the end of the block."""
        watched = Watched(asked)
        try:
            yield watched
        except BaseException as e:
            self._ended(watched, _name(e))
            raise
        self._ended(watched, watched.end.reason if watched.end else watched.lost)

    def _ended(self, watched: Watched, outcome: str) -> None:
        seconds, end, request = time.perf_counter() - watched.since, watched.end, watched.request
        self._metrics.reply(outcome, seconds, watched.first_s if end else None)
        asked = watched.asked
        fields: dict[str, object] = {
            "reason": outcome,
            "seconds": round(seconds, 3),
            "asked": asked.asked_id,
            "channel": asked.channel_id,
            "scope": asked.scope,
        }
        if end is not None and request is not None:
            model = request.serving.option.name
            self._metrics.written(
                Written(
                    model=model,
                    prompt_tokens=end.prompt_tokens,
                    tokens=end.new_tokens,
                    seconds=end.seconds,
                )
            )
            fields |= {"model": model, "tokens": end.new_tokens}
            if watched.first_s is not None:
                fields["first_s"] = round(watched.first_s, 3)
            if self._log_content:
                fields |= {"question": request.asked, "answer": end.text}
        log.info("a reply ended", extra=fields)


def _name(error: BaseException) -> str:
    """What an error makes of a reply."""
    return next((name for kind, name in ERRORS.items() if isinstance(error, kind)), UNKNOWN)
