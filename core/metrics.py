"""What is counted, for Prometheus. The names are here, and nowhere else.

Knows numbers, and names of models. No member, channel or server is in a label. How many names of
models there are at a time is bounded: training makes new ones for as long as the bot lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from core.records import JobState

REPLY_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120)
LAG_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SPEED_BUCKETS = (1, 2, 5, 10, 20, 40, 60, 80, 120, 160, 240, 500, 1000)
MAX_MODEL_LABELS = 32
"""Names of models that are counted at a time; the one that answered longest ago makes room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationStats:
    """A reply that a model wrote, and the seconds that the worker took for it."""

    model: str
    prompt_tokens: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VitalSigns:
    """How things are at this moment. `queue_counts` by what they do, `jobs` by state (None: the
    database does not say), `memory` in bytes by process."""

    gateway_latency_s: float
    guilds: int
    queue_counts: Mapping[str, int]
    worker_requests: int
    worker_restarts: int
    jobs: Mapping[str, int] | None
    database_bytes: int
    memory: Mapping[str, int]
    checkpoints: int
    checkpoints_bytes: int


class Metrics:
    """Counts what happens, and tells it together with how things are."""

    def __init__(self) -> None:
        # The series are of no use, and double the number of samples.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = into = CollectorRegistry()
        self._replies = Counter(
            "gpt2bot_replies",
            "Requests for a reply, by what came of them",
            ["outcome"],
            registry=into,
        )
        self._reply_s = Histogram(
            "gpt2bot_reply_seconds",
            "From a message to the end of its reply, waiting included",
            buckets=REPLY_BUCKETS_S,
            registry=into,
        )
        self._first_s = Histogram(
            "gpt2bot_first_token_seconds",
            "From a message to the first word of its reply, waiting included",
            buckets=REPLY_BUCKETS_S,
            registry=into,
        )
        self._tokens = Counter(
            "gpt2bot_tokens", "Tokens read and written, by model", ["model", "kind"], registry=into
        )
        self._speed = Histogram(
            "gpt2bot_tokens_per_second",
            "Tokens of a reply a second, from its arrival in the worker, by model",
            ["model"],
            buckets=SPEED_BUCKETS,
            registry=into,
        )
        self._switches = Counter(
            "gpt2bot_model_switches",
            "Choices of another model, by outcome",
            ["outcome"],
            registry=into,
        )
        self._jobs_ended = Counter(
            "gpt2bot_training_jobs_ended",
            "Training jobs, by how they ended",
            ["state"],
            registry=into,
        )
        self._lag = Histogram(
            "gpt2bot_event_loop_lag_seconds",
            "How late the event loop does what is due",
            buckets=LAG_BUCKETS_S,
            registry=into,
        )
        self._models: dict[str, None] = {}
        for outcome in ("done", "failed"):
            self._switches.labels(outcome)
        for state in JobState:
            if state.is_final:
                self._jobs_ended.labels(state)

    # --- what happens ----------------------------------------------------------------------------

    def init_outcomes(self, outcomes: Iterable[str]) -> None:
        """How replies may end: each is counted from 0, so the first one is seen as a change."""
        for outcome in outcomes:
            self._replies.labels(outcome)

    def observe_reply(self, outcome: str, seconds: float, first_s: float | None) -> None:
        """A request for a reply has ended; the seconds count where there is one."""
        self._replies.labels(outcome).inc()
        if first_s is not None:
            self._first_s.observe(first_s)
            self._reply_s.observe(seconds)

    def observe_generation(self, reply: GenerationStats) -> None:
        """A model wrote a reply."""
        self._track_model(reply.model)
        self._tokens.labels(reply.model, "prompt").inc(reply.prompt_tokens)
        self._tokens.labels(reply.model, "reply").inc(reply.tokens)
        speed = self._speed.labels(reply.model)
        if reply.seconds > 0:
            speed.observe(reply.tokens / reply.seconds)

    def _track_model(self, model: str) -> None:
        if model not in self._models and len(self._models) >= MAX_MODEL_LABELS:
            oldest = next(iter(self._models))
            del self._models[oldest]
            self._speed.remove(oldest)
            for kind in ("prompt", "reply"):
                self._tokens.remove(oldest, kind)
        self._models.pop(model, None)
        self._models[model] = None

    @contextmanager
    def observe_switch(self) -> Iterator[None]:
        """Another model is put into service; an error means that the old one stays."""
        try:
            yield
        except BaseException:
            self._switches.labels("failed").inc()
            raise
        self._switches.labels("done").inc()

    def observe_job(self, state: JobState) -> None:
        """A training job came into a state."""
        if state.is_final:
            self._jobs_ended.labels(state).inc()

    def observe_lag(self, seconds: float) -> None:
        """The event loop did something so many seconds too late."""
        self._lag.observe(seconds)

    # --- telling ---------------------------------------------------------------------------------

    def render_text(self, vitals: VitalSigns) -> bytes:
        """All of it, in the text format of Prometheus."""
        return generate_latest(_Page([*self._registry.collect(), *_vital_sign_families(vitals)]))


@dataclass(frozen=True, slots=True)
class _Page:
    """Metrics as `generate_latest` takes them."""

    metrics: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.metrics


def _vital_sign_families(now: VitalSigns) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "gpt2bot_gateway_latency_seconds",
        "Between a heartbeat and Discord's answer; infinite without a connection",
        now.gateway_latency_s,
    )
    yield GaugeMetricFamily("gpt2bot_guilds", "Servers that the bot is in", now.guilds)
    yield _labelled_gauge(
        "gpt2bot_turns", "Messages that are being answered, or wait", "state", now.queue_counts
    )
    yield GaugeMetricFamily(
        "gpt2bot_worker_requests", "Requests that the worker has not ended", now.worker_requests
    )
    yield CounterMetricFamily(
        "gpt2bot_worker_restarts", "Times that the worker was started again", now.worker_restarts
    )
    if now.jobs is not None:
        yield _labelled_gauge(
            "gpt2bot_training_jobs", "Training jobs that have not ended", "state", now.jobs
        )
    yield GaugeMetricFamily(
        "gpt2bot_database_bytes", "Size of the database, its log included", now.database_bytes
    )
    yield _labelled_gauge(
        "gpt2bot_process_memory_bytes", "Resident memory, by process", "process", now.memory
    )
    yield GaugeMetricFamily(
        "gpt2bot_checkpoints", "Checkpoints on disk, of all servers", now.checkpoints
    )
    yield GaugeMetricFamily(
        "gpt2bot_checkpoints_bytes", "Disk that checkpoints take", now.checkpoints_bytes
    )


def _labelled_gauge(
    name: str, what: str, label: str, values: Mapping[str, int]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, what, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
