"""How fast and how steadily replies come: the bot's worker next to other engines, in one run.

`python -m benchmarks.generation` makes a model of gpt2's size with random weights, so nothing is
downloaded. Ours are conversations through the real WorkerClient and worker process; each peer that
is installed (the extra `peers`; transformers' `generate()` always) answers the same prompts as one
batch, in a process of its own. Rounds alternate between the engines, and medians are printed.
Meanwhile a task measures how long the bot's event loop stood still. `--models N` measures also a
conversation with each of N models at once, `--arrivals N` also N requests that arrive together,
`--adapters N` also conversations with many of N adapters of one base next to those with the base.
`--soak SECONDS` only talks for so long, and prints tokens a second and memory as they go; with
`--adapters N`, with adapters of which one gets a new version every second.
`--outliers` only compares int8 with fp32, on twins of the embedded models whose weights are harder
to round (`benchmarks.outliers`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.adapters import many_adapters, soak_adapters
from benchmarks.crowds import arrivals, several_models
from benchmarks.folders import SIZES, make_folder, prompts
from benchmarks.living import SHORT, Effort, memory_mb, second_message, soak, swap
from benchmarks.peers import PEERS, available
from core.records import Message, Role
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from model.worker.messages import Finished, TextDelta

OURS = "gpt2bot"
Progress = list[tuple[float, int]]
"""Moments of a reply, in seconds, and how many tokens it had then; the first token first."""
WAKE_S = 0.005
"""How often the task wakes that measures the event loop."""


@dataclass(frozen=True, slots=True)
class Round:
    """Conversations that began together: the tokens a second of all of them while all decode, and
    medians of the waits for the first token and for the end."""

    decode_tok_s: float
    ttft_ms: float
    reply_s: float


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        say = partial(print, file=sys.stderr if options.json else sys.stdout, flush=True)
        if options.outliers:
            from benchmarks import outliers  # torch, which our worker does not need

            ratios = outliers.measure(Path(folder), say)
            if options.json:
                print(json.dumps({"outliers": ratios}))
            return
        say(f"making a model of the size of {options.model_size}, with random weights ...")
        model = Path(folder, "model")
        make_folder(model, options.model_size)
        run = _soak if options.soak else _measure
        result = asyncio.run(run(options, str(model), Path(folder, "built"), say))
    if options.json:
        print(json.dumps(result))
    elif not options.soak:
        _print_tables(result)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--streams", default="1,4,8,16", help="conversations at a time (1,4,8,16)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each, at least 1 (3)")
    parser.add_argument("--new-tokens", type=int, default=30, help="tokens of a reply (30)")
    parser.add_argument("--prompt-tokens", type=int, default=125, help="of a prompt, ±20%% (125)")
    parser.add_argument("--model-size", choices=SIZES, default="gpt2")
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8", help="of ours")
    parser.add_argument("--threads", type=int, help="CPU threads of each engine (all cores)")
    parser.add_argument("--peers", default=",".join(available()), help="default: all installed")
    parser.add_argument("--short", action="store_true", help="few repetitions: does it run?")
    parser.add_argument("--models", type=int, metavar="N", help="also talk with N models at once")
    parser.add_argument(
        "--arrivals", type=int, metavar="N", help="also let N requests come at once"
    )
    parser.add_argument("--adapters", type=int, metavar="N", help="also talk with N adapters")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="only talk, for so long")
    parser.add_argument("--outliers", action="store_true", help="only what int8 costs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    options.peers = [name for name in options.peers.split(",") if name]
    if missing := set(options.peers) - set(available()):
        parser.error(f"not installed (uv sync --extra peers): {', '.join(sorted(missing))}")
    return options


def _settings(options: argparse.Namespace, built: Path) -> WorkerSettings:
    return WorkerSettings(threads=options.threads, precision=options.precision, build_cache=built)


async def _soak(
    options: argparse.Namespace, folder: str, built: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    async with WorkerClient(_settings(options, built), embedded=folder) as client:
        if options.adapters:
            parts = await soak_adapters(
                client, folder, options.adapters, options.soak, options.new_tokens, say
            )
        else:
            parts = await soak(client, folder, options.soak, options.new_tokens, say)
        return {"soak": parts}


async def _measure(
    options: argparse.Namespace, folder: str, built: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    streams = [int(number) for number in options.streams.split(",")]
    params = SamplingParams(max_new_tokens=options.new_tokens)
    settings = _settings(options, built)
    ready = {"first_build_s": await _start(settings, folder), "cached_s": 0.0}
    ready["cached_s"] = await _start(settings, folder)
    async with WorkerClient(settings, embedded=folder) as client:
        with contextlib.ExitStack() as stack:
            peers = {
                name: stack.enter_context(_peer(name, folder, params, options.threads))
                for name in options.peers
            }
            say(f"rounds of {OURS}, {', '.join(options.peers)}: tokens/s, first token, whole reply")
            engines, stall = await _rounds(options, client, peers, folder, streams, params, say)
        memory = memory_mb(client.pid)
        say("the second and later messages of a channel ...")
        effort = SHORT if options.short else Effort()
        second = await second_message(client, folder, options.prompt_tokens, effort)
        say("new weights while people talk ...")
        swapped = await swap(client, folder, options.new_tokens, effort)
    return {
        **await _crowds(options, settings, folder, say),
        "engines": {name: _medians(rounds) for name, rounds in engines.items()},
        "loop_stall_ms": round(1000 * stall, 2),
        "memory_mb": memory,
        **second,
        "swap": swapped,
        "ready": ready,
        "bot_process": bot_process(),
        "settings": {
            "model_size": options.model_size,
            "precision": options.precision,
            "prompt_tokens": options.prompt_tokens,
            "new_tokens": options.new_tokens,
            "rounds": options.rounds,
            "cores": os.cpu_count(),
        },
    }


async def _crowds(
    options: argparse.Namespace, settings: WorkerSettings, folder: str, say: Callable[[str], None]
) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if options.models:
        say(f"a conversation with each of {options.models} models ...")
        parts["models"] = await several_models(
            settings, folder, options.models, options.new_tokens, short=options.short
        )
    if options.arrivals:
        say(f"{options.arrivals} requests that arrive together ...")
        parts["arrivals"] = await asyncio.to_thread(
            partial(arrivals, short=options.short),
            settings,
            folder,
            options.arrivals,
            options.new_tokens,
        )
    if options.adapters:
        say(f"conversations with {options.adapters} adapters ...")
        params = SamplingParams(max_new_tokens=options.new_tokens)

        async def talk(client: WorkerClient, models: Sequence[str]) -> float:
            texts = prompts(len(models), options.prompt_tokens)
            return (await _ours(client, models, texts, params)).decode_tok_s

        parts["adapters"] = await many_adapters(
            settings, folder, options.adapters, options.new_tokens, talk, short=options.short
        )
    return parts


async def _start(settings: WorkerSettings, folder: str) -> float:
    """Seconds from the start of a worker until its model answers."""
    began = time.perf_counter()
    async with WorkerClient(settings, embedded=folder):
        return round(time.perf_counter() - began, 2)


Engines = dict[str, dict[int, list[Round]]]


async def _rounds(
    options: argparse.Namespace,
    client: WorkerClient,
    peers: dict[str, Connection],
    folder: str,
    streams: list[int],
    params: SamplingParams,
    say: Callable[[str], None],
) -> tuple[Engines, float]:
    """The rounds of each engine by the number of conversations; the longest stall in seconds."""
    engines: Engines = {name: {number: [] for number in streams} for name in (OURS, *peers)}
    stall = 0.0
    for n, number in enumerate([1, *(one for one in streams for _ in range(options.rounds))]):
        texts = prompts(number, options.prompt_tokens)
        async with _watch_loop() as stalls:
            rounds = {OURS: await _ours(client, [folder] * number, texts, params)}
        stall = max(stall, *stalls)
        for name, peer in peers.items():
            peer.send(texts)
            answer = await asyncio.to_thread(peer.recv)
            if isinstance(answer, str):
                raise SystemExit(f"{name} failed: {answer}")
            rounds[name] = answer
        say(f"{number:3} conversations: {'; '.join(map(_brief, rounds.values()))}")
        for name, one in rounds.items():
            if n:  # the first round was to warm up
                engines[name][number].append(one)
    return engines, stall


# --- ours ----------------------------------------------------------------------------------------


async def _ours(
    client: WorkerClient, folders: Sequence[str], texts: Sequence[str], params: SamplingParams
) -> Round:
    began = time.perf_counter()

    async def converse(folder: str, text: str) -> Progress:
        progress: Progress = []
        async for piece in client.generate(folder, [Message(Role.USER, text)], params):
            if isinstance(piece, TextDelta | Finished):
                progress.append((time.perf_counter(), piece.new_tokens))
        if progress[-1][1] != params.max_new_tokens:
            raise RuntimeError(f"a reply ended after {progress[-1][1]} tokens")
        return progress

    return _round(began, await asyncio.gather(*map(converse, folders, texts)))


def _round(began: float, replies: Sequence[Progress]) -> Round:
    firsts = [progress[0][0] for progress in replies]
    ends = [progress[-1][0] for progress in replies]
    start, end = max(firsts), min(ends)
    if end > start:
        said = sum(_tokens(progress, end) - _tokens(progress, start) for progress in replies)
        speed = said / (end - start)
    else:  # they never all decode: the sum of what each does by itself
        speed = sum((one[-1][1] - one[0][1]) / (one[-1][0] - one[0][0]) for one in replies)
    return Round(
        decode_tok_s=speed,
        ttft_ms=1000 * (statistics.median(firsts) - began),
        reply_s=statistics.median(ends) - began,
    )


def _tokens(progress: Progress, at: float) -> float:
    """Tokens of a reply at a moment; between two pieces as if they came evenly."""
    for (before, few), (after, many) in pairwise(progress):
        if before <= at <= after and after > before:
            return few + (many - few) * (at - before) / (after - before)
    return progress[-1][1]


@contextlib.asynccontextmanager
async def _watch_loop() -> AsyncIterator[list[float]]:
    """How much later than it should a task wakes, in seconds."""
    stalls = [0.0]

    async def wake() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(WAKE_S)
            stalls.append(time.perf_counter() - began - WAKE_S)

    task = asyncio.create_task(wake())
    try:
        yield stalls
    finally:
        task.cancel()


# --- the peers -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _peer(
    name: str, folder: str, params: SamplingParams, threads: int | None
) -> Iterator[Connection]:
    """A process that answers a list of prompts with a Round, or says why not."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_run_peer, args=(theirs, name, folder, params, threads), daemon=True
    )
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join()


