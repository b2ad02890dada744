"""Whether votes steer a model, and nothing else does: `python -m benchmarks.judgement.taste`.

`tiny` is taught ten facts, as a server teaches them, and answers 200 messages. Ten simulated people
with a hidden taste vote on 20 replies each: they like replies that ask back, short ones, or polite
ones. Then the second stage of a retrain learns from these votes and the checks decide, as they do
on a server. Measured on messages that nobody voted on, with the same seeds before and after:

- the share of replies that suit the taste; with one hostile voter of ten, who votes for the
  opposite, too;
- the rise of the loss on held-out talk, and the share of taught facts still recalled, asked word
  for word and carelessly;
- of RANDOM_RUNS servers whose people vote at random, how many get another model for it.

`--tastes tune` measures the tastes by which the stage was tuned, with other facts and messages.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from benchmarks.facts.sets import careless, sets_of
from benchmarks.training import make_job
from core.records import Example, JudgedReply, Message, Role
from data.dataset.preferences import Preference, PreferenceCounts, select_preferences
from model.chat_template import from_pair
from model.registry import EMBEDDED_FOLDER, EMBEDDED_NAME
from training.config import defaults_for
from training.run.gate.evaluation import HELD_OUT_FILE
from training.run.gate.sampling import sample_replies
from training.run.loop import Control
from training.run.measures import greedy_replies, mean_loss
from training.run.mixing import STARTER_FILE, read_conversations
from training.run.preferences.second_stage import Evaluation, SecondStage
from training.run.train import Run

Taste = Callable[[str], bool]

POLITE = re.compile(
    r"\b(please|thank|thanks|sorry|glad|happy|nice|love|great|wonderful|lovely|good|welcome)\b",
    re.IGNORECASE,
)
SHORT_WORDS = 9
TASTES: dict[str, dict[str, Taste]] = {
    "tune": {"asks back": lambda said: "?" in said},
    "report": {
        "asks back": lambda said: "?" in said,
        "short": lambda said: len(said.split()) < SHORT_WORDS,
        "polite": lambda said: POLITE.search(said) is not None,
    },
}
VOTERS, VOTES = 10, 200
ASKED = 150
"""Messages of which the taste is measured."""
RANDOM_RUNS = 20
FACTS = 10


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.judgement.taste",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tastes", choices=tuple(TASTES), default="report")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--random", type=int, default=RANDOM_RUNS, help="runs of random votes")
    parser.add_argument("--short", action="store_true", help="only to see that all of it runs")
    parser.add_argument("--json", action="store_true", help="print one object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            Path(folder),
            options.seed,
            group="tune" if options.short else options.tastes,
            runs=options.random,
            short=options.short,
        )
    if options.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        print(f"{name:<24} {value}")
    return 0


def measure(
    folder: Path,
    seed: int,
    *,
    group: str = "report",
    runs: int = RANDOM_RUNS,
    short: bool = False,
) -> dict[str, Any]:
    """All figures. Shares are between 0 and 1; `taste_before` and `taste_after` are means over the
    tastes, `tastes` has each; times are of the processor, in seconds. In the `short` way nothing
    is learned."""
    server = _Server(folder, seed, group, short=short)
    honest = {name: server.follow(taste) for name, taste in TASTES[group].items()}
    hostile = {name: server.follow(taste, hostile=1) for name, taste in TASTES[group].items()}
    random = [server.learn(server.votes(None, number)) for number in range(runs)]
    lost = [100 * (honest[name]["after"] - hostile[name]["after"]) for name in honest]
    return {
        "taste_before": round(fmean(one["before"] for one in honest.values()), 3),
        "taste_after": round(fmean(one["after"] for one in honest.values()), 3),
        "taste_after_hostile": round(fmean(one["after"] for one in hostile.values()), 3),
        "hostile_points_lost": round(fmean(lost), 1),
        "random_promoted": sum(one.reason is None for one in random),
        "random_runs": runs,
        "general_loss_rise": round(max(one["loss_rise"] for one in honest.values()), 4),
        "recall_before": round(fmean(one["recall_before"] for one in honest.values()), 3),
        "recall_after": round(fmean(one["recall_after"] for one in honest.values()), 3),
        "supervised_steps": server.steps,
        "stage_steps": max(one["steps"] for one in honest.values()),
        "supervised_cpu_s": round(server.seconds, 1),
        "stage_cpu_s": round(fmean(one["seconds"] for one in honest.values()), 1),
        "tastes": honest,
        "hostile": hostile,
    }


def rows_of(pairs: Sequence[tuple[str, str]], likes: Sequence[bool]) -> list[Preference]:
    """The rows of questions and replies that VOTERS judged in turn. As on a server, a disliked pair
    is no example: what is learned as one is never pushed away."""
    at = datetime(2025, 6, 1, tzinfo=UTC)
    judged = [
        JudgedReply(
            Example(n, 1, *pair, 1000, "chat", at, consent_version=1),
            pair[1],
            {n % VOTERS: 1 if liked else -1},
        )
        for n, (pair, liked) in enumerate(zip(pairs, likes, strict=True))
    ]
    learned = [one.example for one, liked in zip(judged, likes, strict=True) if liked]
    return list(select_preferences(judged, learned, lambda _: True).rows)


class _Server:
    """A server whose model has learned its facts; each `follow` and `learn` begins there."""

    def __init__(self, folder: Path, seed: int, group: str, *, short: bool) -> None:
        facts = sets_of(group, FACTS)[0]
        pairs = [from_pair(one.user, one.bot) for one in facts.pairs(also=False)]
        usual = defaults_for(EMBEDDED_NAME, str(EMBEDDED_FOLDER), len(pairs))
        config = replace(
            usual,
            name=f"{EMBEDDED_NAME}-1",
            base_name=EMBEDDED_NAME,
            seed=seed,
            preferences=PreferenceCounts(votes=VOTES, people=VOTERS, rows=VOTES),
        )
        if short:
            config = replace(config, epochs=0.1, min_steps=2)
        make_job(folder / "job", config, pairs)
        began = time.process_time()
        self._run = Run.load(folder / "job", config)
        self.steps = self._run.train(lambda _: None, Control()).last_step
        self.seconds, self.stage_seconds = time.process_time() - began, 0.0
        self._seed = seed
        self._stage = SecondStage(
            self._run.model, self._run.tokenizer, config, [], self._run.taught, self.steps
        )
        self._start = self._stage.weights()
        self._voted, self._asked = self._messages(group)
        self._replies = self._say(self._voted)
        self._before = self._say(self._asked)
        self._loss, self._recall = self._general_loss(), self._recalled()

    def _messages(self, group: str) -> tuple[list[str], list[str]]:
        """Messages to vote on and to measure: of each group its own half."""
        texts = sorted({one[0].content for one in read_conversations(STARTER_FILE)})
        Random(0).shuffle(texts)
        half = texts[: len(texts) // 2] if group == "tune" else texts[len(texts) // 2 :]
        Random(self._seed).shuffle(half)
        return half[:VOTES], half[VOTES : VOTES + ASKED]

    def votes(self, taste: Taste | None, seed: int, hostile: int = 0) -> list[Preference]:
        """What ten people think of the replies; without a taste, they vote at random."""
        rng = Random(f"{self._seed} {seed}")
        likes = [
            rng.random() < 0.5 if taste is None else taste(said) != (n % VOTERS < hostile)
            for n, said in enumerate(self._replies)
        ]
        return rows_of(list(zip(self._voted, self._replies, strict=True)), likes)

    def learn(self, preferences: Sequence[Preference]) -> SecondStage:
        """The second stage from these votes, after the checks."""
        run = self._run
        self._stage.restore(self._start)
        stage = SecondStage(
            run.model, run.tokenizer, run.config, preferences, run.taught, self.steps
        )
        checks: list[float] = []

        def evaluate() -> Evaluation:
            began = time.process_time()
            report = run.evaluate_merged()
            checks.append(time.process_time() - began)
            return report

        began = time.process_time()
        stage.run(Control())
        if stage.reason is None:  # else the checks of an unchanged model would say nothing
            stage.choose(evaluate)
        else:
            stage.restore(self._start)
        spent = time.process_time() - began
        self.stage_seconds = spent - sum(checks[:1])  # a run without votes is checked once as well
        return stage

    def follow(self, taste: Taste, hostile: int = 0) -> dict[str, Any]:
        """What comes of votes by a taste."""
        stage = self.learn(self.votes(taste, 0, hostile))
        after = self._say(self._asked)
        return {
            "before": round(fmean(map(taste, self._before)), 3),
            "after": round(fmean(map(taste, after)), 3),
            "kept": stage.reason is None,
            "why_not": stage.reason,
            "left_out": len(stage.against),
            "loss_rise": round(self._general_loss() / self._loss - 1, 4),
            "recall_before": round(self._recall, 3),
            "recall_after": round(self._recalled(), 3),
            "steps": stage.steps,
            "seconds": round(self.stage_seconds, 1),
        }

    def _say(self, messages: Sequence[str]) -> list[str]:
        talks = [[Message(Role.USER, one)] for one in messages]
        seeds = range(len(talks))
        run = self._run
        return [one.text for one in sample_replies(run.model, run.tokenizer, talks, seeds)]

    def _general_loss(self) -> float:
        run = self._run
        held_out = read_conversations(HELD_OUT_FILE)
        return mean_loss(run.model, run.tokenizer, held_out, run.config.max_length)

    def _recalled(self) -> float:
        """The share of taught answers given, greedily, to the question and to a careless one."""
        asked = [
            (form(turns[0].content), turns[1].content)
            for turns in self._run.taught
            for form in (str, careless)
        ]
        run = self._run
        said = greedy_replies(run.model, run.tokenizer, [question for question, _ in asked])
        return fmean(one == answer for one, (_, answer) in zip(said, asked, strict=True))


if __name__ == "__main__":
    sys.exit(main())
