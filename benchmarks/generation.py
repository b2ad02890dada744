"""How fast replies are made: the bot's worker next to `model.generate()`, in one run.

`python -m benchmarks.generation` makes a model of gpt2's size with random weights, so nothing is
downloaded. Ours are conversations through the real WorkerClient and worker process; the peer is
transformers' `generate()` with the same prompts as one batch, in a process of its own. Rounds
alternate between the two, and medians are printed. Meanwhile a task measures how long the bot's
event loop stood still.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import statistics
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from data.schema import Message, Role
from model.client import WorkerClient
from model.messages import Finished
from model.sampling import SamplingParams
from model.settings import WorkerSettings

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"n_embd": 256, "n_layer": 4, "n_head": 4},
    "gpt2": {"n_embd": 768, "n_layer": 12, "n_head": 12},
    "gpt2-medium": {"n_embd": 1024, "n_layer": 24, "n_head": 16},
}
VOCABULARY = 50257
WAKE_S = 0.005
"""How often the task wakes that measures the event loop."""


@dataclass(frozen=True, slots=True)
class Round:
    """Conversations that began together: the sum of what each decodes a second after its first
    token, and medians of the waits for the first token and for the end."""

    decode_tok_s: float
    ttft_ms: float
    reply_s: float


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        say = partial(print, file=sys.stderr if options.json else sys.stdout, flush=True)
        say(f"making a model of the size of {options.model_size}, with random weights ...")
        _in_child(_make_folder, folder, options.model_size)
        result = asyncio.run(_measure(options, folder, say))
    if options.json:
        print(json.dumps(result))
    else:
        _print_table(result)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--streams", default="1,4,8,16", help="conversations at a time (1,4,8,16)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each, at least 1 (3)")
    parser.add_argument("--new-tokens", type=int, default=30, help="tokens of a reply (30)")
    parser.add_argument("--prompt-tokens", type=int, default=125, help="of a prompt, ±20%% (125)")
    parser.add_argument("--model-size", choices=SIZES, default="gpt2")
    parser.add_argument("--threads", type=int, help="CPU threads of either engine (all cores)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


async def _measure(
    options: argparse.Namespace, folder: str, say: Callable[[str], None]
) -> dict[str, Any]:
    streams = [int(number) for number in options.streams.split(",")]
    params = SamplingParams(max_new_tokens=options.new_tokens)
    ours: dict[int, list[Round]] = {number: [] for number in streams}
    theirs: dict[int, list[Round]] = {number: [] for number in streams}
    stall = 0.0
    settings = WorkerSettings(threads=options.threads, max_sequences=max(*streams, 16))
    async with WorkerClient(settings, embedded=folder) as client:
        with _peer(folder, params, options.threads) as peer:
            for number in [1, *(one for one in streams for _ in range(options.rounds))]:
                prompts = _prompts(number, options.prompt_tokens)
                async with _watch_loop() as stalls:
                    mine = await _ours(client, folder, prompts, params)
                peer.send(prompts)
                other = await asyncio.to_thread(peer.recv)
                say(f"{number:3} conversations: {_brief(mine)}; generate() {_brief(other)}")
                if number in ours:
                    ours[number].append(mine)
                    theirs[number].append(other)
                stall = max(stall, *stalls)
    if 1 in ours:  # the first round was to warm up
        del ours[1][0], theirs[1][0]
    return {
        "engines": {"gpt2bot": _medians(ours), "generate": _medians(theirs)},
        "loop_stall_ms": round(1000 * stall, 2),
        "bot_process": bot_process(),
        "settings": {
            "model_size": options.model_size,
            "prompt_tokens": options.prompt_tokens,
            "new_tokens": options.new_tokens,
            "rounds": options.rounds,
            "cores": os.cpu_count(),
        },
    }


# --- ours ----------------------------------------------------------------------------------------


async def _ours(
    client: WorkerClient, folder: str, prompts: Sequence[str], params: SamplingParams
) -> Round:
    began = time.perf_counter()

    async def converse(prompt: str) -> tuple[float, float]:
        first = None
        message = Message(Role.USER, prompt)
        async for piece in client.generate(folder, [message], params):
            first = first or time.perf_counter()
            if isinstance(piece, Finished) and piece.new_tokens != params.max_new_tokens:
                raise RuntimeError(f"a reply ended after {piece.new_tokens} tokens")
        assert first is not None
        return first, time.perf_counter()

    times = await asyncio.gather(*(converse(prompt) for prompt in prompts))
    return _round(began, times, params.max_new_tokens)


def _round(began: float, times: Sequence[tuple[float, float]], new_tokens: int) -> Round:
    """`times` are those of the first token and of the end of each conversation, in seconds."""
    firsts, ends = zip(*times, strict=True)
    return Round(
        decode_tok_s=sum((new_tokens - 1) / (end - first) for first, end in times),
        ttft_ms=1000 * (statistics.median(firsts) - began),
        reply_s=statistics.median(ends) - began,
    )


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


# --- the peer ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _peer(folder: str, params: SamplingParams, threads: int | None) -> Iterator[Connection]:
    """A process that answers a list of prompts with a Round."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run_peer, args=(theirs, folder, params, threads), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join()


