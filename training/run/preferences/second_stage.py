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
from itertools import count, islice

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.records import Conversation
from data.dataset.preferences import Preference, PreferenceCounts
from i18n.phrase import Phrase, join_phrases, phrase, phrases
from model.own_templates import is_japanese
from model.runners.device import is_out_of_memory
from training.config import TrainingConfig
from training.run.curriculum import Part, make_curriculum
from training.run.gate.evaluation import EvaluationReport
from training.run.loop import Control
from training.run.mixing import read_talk
from training.run.preferences.decision import MAX_CHANCE, HeldOut, refusal, split
from training.run.preferences.replies import tokenize_sides
from training.run.preferences.stage import MAX_KEPT_TAUGHT, PreferenceStage, StageSettings
from training.run.preferences.voters import MIN_AGREEMENT, Voters, without

log = logging.getLogger(__name__)

Evaluation = tuple[EvaluationReport, dict[str, float]]
"""The report of a model, and its scores on held-out data of the run."""

SHARES = (1.0, 0.75, 0.5)
"""Of the change that the stage made, tried in this order: each try costs the time of the checks."""
MAX_BEFORE = 2
"""Messages before a taught question that is asked amid other talk: longer ones cost time."""
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
        if voters.agreement is not None and voters.agreement < MIN_AGREEMENT:
            self.reason = BY_CHANCE
            return True
        self.against = against
        self._learned, self._held_out = (
            without(some, against) for some in (self._learned, self._held_out)
        )
        japanese = is_japanese(tokenizer)
        talk = read_talk(self._taught, japanese=japanese)
        taught = facts_as_asked(self._config, self._taught, japanese=japanese)
        stage = PreferenceStage(model, tokenizer, self._learned, taught, talk, self._settings)
        sides = tokenize_sides(tokenizer, self._held_out, self._config.max_length)
        held_out = HeldOut(model, int(tokenizer.eos_token_id), self._held_out, sides)
        self._chance = partial(held_out.chance, self._config.seed)
        if not stage.run(control):
            return False
        if not all(map(math.isfinite, stage.losses)):
            self.reason = DIVERGED
        elif self._chance() > MAX_CHANCE:
            self.reason = BY_CHANCE
        return True

    def choose(self, evaluate: Callable[[], Evaluation]) -> Evaluation:
        """Leave the model as it was before the stage, unless the stage made it better; the
        evaluation of the one that stays, with a sentence about the votes."""
        learned = self.weights()
        self.restore(self._before)
        began = time.monotonic()
        before = evaluate()
        checked_s = time.monotonic() - began  # which a run without votes takes as well
        kept = self._part_way(learned, before[0], evaluate) if self.reason is None else None
        self.seconds = time.monotonic() - self._began - checked_s
        if kept is not None:
            return kept
        self.restore(self._before)
        unchanged = phrase("The votes changed nothing: {why}", why=self.reason)
        return replace(before[0], votes=unchanged), before[1]

    def _part_way(
        self,
        learned: dict[str, torch.Tensor],
        before: EvaluationReport,
        evaluate: Callable[[], Evaluation],
    ) -> Evaluation | None:
        """Go as far from the model before the stage to the one after it as the checks allow, and
        no further back than votes that it had not seen are still followed; None, with a reason, if
        nowhere. Source of the idea: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models".
        """
        why: Phrase | None = None
        # What is refused without the votes is not refused for how far it followed them.
        for share in SHARES if before.refusal is None else SHARES[:1]:
            self.restore(_interpolated(self._before, learned, share))
            if share < 1 and self._chance() > MAX_CHANCE:
                break
            after = evaluate()
            refused = refusal(before, after[0])
            if refused is None:
                return replace(after[0], votes=self._learned_from(share, why)), after[1]
            why = why or refused
        self.reason = why
        return None

    @property
    def learned(self) -> list[Preference]:
        """The rows that the model learned from, if what it learned was kept."""
        return self._learned if self.reason is None else []

    def _learned_from(self, share: float, refused: Phrase | None) -> Phrase:
        counts = self._config.preferences or PreferenceCounts()
        told = [phrase("I learned from {opinions}.", opinions=counts.as_text())]
        if refused is not None:
            told.append(
                phrase(
                    "{percent} % of the change was kept, since with all of it {why}",
                    percent=round(100 * share),
                    why=refused,
                )
            )
        if self.against:
            told.append(
                phrases(
                    "The votes of {count} person went against all others and did not count.",
                    "The votes of {count} people went against all others and did not count.",
                    len(self.against),
                )
            )
        return join_phrases(told)

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


def _interpolated(
    before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """So far on the way from one to the other. Of LoRA's matrices, too: their product leaves the
    straight line by at most a quarter of the product of both changes, which are small here."""
    return {name: torch.lerp(one, after[name], share) for name, one in before.items()}


def facts_as_asked(
    config: TrainingConfig, taught: Sequence[Conversation], *, japanese: bool
) -> list[Conversation]:
    """The taught pairs; facts as the first stage asked them, also in other words and amid other
    talk: asked word for word only, they are lost for whoever types carelessly."""
    if config.recipe != "facts" or not taught:
        return list(taught)
    curriculum = make_curriculum(config, taught, japanese=japanese)
    learned = (
        (*row.before, *row.turns)
        for step in count()
        for row in curriculum.rows(step)
        if row.part is Part.LEARNED and len(row.before) <= MAX_BEFORE
    )
    return list(islice(learned, MAX_KEPT_TAUGHT))
