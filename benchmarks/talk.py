"""How sensible a model's small talk is, by blind rating.

    python -m benchmarks.talk --language ja --models model/tiny_ja OTHER --sheet sheet.csv

asks each model (a folder) the everyday messages of `benchmarks/talk_messages`, `--draws` times
each, sampled as the bot samples, and writes the replies in random order without the names of the
models. A person gives each a rating from 0 (makes no sense) to 2 (right), then

    python -m benchmarks.talk --rated sheet.csv

prints the mean of each model, with a 95 % interval over the messages. The messages were written by
somebody who had not seen the training data. The temperature of `tiny` was chosen by the English
ones.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from bot.settings import Settings, sampling_params
from core.records import Message, Role
from model.registry import ModelOption, model_options
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from model.worker.messages import Finished

MESSAGES = Path(__file__).with_name("talk_messages")
COLUMNS = ("number", "message", "reply", "rating")
MAX_RATING = 2


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.talk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--language", choices=("en", "ja"), default="en")
    parser.add_argument("--models", type=Path, nargs="+", default=[], help="folders")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--sampling", default="{}", help='JSON, such as {"temperature": 0.5}')
    parser.add_argument("--sheet", type=Path, help="CSV file to write, for whoever rates")
    parser.add_argument("--rated", type=Path, help="the sheet with its ratings")
    options = parser.parse_args()
    if options.rated:
        for model, line in summary(options.rated).items():
            print(f"{model}: {line}")
    elif options.sheet and options.models:
        sampling = json.loads(options.sampling)
        write_sheet(options.sheet, options.models, options.language, options.draws, **sampling)
    else:
        parser.error("give --models and --sheet, or --rated")
    return 0


def write_sheet(
    sheet: Path,
    models: Sequence[Path],
    language: str,
    draws: int,
    **sampling: Any,
) -> None:
    """Write the replies of all models to `sheet`, and beside it which model each is from."""
    messages = (MESSAGES / f"{language}.txt").read_text(encoding="utf-8").splitlines()
    rows = [
        row
        for model in models
        for row in asyncio.run(_ask(model.absolute(), messages, draws, sampling))
    ]
    random.Random(0).shuffle(rows)
    with sheet.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((n, text, reply, "") for n, (_, text, reply) in enumerate(rows, 1))
    key = {n: model for n, (model, _, _) in enumerate(rows, 1)}
    _key(sheet).write_text(json.dumps(key), encoding="utf-8")


def usual_params(model: Path) -> SamplingParams:
    """As the bot samples with a model if no setting says otherwise."""
    return sampling_params(Settings(_env_file=None), option_of(model))


def option_of(model: Path) -> ModelOption | None:
    """The option whose folder it is."""
    return next((one for one in model_options.values() if one.source == str(model)), None)


def _key(sheet: Path) -> Path:
    return sheet.with_suffix(".key.json")


async def _ask(
    model: Path, messages: Sequence[str], draws: int, sampling: dict[str, Any]
) -> list[tuple[str, str, str]]:
    source, params = str(model), replace(usual_params(model), **sampling)
    rows = []
    async with WorkerClient(WorkerSettings(), embedded=source) as worker:
        for text in messages:
            for draw in range(draws):
                talk = [Message(Role.USER, text)]
                stream = worker.generate(source, talk, replace(params, seed=draw))
                *_, end = [event async for event in stream]
                assert isinstance(end, Finished)
                rows.append((source, text, end.text.strip()))
    return rows


def summary(sheet: Path) -> dict[str, str]:
    """For each model the mean rating, its interval, and how many replies got none of the points."""
    key = json.loads(_key(sheet).read_text(encoding="utf-8"))
    by_model: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            if row["rating"].strip() not in {str(n) for n in range(MAX_RATING + 1)}:
                sys.exit(f"Line {row['number']} of {sheet} has no rating from 0 to {MAX_RATING}.")
            by_model[key[row["number"]]][row["message"]].append(int(row["rating"]))
    return {model: _line(ratings) for model, ratings in by_model.items()}


def _line(by_message: dict[str, list[int]]) -> str:
    means = [fmean(ratings) for ratings in by_message.values()]
    ratings = [one for some in by_message.values() for one in some]
    margin = 1.96 * stdev(means) / len(means) ** 0.5 if len(means) > 1 else 0.0
    return (
        f"{fmean(means):.2f} ± {margin:.2f} of {MAX_RATING}, {ratings.count(0)} of {len(ratings)} "
        "make no sense"
    )


if __name__ == "__main__":
    sys.exit(main())
