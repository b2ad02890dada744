"""What files that were made to do harm cost the bot, and the imports of other servers.

`python -m benchmarks.bombs` makes small files that become huge, and files of 20 MB that are slow to
read, and imports each as the bot does: through the slots of the importer and a child process, up to
the preview, and where there are pairs into a real database. Meanwhile another server imports a
small file. A line for each: the growth of this process's memory at its peak, the seconds, those of
the processor (with the small file's), and how much longer the other server waited than alone. It
needs Linux's /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bot.discord_ui.cogs.dataset.offers import ReadSlots
from bot.discord_ui.embeds.dataset import import_embed
from core.errors import ImportRefused
from core.records import IMPORT_SOURCE
from data.formats.sandbox.client import read_in_subprocess
from data.storage.storage import Storage, open_storage

RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
KINDS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MAX_RATIO = 190
"""Below the ratio at which a workbook is refused: what would be above is stuffed with noise."""
ATTACKER, OTHER_SERVER = 1, 2


@dataclass(frozen=True, slots=True)
class Result:
    bomb: str
    file_mb: float
    peak_growth_mb: float
    seconds: float
    cpu_s: float
    other_server_s: float
    outcome: str


def workbook(
    sheet: Callable[[], str], strings: tuple[str, ...] = (), sheets: int = 1
) -> Callable[[Path], None]:
    """A maker of a workbook with this sheet, named so many times."""

    def make(path: Path) -> None:
        texts = "".join(f"<si><t>{text}</t></si>" for text in strings)
        parts = {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": _relations("officeDocument", "xl/workbook.xml"),
            "xl/workbook.xml": f'<workbook xmlns:r="{KINDS}"><sheets>'
            + '<sheet name="s" r:id="r0"/>' * sheets
            + "</sheets></workbook>",
            "xl/_rels/workbook.xml.rels": _relations(
                "worksheet", "worksheets/sheet1.xml", "sharedStrings", "sharedStrings.xml"
            ),
            "xl/worksheets/sheet1.xml": f"<worksheet><sheetData>{sheet()}</sheetData></worksheet>",
            "xl/sharedStrings.xml": f"<sst>{texts}</sst>",
        }
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as package:
            for name, content in parts.items():
                package.writestr(name, content)
            noise = sum(map(len, parts.values())) // MAX_RATIO
            package.writestr("xl/media/image1.png", random.Random(1).randbytes(noise))

    return make


def _relations(*kinds_and_targets: str) -> str:
    kinds, targets = kinds_and_targets[::2], kinds_and_targets[1::2]
    listed = "".join(
        f'<Relationship Id="r{n}" Type="{KINDS}/{kind}" Target="{target}"/>'
        for n, (kind, target) in enumerate(zip(kinds, targets, strict=True))
    )
    return f'<Relationships xmlns="{RELATIONS}">{listed}</Relationships>'


def text(content: Callable[[], str]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_text(content(), encoding="utf-8")

    return make


def _row(*strings: int) -> str:
    cells = "".join(f'<c t="s"><v>{n}</v></c>' for n in strings)
    return f"<row>{cells}</row>"


HEAD = ("user", "bot")
MESSAGE = '{"role":"user","content":"a"}'
BOMBS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "cells that share one text": (
        "a.xlsx",
        workbook(lambda: _row(0, 1) + _row(2, 2) * 100_000, (*HEAD, "x" * 4000)),
    ),
    "cells that share a text of 1 MB": (
        "a.xlsx",
        workbook(lambda: _row(0, 1) + _row(2, 2) * 20_000, (*HEAD, "x " * 500_000)),
    ),
    "50,000 sheets on one part": (
        "a.xlsx",
        workbook(lambda: _row(0, 1) + _row(0, 0) * 20_000, HEAD, sheets=50_000),
    ),
    "35 million empty rows": ("a.xlsx", workbook(lambda: "<row/>" * 35_000_000)),
    "50 million empty cells": ("a.xlsx", workbook(lambda: f"<row>{'<c/>' * 50_000_000}</row>")),
    "a wide heading above wrong rows": (
        "a.csv",
        text(lambda: "user,bot" + "," * 40_000 + "\n" + "x\n\n" * 15_000),
    ),
    "5,000 columns": (
        "a.csv",
        text(lambda: (",".join(f"c{n}" for n in range(5000)) + "\n") * 600),
    ),
    "one row of 10 million cells": ("a.csv", text(lambda: "user,bot\n" + "a," * 9_900_000)),
    "900,000 wrong lines": ("a.jsonl", text(lambda: "x\n" * 900_000)),
    "6 million empty lists": ("a.json", text(lambda: f"[{'[],' * 6_000_000}[]]")),
    "a conversation of 600,000 messages": (
        "a.jsonl",
        text(lambda: f'{{"messages":[{",".join([MESSAGE] * 600_000)}]}}'),
    ),
    "9 million nodes of YAML": ("a.yml", text(lambda: f"conversations: [{'[a,b],' * 3_000_000}]")),
    "50,000 right pairs": (
        "a.csv",
        text(lambda: "user,bot\n" + "".join(f"q{n},answer {n}\n" for n in range(50_000))),
    ),
}
"""The name of each bomb, of its file, and how it is made. The last one is an honest file."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="bombs whose names contain this")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    results = asyncio.run(_measure_all(options.only, show=not options.json))
    if options.json:
        print(json.dumps([asdict(result) for result in results]))


