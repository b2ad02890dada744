"""How long the store takes when it is large, and how chat feels while a member is forgotten.

`python -m benchmarks.store` fills a real store in three steps (to 1 %, 10 % and all of the
messages) and measures at each how long `context` takes for channels at random. Then it forgets one
member, while a task reads contexts all the time and another watches the event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import Awaitable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.command import Say, run_measurement
from data.storage.erasure import erase_member
from data.storage.storage import Storage, open_storage

CONTEXT = 5
"""Messages that the model sees, as the bot's default is."""
MEMBER = 7
"""Who is forgotten."""
WAKE_S = 0.005
"""How often the task wakes that measures the event loop."""


def main() -> None:
    options = _options()
    run_measurement(partial(_measure, options), _print_table, as_json=options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--channels", type=int, default=10_000)
    parser.add_argument("--member", type=int, default=20_000, help="messages of one member (20000)")
    parser.add_argument("--reads", type=int, default=2000, help="contexts read at each size (2000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--short", action="store_true", help="to see that all of it runs")
    options = parser.parse_args()
    if options.short:
        options.messages, options.channels, options.member, options.reads = 10_000, 100, 500, 100
    return options


async def _measure(options: argparse.Namespace, folder: Path, say: Say) -> dict[str, Any]:
    path = folder / "bot.sqlite3"
    sizes, there = {}, 0
    async with open_storage(path) as storage:
        for share in (0.01, 0.1, 1.0):
            size = int(options.messages * share)
            say(f"filling it up to {size:,} messages ...")
            await _fill(storage, there, size, options)
            there = size
            waits = await _reads(storage, options.channels, options.reads)
            sizes[str(size)] = _figures(waits)
        [pages] = await storage._fetch_all("PRAGMA page_count")
        say("forgetting one member ...")
        forgotten = await _forget(storage, options.channels)
    return {"context": sizes, "database_mb": round(pages[0] * 4096 / 1e6, 1), "forget": forgotten}


async def _fill(storage: Storage, start: int, stop: int, options: argparse.Namespace) -> None:
    """Messages `start` to `stop`, each third one a reply with its record; the member's are spread
    evenly over all of them."""
    every = max(2, options.messages // options.member)
    numbers = f"""
        WITH RECURSIVE numbers (n) AS
            (SELECT {start} UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {stop})
    """
    await storage._execute(
        f"""
        INSERT INTO messages
            (discord_id, channel_id, author_id, role, content, created_at, scope)
        {numbers}
        SELECT n + 1, abs(random()) % {options.channels},
            CASE WHEN n % {every} = 0 THEN {MEMBER} WHEN n % 3 = 1 THEN 1 ELSE 100 + n % 5000 END,
            iif(n % {every} > 0 AND n % 3 = 1, 'assistant', 'user'),
            'message ' || n || ' ' || hex(randomblob(20 + n % 60)),
            strftime('%Y-%m-%dT%H:%M:%S+00:00', 1700000000 + n, 'unixepoch'), 1
        FROM numbers
        """
    )
    await storage._execute(
        f"""
        INSERT INTO replies (reply_id, channel_id, scope, asked_id, asked_by, model, source,
            seen, cut, prompt_tokens, completion_tokens, seed, sampling, seconds, created_at)
        {numbers}
        SELECT n + 2, 0, 1, n + 1, iif(n % {every} = 0, {MEMBER}, 100 + n % 5000), 'gpt2', 'gpt2',
            '[1,2,3,4,5]', 0, 120, 30, NULL, '{{"temperature": 0.7}}', 0.3,
            strftime('%Y-%m-%dT%H:%M:%S+00:00', 1700000000 + n, 'unixepoch')
        FROM numbers WHERE n % 3 = 0 OR n % {every} = 0
        """
    )


async def _reads(storage: Storage, channels: int, count: int) -> list[float]:
    """Seconds that each context took."""
    chance = random.Random(0)
    return [
        await _seconds(storage.messages.context(chance.randrange(channels), CONTEXT))
        for _ in range(count)
    ]


async def _forget(storage: Storage, channels: int) -> dict[str, Any]:
    """Forget the member while others chat."""
    waits: list[float] = []
    stalls: list[float] = []
    tasks = [
        asyncio.create_task(_read_on(storage, channels, waits)),
        asyncio.create_task(_watch(stalls)),
    ]
    start = time.perf_counter()
    gone = await erase_member(storage, MEMBER)
    seconds = time.perf_counter() - start
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return {
        "messages": gone.messages,
        "replies": gone.replies,
        "seconds": round(seconds, 2),
        "reads": _figures(waits),
        "loop_stall_ms": _ms(max(stalls)),
    }


async def _read_on(storage: Storage, channels: int, waits: list[float]) -> None:
    chance = random.Random(1)
    while True:
        waits.append(await _seconds(storage.messages.context(chance.randrange(channels), CONTEXT)))
        await asyncio.sleep(0)


async def _watch(stalls: list[float]) -> None:
    while True:
        stalls.append(await _seconds(asyncio.sleep(WAKE_S)) - WAKE_S)


async def _seconds(work: Awaitable[object]) -> float:
    start = time.perf_counter()
    await work
    return time.perf_counter() - start


def _figures(waits: Sequence[float]) -> dict[str, float]:
    p99 = sorted(waits)[int(0.99 * (len(waits) - 1))]
    return {
        "median_ms": _ms(statistics.median(waits)),
        "p99_ms": _ms(p99),
        "max_ms": _ms(max(waits)),
    }


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)


def _print_table(result: dict[str, Any]) -> None:
    print(f"\ncontext of {CONTEXT} messages      median       p99       max")
    for size, waits in result["context"].items():
        _print_row(f"{int(size):,} messages", waits)
    gone = result["forget"]
    _print_row("while one is forgotten", gone["reads"])
    print(
        f"\nforgotten: {gone['messages']:,} messages and {gone['replies']:,} replies in "
        f"{gone['seconds']} s; the event loop stood still for {gone['loop_stall_ms']} ms at most; "
        f"the database had {result['database_mb']} MB"
    )


def _print_row(name: str, waits: dict[str, float]) -> None:
    print(f"{name:<24}" + "".join(f"{value:>7.2f} ms" for value in waits.values()))


if __name__ == "__main__":
    main()
