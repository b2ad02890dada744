"""A Ray cluster on this machine against the bot's own worker, and what it does under load.

`python -m benchmarks.cluster` needs the extra `cluster`. It starts Ray's processes, and ends them:
a head, and nodes that are as large as one says, though they share this machine's cores. So `tiny`
shows what the way costs, and a model of fixed step time, which takes next to no computation, how
many replicas the bot's own processes can keep busy.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cluster import measures
from benchmarks.cluster.measures import SHORT, Effort
from benchmarks.command import Say, run_measurement

PARTS = ("pipe", "scaling", "tiny", "limit", "killed", "swap")


def main() -> None:
    options = _options()
    run_measurement(partial(_measure, options), _print_table, as_json=options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--parts", type=lambda text: text.split(","), default=PARTS, help=",".join(PARTS)
    )
    parser.add_argument(
        "--step", type=float, default=0.25, help="seconds of a step of the simulated model (0.25)"
    )
    parser.add_argument(
        "--replicas", type=int, default=4, help="how many there are at the swap and the limit (4)"
    )
    parser.add_argument("--short", action="store_true", help="only to see that all of it runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


async def _measure(options: argparse.Namespace, folder: Path, say: Say) -> dict[str, Any]:
    effort = SHORT if options.short else Effort()
    runs = {
        "pipe": partial(measures.against_the_pipe, effort, folder, say),
        "scaling": partial(measures.scaling, effort, options.step, say),
        "tiny": partial(measures.real_scaling, effort, say),
        "limit": partial(measures.limit, effort, options.replicas, say),
        "killed": partial(measures.node_killed, effort, say),
        "swap": partial(measures.swap, effort, options.replicas, folder, say),
    }
    result: dict[str, Any] = {}
    for part in options.parts:
        result |= await runs[part]()
    return result


def _print_table(result: dict[str, Any]) -> None:
    for name, figures in result.items():
        print(f"{name:<24} {figures}")


if __name__ == "__main__":
    main()
