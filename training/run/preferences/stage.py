"""The second stage of a run: the model learns from votes and better answers. Imports torch.

What it prefers moves, what it was taught and how it talks stays: each step has judged replies
(`loss`), and taught pairs and older talk whose tokens must stay as likely as they were. The
reference of both is the model as it enters the stage: all that is needed of it, the
log-probabilities of fixed texts, is computed once before the first step. Knows tensors. Does not
know jobs, or whether the result is any good (`decision`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from random import Random

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.records import Conversation
from data.dataset.preferences import Preference
from training.config import MAX_FACTS, TrainingConfig
from training.run.distillation import SURE_PROBABILITY
from training.run.loop import Control
from training.run.preferences.loss import (
    drift_of,
    kept_loss,
    pair_losses,
    taught_loss,
    vote_losses,
)
from training.run.preferences.replies import (
    Tokens,
    log_probs,
    measured,
    measured_sums,
    tokenize,
    tokenize_pairs,
    tokenize_sides,
)

EPOCHS = 6
"""How often a judged reply is seen, unless the supervised stage was too short for that."""
RATE_FACTOR = 0.4
"""The learning rate, as a share of the supervised stage's."""
TALK_WEIGHT, TAUGHT_WEIGHT = 0.4, 0.5
"""Of the losses of what must stay."""
JUDGED_SHARE = 0.5
"""Of a step's rows; of the others, half are taught pairs."""
WARMUP_SHARE = 0.1
MAX_KEPT_TAUGHT, MAX_KEPT_TALK = MAX_FACTS, 128
"""Conversations that must stay: all facts, and enough of other talk to stand for it."""


@dataclass(frozen=True, slots=True)
class StageSettings:
    """How the stage learns; `rows` in a step, and how many pieces each step is computed in."""

    steps: int
    rows: int
    pieces: int
    learning_rate: float
    max_length: int
    seed: int
    bf16: bool = False

    @classmethod
    def of(cls, config: TrainingConfig, judged: int, supervised_steps: int) -> StageSettings:
        """At most as many steps as the supervised stage took, with as many rows in each."""
        pieces = config.gradient_accumulation
        settings = cls(
            steps=supervised_steps,
            rows=config.batch_size,
            pieces=pieces,
            learning_rate=RATE_FACTOR * config.learning_rate,
            max_length=config.max_length,
            seed=config.seed,
            bf16=config.precision == "bf16",
        )
        steps = max(1, min(supervised_steps, settings.steps_of(judged, EPOCHS)))
        return replace(settings, steps=steps)

    @property
    def judged(self) -> int:
        """Judged rows in a step."""
        return max(1, round(JUDGED_SHARE * self.rows)) * self.pieces

    def steps_of(self, judged: int, epochs: int) -> int:
        """The steps in which each of so many rows is seen so often."""
        return math.ceil(epochs * judged / self.judged)


@dataclass(frozen=True, slots=True)
class _Judged:
    """Judged replies as tokens, with the sums of the reference's log-probabilities. `mismatched` is
    the reply behind another question, to measure the drift with."""

    weight: float
    good: Tokens | None
    bad: Tokens | None
    mismatched: Tokens
    good_before: float = 0.0
    bad_before: float = 0.0
    mismatched_before: float = 0.0

    @property
    def is_pair(self) -> bool:
        return self.good is not None and self.bad is not None

    @property
    def voted(self) -> Tokens:
        """The reply of a vote."""
        reply = self.good or self.bad
        assert reply is not None  # a row has one at least
        return reply


@dataclass(frozen=True, slots=True)
class _Kept:
    """A conversation that must stay as likely: the reference's log-probabilities of its tokens, and
    whether it is `taught`."""

    tokens: Tokens
    before: torch.Tensor
    taught: bool


