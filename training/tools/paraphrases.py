"""Trains the classifier of `data.questions.paraphrases`: `python -m training.tools.paraphrases`.

From the wordings of invented taught pairs (`data/wordings*.jsonl` beside it): each line has what
was taught, messages that ask the `same`, and `other` ones that only look so. To these come messages
of everyday talk and the wordings of other pairs, the likest ones. Prints how well it tells them
apart on pairs that it was not trained on (cross-validation), then trains on all and writes the
weights.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray

from data.questions.encoder import Vector, encoder
from data.questions.paraphrases import (
    Classifier,
    Compared,
    Kind,
    compare,
    project,
    weights_file,
)
from i18n.catalogue import ENGLISH, JAPANESE
from training import corpora
from training.run import mixing
from training.tools import situations

FILES = {
    ENGLISH: ("wordings.jsonl", situations.FILE, mixing.STARTER_FILE),
    JAPANESE: ("wordings_ja.jsonl", situations.FILE_JA, mixing.STARTER_FILE_JA),
}
"""Of each language: the wordings, situations, and short talks."""
PROJECTED = 48
"""Dimensions of the distance of two vectors that a network sees, and of their product."""
HIDDEN, NETWORKS = 96, 5
EPOCHS, BATCH, RATE, DECAY, DROPOUT = 15, 256, 2e-3, 3e-2, 0.2
LIKEST, DRAWN, LONG = 20, 12, 4
"""How many messages of everyday talk are set beside each question: the likest ones, others that
were drawn, and two in one."""
MAX_TALK = 40_000
SERVER, MIXED_UP = 10, 2
"""Questions of the file that stand together as those of one server do; and beside how many of the
others each wording is set, the likest ones."""
ALONE_RATIO = 0.1
"""The share of questions that stand alone."""
SAME_NEARNESS = 0.6
"""The cosine from which on two questions may ask the same."""
FOLDS = 5
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)


@dataclass(frozen=True, slots=True)
class Taught:
    """A taught question, messages that ask the same, and messages that only look so."""

    question: str
    same: tuple[str, ...]
    other: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Messages beside taught questions, by row: what the rules see, the vectors of both, the `Kind`
    of the message, and the number of the question."""

    seen: NDArray[np.float32]
    message: Vector
    question: Vector
    kind: NDArray[np.int64]
    number: NDArray[np.int64]

    def chosen(self, which: NDArray[np.bool_]) -> Rows:
        """Some of the rows."""
        return Rows(*(getattr(self, one.name)[which] for one in fields(self)))

    def compared(self) -> Compared:
        """What a classifier is given."""
        return Compared(self.seen, self.message, self.question)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.tools.paraphrases", description=__doc__
    )
    parser.add_argument("--language", choices=FILES, required=True)
    parser.add_argument(
        "--talk", type=Path, nargs="*", default=[], help="JSON lines of `messages`: what people say"
    )
    options = parser.parse_args()
    wordings, said, talks = FILES[options.language]
    talk = read_messages(said, talks, options.talk)
    rows = rows_of(read_wordings(said.with_name(wordings)), talk)
    print(f"of questions it was not trained on: {cross_validate(rows)}")
    out = weights_file(options.language)
    fit(rows, range(NETWORKS)).save(out)
    questions = rows.number.max() + 1
    print(f"{out.name}: trained on {len(rows.kind):,} messages beside {questions:,} questions")
    return 0


def read_wordings(file: Path) -> list[Taught]:
    """The taught questions of a file."""
    with file.open(encoding="utf-8") as lines:
        return [
            Taught(one["question"], tuple(one["same"]), tuple(one["other"]))
            for one in map(json.loads, lines)
        ]


def read_messages(said: Path, talks: Path, others: Sequence[Path]) -> list[str]:
    """What people say in everyday talk: to begin with, in each situation; in the short talks; and
    in other ones, of which MAX_TALK turns are drawn."""
    own = {
        message
        for situation in situations.read_situations(said)
        for message in situation.exchanges[0].user
        if not situations.SLOT.search(message)
    }
    own |= {turn.content for talk in mixing.read_conversations(talks) for turn in talk}
    turns = {turn.content for file in others for talk in corpora.json_lines(file) for turn in talk}
    return sorted(own.union(Random(0).sample(sorted(turns), min(MAX_TALK, len(turns)))))


