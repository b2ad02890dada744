"""The second stage of a run, from its file to what is kept of it.

The supervised stage may have ended long ago: a pause or a crash in this one repeats it from its
beginning, since it is the shorter of the two. Imports torch.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.records import Conversation
from data.dataset.preferences import Preference, PreferenceCounts
from i18n.phrase import Phrase, join_phrases, phrase, phrases
from model.own_templates import is_japanese
from model.runners.device import is_out_of_memory
from training.config import TrainingConfig
from training.run.gate.evaluation import EvaluationReport
from training.run.loop import Control
from training.run.mixing import read_talk
from training.run.preferences.decision import MAX_CHANCE, HeldOut, refusal, split
from training.run.preferences.replies import tokenize_sides
from training.run.preferences.stage import PreferenceStage, StageSettings
from training.run.preferences.voters import Voters, without

log = logging.getLogger(__name__)

Evaluation = tuple[EvaluationReport, dict[str, float]]
"""The report of a model, and its scores on held-out data of the run."""

BY_CHANCE = phrase("on votes that it had not seen, it guessed no better than by chance.")
NO_MEMORY = phrase("there was not enough memory to learn from them.")
DIVERGED = phrase("the loss became NaN.")


class SecondStage:
    """Learns from `preferences` on the trainable parameters of `model`, and can go back."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: TrainingConfig,
        preferences: Sequence[Preference],
        taught: Sequence[Conversation],
        supervised_steps: int,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._config = config
        self._taught = taught
        self._learned, self._held_out = split(preferences, config.seed)
        self._settings = StageSettings.of(config, len(self._learned), supervised_steps)
        self.against: frozenset[int] = frozenset()
        """The voters who do not count, since they vote against all others."""
        self.reason: Phrase | None = None
        """Why nothing of it is kept; None: it is, or that is not decided yet. Set before it runs,
        it does not run."""
        self.seconds = 0.0
        """How much longer the run took for it."""

    @property
    def steps(self) -> int:
        return self._settings.steps

    def run(self, control: Control) -> bool:
        """Learn; False if a pause was requested: then nothing of it is kept."""
        self._began, self._before = time.monotonic(), self.weights()
        if self.reason is not None:
            return True
        try:
            return self._run(control)
        except Exception as e:
            if not is_out_of_memory(e):
                raise
            log.warning("nothing is learned from votes: %s", e)
            self.reason = NO_MEMORY
            return True

    def _run(self, control: Control) -> bool:
        model, tokenizer = self._model, self._tokenizer
        voters = Voters(
            model, tokenizer, self._learned, self._settings, partial(self.restore, self._before)
        )
        against = voters.against(control)
        if against is None:
            return False
        self.against = against
        self._learned, self._held_out = (
            without(some, against) for some in (self._learned, self._held_out)
        )
        talk = read_talk(self._taught, japanese=is_japanese(tokenizer))
        stage = PreferenceStage(model, tokenizer, self._learned, self._taught, talk, self._settings)
        sides = tokenize_sides(tokenizer, self._held_out, self._config.max_length)
        held_out = HeldOut(model, int(tokenizer.eos_token_id), self._held_out, sides)
        if not stage.run(control):
            return False
        if not all(map(math.isfinite, stage.losses)):
            self.reason = DIVERGED
        elif held_out.chance(self._config.seed) > MAX_CHANCE:
            self.reason = BY_CHANCE
        return True

    def choose(self, evaluate: Callable[[], Evaluation]) -> Evaluation:
        """Leave the model as it was before the stage, unless the stage made it better; the
        evaluation of the one that stays, with a sentence about the votes."""
        after = evaluate() if self.reason is None else None
        learned = self.weights()
        self.restore(self._before)
        self.seconds = time.monotonic() - self._began
        before = evaluate()
        if after:
            self.reason = refusal(before[0], after[0])
        if after and self.reason is None:
            self.restore(learned)
            return replace(after[0], votes=self._learned_from()), after[1]
        unchanged = phrase("The votes changed nothing: {why}", why=self.reason)
        return replace(before[0], votes=unchanged), before[1]

    @property
    def learned(self) -> list[Preference]:
        """The rows that the model learned from, if what it learned was kept."""
        return self._learned if self.reason is None else []

    def _learned_from(self) -> Phrase:
        counts = self._config.preferences or PreferenceCounts()
        learned = phrase("I learned from {opinions}.", opinions=counts.as_text())
        if not self.against:
            return learned
        left_out = phrases(
            "The votes of {count} person went against all others and did not count.",
            "The votes of {count} people went against all others and did not count.",
            len(self.against),
        )
        return join_phrases([learned, left_out])

    def weights(self) -> dict[str, torch.Tensor]:
        """Copies of the trainable parameters, in the memory of the processor."""
        return {
            name: one.detach().to("cpu", copy=True)
            for name, one in self._model.named_parameters()
            if one.requires_grad
        }

    @torch.no_grad()
    def restore(self, weights: dict[str, torch.Tensor]) -> None:
        """Set the trainable parameters to such copies."""
        for name, one in self._model.named_parameters():
            if name in weights:
                one.copy_(weights[name])
