"""What is measured of a cluster: against the pipe, with more replicas, at the limit of the bot's
own processes, when a node dies, and when a model is changed."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from safetensors.numpy import load_file, save_file

from benchmarks.cluster.asking import Asked, Crowd, LoopLag, ask, spread
from benchmarks.cluster.clusters import local_cluster
from benchmarks.cluster.simulated import STEP_S, SimulatedWorker, whole_reply
from benchmarks.command import Say
from benchmarks.folders import WEIGHTS, make_folder
from model.backend import GenerationBackend
from model.registry import EMBEDDED_FOLDER
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.client import WorkerClient

TINY = str(EMBEDDED_FOLDER)
ONE_THREAD = WorkerSettings(threads=1)
AT_ONCE = (1, 8)
"""How many ask at the same time when the way is compared with the pipe."""
REFERENCE_SEEDS = 24
"""Replies whose text is known beforehand, when a model is changed."""


@dataclass(frozen=True, slots=True)
class Effort:
    """`rounds` of replies against the pipe, of `tiny` and of a model of the size `large`; `seconds`
    of each load; replies of `new_tokens`; real models run with `settings`."""

    rounds: int = 30
    seconds: float = 15.0
    new_tokens: int = 30
    replicas: Sequence[int] = (1, 4, 16)
    real_replicas: Sequence[int] = (1, 2)
    large: str | None = "gpt2"
    settings: WorkerSettings = ONE_THREAD


SHORT = Effort(
    rounds=2,
    seconds=3.0,
    new_tokens=12,
    replicas=(1, 2),
    real_replicas=(1,),
    large=None,
    settings=replace(ONE_THREAD, precision="fp32"),
)
"""To see that all of it runs, with nothing to be fitted to int8."""


# --- against the pipe ----------------------------------------------------------------------------


async def against_the_pipe(effort: Effort, folder: Path, say: Say) -> dict[str, Any]:
    """The same replies through the pipe and through the cluster, in turns: `tiny` shows what the
    way costs, a model of gpt2's size what that means to a reply."""
    async with (
        WorkerClient(effort.settings) as pipe,
        local_cluster(1, effort.settings) as ray,
    ):
        backends = {"pipe": pipe, "ray": ray.backend}
        found = await _in_turns(backends, TINY, effort, say)
        memory = ray.memory_mb()
        if effort.large:
            make_folder(folder / effort.large, effort.large)
            source = str(folder / effort.large)
            for backend in backends.values():
                await backend.load(source)
            found[effort.large] = await _in_turns(backends, source, effort, say)
    return {**found, "memory_mb": memory}


async def _in_turns(
    backends: Mapping[str, GenerationBackend], source: str, effort: Effort, say: Say
) -> dict[str, Any]:
    say(f"the pipe and a replica, in turns: {Path(source).name} ...")
    asked: dict[tuple[str, int], list[Asked]] = {}
    for number in range(-2, effort.rounds):
        for name, backend in backends.items():
            for at_once in AT_ONCE:
                found = await _together(backend, source, at_once, number, effort.new_tokens)
                if number >= 0:  # before that, everything is called for the first time
                    asked.setdefault((name, at_once), []).extend(found)
    first = {key: statistics.median(one.first_ms for one in found) for key, found in asked.items()}
    whole = {key: statistics.median(one.whole_ms for one in found) for key, found in asked.items()}
    return {
        "first_ms": {name: round(first[name, 1], 1) for name in backends},
        "first_ms_8_at_once": {name: round(first[name, 8], 1) for name in backends},
        "whole_ms": {name: round(whole[name, 1], 1) for name in backends},
        "whole_ms_8_at_once": {name: round(whole[name, 8], 1) for name in backends},
        "whole_ratio": round(whole["ray", 1] / whole["pipe", 1], 3),
        "whole_ratio_8_at_once": round(whole["ray", 8] / whole["pipe", 8], 3),
    }


