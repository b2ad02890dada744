"""Whether what was learned from votes is kept. Imports torch for its sums alone.

Knows two evaluations, before and after the stage, and how both models find the held-out votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import torch
from transformers import PreTrainedModel

from data.dataset.preferences import Preference
from i18n.phrase import Phrase, phrase
from training.run.gate.evaluation import EvaluationReport
from training.run.preferences.replies import Tokens, measured_sums

HELD_OUT_SHARE = 1 / 3
"""Of the judged replies: not learned, but asked about afterwards."""
MAX_CHANCE = 0.01
"""The highest accepted probability that a stage without any effect would look as good: with 5 %,
one retrain in twenty would follow votes that mean nothing."""
PERMUTATIONS = 9999
MAX_LOSS_RISE = 1.05
"""The highest accepted ratio of the held-out loss on general talk to that before the stage."""


def split(
    preferences: Sequence[Preference], seed: int
) -> tuple[list[Preference], list[Preference]]:
    """The rows to learn from, and the held-out ones. All rows with one question go to one side:
    what is learned of one of them says something of the others."""
    questions = sorted({one.user for one in preferences})
    Random(seed).shuffle(questions)
    held = set(questions[: round(HELD_OUT_SHARE * len(questions))])
    return (
        [one for one in preferences if one.user not in held],
        [one for one in preferences if one.user in held],
    )


def chance(
    ratios: Sequence[float], opinions: Sequence[float], margins: Sequence[float], seed: int
) -> float:
    """The probability of so clear a preference by chance: a one-sided permutation test (Good 2005,
    "Permutation, Parametric and Bootstrap Tests of Hypotheses"), which assumes nothing of how the
    values are distributed.

    `ratios` are the log-ratios of voted replies, and `opinions` the weights of their votes,
    negative for dislikes; `margins` are by how much more the better answers gained than what they
    replace, times their weights. If the stage learned nothing of opinions, any other order of the
    ratios is as probable, and either sign of a margin."""
    random = torch.Generator().manual_seed(seed)
    values, signed, gains = (
        torch.tensor(list(some), dtype=torch.float64) for some in (ratios, opinions, margins)
    )
    found = values @ signed + gains.sum()
    if not torch.isfinite(found):
        return 1.0
    shuffled = torch.rand(PERMUTATIONS, len(values), generator=random).argsort(dim=1)
    flips = torch.randint(0, 2, (PERMUTATIONS, len(gains)), generator=random).double() * 2 - 1
    others = values[shuffled] @ signed + flips @ gains
    return (int((others >= found - 1e-9).sum()) + 1) / (PERMUTATIONS + 1)


def refusal(before: EvaluationReport, after: EvaluationReport) -> Phrase | None:
    """Why the model before the stage is kept, by the checks of both; None: there is no reason."""
    if after.refusal:
        return phrase("the model did not pass its checks afterwards: {why}", why=after.refusal)
    if after.known < before.known:
        return phrase(
            "the model would know {after} taught answers instead of {before}.",
            after=after.known,
            before=before.known,
        )
    old, new = (one.losses.get("general", {}).get("new") for one in (before, after))
    if old is not None and new is not None and new > MAX_LOSS_RISE * old:
        return phrase(
            "the model would talk worse in general: held-out loss {after:.2f} instead of "
            "{before:.2f}.",
            after=new,
            before=old,
        )
    return None


class HeldOut:
    """The held-out judged replies, and how likely the model before the stage finds them."""

    def __init__(
        self,
        model: PreTrainedModel,
        pad_id: int,
        rows: Sequence[Preference],
        tokens: Sequence[tuple[Tokens | None, Tokens | None]],
    ) -> None:
        self._model = model
        self._pad_id = pad_id
        self._rows = rows
        self._sides = [one for one, _ in tokens], [one for _, one in tokens]
        self._before = self._sums()  # of the model before the stage

    def chance(self, seed: int) -> float:
        """The probability that the model, as it is now, prefers what people do by chance."""
        gained = [
            tuple(now - then for now, then in zip(*both, strict=True))
            for both in zip(self._sums(), self._before, strict=True)
        ]
        votes = [n for n, one in enumerate(self._rows) if not one.is_pair]
        pairs = [n for n, one in enumerate(self._rows) if one.is_pair]
        return chance(
            [sum(gained[n]) for n in votes],
            [_opinion(self._rows[n]) for n in votes],
            [self._rows[n].weight * (gained[n][0] - gained[n][1]) for n in pairs],
            seed,
        )

    def _sums(self) -> list[tuple[float, float]]:
        """The log-probabilities of the good and the bad reply of each row; 0 without one."""
        good, bad = (measured_sums(self._model, some, self._pad_id) for some in self._sides)
        return list(zip(good, bad, strict=True))


def _opinion(vote: Preference) -> float:
    return vote.weight if vote.good is not None else -vote.weight