def rows_of(taught: Sequence[Taught], talk: Sequence[str]) -> Rows:
    """Each taught question beside its wordings and near misses, the likest wordings of the other
    questions of its server, and messages of everyday talk."""
    asked = encoder().encode([one.question for one in taught])
    like_talk = asked @ encoder().encode(talk).T
    rng = np.random.default_rng(0)
    mixed_up: dict[int, list[str]] = {number: [] for number in range(len(taught))}
    servers = [range(at, min(at + SERVER, len(taught))) for at in range(0, len(taught), SERVER)]
    for server in servers:
        for owner in server:
            apart = [one for one in server if asked[one] @ asked[owner] < SAME_NEARNESS]
            for message in taught[owner].same:
                nearness = asked[apart] @ encoder().vectors([message])[message]
                for at in np.argsort(-nearness)[:MIXED_UP]:
                    mixed_up[apart[at]].append(message)
    rows = []
    for number, one in enumerate(taught):
        alone = rng.random() < ALONE_RATIO
        rivals = [
            taught[other].question
            for other in servers[number // SERVER]
            if not alone and other != number and asked[other] @ asked[number] < SAME_NEARNESS
        ]
        others = list(mixed_up[number])
        others += [talk[at] for at in np.argsort(-like_talk[number])[:LIKEST]]
        others += [talk[at] for at in rng.integers(len(talk), size=DRAWN)]
        pairs = rng.integers(len(talk), size=(LONG, 2))
        others += [f"{talk[first]} {talk[then]}" for first, then in pairs]
        for message in (*one.same, *one.other, *others):
            compared = compare(message, [one.question], rivals)
            if message in one.other:
                kind = Kind.NEAR
            else:
                kind = Kind.SAME if message in one.same else Kind.FAR
            rows.append((compared.seen[0], compared.message, asked[number], kind, number))
    return Rows(*map(np.stack, zip(*rows, strict=True)))


def cross_validate(rows: Rows) -> str:
    """How well wordings are told apart from near misses and from the likest other messages, of
    questions that it was not trained on."""
    said = np.zeros((len(rows.kind), 2), np.float32)
    fold = np.random.default_rng(0).permutation(rows.number.max() + 1) % FOLDS
    for number in range(FOLDS):
        left_out = fold[rows.number] == number
        model = fit(rows.chosen(~left_out), range(2))
        said[left_out] = model.chances(rows.chosen(left_out).compared())
    right, near, far = (said[rows.kind == kind] for kind in Kind)
    areas = (
        (right[:, None, 0] > near[None, :, 0]).mean(),
        (right[:, None, 1] > far[None, :, 1]).mean(),
    )
    shares = "; ".join(
        f"from {least} on {(right >= least).all(axis=1).mean():.0%} of wordings, "
        f"{(near >= least).all(axis=1).mean():.1%} of near misses and "
        f"{(far >= least).all(axis=1).mean():.1%} of the likest other messages"
        for least in THRESHOLDS
    )
    return f"areas under the curve {areas[0]:.3f} and {areas[1]:.3f}; {shares}"


def fit(rows: Rows, seeds: Sequence[int]) -> Classifier:
    """Train a network for each seed."""
    apart, together = np.abs(rows.message - rows.question), rows.message * rows.question
    projections = principal(apart), principal(together)
    seen = project(rows.compared(), *projections)
    mean, scale = seen.mean(axis=0), seen.std(axis=0) + 1e-4
    inputs = torch.from_numpy((seen - mean) / scale)
    wanted = torch.from_numpy(rows.kind)
    networks = [_train(inputs, wanted, seed) for seed in seeds]
    short = principal(np.concatenate((rows.message, rows.question)))
    parameters = ([one.numpy() for one in some] for some in zip(*networks, strict=True))
    return Classifier(short, *projections, mean, scale, *(np.stack(some) for some in parameters))


def principal(vectors: Vector) -> NDArray[np.float32]:
    """The directions in which vectors differ most: (DIMENSIONS, PROJECTED)."""
    _, directions = np.linalg.eigh(np.cov(vectors, rowvar=False))
    return np.asarray(directions[:, -PROJECTED:], np.float32)


def _train(inputs: torch.Tensor, wanted: torch.Tensor, seed: int) -> tuple[torch.Tensor, ...]:
    """Weights and bias of both layers, as `Classifier` has them."""
    torch.manual_seed(seed)
    first, last = torch.nn.Linear(inputs.shape[1], HIDDEN), torch.nn.Linear(HIDDEN, len(Kind))
    network = torch.nn.Sequential(
        torch.nn.Dropout(DROPOUT / 2), first, torch.nn.ReLU(), torch.nn.Dropout(DROPOUT), last
    )
    steps = EPOCHS * -(-len(inputs) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(inputs)), BATCH):
            loss = torch.nn.functional.cross_entropy(network(inputs[batch]), wanted[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return tuple(
        one.detach() for one in (first.weight.T, first.bias[None], last.weight.T, last.bias[None])
    )


if __name__ == "__main__":
    sys.exit(main())
