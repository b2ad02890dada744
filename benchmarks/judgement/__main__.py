"""How surely people's judgement steers the bot: `python -m benchmarks.judgement [--json]`.

`duel`: how often a duel of a model with itself is decided, though it is looked at after each vote,
and after how many votes one that is preferred in 65 of 100 votes is. `canary`: after how many
replies a bad checkpoint is taken back, and how often a good one. `taste`: what a stage of training
makes of votes. `forgetting`: whether a removed lesson is gone after a retrain. These two train
`tiny`, which takes many minutes: `--parts duel,canary` leaves them out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.command import Say, run_measurement

Part = Callable[[Path, argparse.Namespace], dict[str, Any]]
"""Measures something, in a folder of its own."""


def simulation(module: str) -> Part:
    """A part that counts in `--runs` simulated runs."""
    return lambda _, options: import_module(module).measure(options.runs, options.seed)


def training(module: str) -> Part:
    """A part that trains models."""
    return lambda folder, options: import_module(module).measure(folder, options.seed)


PARTS: Mapping[str, Part] = {
    "duel": simulation("benchmarks.judgement.duels"),
    "canary": simulation("benchmarks.judgement.canaries"),
    "taste": training("benchmarks.judgement.taste"),
    "forgetting": training("benchmarks.judgement.forgetting"),
}
"""The parts by name; their modules are imported only when they are measured."""


def main() -> int:
    options = parse_arguments()
    measure: Callable[[Path, Say], Awaitable[dict[str, Any]]] = partial(measure_parts, options)
    run_measurement(measure, show, as_json=options.json)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judgement", description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--runs", type=int, default=1000, help="of each simulation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one object")
    options = parser.parse_args()
    if unknown := set(options.parts.split(",")) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return options


async def measure_parts(options: argparse.Namespace, folder: Path, say: Say) -> dict[str, Any]:
    """The figures of all parts that are asked for."""
    figures: dict[str, Any] = {}
    for name in options.parts.split(","):
        work = folder / name
        work.mkdir()
        figures |= PARTS[name](work, options)
        say(f"{name}: measured")
    return figures


def show(figures: dict[str, Any]) -> None:
    """One line for each figure."""
    for name, value in figures.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    sys.exit(main())
