"""Trains an embedded model: `python -m training.tools.tiny --language ja --data FILES --out PATH`.

Writes a job with an architecture instead of a base and runs it with `training.run`, the code that
fine-tunes too; then stores the weights in half precision and writes the model card.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from core.records import Conversation, Message, Role
from i18n.catalogue import ENGLISH, JAPANESE
from model.registry import EMBEDDED_NAME, EMBEDDED_NAME_JA
from training import corpora
from training.checkpoints import LEARNED_FILE, MANIFEST_FILE, REPORT_FILE, read_manifest, seal
from training.config import Architecture, TrainingConfig
from training.jobs.events import Event, Step, format_duration
from training.run import mixing
from training.run.measures import nats_per_character
from training.run.train import train
from training.tools import situations

HELD_OUT_PER_CORPUS = 200
"""Conversations of each large corpus that are held out."""
LARGE_CORPUS = 1000
"""Conversations from which on some are held out."""
CHATTERBOT_COPIES = 6
TALKS_PER_SITUATION = 10
FINISH_COPIES, FINISH_TALKS = 2, 2
"""Of the second stage: copies of the small talk that this project wrote, and talks of each
situation. With two epochs each is read four times, with more it would be learned by heart."""
FINISH_OTHERS, FINISH_MIN_TURNS = 500, 6
"""How many other conversations are in the second stage too, and how long they are at least."""
FINISH_LEARNING_RATE, FINISH_EPOCHS = 1.5e-3, 2
SMALL_TALK_FILE = situations.FILE.with_name("small_talk.jsonl")
SMALL_TALK_FILE_JA = situations.FILE.with_name("small_talk_ja.jsonl")
ASCII_MARKS = str.maketrans("！？", "!?")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the embedded model of a language is made. `starter_copies`: in the first stage, the
    starter's talks are repeated to keep a share among millions of tokens of other talk.
    `small_talk` is what the second stage mostly learns."""

    config: TrainingConfig
    starter: Path
    starter_copies: int
    situations: Path
    small_talk: Path


_COMMON = TrainingConfig(
    name="",
    base=None,
    batch_size=32,
    warmup_ratio=0.03,
    weight_decay=0.1,
    max_length=256,
    precision="bf16",
    optimizer="muon",
    learning_rate=3e-3,
    loss_on="all",
    packing=True,
)

