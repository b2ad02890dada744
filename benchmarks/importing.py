"""How long a big workbook takes to import, and what the bot feels of it.

`python -m benchmarks.importing` makes an .xlsx of so many rows, and imports it as the bot does: in
a child process, through `read_in_subprocess`. Meanwhile a task measures how long the event loop
stood still, and the same before, with nothing to do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from core.records import Pair
from data.formats.files import write_pairs
from data.formats.sandbox.client import read_in_subprocess

WAKE_S = 0.005
"""How often the task wakes that measures the event loop."""
IDLE_S = 1.0
"""How long it is measured before, with nothing to do: what the machine itself makes of stalls."""
SUBJECTS = ("my sister", "the server", "our new cat", "the train to Kyoto", "this song", "he")
VERBS = ("was late again", "does not start", "is really lovely", "cost more than I thought")
ENDINGS = ("today", "since the update", "and I don't know why", "so what would you do", "😅")
JAPANESE = ("今日はとても寒いですね。", "週末は何をしますか？", "それはいい考えだと思います。")


@dataclass(frozen=True, slots=True)
class Result:
    rows: int
    pairs: int
    file_mb: float
    seconds: float
    child_peak_mb: float
    longest_stall_ms: float
    longest_stall_before_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=100_000, help="of the workbook (100000)")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pairs.xlsx")
        write_pairs(_pairs(options.rows), path)
        result = asyncio.run(_measure(path, round(path.stat().st_size / 10**6, 1)))
    if options.json:
        print(json.dumps(asdict(result)))
    else:
        for key, value in asdict(result).items():
            print(f"{key.replace('_', ' '):>18}: {value:,}")


def _pairs(count: int) -> Iterator[Pair]:
    chance = random.Random(1)
    for n in range(count):
        yield Pair(_sentence(chance), _sentence(chance), f"talk {n // 4}", n % 4 + 1, "benchmark")


def _sentence(chance: random.Random) -> str:
    if chance.random() < 0.3:
        return "".join(chance.choices(JAPANESE, k=2)) + str(chance.randrange(10_000))
    parts = (chance.choice(words) for words in (SUBJECTS, VERBS, ENDINGS))
    return f"{' '.join(parts)}, number {chance.randrange(10_000)}."


async def _measure(path: Path, file_mb: float) -> Result:
    before: list[float] = []
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(_tick(before), IDLE_S)
    stalls: list[float] = []
    ticking = asyncio.create_task(_tick(stalls))
    began = time.perf_counter()
    staged = await read_in_subprocess(path, path.parent)
    seconds = time.perf_counter() - began
    ticking.cancel()
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Result(
        rows=staged.summary.rows,
        pairs=staged.summary.pairs,
        file_mb=file_mb,
        seconds=round(seconds, 2),
        child_peak_mb=round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit, 1),
        longest_stall_ms=round(max(stalls) * 1000, 1),
        longest_stall_before_ms=round(max(before) * 1000, 1),
    )


async def _tick(stalls: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(WAKE_S)
        stalls.append(time.perf_counter() - began - WAKE_S)


if __name__ == "__main__":
    main()