def _run_peer(
    connection: Connection, name: str, folder: str, params: SamplingParams, threads: int | None
) -> None:
    from transformers import AutoTokenizer

    from model.chat_template import build_prompt

    if hasattr(os, "nice"):
        os.nice(5)  # as our worker
    tokenizer = AutoTokenizer.from_pretrained(folder)
    try:
        peer = PEERS[name](folder, threads)
    except (ImportError, RuntimeError, ValueError) as e:
        connection.send(repr(e))
        return
    with contextlib.suppress(EOFError):
        while True:
            texts = connection.recv()
            began = time.perf_counter()
            ids = [
                build_prompt(tokenizer, [Message(Role.USER, one)], 800).input_ids for one in texts
            ]
            times = peer.answer(ids, params)
            last = params.max_new_tokens
            connection.send(_round(began, [[(first, 1), (end, last)] for first, end in times]))


# --- the bot's process ---------------------------------------------------------------------------

BOT = """
import asyncio, sys
from pathlib import Path
import simcord
from bot.app import build_bot
from bot.settings import load_settings
from model.worker.client import WorkerClient

async def main():
    settings = load_settings(gpt2bot_home=Path(sys.argv[1]), default_model="tiny")
    async with build_bot(settings, worker=WorkerClient()) as bot:  # one that was not started
        async with simcord.run(bot, shard_count=1):
            status = Path("/proc/self/status")
            lines = status.read_text().splitlines() if status.exists() else []
            kib = [int(line.split()[1]) for line in lines if line.startswith("VmRSS")]
            print(kib[0] if kib else 0, flush=True)

asyncio.run(main())
"""


