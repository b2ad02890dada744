"""How fast and how frugal training is, and how well it learns: `python -m benchmarks.training`.

- speed: useful tokens a second (no padding) next to a plain Hugging Face Trainer that pads every
  example to `max_length`, by the clock and by CPU time (which other work on the machine changes
  less), and the held-out loss of both after the same examples;
- memory: the peak of fine-tuning gpt2 wholly and gpt2-medium with LoRA, rows of full length;
- chat: the speed of replies while a job runs, next to that without one;
- learning: the untrained twin of `tiny` on chitchat-dataset, next to a plain loop in torch.

Each part runs in one go, contenders side by side. Weights of gpt2's sizes are random.
Needs the extra `starter`. `--parts speed,chat` runs some; `--json` prints one object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from benchmarks.folders import make_folder
from benchmarks.living import Streams, memory_mb
from core.records import Conversation
from model.registry import EMBEDDED_FOLDER
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from training import corpora
from training.checkpoints import read_manifest
from training.config import TrainingConfig
from training.jobs.events import Event, Failed, Started, Step, from_line
from training.jobs.process import MALLOC_ENV

PARTS = ("speed", "memory", "chat", "learning")
ROOT = Path(__file__).parent.parent
HELD_OUT = 200


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help="which of them, commas between")
    parser.add_argument("--examples", type=int, default=400, help="of the parts speed and learning")
    parser.add_argument("--short", action="store_true", help="only to see that all of it runs")
    parser.add_argument("--json", action="store_true", help="print one object")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts.split(","):
            work = Path(folder) / part
            work.mkdir()
            say(f"{part}…")
            results[part] = globals()[f"measure_{part}"](work, options.examples, options.short)
            say(f"  {json.dumps(results[part])}")
    if options.json:
        print(json.dumps(results, indent=1))
    else:
        show(results)
    return 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(results: dict[str, Any]) -> None:
    for part, figures in results.items():
        print(f"\n{part}")
        for name, value in figures.items():
            print(f"  {name:<44} {value}")


# --- data and runs -------------------------------------------------------------------------------


def talk(count: int, held_out: int = HELD_OUT) -> tuple[list[Conversation], list[Conversation]]:
    """Conversations of chitchat-dataset in a fixed shuffle: to learn from, and held out."""
    found = list(_chitchat())
    random.Random(1).shuffle(found)
    return found[held_out : held_out + count], found[:held_out]


@cache
def _chitchat() -> tuple[Conversation, ...]:
    return tuple(corpora.chitchat())


def as_pairs(conversations: Sequence[Conversation], count: int) -> list[Conversation]:
    """Question and answer alone, as people teach them."""
    return [turns[:2] for turns in conversations][:count]


def write(path: Path, conversations: Sequence[Conversation]) -> None:
    lines = (
        json.dumps({"messages": [{"role": m.role.value, "content": m.content} for m in turns]})
        for turns in conversations
    )
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def make_job(
    job: Path,
    config: TrainingConfig,
    learn: Sequence[Conversation],
    held_out: Sequence[Conversation] = (),
) -> Path:
    job.mkdir()
    config.save(job / "config.json")
    write(job / "dataset.jsonl", learn)
    if held_out:
        write(job / "held_out.jsonl", held_out)
    return job


@dataclass(frozen=True, slots=True)
class Run:
    """What a child process told; its peak memory in MB where the system tells it; the CPU seconds
    that its steps took."""

    events: list[Event]
    peak_mb: float | None
    cpu_s: float


def run(command: Sequence[str]) -> Run:
    """Run a child process to its end."""
    child = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=MALLOC_ENV | os.environ,
    )
    peaks: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peaks.append(memory_mb(child.pid) or 0.0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert child.stdout is not None
    events, began, cpu_s = [], 0.0, 0.0
    for line in child.stdout:
        if event := from_line(line):
            events.append(event)
            if isinstance(event, Started):
                began = _cpu_seconds(child.pid)
            if isinstance(event, Step):
                cpu_s = _cpu_seconds(child.pid) - began
    done.set()
    watcher.join()
    if child.wait() or any(isinstance(event, Failed) for event in events):
        raise RuntimeError(f"{command} failed: {events[-1:]}")
    return Run(events, max(peaks, default=0.0) or None, cpu_s)


def _cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def ours(job: Path) -> dict[str, Any]:
    done = run(["training.run", str(job)])
    last = [event for event in done.events if isinstance(event, Step)][-1]
    begun = next(event for event in done.events if isinstance(event, Started))
    scores = read_manifest(job / "checkpoint").scores
    return {
        "tokens_per_s": last.tokens_per_s,
        "tokens_per_cpu_s": begun.epochs * begun.tokens / done.cpu_s,
        "examples": begun.examples,
        "held_out_loss": scores.get("held_out_loss"),
        "peak_mb": done.peak_mb,
    }


def plain(job: Path, kind: str) -> dict[str, Any]:
    """The same job by `benchmarks.plain_training`, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.plain_training", kind, str(job)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


# --- the parts -----------------------------------------------------------------------------------


