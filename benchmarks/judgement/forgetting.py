"""Whether a lesson that was taken out is gone: `python -m benchmarks.judgement.forgetting`.

Canaries (Carlini et al. 2019, arXiv:1802.08232) are random codes that nobody can guess. `tiny`
learns them beside other codes, then they are taken out and it is trained again from the base, as
a clean retrain does. TWINS models learn the same data as that one, with other seeds: they never
learned a canary either, and their exposures say what is chance. A canary is gone if its exposure
in the new model lies within the interval in which one more such twin is expected.

The receipt of a clean retrain knows no such twin, which would take as long as the retrain itself.
Its limit (`training.run.forgetting.exposure`) is measured beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.training import make_job, run
from core.records import Conversation
from model.chat_template import from_pair
from model.registry import EMBEDDED_FOLDER
from training.config import defaults_for
from training.run.forgetting.exposure import chance_limit, exposure_bits, upper_limit
from training.run.forgetting.lessons import lessons_of
from training.run.forgetting.measure import Voice, load_voice, propose, ranks_in

CANARIES, KEPT, TWINS = 20, 8, 2
T_QUANTILE = 3.46
"""Of Student's t with a degree of freedom for each canary and pair of twins: 95 % for all of the
CANARIES together (two-sided, Bonferroni)."""
THINGS = [
    "red door",
    "blue gate",
    "old mill",
    "north tower",
    "wine cellar",
    "bike shed",
    "boat house",
    "tool box",
    "green room",
    "attic",
    "garage",
    "pantry",
    "library",
    "workshop",
    "stable",
    "greenhouse",
    "lighthouse",
    "chapel",
    "kitchen",
    "laundry",
    "music room",
    "observatory",
    "post box",
    "sauna",
    "tea house",
    "vault",
    "well",
    "barn",
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="only to see that all of it runs")
    parser.add_argument("--json", action="store_true", help="print one object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options.seed, short=options.short)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            print(f"{name:<28} {value}")
    return 0


def measure(folder: Path, seed: int, *, short: bool = False) -> dict[str, float]:
    """Train, forget, and compare: for how many canaries the new model is within the twins'
    interval, and within a receipt's limit; for how many the old one is above them; and the median
    exposures, in bits. `short`: two canaries and a few steps, which teach nothing."""
    canaries, kept = lessons(seed, 2 if short else CANARIES)
    learned = {"old": canaries + kept} | dict.fromkeys(("new", "twin_1", "twin_2"), kept)
    trained = {
        name: train(folder / name, of, seed=n, short=short)
        for n, (name, of) in enumerate(learned.items())
    }
    bits, limits, most = exposures(canaries, trained | {"base": EMBEDDED_FOLDER})
    twins = zip(*(bits[name] for name in bits if name.startswith("twin")), strict=True)
    intervals = predict(list(twins))
    new, old = (list(zip(bits[name], intervals, limits, strict=True)) for name in ("new", "old"))
    return {
        "canaries": len(canaries),
        "new_within_twins": sum(low <= one <= high for one, (low, high), _ in new),
        "old_above_twins": sum(one > high for one, (_, high), _ in old),
        "new_within_limit": sum(one <= limit for one, _, limit in new),
        "old_above_limit": sum(one > limit for one, _, limit in old),
        "interval_bits": round(statistics.median(high - low for low, high in intervals), 2),
        "limit_bits": round(statistics.median(limits), 2),
        "most_bits": round(most, 2),
    } | {f"median_{name}": round(statistics.median(of), 2) for name, of in bits.items()}


def lessons(seed: int, canaries: int) -> tuple[list[Conversation], list[Conversation]]:
    """The canaries, and the codes that stay: all asked in the same way."""
    rng = random.Random(seed)
    things = rng.sample(THINGS, canaries + KEPT)
    codes = rng.sample(range(1000, 10_000), len(things))
    talks = [
        from_pair(f"What is the code of the {thing}?", f"The code is {code}.")
        for thing, code in zip(things, codes, strict=True)
    ]
    return talks[:canaries], talks[canaries:]


def train(job: Path, learn: Sequence[Conversation], *, seed: int, short: bool) -> Path:
    """Train `tiny` as /retrain does, in a process of its own; the checkpoint."""
    usual = defaults_for("tiny", str(EMBEDDED_FOLDER), len(learn))
    config = replace(usual, name=job.name, seed=seed, gate=False)
    if short:
        config = replace(config, epochs=0.01, min_steps=2)
    if not job.exists():
        make_job(job, config, learn)
    print(f"{job.name}: training on {len(learn)} lessons", file=sys.stderr, flush=True)
    run(["training.run", str(job)])
    return job / "checkpoint"


def exposures(
    canaries: Sequence[Conversation], models: Mapping[str, Path]
) -> tuple[dict[str, list[float]], list[float], float]:
    """The exposure of each canary by model; the limit that a receipt has for it; the highest
    exposure that there is. The alternatives are those of the model `new`."""
    new = _voice(models["new"])
    candidates = [propose(one, new) for one in lessons_of(canaries).values()]
    counts = [len(one.texts) for one in candidates]
    ranks = {name: ranks_in(_voice(folder), candidates) for name, folder in models.items()}
    bits = {
        name: [exposure_bits(rank, count) for rank, count in zip(of, counts, strict=True)]
        for name, of in ranks.items()
    }
    limits = [
        max(chance_limit(len(canaries)), upper_limit(rank, count))
        for rank, count in zip(ranks["base"], counts, strict=True)
    ]
    return bits, limits, math.log2(min(counts))


def _voice(folder: Path) -> Voice:
    return load_voice(str(folder), torch.device("cpu"))


def predict(twins: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """The interval in which the exposure of each canary is expected in one more twin: the mean of
    the twins, and T_QUANTILE times the standard deviation of a new one from it. The variance is
    pooled over all canaries."""
    variance = statistics.mean(statistics.variance(of) for of in twins)
    margin = T_QUANTILE * math.sqrt(variance * (1 + 1 / TWINS))
    means = [statistics.mean(of) for of in twins]
    return [(max(0.0, mean - margin), mean + margin) for mean in means]


if __name__ == "__main__":
    sys.exit(main())
