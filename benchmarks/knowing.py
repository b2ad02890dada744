"""How well a retrained model knows what it was taught: `python -m benchmarks.knowing`.

Three measures of model editing (Meng et al. 2022, "Locating and Editing Factual Associations in
GPT", CounterFact), on invented facts (`benchmarks/facts`):

- efficacy: taught questions get the taught answer, word for word: as they were taught, carelessly
  typed, and within a talk;
- generalisation: so do wordings that were never taught;
- specificity: near misses and general messages do not get a taught answer (one that is
  LIKE_TAUGHT it), and the loss on held-out talk stays that of the base.

`ours` trains as /retrain does; `plain` is a Hugging Face Trainer on the pairs alone, with its
default learning rate; `lora` the same with LoRA on all layers, at the rate that /retrain takes for
LoRA. The replies are those of the bot's worker: greedy, and sampled as the bot samples. `in the
bot` is what becomes of `ours` there (`benchmarks.in_bot`): with the index of taught questions
before the model, and the guard behind it. Each share has its 95 % Wilson interval, for which a
question of a set counts once, however many seeds it is asked with: the replies to one question are
not independent.

A second table says what the index of taught questions finds before any training
(`benchmarks.at_once`). Needs the extra `starter`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from difflib import SequenceMatcher
from enum import StrEnum
from functools import cache
from itertools import chain, cycle
from pathlib import Path

from benchmarks.at_once import PAIRS, SHORT_PAIRS, found_at_once, show_at_once
from benchmarks.facts.sets import FactSet, careless, general_messages, sets_of
from benchmarks.in_bot import ask_bot
from benchmarks.shares import Share, wilson
from benchmarks.talk import option_of, usual_params
from benchmarks.training import make_job, run
from core.records import Conversation, Message, Role
from model.chat_template import from_pair
from model.own_templates import ensure_template
from model.registry import embedded_option
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from model.worker.messages import Finished
from training.checkpoints import verify
from training.config import TrainingConfig, defaults_for
from training.run.base_model import load_pretrained
from training.run.gate.evaluation import HELD_OUT_FILE, HELD_OUT_FILE_JA
from training.run.measures import mean_loss
from training.run.mixing import read_conversations

CONTENDERS = ("ours", "plain", "lora")
IN_BOT = "in the bot"
PLAIN_EPOCHS = 50
"""Of `plain` and `lora`: the Trainer's default of 3 teaches nothing where there are ten pairs."""
PLAIN_RATE = 5e-5
"""The Trainer's default learning rate."""
LIKE_TAUGHT = 0.75
"""The least ratio of `difflib` of a reply that counts as a taught answer."""
AT_ONCE = 16
TURNS_BEFORE = 2
"""Exchanges of small talk before a question: with it, the five messages that the bot looks at."""