def bot_process() -> dict[str, float | None]:
    """Seconds from the start of the bot's process, without a worker, until Discord has said READY
    (SimCord plays Discord, and its own import is in both figures), and its memory then in MB."""
    with tempfile.TemporaryDirectory() as home:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", BOT, home],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        ready_s = time.perf_counter() - began
        process.communicate()
    if not line.strip():
        raise SystemExit("the bot's process did not start")
    kib = int(line)
    return {"ready_s": round(ready_s, 2), "memory_mb": round(kib / 1024, 1) if kib else None}


# --- what is printed -----------------------------------------------------------------------------


def _medians(rounds: dict[int, list[Round]]) -> dict[str, dict[str, float]]:
    def median(of: list[Round], field: str) -> float:
        return round(float(statistics.median(asdict(one)[field] for one in of)), 3)

    fields = ("decode_tok_s", "ttft_ms", "reply_s")
    return {
        str(number): {field: median(of, field) for field in fields} for number, of in rounds.items()
    }


def _brief(one: Round) -> str:
    return f"{one.decode_tok_s:.0f}, {one.ttft_ms:.0f} ms, {one.reply_s:.2f} s"


COLUMNS = (
    ("decode_tok_s", "decode tokens/s, all together while all decode", 0, 1),
    ("ttft_ms", "first token, ms", 0, -1),
    ("reply_s", "whole reply, s", 2, -1),
)
"""Field, title, digits, and whether more (1) or less (-1) is better."""


