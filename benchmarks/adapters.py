"""Many adapters of one base in one worker: speed, memory, and the time of a new version."""

from __future__ import annotations

import itertools
import json
import shutil
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from benchmarks.living import Streams, memory_mb, soak
from model.convert.shapes import ATTENTION_MATRICES, expected_shapes
from model.convert.validation import validate_folder
from model.settings import WorkerSettings
from model.worker.client import WorkerClient

RANK = 16
STREAMS = 16
"""Conversations at a time, each with another adapter."""
ROUNDS, SWAPS = 5, 9
TALKING = 4
"""Conversations that go on while a new version is loaded."""

Talk = Callable[[WorkerClient, Sequence[str]], Awaitable[float]]
"""Conversations that begin together, one with each of the models; tokens a second of all."""


async def many_adapters(
    settings: WorkerSettings,
    folder: str,
    number: int,
    new_tokens: int,
    talk: Talk,
    *,
    short: bool,
) -> dict[str, Any]:
    """STREAMS conversations with the base, and with as many of its `number` adapters: medians of
    rounds that alternate. Then new versions of one adapter while TALKING conversations go on."""
    adapters = make_adapters(folder, number)
    base, mixed = list[float](), list[float]()
    async with WorkerClient(settings, embedded=folder) as client:
        await talk(client, STREAMS * [folder])
        for one in adapters:
            await client.load(one)
        for n in range(1 if short else ROUNDS):
            base.append(await talk(client, STREAMS * [folder]))
            several = [adapters[(STREAMS * n + k) % number] for k in range(STREAMS)]
            mixed.append(await talk(client, several))
        resident = memory_mb(client.pid)
        swaps = [await _swap(client, adapters[0], folder, n) for n in range(2 if short else SWAPS)]
        streams = Streams(client, adapters[-1], TALKING, new_tokens)
        async with streams.going_on():
            busy = [
                await _swap(client, adapters[0], folder, n) for n in range(2 if short else SWAPS)
            ]
    return {
        "count": number,
        "base_tok_s": round(statistics.median(base), 1),
        "mixed_tok_s": round(statistics.median(mixed), 1),
        "resident_mb": resident,
        "swap_ms": round(statistics.median(swaps), 1),
        "busy_swap_ms": round(statistics.median(busy), 1),
    }


async def soak_adapters(
    client: WorkerClient,
    folder: str,
    number: int,
    seconds: float,
    new_tokens: int,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Talk with some of `number` adapters for so long, while one after the other gets a new
    version."""
    adapters = make_adapters(folder, number)
    for one in adapters:
        await client.load(one)
    versions = itertools.count()

    async def renew() -> None:
        n = next(versions)
        await _swap(client, adapters[n % number], folder, n)

    parts = await soak(client, adapters, seconds, new_tokens, say, renew)
    say(f"{next(versions)} new versions of {number} adapters meanwhile")
    return parts


def make_adapters(folder: str, number: int) -> list[str]:
    """Folders of adapters beside their base."""
    return [str(make_adapter(Path(f"{folder}-adapter-{n}"), folder, n)) for n in range(number)]


async def _swap(client: WorkerClient, adapter: str, folder: str, n: int) -> float:
    """Milliseconds until another version of an adapter answers."""
    write_weights(Path(adapter), folder, 1000 + n)
    began = time.perf_counter()
    await client.load(adapter)
    return 1000 * (time.perf_counter() - began)


def make_adapter(path: Path, base: str, seed: int) -> Path:
    """An adapter with random matrices, as training makes them: of the attention, in half precision,
    as peft stores them."""
    path.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(base, name), path)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": list(ATTENTION_MATRICES),
    }
    (path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    write_weights(path, base, seed)
    return path


def write_weights(path: Path, base: str, seed: int) -> None:
    """Other matrices, whole in one moment."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in expected_shapes(validate_folder(Path(base), "base").config).items():
        if name.endswith(tuple(f"{one}.weight" for one in ATTENTION_MATRICES)):
            key = f"base_model.model.transformer.{name.removesuffix('.weight')}"
            for letter, size in (("A", (RANK, shape[0])), ("B", (shape[1], RANK))):
                values = random.standard_normal(size, np.float32) * np.float32(0.02)
                tensors[f"{key}.lora_{letter}.weight"] = values.astype(np.float16)
    save_file(tensors, path / "new", metadata={"format": "pt"})
    (path / "new").replace(path / "adapter_model.safetensors")