class PreferenceStage:
    """One stage on `model`, whose trainable parameters it changes; the reference is the model as it
    is when the stage is made."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        preferences: Sequence[Preference],
        taught: Sequence[Conversation],
        talk: Sequence[Conversation],
        settings: StageSettings,
    ) -> None:
        self._model = model.train(False)  # no dropout: the reference had none
        self._pad_id = int(tokenizer.eos_token_id)
        self._settings = settings
        self._rng = Random(settings.seed)
        with self._precision():
            self._judged = self._measure_judged(tokenizer, preferences)
            self._taught, self._talk = (
                self._measure_kept(tokenizer, self._sample(some, most), taught=some is taught)
                for some, most in ((taught, MAX_KEPT_TAUGHT), (talk, MAX_KEPT_TALK))
            )
        self.losses: list[float] = []
        self._shown = 0

    def _sample(self, talks: Sequence[Conversation], most: int) -> list[Conversation]:
        """As many as are enough, or as can be shown."""
        shown = self._settings.steps * self._settings.rows
        return self._rng.sample(list(talks), min(len(talks), most, shown))

    def run(self, control: Control) -> bool:
        """Take all steps; False if a pause was requested on the way."""
        parameters = [one for one in self._model.parameters() if one.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, self._settings.learning_rate, weight_decay=0.0, betas=(0.9, 0.99)
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        for judged in self._batches():
            control.wait_while_held()
            if control.pause_requested.is_set():
                return False
            self.losses.append(self._step(judged))
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        return True

    def _rate(self, step: int) -> float:
        """Of the learning rate: up for the first steps, then down to nothing."""
        steps = self._settings.steps
        warmup = max(1, round(WARMUP_SHARE * steps))
        return min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))

    def _batches(self) -> Iterator[list[_Judged]]:
        """The judged rows of each step: each row once, then again in another order."""
        count = self._settings.judged
        left: list[_Judged] = []
        for _ in range(self._settings.steps):
            while len(left) < count:
                left += self._rng.sample(self._judged, len(self._judged))
            yield left[:count]
            del left[:count]

    def _step(self, judged: Sequence[_Judged]) -> float:
        """The loss of a step, whose gradients are added up piece by piece."""
        total, pieces = 0.0, self._settings.pieces
        for number in range(pieces):
            total += self._add_gradients(partial(self._judged_loss, judged[number::pieces]))
            if kept := self._draw_kept():
                total += self._add_gradients(partial(self._kept_loss, kept))
        return total

    def _add_gradients(self, loss_of: Callable[[], torch.Tensor]) -> float:
        """Of one loss at a time, since the memory of both together is twice a training step's."""
        with self._precision():
            loss = loss_of() / self._settings.pieces
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _judged_loss(self, rows: Sequence[_Judged]) -> torch.Tensor:
        pairs = [one for one in rows if one.is_pair]
        votes = [one for one in rows if not one.is_pair]
        losses = []
        if pairs:
            losses.append(self._weights(pairs) * self._pair_losses(pairs))
        if votes:
            losses.append(self._weights(votes) * self._vote_losses(votes))
        return torch.cat(losses).mean()

    def _pair_losses(self, pairs: Sequence[_Judged]) -> torch.Tensor:
        good = self._ratios(
            [one.good for one in pairs if one.good], [one.good_before for one in pairs]
        )
        bad = self._ratios([one.bad for one in pairs if one.bad], [one.bad_before for one in pairs])
        return pair_losses(good, bad)

    def _vote_losses(self, votes: Sequence[_Judged]) -> torch.Tensor:
        with torch.no_grad():
            mismatched = [one.mismatched for one in votes]
            drift = drift_of(self._ratios(mismatched, [one.mismatched_before for one in votes]))
        before = [one.good_before + one.bad_before for one in votes]  # one of them is 0
        liked = torch.tensor([one.good is not None for one in votes], device=self._model.device)
        return vote_losses(self._ratios([one.voted for one in votes], before), liked, drift)

    def _ratios(self, replies: Sequence[Tokens], before: Sequence[float]) -> torch.Tensor:
        """The log-ratios of whole replies (n,)."""
        now = log_probs(self._model, replies, self._pad_id).sums
        return now - now.new_tensor(before)

    def _weights(self, rows: Sequence[_Judged]) -> torch.Tensor:
        return torch.tensor([one.weight for one in rows], device=self._model.device)

    def _draw_kept(self) -> list[_Kept]:
        """What must stay, one row at least: taught pairs and talk in turn."""
        count = max(1, self._settings.rows - max(1, round(JUDGED_SHARE * self._settings.rows)))
        pools = [pool for pool in (self._taught, self._talk) if pool]
        if not pools:
            return []
        first, self._shown = self._shown, self._shown + count
        return [self._rng.choice(pools[n % len(pools)]) for n in range(first, self._shown)]

    def _kept_loss(self, kept: Sequence[_Kept]) -> torch.Tensor:
        found = log_probs(self._model, [one.tokens for one in kept], self._pad_id)
        now, before = found.tokens, torch.cat([one.before for one in kept])
        taught = torch.tensor([one.taught for one in kept], device=now.device)[found.rows]
        loss = now.new_zeros(())
        if taught.any():
            loss = loss + TAUGHT_WEIGHT * taught_loss(now[taught], before[taught], SURE_PROBABILITY)
        if not taught.all():
            loss = loss + TALK_WEIGHT * kept_loss((now - before)[~taught])
        return loss

    def _measure_judged(
        self, tokenizer: PreTrainedTokenizerBase, preferences: Sequence[Preference]
    ) -> list[_Judged]:
        length = self._settings.max_length
        weights = balanced_weights(preferences)
        sides = tokenize_sides(tokenizer, preferences, length)
        good, bad = [one for one, _ in sides], [one for _, one in sides]
        others = _other_questions(preferences)
        behind = [(others[one.user], one.good or one.bad or "") for one in preferences]
        mismatched = tokenize_pairs(tokenizer, behind, length)
        sums = [measured_sums(self._model, some, self._pad_id) for some in (good, bad, mismatched)]
        return [_Judged(*row) for row in zip(weights, good, bad, mismatched, *sums, strict=True)]

    def _measure_kept(
        self, tokenizer: PreTrainedTokenizerBase, talks: Sequence[Conversation], *, taught: bool
    ) -> list[_Kept]:
        rows = [
            one
            for one in tokenize(tokenizer, talks, self._settings.max_length)
            if any(label >= 0 for label in one.labels[1:])
        ]
        found = measured(self._model, rows, self._pad_id)
        return [_Kept(*one, taught) for one in zip(rows, found, strict=True)]

    def _precision(self) -> AbstractContextManager[None]:
        kind = self._model.device.type
        return torch.autocast(kind, torch.bfloat16, enabled=self._settings.bf16)


def _other_questions(preferences: Sequence[Preference]) -> dict[str, str]:
    """The next question after each; itself only if there is no other one."""
    questions = list(dict.fromkeys(one.user for one in preferences))
    return dict(zip(questions, [*questions[1:], *questions[:1]], strict=True))


def balanced_weights(preferences: Sequence[Preference]) -> list[float]:
    """The weights, so that likes and dislikes weigh the same in all: KTO asks for about that, or
    whichever is rarer is not learned."""
    totals = {
        liked: sum(one.weight for one in preferences if _is_vote(one, liked))
        for liked in (True, False)
    }
    half = sum(totals.values()) / 2

    def factor(one: Preference) -> float:
        if one.is_pair or not all(totals.values()):
            return 1.0
        return half / totals[one.good is not None]

    return [one.weight * factor(one) for one in preferences]


def _is_vote(one: Preference, liked: bool) -> bool:
    return not one.is_pair and (one.good is not None) is liked