async def _together(
    backend: GenerationBackend, source: str, at_once: int, number: int, new_tokens: int
) -> list[Asked]:
    params = SamplingParams(max_new_tokens=new_tokens, seed=100 + number)
    asks = (ask(backend, source, channel, params) for channel in range(1, at_once + 1))
    return await asyncio.gather(*asks)


# --- more replicas -------------------------------------------------------------------------------


async def scaling(effort: Effort, step_s: float, say: Say) -> dict[str, Any]:
    """Replies a second of a model with a fixed step time, each replica with as many people as it
    answers at once."""
    figures = {}
    for replicas in effort.replicas:
        say(f"{replicas} replicas of a model with a fixed step time ...")
        settings = WorkerSettings(max_sequences=PEOPLE)
        async with local_cluster(replicas, settings, SimulatedWorker.of(step_s)) as ray:
            figures[replicas] = await _loaded(ray.backend, replicas * PEOPLE, effort)
    one = figures[effort.replicas[0]]["replies_s"]
    return {
        "scaling": {str(n): found["replies_s"] for n, found in figures.items()},
        "scaling_factor": {
            str(n): round(found["replies_s"] / one, 2) for n, found in figures.items()
        },
        "loop_lag_ms": {str(n): found["loop_lag_ms"] for n, found in figures.items()},
        "lost_while_scaling": sum(found["lost"] for found in figures.values()),
        "step_s": step_s,
    }


PEOPLE = 16
"""Who ask one replica at the same time: as many as a worker answers at once."""


async def real_scaling(effort: Effort, say: Say) -> dict[str, Any]:
    """Replies a second of `tiny`, on this machine's cores."""
    figures = {}
    for replicas in effort.real_replicas:
        say(f"{replicas} replicas of tiny ...")
        async with local_cluster(replicas, effort.settings) as ray:
            found = await _loaded(ray.backend, 8 * replicas, effort)
            figures[str(replicas)] = found["replies_s"]
    return {"tiny_replies_s": figures}


async def limit(effort: Effort, replicas: int, say: Say) -> dict[str, Any]:
    """Replies a second when the replicas could do far more, and what of the processor the bot's
    two processes take for one: what they carry."""
    say("the limit of the bot's own processes ...")
    settings = WorkerSettings(max_sequences=256)
    figures = {}
    async with local_cluster(replicas, settings, SimulatedWorker.of(LIMIT_STEP_S)) as ray:
        assert ray.backend.pid is not None
        processes = {"bot": psutil.Process(), "gateway": psutil.Process(ray.backend.pid)}
        for people in LIMIT_PEOPLE:
            before = {name: _cpu_s(one) for name, one in processes.items()}
            found = await _loaded(ray.backend, people, effort)
            figures[str(people)] = {
                **{name: found[name] for name in ("replies_s", "whole_ms", "loop_lag_ms")},
                "cpu_ms": {
                    name: round(1000 * (_cpu_s(one) - before[name]) / found["replies"], 2)
                    for name, one in processes.items()
                },
            }
    return {"limit": figures}


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


LIMIT_STEP_S = 0.02
LIMIT_PEOPLE = (32, 64, 128, 256)


async def _loaded(backend: GenerationBackend, people: int, effort: Effort) -> dict[str, Any]:
    crowd, lag = Crowd(backend, TINY, people, effort.new_tokens), LoopLag()
    async with crowd.going_on():
        await asyncio.sleep(min(3.0, effort.seconds))
        began = time.perf_counter()
        async with lag.watched():
            await asyncio.sleep(effort.seconds)
        ended = time.perf_counter()
    return {
        "replies_s": round(crowd.per_second(began, ended), 2),
        "whole_ms": spread([one.whole_ms for one in crowd.asked]),
        "loop_lag_ms": lag.figures(),
        "replies": len(crowd.asked),
        "lost": sum(one.lost for one in crowd.asked),
    }


# --- a node dies ---------------------------------------------------------------------------------