class Measure(StrEnum):
    AS_TAUGHT = "word for word"
    CARELESS = "careless"
    IN_TALK = "in talk"
    UNSEEN = "unseen wordings"
    NEAR = "near misses answered as taught"
    GENERAL = "general messages answered as taught"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked after `before`; `answer` is the only right one, None if no taught one is."""

    measure: Measure
    text: str
    answer: str | None = None
    before: tuple[str, ...] = ()

    def conversation(self) -> Conversation:
        said = zip(cycle((Role.USER, Role.ASSISTANT)), (*self.before, self.text), strict=False)
        return tuple(Message(role, content) for role, content in said)


@dataclass(frozen=True, slots=True)
class Result:
    """What a contender knows: the shares of greedy and of sampled replies, and for each set the
    rise of the loss on held-out talk and the duration of the training, its start included."""

    greedy: dict[Measure, Share]
    sampled: dict[Measure, Share]
    loss_rise_percent: list[float]
    seconds: list[float]


def main() -> int:
    options = parse_arguments()
    sizes = [int(size) for size in options.facts.split(",")]
    learned: dict[int, dict[str, Result]] = {size: {} for size in sizes}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            for contender in filter(None, options.contenders.split(",")):
                name = f"{options.sets}-{options.language}-{size}-{contender}"
                work = (options.keep or Path(folder)) / name
                learned[size] |= measure(work, contender, size, options)
                say(f"{size} facts, {contender}: {learned[size][contender]}")
    pairs = SHORT_PAIRS if options.short else PAIRS
    at_once = {
        count: found_at_once(options.sets, count, options.language, short=options.short)
        for count in pairs
    }
    if options.json:
        print(json.dumps({"learned": learned, "at_once": at_once}, default=asdict))
        return 0
    for size, results in learned.items():
        if results:
            show(f"{size} facts ({options.sets})", results)
    show_at_once(at_once)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.knowing", description=__doc__)
    parser.add_argument("--language", choices=("en", "ja"), default="en")
    parser.add_argument("--base", type=Path, help="a model's folder; default: the embedded one")
    parser.add_argument("--sets", choices=("tune", "report"), default="tune")
    parser.add_argument("--facts", help="sizes of the sets, commas between; in Japanese up to 10")
    parser.add_argument("--also", action="store_true", help="teach each fact in two wordings")
    parser.add_argument("--seeds", type=int, default=3, help="sampled replies to a question")
    parser.add_argument(
        "--contenders",
        default=",".join(CONTENDERS),
        help="commas between; none: only the index before any training",
    )
    parser.add_argument("--keep", type=Path, help="a folder for checkpoints, asked again if there")
    parser.add_argument("--short", action="store_true", help="only to see that all of it runs")
    parser.add_argument("--json", action="store_true", help="print one object")
    options = parser.parse_args()
    options.base = options.base or Path(embedded_option(options.language).source)
    options.facts = options.facts or ("3,10" if options.language == "ja" else "3,10,50,200")
    return options


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Tally:
    """The replies that count, of each measure: greedy ones, and the share of sampled ones."""

    greedy: dict[Measure, list[float]] = field(default_factory=lambda: defaultdict(list))
    sampled: dict[Measure, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(
        self, asked: Sequence[Question], replies: Sequence[Sequence[str]], taught: FactSet
    ) -> None:
        for question, said in zip(asked, replies, strict=True):
            first, *others = (is_counted(question, reply, taught) for reply in said)
            self.greedy[question.measure].append(first)
            self.sampled[question.measure].append(statistics.mean(others))

    def shares(self) -> Iterator[dict[Measure, Share]]:
        for found in (self.greedy, self.sampled):
            yield {m: wilson(found[m]) for m in found}


def measure(
    work: Path, contender: str, size: int, options: argparse.Namespace
) -> dict[str, Result]:
    """Teach a contender each of the sets, and ask it; of `ours` also what the bot makes of it."""
    work.mkdir(parents=True, exist_ok=True)
    held_out = HELD_OUT_FILE_JA if options.language == "ja" else HELD_OUT_FILE
    before, rises, seconds = general_loss(options.base, held_out), [], []
    sets = sets_of(options.sets, size, options.language)[: 1 if options.short else None]
    tallies = {name: Tally() for name in (contender, IN_BOT)[: 2 if contender == "ours" else 1]}
    for number, taught in enumerate(sets):
        checkpoint, took = trained(work / str(number), contender, taught, options)
        seconds.append(round(took, 1))
        rises.append(round(100 * (general_loss(checkpoint, held_out) / before - 1), 2))
        asked = list(questions(taught, options.language))
        params = ask_params(options.seeds, options.base)
        tallies[contender].add(asked, asyncio.run(ask(checkpoint, asked, params)), taught)
        if IN_BOT in tallies:
            talks = [question.conversation() for question in asked]
            pairs = taught.pairs(also=options.also)
            replies = asyncio.run(ask_bot(checkpoint, pairs, talks, params))
            tallies[IN_BOT].add(asked, replies, taught)
    return {name: Result(*one.shares(), rises, seconds) for name, one in tallies.items()}


# --- teaching ------------------------------------------------------------------------------------


def trained(
    job: Path, contender: str, taught: FactSet, options: argparse.Namespace
) -> tuple[Path, float]:
    """The same as `train`, unless it was done before."""
    kept = job / "checkpoint"
    if kept.exists():
        return kept, verify(kept).seconds or 0.0
    return train(job, contender, taught, options)


def train(
    job: Path, contender: str, taught: FactSet, options: argparse.Namespace
) -> tuple[Path, float]:
    """The checkpoint that was made from the base, and how long that took."""
    pairs = [from_pair(one.user, one.bot) for one in taught.pairs(also=options.also)]
    config = config_of(contender, options.base, len(pairs))
    if options.short:
        config = replace(config, epochs=0.1, min_steps=2)
    make_job(job, config, pairs)
    module = "training.run" if contender == "ours" else "benchmarks.plain_training"
    began = time.perf_counter()
    run([module, *([contender] if contender != "ours" else []), str(job)])
    return job / "checkpoint", time.perf_counter() - began


def config_of(contender: str, base: Path, pairs: int) -> TrainingConfig:
    option = option_of(base)
    name = option.name if option else base.name
    usual = defaults_for(name, str(base), pairs)
    if contender == "ours":
        return replace(usual, name=f"{name}-1", base_name=name)
    lora_rate = defaults_for(name, str(base), pairs, "lora").learning_rate
    return TrainingConfig(
        name=name,
        base=str(base),
        epochs=PLAIN_EPOCHS,
        learning_rate=lora_rate if contender == "lora" else PLAIN_RATE,
        warmup_ratio=0.0,
        weight_decay=0.0,
        threads=usual.threads,
    )


@cache
def general_loss(folder: Path, file: Path) -> float:
    """The mean loss on talk that no model of this project learned from."""
    model, tokenizer = load_pretrained(str(folder))
    ensure_template(tokenizer)
    held_out = read_conversations(file)
    longest = defaults_for(folder.name, str(folder), pairs=1).max_length
    return mean_loss(model, tokenizer, held_out, longest)


# --- asking --------------------------------------------------------------------------------------


def questions(taught: FactSet, language: str) -> Iterator[Question]:
    """All that is asked of a model that was taught a set."""
    small_talk = tuple(chain.from_iterable(taught.talk[-TURNS_BEFORE:]))
    for number, fact in enumerate(taught.facts):
        other = taught.facts[number - 1]
        yield Question(Measure.AS_TAUGHT, fact.question, fact.answer)
        yield Question(Measure.CARELESS, careless(fact.question), fact.answer)
        for before in (small_talk, (other.question, other.answer)):
            yield Question(Measure.IN_TALK, fact.question, fact.answer, before)
        for wording in fact.unseen:
            yield Question(Measure.UNSEEN, wording, fact.answer)
        for miss in fact.near:
            yield Question(Measure.NEAR, miss)
    for message in general_messages(language):
        yield Question(Measure.GENERAL, message)


def ask_params(seeds: int, base: Path) -> list[SamplingParams]:
    """Greedy, and then as the bot samples, with each of the seeds."""
    usual = usual_params(base)
    return [replace(usual, temperature=0), *(replace(usual, seed=seed) for seed in range(seeds))]


async def ask(
    folder: Path, asked: Sequence[Question], params: Sequence[SamplingParams]
) -> list[list[str]]:
    """The worker's replies to each question: one for each of `params`."""
    turn = asyncio.Semaphore(AT_ONCE)
    async with WorkerClient(WorkerSettings()) as client:

        async def replies(question: Question) -> list[str]:
            async with turn:
                return [await reply(client, folder, question, one) for one in params]

        return await asyncio.gather(*map(replies, asked))