def _run_peer(
    connection: Connection, folder: str, params: SamplingParams, threads: int | None
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from model.chat import fit
    from model.device import best_device

    _quiet()
    if hasattr(os, "nice"):
        os.nice(5)  # as our worker
    if threads:
        torch.set_num_threads(threads)
    device = best_device()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=device.dtype)
    model.to(device.name).train(False)
    with contextlib.suppress(EOFError):
        while True:
            prompts = connection.recv()
            began = time.perf_counter()
            ids = [fit(tokenizer, [Message(Role.USER, one)], 800).input_ids for one in prompts]
            first, end = _generate(model, ids, params)
            connection.send(_round(began, len(ids) * [(first, end)], params.max_new_tokens))


def _generate(model: Any, ids: list[list[int]], params: SamplingParams) -> tuple[float, float]:
    """Times of the first token and of the end of a batch."""
    import torch

    width = max(map(len, ids))
    firsts: list[float] = []

    def after_a_token(input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        firsts.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    generate: Any = model.generate
    generate(
        input_ids=torch.tensor([[0] * (width - len(one)) + one for one in ids]).to(model.device),
        attention_mask=torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in ids]).to(
            model.device
        ),
        do_sample=True,
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        repetition_penalty=params.repetition_penalty,
        no_repeat_ngram_size=params.no_repeat_ngram,
        min_new_tokens=params.max_new_tokens,
        max_new_tokens=params.max_new_tokens,
        pad_token_id=0,
        stopping_criteria=[after_a_token],
    )
    return firsts[0], time.perf_counter()


# --- the model -----------------------------------------------------------------------------------


def _make_folder(folder: str, size: str) -> None:
    """Random weights; a vocabulary of gpt2's size in which each byte is a token."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

    from model.chat import add_control_tokens

    _quiet()
    end = "<|endoftext|>"
    names = [end, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    names += [f"Ġw{n}" for n in range(VOCABULARY - len(names) - 2)]
    bpe = Tokenizer(models.BPE({name: n for n, name in enumerate(names)}, []))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    tokenizer = GPT2Tokenizer(
        tokenizer_object=bpe, bos_token=end, eos_token=end, unk_token=end, pad_token=end
    )
    add_control_tokens(tokenizer)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        **SIZES[size], vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, pad_token_id=0
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():  # a reply does not end before its length: these tokens never win
        model.transformer.wte.weight[tokenizer.all_special_ids] = 0.0
    model.save_pretrained(folder)


def _prompts(count: int, tokens: int) -> list[str]:
    """Texts of 80 to 120 % of so many tokens (bytes, that is) less those of the template."""
    letters = 40 * string.ascii_lowercase
    sizes = [round(tokens * (0.8 + 0.4 * ((7 * n) % count) / count)) - 3 for n in range(count)]
    return [letters[n : n + max(1, size)] for n, size in enumerate(sizes)]


def _in_child(target: Any, *args: Any) -> None:
    """Torch stays out of this process, which plays the bot's."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=args)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("the model could not be made")


def _quiet() -> None:
    import transformers

    quiet: Any = transformers.utils.logging
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()


# --- the bot's process ---------------------------------------------------------------------------

BOT = """
import asyncio, sys
from pathlib import Path
import simcord
from bot.app import build
from bot.settings import load_settings
from model.client import WorkerClient

async def main():
    settings = load_settings(gpt2bot_home=Path(sys.argv[1]), default_model="tiny")
    async with build(settings, worker=WorkerClient()) as bot:  # one that was not started
        async with simcord.run(bot):
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
    return f"{one.decode_tok_s:.0f} tokens/s, {one.ttft_ms:.0f} ms, {one.reply_s:.2f} s"


def _print_table(result: dict[str, Any]) -> None:
    ours, theirs = result["engines"]["gpt2bot"], result["engines"]["generate"]
    head = ("decode tokens/s", "first token, ms", "whole reply, s")
    print("\nmedians: gpt2bot / generate() (ratio; above 1 is better for gpt2bot)")
    print("conversations" + "".join(f"{title:>28}" for title in head))
    for number, mine in ours.items():
        peer = theirs[number]
        ratios = (
            mine["decode_tok_s"] / peer["decode_tok_s"],
            peer["ttft_ms"] / mine["ttft_ms"],
            peer["reply_s"] / mine["reply_s"],
        )
        cells = [
            f"{value:.{digits}f} / {peer[field]:.{digits}f} ({ratio:.2f})"
            for (field, value), ratio, digits in zip(mine.items(), ratios, (0, 0, 2), strict=True)
        ]
        print(f"{number:>13}" + "".join(f"{cell:>28}" for cell in cells))
    print(f"\nlongest stall of the bot's event loop: {result['loop_stall_ms']} ms")
    bot = result["bot_process"]
    print(f"the bot's process: ready after {bot['ready_s']} s, {bot['memory_mb']} MB of memory")


if __name__ == "__main__":
    main()
