"""Whether voters agree, and whose votes go against what all others prefer. Imports torch.

Somebody who votes for the opposite of what everybody else likes is found by the others' taste: the
model learns from one half of the voters, for a few steps, and is asked about the votes of the other
half, and the other way round. Knows the stage. Does not know the held-out votes: who counts is
decided without them, so that their test stays one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data.dataset.preferences import Preference
from training.run.loop import Control
from training.run.preferences.replies import measured_sums, tokenize_pairs
from training.run.preferences.stage import PreferenceStage, StageSettings

MIN_VOTERS = 4
"""With fewer, nobody can tell who is the one against all others."""
MIN_VOTES = 6
"""Of somebody, to say anything of them."""
MAX_SHARE = 0.25
"""Of the voters: if more disagree, tastes differ, and there is no everybody to be against."""
AGAINST = -1.0
"""Standard errors below the agreement that chance gives. To leave out somebody honest costs their
few votes, to keep somebody hostile costs the taste."""
MIN_AGREEMENT = 1.64
"""Of both halves, in standard errors: what votes at random exceed in one of twenty cases. With
less, there is no taste to learn, and no time is spent on it."""
EPOCHS = 3
"""Of each half: a model follows what most agree on before it learns single votes by heart."""


def agreement(ratios: Sequence[float], liked: Sequence[bool]) -> float | None:
    """How much more the liked replies have gained than the disliked ones, by their `ratios`: in
    standard errors of chance, negative if less (Mann & Whitney 1947, its normal approximation).
    None if they were all liked, or none was."""
    good = [one for one, is_liked in zip(ratios, liked, strict=True) if is_liked]
    bad = [one for one, is_liked in zip(ratios, liked, strict=True) if not is_liked]
    pairs = len(good) * len(bad)
    if not pairs:
        return None
    wins = sum((one > other) + (one == other) / 2 for one in good for other in bad)
    return (wins - pairs / 2) / math.sqrt(pairs * (len(ratios) + 1) / 12)


def against(agreements: Mapping[int, float], voters: int) -> frozenset[int]:
    """Who of so many voters votes against the others, by their agreements with them: the clearest,
    at most a quarter of all."""
    found = sorted((value, who) for who, value in agreements.items() if value < AGAINST)
    return frozenset(who for _, who in found[: int(MAX_SHARE * voters)])


def voters_of(rows: Sequence[Preference]) -> list[int]:
    return sorted({who for one in rows for who in one.voters})


def without(rows: Sequence[Preference], voters: frozenset[int]) -> list[Preference]:
    """The rows but for those that none but these voters agree with."""
    return [one for one in rows if not one.voters or not voters.issuperset(one.voters)]


def halves(voters: Sequence[int], seed: int) -> list[frozenset[int]]:
    """All voters, in two parts."""
    shuffled = Random(seed).sample(list(voters), len(voters))
    return [frozenset(shuffled[::2]), frozenset(shuffled[1::2])]


class Voters:
    """Asks a model, which it changes, how far those who gave the `rows` agree with each other.
    `start` puts the model back to where the stage begins."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        rows: Sequence[Preference],
        settings: StageSettings,
        start: Callable[[], None],
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._rows = [one for one in rows if one.voters]
        self._settings = settings
        self._start = start
        self._voters = voters_of(self._rows)
        self.agreement: float | None = None
        """How far the halves agree with each other, in standard errors of chance; None if that is
        not known."""

    def against(self, control: Control) -> frozenset[int] | None:
        """Who votes against all others; None if a pause was requested. The model is at its start
        afterwards."""
        if len(self._voters) < MIN_VOTERS:
            return frozenset()
        found: dict[int, float] = {}
        agreements: list[float] = []
        for half in halves(self._voters, self._settings.seed):
            learned = [one for one in self._rows if not half.issuperset(one.voters)]
            asked = [one for one in self._rows if half.issuperset(one.voters)]
            before = self._sums(asked)
            finished = self._stage(learned).run(control)
            gained = [now - then for now, then in zip(self._sums(asked), before, strict=True)]
            self._start()
            if not finished:
                return None
            found |= _agreements(asked, gained)
            whole = agreement(gained, [one.good is not None for one in asked])
            agreements += [] if whole is None else [whole]
        if agreements:
            self.agreement = sum(agreements) / math.sqrt(len(agreements))
        return against(found, len(self._voters))

    def _stage(self, rows: Sequence[Preference]) -> PreferenceStage:
        """A short one, which need not keep anything: nothing is left of it."""
        steps = self._settings.steps_of(len(rows), EPOCHS)
        settings = replace(self._settings, steps=min(self._settings.steps, steps))
        return PreferenceStage(self._model, self._tokenizer, rows, [], [], settings)

    def _sums(self, rows: Sequence[Preference]) -> list[float]:
        """The log-probabilities of voted replies."""
        pairs = [(one.user, one.good or one.bad or "") for one in rows]
        tokens = tokenize_pairs(self._tokenizer, pairs, self._settings.max_length)
        return measured_sums(self._model, tokens, int(self._tokenizer.eos_token_id))


def _agreements(rows: Sequence[Preference], gained: Sequence[float]) -> dict[int, float]:
    """Of those of the voters with enough votes, of both kinds."""
    found = {}
    for who in voters_of(rows):
        own = [n for n, one in enumerate(rows) if who in one.voters]
        value = agreement([gained[n] for n in own], [rows[n].good is not None for n in own])
        if len(own) >= MIN_VOTES and value is not None:
            found[who] = value
    return found