async def _measure_all(only: str, *, show: bool) -> list[Result]:
    results = []
    if show:
        print("| file | MB | bot's memory | seconds | of the processor | other server | outcome |")
        print("|---|---|---|---|---|---|---|")
    for bomb, (name, _) in BOMBS.items():
        if only not in bomb:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            await asyncio.to_thread(_in_a_child, bomb, path)
            async with open_storage(Path(folder, "bot.sqlite3")) as storage:
                result = await _measure(bomb, path, Path(folder), storage)
        results.append(result)
        if show:
            print(
                f"| {bomb} | {result.file_mb:.2f} | +{result.peak_growth_mb:.1f} MB "
                f"| {result.seconds:.1f} | {result.cpu_s:.1f} "
                f"| +{result.other_server_s:.1f} s | {result.outcome} |",
                flush=True,
            )
    return results


def _in_a_child(bomb: str, path: Path) -> None:
    """Make the file in a process of its own: its memory is not the bot's."""
    code = f"from benchmarks.bombs import *; BOMBS[{bomb!r}][1](Path({str(path)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)


async def _measure(bomb: str, path: Path, folder: Path, storage: Storage) -> Result:
    slots, small = ReadSlots(), folder / "small.csv"
    await asyncio.to_thread(small.write_text, "user,bot\nq,a\n")
    size = await asyncio.to_thread(lambda: path.stat().st_size)
    alone = await _seconds(_import(slots, storage, OTHER_SERVER, small))
    before = _reset_peak()
    began, used = time.perf_counter(), _cpu_of_children()
    other = asyncio.create_task(_seconds(_import(slots, storage, OTHER_SERVER, small)))
    outcome = await _import(slots, storage, ATTACKER, path)
    seconds = time.perf_counter() - began
    growth = _status("VmHWM") - before
    waited = await other - alone
    return Result(
        bomb=bomb,
        file_mb=round(size / 10**6, 2),
        peak_growth_mb=round(growth / 2**10, 1),
        seconds=round(seconds, 1),
        cpu_s=round(_cpu_of_children() - used, 1),
        other_server_s=round(max(0.0, waited), 1),
        outcome=outcome,
    )


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def _seconds(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def _import(slots: ReadSlots, storage: Storage, scope: int, path: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            async with slots.taken(scope):
                staged = await read_in_subprocess(path, Path(folder))
        except ImportRefused:
            return "refused"
        known = await storage.examples.count_existing_pairs(scope, staged.pairs())
        import_embed(path.name, staged.summary, known)
        await storage.examples.add_pairs(scope, staged.pairs(), 1, IMPORT_SOURCE)
        return f"{staged.summary.pairs:,} pairs, {staged.summary.errors:,} wrong rows"


def _reset_peak() -> int:
    """Forget the peak of this process's memory; return what it has now, in kB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


if __name__ == "__main__":
    main()