async def node_killed(effort: Effort, say: Say) -> dict[str, Any]:
    """Two nodes with a replica each; one is killed while both answer."""
    say("a node is killed under load ...")
    settings = WorkerSettings(max_sequences=PEOPLE)
    async with local_cluster(2, settings, SimulatedWorker.of(STEP_S), nodes=2) as ray:
        crowd = Crowd(ray.backend, TINY, 2 * PEOPLE, effort.new_tokens)
        async with crowd.going_on():
            await asyncio.sleep(effort.seconds / 2)
            killed = time.perf_counter()
            await asyncio.to_thread(ray.kill_node, ray.nodes[1])
            await asyncio.sleep(effort.seconds)
    hit = [one for one in crowd.asked if one.began < killed < (one.ended or killed)]
    usual = statistics.median(one.whole_ms for one in crowd.asked if (one.ended or 0) < killed)
    figures = {
        "under_way": len(hit),
        "lost": sum(one.lost for one in crowd.asked),
        "doubled": sum(one.doubled or not _is_whole(one) for one in crowd.asked if not one.lost),
        "p99_s": round(spread([one.whole_ms for one in hit])["p99"] / 1000, 2),
        "usual_s": round(usual / 1000, 2),
        "errors": sorted({one.error for one in crowd.asked if one.error}),
    }
    return {"node_killed": figures}


def _is_whole(asked: Asked) -> bool:
    version = (asked.final or "").partition("/")[0]
    return (asked.final or "").strip() == whole_reply(version, asked.params).strip()


# --- another model -------------------------------------------------------------------------------


async def swap(effort: Effort, replicas: int, folder: Path, say: Say) -> dict[str, Any]:
    """Weights are changed while people talk with the model: each reply is of one version."""
    say(f"other weights on {replicas} replicas under load ...")
    model = folder / "changing"
    shutil.copytree(TINY, model)
    async with local_cluster(replicas, effort.settings) as cluster:
        ray = cluster.backend
        await ray.load(str(model))
        old = await _texts(ray, str(model), effort.new_tokens)
        crowd = Crowd(ray, str(model), 4 * replicas, effort.new_tokens, seeds=REFERENCE_SEEDS)
        async with crowd.going_on():
            await asyncio.sleep(effort.seconds / 4)
            await asyncio.to_thread(_change_weights, model)
            began = time.perf_counter()
            await ray.load(str(model))
            loaded = time.perf_counter()
            await asyncio.sleep(effort.seconds / 4)
        new = await _texts(ray, str(model), effort.new_tokens)
    kinds = [_kind(one, old, new) for one in crowd.asked]
    late = [
        kind
        for kind, one in zip(kinds, crowd.asked, strict=True)
        if one.began > loaded and kind == "old"
    ]
    figures = {
        "replicas": replicas,
        "seconds": round(loaded - began, 1),
        "replies": len(kinds),
        **{kind: kinds.count(kind) for kind in ("old", "new", "either", "mixed", "lost")},
        "old_after_the_swap": len(late),
    }
    return {"swap": figures}


def _change_weights(folder: Path) -> None:
    """Weights that say something else: less sure of every token."""
    weights = load_file(folder / WEIGHTS)
    weights["transformer.ln_f.weight"] = weights["transformer.ln_f.weight"] * np.float32(0.5)
    save_file(weights, folder / "changed", metadata={"format": "pt"})
    (folder / "changed").replace(folder / WEIGHTS)


async def _texts(backend: GenerationBackend, source: str, new_tokens: int) -> dict[int, str]:
    """The reply to each seed, of the version in service."""
    found = {}
    for seed in range(1, REFERENCE_SEEDS + 1):
        params = SamplingParams(max_new_tokens=new_tokens, temperature=0.7, seed=seed)
        found[seed] = (await ask(backend, source, 0, params)).final or ""
    return found


def _kind(asked: Asked, old: dict[int, str], new: dict[int, str]) -> str:
    if asked.lost or asked.params.seed is None:
        return "lost"
    texts = {"old": old[asked.params.seed], "new": new[asked.params.seed]}
    kinds = [kind for kind, text in texts.items() if asked.final == text]
    if len(kinds) == 2:
        return "either"
    return kinds[0] if kinds else "mixed"
