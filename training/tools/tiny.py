"""Trains the embedded model: `python -m training.tools.tiny --self-dialogue PATH --out model/tiny`.

Writes a job with an architecture instead of a base and runs it with `training.run`, the code that
fine-tunes too; then stores the weights in half precision and writes the model card.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from core.records import Conversation
from training import corpora
from training.checkpoints import MANIFEST_FILE, read_manifest, seal
from training.config import Architecture, TrainingConfig
from training.jobs.events import Event, Step, format_duration
from training.run import mixing
from training.run.train import train

TINY_CONFIG = TrainingConfig(
    name="tiny",
    base=None,
    architecture=Architecture(vocab_size=4096, n_positions=256, n_embd=256, n_layer=4, n_head=4),
    epochs=4,
    batch_size=16,
    learning_rate=2e-3,
    warmup_ratio=0.03,
    weight_decay=0.1,
    max_length=256,
    loss_on="all",
    packing=True,
    seed=0,
)
HELD_OUT_PER_CORPUS = 200
"""Conversations of each large corpus that are held out."""
CHATTERBOT_COPIES = 6
STARTER_COPIES = 40
"""The short corpora are repeated to keep a share among three million tokens of other talk."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m training.tools.tiny", description=__doc__)
    parser.add_argument("--self-dialogue", type=Path, required=True, help="clone or JSON lines")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--job", type=Path, default=Path("var/tiny"), help="working folder")
    parser.add_argument("--epochs", type=float, default=TINY_CONFIG.epochs)
    arguments = parser.parse_args()

    job: Path = arguments.job
    job.mkdir(parents=True, exist_ok=True)
    config = replace(TINY_CONFIG, epochs=arguments.epochs)
    config.save(job / "config.json")
    write_data(job, arguments.self_dialogue, config.seed)
    shutil.rmtree(job / "checkpoint", ignore_errors=True)
    began = time.monotonic()
    train(job, print_event)
    publish(job / "checkpoint", arguments.out, time.monotonic() - began)
    return 0


def write_data(job: Path, self_dialogue: Path, seed: int) -> None:
    """Write `dataset.jsonl`, shuffled, and `held_out.jsonl`."""
    rng = random.Random(seed)
    large = [list(corpora.chitchat()), list(corpora.self_dialogue(self_dialogue))]
    for conversations in large:
        rng.shuffle(conversations)
    _write(job / "held_out.jsonl", (c for corpus in large for c in corpus[:HELD_OUT_PER_CORPUS]))
    train = [c for corpus in large for c in corpus[HELD_OUT_PER_CORPUS:]]
    train += list(corpora.chatterbot()) * CHATTERBOT_COPIES
    train += mixing.read_conversations(mixing.STARTER_FILE) * STARTER_COPIES
    rng.shuffle(train)
    _write(job / "dataset.jsonl", train)


def _write(path: Path, conversations: Iterable[Conversation]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for turns in conversations:
            messages = [{"role": m.role.value, "content": m.content} for m in turns]
            file.write(json.dumps({"messages": messages}) + "\n")


def print_event(event: Event) -> None:
    if not isinstance(event, Step) or event.step % 20 == 0 or event.step == event.steps:
        print(event, file=sys.stderr, flush=True)


def publish(checkpoint: Path, out: Path, seconds: float) -> None:
    """Copy the checkpoint with its weights in half precision, and a model card."""
    unfinished = out.with_name(out.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(checkpoint, unfinished, ignore=shutil.ignore_patterns(MANIFEST_FILE))
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, use_safetensors=True, trust_remote_code=False, dtype=torch.float16
    )
    model.save_pretrained(unfinished)
    manifest = read_manifest(checkpoint)
    (unfinished / "README.md").write_text(
        _model_card(manifest.scores, seconds, manifest.parameters)
    )
    seal(unfinished, manifest)
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)


def _model_card(scores: dict[str, float], seconds: float, parameters: int) -> str:
    shape = TINY_CONFIG.architecture
    assert shape is not None
    return MODEL_CARD.format(
        parameters=f"{parameters:,}",
        layers=shape.n_layer,
        width=shape.n_embd,
        heads=shape.n_head,
        vocabulary=f"{shape.vocab_size:,}",
        positions=shape.n_positions,
        loss=f"{scores['held_out_loss']:.3f}",
        perplexity=f"{scores['held_out_perplexity']:.1f}",
        held_out=2 * HELD_OUT_PER_CORPUS,
        took=format_duration(seconds),
    )


MODEL_CARD = """\
# tiny

The embedded model of gpt2-discord-bot: a GPT-2 with {parameters} parameters ({layers} layers,
width {width}, {heads} heads, its own byte-level BPE of {vocabulary} tokens, {positions} positions),
trained from random weights by this project's own training code. It holds small talk, and it
learns a handful of facts in a minute on two CPU cores. It knows next to nothing about the world
and is often wrong: it is there so that the bot works before anything is downloaded.

## Data

| corpus | licence | used as |
|---|---|---|
| `chitchat-dataset` (PyPI) | MIT | conversations of two people |
| Self-dialogue Corpus (GitHub `jfainberg/self_dialogue_corpus`) | BSD-3 | talk about films, music |
| `chatterbot-corpus` (PyPI), 15 English topics | BSD-3 | short questions and answers |
| `training/data/starter.jsonl` (this project) | MIT | greetings and answers about the bot |

Conversations with rude words, and turns of more than 300 characters, are left out. The people in
these corpora were chatting, not checking facts; expect their opinions.

## Score

Loss on the bot's tokens of {held_out} conversations that were held out (half of each large
corpus): {loss} nats a token, perplexity {perplexity}. Weights are stored in fp16.

## Make it again

    uv run --extra starter python -m training.tools.tiny --self-dialogue PATH --out model/tiny

`URL_PATH` is a clone of the Self-dialogue Corpus, or its conversations as JSON lines of `messages`.
It took {took} on two shared CPU cores (AVX-512 with bf16). The seed is fixed; another machine or
another version of torch rounds differently, so the weights come out alike, not equal.
"""


if __name__ == "__main__":
    sys.exit(main())
