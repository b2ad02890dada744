"""The Prometheus metrics that count events; the gauges of the bot's state are in `bot.ops.vitals`.

No label identifies a member, channel or server. The number of model names is bounded, because
training keeps making new ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from cachetools import LRUCache
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import Metric

from core.records import JobState

REPLY_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120)
LAG_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SPEED_BUCKETS = (1, 2, 5, 10, 20, 40, 60, 80, 120, 160, 240, 500, 1000)
MAX_MODEL_LABELS = 32
"""Beyond this, the series of the least recently used model are dropped."""


class Metrics:
    """Counters and histograms of events, rendered together with gauges."""

    def __init__(self) -> None:
        # The *_created series are of no use here, and double the number of samples.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        counter = partial(Counter, registry=self._registry)
        histogram = partial(Histogram, registry=self._registry)
        self._replies = counter("gpt2bot_replies", "Requests for a reply, by outcome", ["outcome"])
        self._reply_s = histogram(
            "gpt2bot_reply_seconds",
            "From a message to the end of its reply, waiting included",
            buckets=REPLY_BUCKETS_S,
        )
        self._first_s = histogram(
            "gpt2bot_first_token_seconds",
            "From a message to the first word of its reply, waiting included",
            buckets=REPLY_BUCKETS_S,
        )
        self._tokens = counter(
            "gpt2bot_tokens", "Tokens read and written, by model", ["model", "kind"]
        )
        self._speed = histogram(
            "gpt2bot_tokens_per_second",
            "Tokens of a reply a second, from its arrival in the worker, by model",
            ["model"],
            buckets=SPEED_BUCKETS,
        )
        self._switches = counter(
            "gpt2bot_model_switches", "Switches to another model, by outcome", ["outcome"]
        )
        self._jobs_ended = counter(
            "gpt2bot_training_jobs_ended", "Training jobs, by final state", ["state"]
        )
        self._lag = histogram(
            "gpt2bot_event_loop_lag_seconds", "Lag of the event loop", buckets=LAG_BUCKETS_S
        )
        self._requests = counter(
            "gpt2bot_discord_requests", "Requests to Discord, repeated ones included", ["kind"]
        )
        self._rate_limited = counter(
            "gpt2bot_discord_rate_limited", "Requests that Discord refused with 429", ["kind"]
        )
        self._models: LRUCache[str, None] = LRUCache(MAX_MODEL_LABELS)
        # Every outcome starts at 0, since `rate` does not see a series appear.
        for outcome in ("done", "failed"):
            self._switches.labels(outcome)
        for state in JobState:
            if state.is_final:
                self._jobs_ended.labels(state)

    def init_outcomes(self, outcomes: Iterable[str]) -> None:
        """Start the count of each outcome of a reply at 0."""
        for outcome in outcomes:
            self._replies.labels(outcome)

    def init_request_kinds(self, kinds: Iterable[str]) -> None:
        """Start the counts of each kind of request to Discord at 0."""
        for kind in kinds:
            self._requests.labels(kind)
            self._rate_limited.labels(kind)

    def observe_request(self, kind: str) -> None:
        self._requests.labels(kind).inc()

    def observe_rate_limited(self, kind: str) -> None:
        self._rate_limited.labels(kind).inc()

    def observe_reply(self, outcome: str, seconds: float, first_s: float | None) -> None:
        """Count a request for a reply; its times only if there was a reply (`first_s`)."""
        self._replies.labels(outcome).inc()
        if first_s is not None:
            self._first_s.observe(first_s)
            self._reply_s.observe(seconds)

    def observe_generation(self, model: str, *, prompt: int, reply: int, seconds: float) -> None:
        """Count the tokens of a prompt and its reply, and the seconds that the worker took."""
        if model not in self._models and len(self._models) == MAX_MODEL_LABELS:
            oldest, _ = self._models.popitem()
            self._speed.remove(oldest)
            for kind in ("prompt", "reply"):
                self._tokens.remove(oldest, kind)
        self._models[model] = None
        self._tokens.labels(model, "prompt").inc(prompt)
        self._tokens.labels(model, "reply").inc(reply)
        speed = self._speed.labels(model)
        if seconds > 0:
            speed.observe(reply / seconds)

    @contextmanager
    def observe_switch(self) -> Iterator[None]:
        """Count a switch to another model; it failed if the block raises."""
        try:
            yield
        except BaseException:
            self._switches.labels("failed").inc()
            raise
        self._switches.labels("done").inc()

    def observe_job(self, state: JobState) -> None:
        """Count a job that reached a final state."""
        if state.is_final:
            self._jobs_ended.labels(state).inc()

    def observe_lag(self, seconds: float) -> None:
        self._lag.observe(seconds)

    def render_text(self, gauges: Iterable[Metric]) -> bytes:
        """All metrics and the `gauges` in the text format of Prometheus."""
        return generate_latest(_Page([*self._registry.collect(), *gauges]))


@dataclass(frozen=True, slots=True)
class _Page:
    """Metrics in the form that `generate_latest` takes."""

    metrics: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.metrics
