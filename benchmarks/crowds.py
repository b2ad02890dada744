"""Many at once: requests that arrive together, and several models in one worker."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import string
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.folders import change_weights
from benchmarks.living import Streams
from core.records import Message, Role
from model.engine.engine import Engine
from model.engine.scheduler import Scheduler
from model.engine.sequence import Sequence
from model.loading import LoadedModel, load
from model.runners.device import Device, available_cores
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from model.worker.messages import Finished, Generate, TextDelta, WorkerEvent

ARRIVAL_ROUNDS, MODEL_ROUNDS = 8, 4
MODEL_SECONDS = 3.0
SHORT_PROMPT, LONG_PROMPT = (6, 60), (60, 400)
"""Tokens of what is new to the model: in two thirds of the requests a message, in a third a whole
context."""


# --- several models ------------------------------------------------------------------------------


async def several_models(
    settings: WorkerSettings, folder: str, number: int, new_tokens: int, *, short: bool
) -> dict[str, Any]:
    """Tokens a second of a conversation with one model, and with each of `number` at once: medians
    of rounds that alternate."""
    folders = [folder, *(f"{folder}-{n}" for n in range(1, number))]
    alone: list[float] = []
    together: list[list[float]] = []
    async with WorkerClient(settings, embedded=folder) as client:
        for other in folders[1:]:
            shutil.copytree(folder, other)
            change_weights(Path(other))
            await client.load(other)
        for _ in range(1 if short else MODEL_ROUNDS):
            alone += await _speeds(client, folders[:1], new_tokens)
            together.append(await _speeds(client, folders, new_tokens))
    medians = [round(statistics.median(speeds), 1) for speeds in zip(*together, strict=True)]
    return {"1": round(statistics.median(alone), 1), str(number): medians}


async def _speeds(client: WorkerClient, folders: list[str], new_tokens: int) -> list[float]:
    streams = [Streams(client, folder, 1, new_tokens) for folder in folders]
    async with asyncio.TaskGroup() as group:
        going = [group.create_task(_converse(one)) for one in streams]
    return [task.result() for task in going]


async def _converse(streams: Streams) -> float:
    async with streams.going_on():
        await asyncio.sleep(1)
        began = time.perf_counter()
        await asyncio.sleep(MODEL_SECONDS)
        return streams.tokens_per_s(began, time.perf_counter())


# --- requests that arrive together ---------------------------------------------------------------


class FirstComeScheduler(Scheduler):
    """Prompts one by one in the order of their arrival, and a token for each reply between them."""

    def add(self, sequence: Sequence) -> None:
        super().add(sequence)
        sequence.rank = 0

    def prefills(self, step: Any, seconds_per_token: Any, pack_tokens: int = 0) -> Any:
        return super().prefills(step, seconds_per_token, 0)

    def _has_prompts(self, model: int) -> bool:
        return False  # for which replies would pause


@dataclass(frozen=True, slots=True)
class Waits:
    """Means over the requests of a round, in seconds."""

    first_s: float
    end_s: float


def arrivals(
    settings: WorkerSettings, folder: str, number: int, new_tokens: int, *, short: bool
) -> dict[str, float]:
    """Mean waits for the first words and the end of replies to requests that arrive together, and
    the same where they are served in the order of arrival: medians of rounds that alternate."""
    assert settings.build_cache is not None
    threads = settings.threads or available_cores()
    device = Device("cpu", settings.precision, "fp32")
    loaded = load(folder, device, settings.build_cache, threads=threads)
    ours: list[Waits] = []
    first_come: list[Waits] = []
    for n in range(2 if short else ARRIVAL_ROUNDS + 1):
        requests = _requests(folder, number, new_tokens, Random(n))
        for scheduler, waits in ((Scheduler, ours), (FirstComeScheduler, first_come)):
            waits.append(_serve(loaded, settings, scheduler, requests))
    return {
        f"{prefix}mean_{what}": round(statistics.median(getattr(one, what) for one in waits[1:]), 4)
        for prefix, waits in (("", ours), ("fifo_", first_come))
        for what in ("first_s", "end_s")
    }


def _requests(folder: str, number: int, new_tokens: int, random: Random) -> list[Generate]:
    letters = 20 * string.ascii_lowercase
    params = SamplingParams(max_new_tokens=new_tokens)
    sizes = [random.randint(*(SHORT_PROMPT if n % 3 else LONG_PROMPT)) for n in range(number)]
    random.shuffle(sizes)
    texts = [letters[n : n + max(1, size - 3)] for n, size in enumerate(sizes)]
    return [
        Generate(n, folder, (Message(Role.USER, text),), params) for n, text in enumerate(texts)
    ]


def _serve(
    loaded: LoadedModel,
    settings: WorkerSettings,
    scheduler: type[Scheduler],
    requests: list[Generate],
) -> Waits:
    first: dict[int, float] = {}
    end: dict[int, float] = {}

    def deliver(event: WorkerEvent) -> None:
        if isinstance(event, TextDelta | Finished):
            first.setdefault(event.request_id, time.perf_counter())
        if isinstance(event, Finished):
            end[event.request_id] = time.perf_counter()

    engine = Engine(deliver, settings)
    engine._scheduler = scheduler(settings.max_sequences, engine._cache_budget_bytes)
    engine.install(loaded)
    began = time.perf_counter()
    for request in requests:
        engine.submit(request)
    while engine.has_work:
        engine.step()
    if len(end) < len(requests):
        raise RuntimeError("a reply failed")
    return Waits(*(statistics.mean(times.values()) - began for times in (first, end)))