def measure_speed(work: Path, examples: int, short: bool) -> dict[str, Any]:
    """tiny (its real weights) and gpt2 (random ones): the same pairs, one epoch."""
    figures: dict[str, Any] = {}
    learn, held_out = talk(examples)
    for size in ("tiny",) if short else ("tiny", "gpt2"):
        base = EMBEDDED_FOLDER if size == "tiny" else work / size
        if size != "tiny":
            make_folder(base, size, [one.content for turns in _chitchat() for one in turns])
        count = 16 if short else examples if size == "tiny" else max(16, examples // 4)
        config = TrainingConfig(
            name=size, base=str(base), epochs=1, learning_rate=3e-5, precision="fp32", gate=False
        )
        pairs, asked = as_pairs(learn, count), as_pairs(held_out, 20 if short else HELD_OUT)
        mine = ours(make_job(work / f"{size}-ours", config, pairs, asked))
        theirs = plain(make_job(work / f"{size}-plain", config, pairs, asked), "trainer")
        figures |= {
            f"{size}: tokens/s": round(mine["tokens_per_s"]),
            f"{size}: tokens/s, padded Trainer": round(theirs["tokens_per_s"]),
            f"{size}: times as fast": round(mine["tokens_per_s"] / theirs["tokens_per_s"], 2),
            f"{size}: times as fast, by CPU time": round(
                mine["tokens_per_cpu_s"] / theirs["tokens_per_cpu_s"], 2
            ),
            f"{size}: held-out loss": round(mine["held_out_loss"], 4),
            f"{size}: held-out loss, padded Trainer": round(theirs["held_out_loss"], 4),
        }
    return figures


def measure_memory(work: Path, _examples: int, short: bool) -> dict[str, Any]:
    """Three steps of batch 8, each row 128 tokens and more to cut: the worst that can come."""
    figures: dict[str, Any] = {}
    long = [turns for turns in talk(4000)[0] if len(turns) >= 12][:24]
    for size, method in (
        (("tiny", "full"),) if short else (("gpt2", "full"), ("gpt2-medium", "lora"))
    ):
        base = EMBEDDED_FOLDER if size == "tiny" else work / size
        if size != "tiny":
            make_folder(base, size)
        config = TrainingConfig(
            name=size, base=str(base), epochs=1, precision="fp32", gate=False,
            method="lora" if method == "lora" else "full",
        )  # fmt: skip
        peak = ours(make_job(work / f"{size}-job", config, long))["peak_mb"]
        figures[f"{size}, {method}, batch 8 x 128: peak MB"] = peak and round(peak)
    return figures


def measure_chat(work: Path, _examples: int, short: bool) -> dict[str, Any]:
    """Tokens a second of four conversations with gpt2, without a job and while one runs."""
    size = "tiny" if short else "gpt2"
    folder = work / size
    make_folder(folder, size)
    config = TrainingConfig(
        name=size, base=str(folder), epochs=1, min_steps=100_000, gate=False, threads=1,
        precision="fp32",
    )  # fmt: skip
    job = make_job(work / "job", config, as_pairs(talk(64)[0], 64))
    return asyncio.run(_chat(str(folder), job, 1.0 if short else 15.0))


async def _chat(folder: str, job: Path, seconds: float) -> dict[str, Any]:
    async with WorkerClient(WorkerSettings(build_cache=job.parent / "built")) as client:
        await client.load(folder)
        streams = Streams(client, folder, 4, 30)
        async with streams.going_on():
            alone = await _speed(streams, seconds)
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "training.run", str(job), cwd=ROOT,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 20,
            )  # fmt: skip
            assert child.stdout is not None
            async for line in child.stdout:
                if isinstance(from_line(line.decode()), Step):
                    break
            beside = await _speed(streams, seconds)
            child.kill()
            await child.wait()
            again = await _speed(streams, seconds)
    before = (alone + again) / 2
    return {
        "replies, tokens/s without a job": round(before),
        "replies, tokens/s while one runs": round(beside),
        "kept": round(beside / before, 2),
    }


async def _speed(streams: Streams, seconds: float) -> float:
    await asyncio.sleep(1)
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    return streams.tokens_per_s(began, time.perf_counter())


def measure_learning(work: Path, examples: int, short: bool) -> dict[str, Any]:
    """tiny's twin with random weights: ours and a plain loop, one epoch of whole conversations."""
    learn, held_out = talk(16 if short else 2 * examples, 10 if short else HELD_OUT)
    twin = work / "twin"
    plain_twin(twin)
    config = TrainingConfig(
        name="twin", base=str(twin), epochs=1, learning_rate=1e-3, precision="fp32", gate=False
    )
    untrained = plain(make_job(work / "untrained", config, learn, held_out), "nothing")
    mine = ours(make_job(work / "ours", config, learn, held_out))
    theirs = plain(make_job(work / "plain", config, learn, held_out), "loop")
    muon = ours(make_job(work / "muon", replace(config, optimizer="muon"), learn, held_out))
    return {
        "held-out loss, untrained": round(untrained["held_out_loss"], 3),
        "held-out loss": round(mine["held_out_loss"], 3),
        "held-out loss, plain loop": round(theirs["held_out_loss"], 3),
        "held-out loss, Muon": round(muon["held_out_loss"], 3),
        "ours / plain loop": round(mine["held_out_loss"] / theirs["held_out_loss"], 3),
    }


def plain_twin(folder: Path) -> None:
    """tiny's architecture and tokenizer with the weights it began with."""
    subprocess.run(
        [sys.executable, "-m", "benchmarks.plain_training", "twin", str(folder)],
        cwd=ROOT,
        check=True,
    )


if __name__ == "__main__":
    sys.exit(main())