def _print_tables(result: dict[str, Any]) -> None:
    engines = result["engines"]
    for field, title, digits, sign in COLUMNS:
        print(f"\n{title}; in brackets how many times better {OURS} is")
        print("conversations" + "".join(f"{name:>18}" for name in engines))
        for number, mine in engines[OURS].items():
            cells = [f"{mine[field]:.{digits}f}"]
            for name in list(engines)[1:]:
                value = engines[name][number][field]
                cells.append(f"{value:.{digits}f} ({(mine[field] / value) ** sign:.2f})")
            print(f"{number:>13}" + "".join(f"{cell:>18}" for cell in cells))
    _print_rest(result)


def _print_rest(result: dict[str, Any]) -> None:
    cold, second = result["cold_ttft_ms"], result["second_message_ttft_ms"]
    swapped, ready, bot = result["swap"], result["ready"], result["bot_process"]
    print(
        f"\nfirst token of a channel's later message: {second} ms, of the same prompt in a channel "
        f"that nothing is known of: {cold} ms ({second / cold:.2f}; medians)"
        f"\nnew weights, {swapped['streams']} conversations going on: ready after "
        f"{swapped['seconds']} s; speed meanwhile {swapped['speed_kept']:.2f} of that before; "
        f"longest pause {swapped['longest_pause_ms']} ms (before: {swapped['pause_before_ms']} ms)"
        f"; memory of the worker and the build {swapped['memory_mb']} MB"
        f"\nmemory of the worker after those rounds: {result['memory_mb']} MB"
        f"\nready after the start: {ready['cached_s']} s; the very first time, with the build: "
        f"{ready['first_build_s']} s"
        f"\nlongest stall of the bot's event loop: {result['loop_stall_ms']} ms"
        f"\nthe bot's process: ready after {bot['ready_s']} s, {bot['memory_mb']} MB of memory"
    )
    if "models" in result:
        alone, *others = result["models"].values()
        for number, speeds in zip(list(result["models"])[1:], others, strict=True):
            shares = ", ".join(f"{one} ({one / alone:.2f})" for one in speeds)
            print(f"one model: {alone} tokens/s; {number} at once: {shares}")
    if "adapters" in result:
        one = result["adapters"]
        print(
            f"{one['count']} adapters of one base: {one['mixed_tok_s']} tokens/s with different "
            f"ones, {one['base_tok_s']} with the base alone "
            f"({one['mixed_tok_s'] / one['base_tok_s']:.2f}); memory of the worker "
            f"{one['resident_mb']} MB; a new version answers after {one['swap_ms']} ms, while "
            f"others talk after {one['busy_swap_ms']} ms"
        )
    if "arrivals" in result:
        waits = result["arrivals"]
        for what, title in (("first_s", "first words"), ("end_s", "whole reply")):
            mine, theirs = waits[f"mean_{what}"], waits[f"fifo_mean_{what}"]
            print(
                f"requests that arrive together, mean wait for the {title}: {mine:.3f} s; in the "
                f"order of arrival, one by one: {theirs:.3f} s ({mine / theirs:.2f})"
            )


if __name__ == "__main__":
    main()