RECIPES = {
    ENGLISH: Recipe(
        replace(
            _COMMON,
            name=EMBEDDED_NAME,
            language=ENGLISH,
            architecture=Architecture(5120, n_positions=256, n_embd=256, n_layer=5, n_head=4),
            epochs=3,
        ),
        mixing.STARTER_FILE,
        starter_copies=10,
        situations=situations.FILE,
        small_talk=SMALL_TALK_FILE,
    ),
    JAPANESE: Recipe(
        replace(
            _COMMON,
            name=EMBEDDED_NAME_JA,
            language=JAPANESE,
            architecture=Architecture(7168, n_positions=256, n_embd=256, n_layer=5, n_head=4),
            epochs=3,
        ),
        mixing.STARTER_FILE_JA,
        starter_copies=20,
        situations=situations.FILE_JA,
        small_talk=SMALL_TALK_FILE_JA,
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m training.tools.tiny", description=__doc__)
    parser.add_argument("--language", choices=RECIPES, default=ENGLISH)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        nargs="+",
        help="en: the Self-dialogue Corpus, a clone or JSON lines; ja: JSON lines of `messages`",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--job", type=Path, default=Path("var/tiny"), help="working folder")
    parser.add_argument("--epochs", type=float)
    parser.add_argument(
        "--base",
        type=Path,
        help="a finished model of the same --data: only the second stage is trained, again",
    )
    arguments = parser.parse_args()

    recipe = RECIPES[arguments.language]
    config = recipe.config
    if arguments.epochs:
        config = replace(config, epochs=arguments.epochs)
    job: Path = arguments.job
    if arguments.base and (job / "checkpoint").exists():
        parser.error(f"{job} has a first stage already: give another --job")
    job.mkdir(parents=True, exist_ok=True)
    config.save(job / "config.json")
    write_data(job, recipe, arguments.data)
    if arguments.base:
        shutil.copytree(arguments.base, job / "checkpoint")
    else:
        train(job, print_event)  # unless it was before
    finish = job / "finish"
    write_finish(finish, job, recipe, FINISH_EPOCHS * config.epochs / recipe.config.epochs)
    train(finish, print_event)
    publish(job, finish, arguments.out, arguments.language)
    return 0


def write_data(job: Path, recipe: Recipe, data: Sequence[Path]) -> None:
    """Write `dataset.jsonl`, shuffled, and `held_out.jsonl`."""
    language, rng = recipe.config.language, random.Random(recipe.config.seed)
    corpora_read = read_corpora(language, data)
    held_out = hold_out(corpora_read, rng)
    train = [turns for _, corpus in corpora_read for turns in corpus]
    if language == ENGLISH:
        train += list(corpora.chatterbot()) * CHATTERBOT_COPIES
    train += own_talks(recipe, recipe.starter_copies, TALKS_PER_SITUATION, rng)
    if language == JAPANESE:
        train = [as_typed(turns, rng) for turns in train]
    rng.shuffle(train)
    _write(job / "held_out.jsonl", [turns for _, corpus in held_out for turns in corpus])
    _write(job / "dataset.jsonl", train)


def read_corpora(language: str, data: Sequence[Path]) -> list[tuple[str, list[Conversation]]]:
    """The conversations of each file, and of `chitchat-dataset` in English, beside its name."""
    if language == JAPANESE:
        return [(_name(path), list(corpora.json_lines(path))) for path in data]
    packaged = ("chitchat-dataset", list(corpora.chitchat()))
    return [packaged, *((_name(path), list(corpora.self_dialogue(path))) for path in data)]


def _name(path: Path) -> str:
    return path.name.split(".")[0]


def hold_out(
    corpora_read: Sequence[tuple[str, list[Conversation]]], rng: random.Random
) -> list[tuple[str, list[Conversation]]]:
    """Shuffle the corpora, and take out of each large one what is never trained on."""
    held_out = []
    for name, conversations in corpora_read:
        rng.shuffle(conversations)
        if len(conversations) >= LARGE_CORPUS:
            held_out.append((name, conversations[:HELD_OUT_PER_CORPUS]))
            del conversations[:HELD_OUT_PER_CORPUS]
    return held_out


def write_finish(finish: Path, job: Path, recipe: Recipe, epochs: float) -> None:
    """Write the job of the second stage: what this project wrote, and some other talk. The model
    answers as it was trained last, so this is where it becomes a bot that chats and not a person of
    the corpora."""
    rng = random.Random(recipe.config.seed)
    config = replace(
        recipe.config,
        base=str((job / "checkpoint").absolute()),
        architecture=None,
        epochs=epochs,
        learning_rate=FINISH_LEARNING_RATE,
        gate=False,  # it is to talk in another way than before
    )
    own = mixing.read_conversations(recipe.small_talk) * FINISH_COPIES
    own += own_talks(recipe, 1, FINISH_TALKS, rng)
    if recipe.config.language == JAPANESE:
        own = [as_typed(turns, rng) for turns in own]
    others = mixing.read_conversations(job / "dataset.jsonl")
    long = [turns for turns in others if len(turns) >= FINISH_MIN_TURNS]
    train = own + rng.sample(long, min(FINISH_OTHERS, len(long)))
    rng.shuffle(train)
    finish.mkdir(exist_ok=True)
    config.save(finish / "config.json")
    _write(finish / "dataset.jsonl", train)
    shutil.copyfile(job / "held_out.jsonl", finish / "held_out.jsonl")


def own_talks(recipe: Recipe, copies: int, talks: int, rng: random.Random) -> list[Conversation]:
    """Of what this project wrote: copies of the starter's talks, and talks of each situation."""
    written = mixing.read_conversations(recipe.starter) * copies
    return written + situations.tell(situations.read_situations(recipe.situations), talks, rng)


def as_typed(turns: Conversation, rng: random.Random) -> Conversation:
    """A Japanese conversation as the user may type it: a third with ASCII marks, a quarter without
    the last mark. The corpora have neither."""
    ascii_marks, no_last_mark = rng.random() < 1 / 3, rng.random() < 1 / 4

    def typed(text: str) -> str:
        if no_last_mark:
            text = text.rstrip("。！？") or text
        return text.translate(ASCII_MARKS) if ascii_marks else text

    return tuple(Message(m.role, typed(m.content)) if m.role is Role.USER else m for m in turns)


def _write(path: Path, conversations: Iterable[Conversation]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for turns in conversations:
            messages = [{"role": m.role.value, "content": m.content} for m in turns]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def print_event(event: Event) -> None:
    if not isinstance(event, Step) or event.step % 20 == 0 or event.step == event.steps:
        print(event, file=sys.stderr, flush=True)


def publish(job: Path, finish: Path, out: Path, language: str) -> None:
    """Copy the checkpoint with the weights of the second stage in half precision, and a card."""
    checkpoint = job / "checkpoint"
    unfinished = out.with_name(out.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    left_out = shutil.ignore_patterns(MANIFEST_FILE, REPORT_FILE, LEARNED_FILE)
    shutil.copytree(checkpoint, unfinished, ignore=left_out)
    model: Any = AutoModelForCausalLM.from_pretrained(
        finish / "checkpoint", use_safetensors=True, trust_remote_code=False, dtype=torch.float16
    )
    model.save_pretrained(unfinished)
    stages = [read_manifest(checkpoint), read_manifest(finish / "checkpoint")]
    seconds = sum(one.seconds or 0.0 for one in stages)
    manifest = replace(
        stages[0],
        scores=stages[1].scores | {"first_loss": stages[0].scores["first_loss"]},
        seconds=seconds,
    )
    held_out = mixing.read_conversations(job / "held_out.jsonl")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
    per_character = nats_per_character(model.to(torch.float32), tokenizer, held_out)
    shape = RECIPES[language].config.architecture
    assert shape is not None
    template = Path(__file__).with_name(f"card.{language}.md").read_text(encoding="utf-8")
    card = template.format(
        parameters=f"{manifest.parameters:,}",
        layers=shape.n_layer,
        width=shape.n_embd,
        heads=shape.n_head,
        vocabulary=f"{shape.vocab_size:,}",
        positions=shape.n_positions,
        loss=f"{manifest.scores['held_out_loss']:.3f}",
        perplexity=f"{manifest.scores['held_out_perplexity']:.1f}",
        per_character=f"{per_character:.3f}",
        held_out=len(held_out),
        took=format_duration(seconds),
    )
    (unfinished / "README.md").write_text(card, encoding="utf-8")
    seal(unfinished, manifest)
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)


if __name__ == "__main__":
    sys.exit(main())
