"""How sensible a model's small talk is: by blind rating, and by its loss on talk that it never saw.

    python -m benchmarks.talk --language ja --models model/tiny_ja OTHER --sheet sheet.csv

asks each model (a folder) the everyday messages of `benchmarks/talk_messages`, `--draws` times
each, sampled as the bot samples, and writes the replies in random order without the names of the
models. It prints how varied the replies of each are (the share of distinct n-grams: Li et al. 2016,
arXiv:1510.03055; of words, in Japanese of letters), and how many nobody can read or repeat
themselves. A person gives each a rating from 0 (makes no sense) to 2 (right), then

    python -m benchmarks.talk --rated sheet.csv

prints the mean of each model, with a 95 % interval over the messages. The messages were written by
somebody who had not seen the training data.

    python -m benchmarks.talk --language ja --models model/tiny_ja --data FILES

prints the loss in nats a character, the ends of turns included, on the conversations of each corpus
that `training.tools.tiny` held out of its `--data`: the same files in the same order.
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
from core.records import Conversation, Message, Role
from i18n.catalogue import JAPANESE
from model.registry import ModelOption, model_options
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from model.worker.messages import Finished
from training.run.gate.scripts import is_text, scripts_in

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
    parser.add_argument("--data", type=Path, nargs="+", help="what `training.tools.tiny` was given")
    options = parser.parse_args()
    if options.rated:
        for model, line in summary(options.rated).items():
            print(f"{model}: {line}")
    elif options.models and (options.sheet or options.data):
        if options.data:
            print_losses(options.models, options.language, options.data)
        if options.sheet:
            sampling = json.loads(options.sampling)
            write_sheet(options.sheet, options.models, options.language, options.draws, **sampling)
    else:
        parser.error("give --models with --sheet or --data, or --rated")
    return 0


def print_losses(models: Sequence[Path], language: str, data: Sequence[Path]) -> None:
    """Print each model's loss on what was held out of each corpus."""
    from training.tools import tiny

    seed = tiny.RECIPES[language].config.seed
    held_out = tiny.hold_out(tiny.read_corpora(language, data), random.Random(seed))
    for model in models:
        losses = _losses(model, held_out)
        figures = ", ".join(f"{corpus} {loss:.3f}" for corpus, loss in losses)
        print(f"{model}: nats a character: {figures}")


def _losses(
    model: Path, held_out: Sequence[tuple[str, Sequence[Conversation]]]
) -> list[tuple[str, float]]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from training.run.measures import nats_per_character

    loaded: Any = AutoModelForCausalLM.from_pretrained(
        model, trust_remote_code=False, dtype="float32"
    )
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    return [(name, nats_per_character(loaded, tokenizer, one)) for name, one in held_out]


def write_sheet(
    sheet: Path,
    models: Sequence[Path],
    language: str,
    draws: int,
    **sampling: Any,
) -> None:
    """Write the replies of all models to `sheet`, and beside it which model each is from."""
    messages = (MESSAGES / f"{language}.txt").read_text(encoding="utf-8").splitlines()
    rows = []
    for model in models:
        asked = asyncio.run(_ask(model.absolute(), messages, draws, sampling))
        print(f"{model}: {variety([(text, reply) for _, text, reply in asked], language)}")
        rows += asked
    random.Random(0).shuffle(rows)
    with sheet.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((n, text, reply, "") for n, (_, text, reply) in enumerate(rows, 1))
    key = {n: source for n, (source, _, _) in enumerate(rows, 1)}
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


def variety(replies: Sequence[tuple[str, str]], language: str) -> str:
    """How varied replies to messages are, and how many are unreadable or repeat themselves."""
    units = [list(reply) if language == JAPANESE else reply.lower().split() for _, reply in replies]
    shares = (f"distinct-{n} {distinct(units, n):.2f}" for n in (1, 2))
    unreadable = sum(map(is_unreadable, *zip(*replies, strict=True)))
    repeats = sum(map(repeats_itself, units))
    return (
        f"{', '.join(shares)}; of {len(replies)} replies {unreadable} unreadable, "
        f"{repeats} repeat themselves"
    )


def distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    """The share of all n-grams that are distinct."""
    grams = [tuple(units[at : at + n]) for units in texts for at in range(len(units) - n + 1)]
    return len(set(grams)) / max(1, len(grams))


def is_unreadable(message: str, reply: str) -> bool:
    """Whether it is empty, has half a character, or letters that neither the message has nor
    everybody reads."""
    return not is_text(reply) or not scripts_in(reply) <= scripts_in(message)


def repeats_itself(units: Sequence[str]) -> bool:
    """Whether the same three units or more stand twice in a row."""
    return any(
        units[at : at + size] == units[at + size : at + 2 * size]
        for size in range(3, len(units) // 2 + 1)
        for at in range(len(units) - 2 * size + 1)
    )


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