async def reply(
    client: WorkerClient, folder: Path, question: Question, params: SamplingParams
) -> str:
    async with aclosing(client.generate(str(folder), question.conversation(), params)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Finished):
                return piece.text.strip()
    raise RuntimeError(f"no reply to {question}")


# --- judging -------------------------------------------------------------------------------------


def is_counted(question: Question, reply: str, taught: FactSet) -> bool:
    """Whether a reply is the right one; without a right one, whether it is like any that was
    taught."""
    if question.answer is not None:
        return reply == question.answer
    matcher = SequenceMatcher(b=reply, autojunk=False)
    for fact in taught.facts:
        matcher.set_seq1(fact.answer)
        if matcher.quick_ratio() >= LIKE_TAUGHT and matcher.ratio() >= LIKE_TAUGHT:
            return True
    return False


def show(title: str, results: dict[str, Result]) -> None:
    """One table in Markdown: measures down, contenders across."""
    heads = [f"{name}, {kind}" for name in results for kind in ("greedy", "sampled")]
    print(f"\n{title}\n\n| in % | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    for measure in Measure:
        cells = [
            shares[measure] for one in results.values() for shares in (one.greedy, one.sampled)
        ]
        print(f"| {measure} | {' | '.join(map(str, cells))} |")
    for name, figures in (
        ("rise of the loss on held-out talk", [one.loss_rise_percent for one in results.values()]),
        ("seconds to train, start included", [one.seconds for one in results.values()]),
    ):
        cells = [f"{statistics.mean(f):.1f} ({min(f):.1f}-{max(f):.1f}) |" for f in figures]
        print(f"| {name}: mean, range over sets | {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
