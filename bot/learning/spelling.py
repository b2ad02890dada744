"""Taught answers that a model can hardly write, and a model that can, before minutes are spent.

Knows the models and their tokenizers. Does not know Discord.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from model.registry import ModelOption, model_options
from model.spelling import Script, open_speller

MAX_HARD_SHARE = 0.1
"""The share of the answers that a better model may not write well either."""
GOOD_AT_SIGNS = "gpt2"
"""Its vocabulary has the beginnings of emoji, and it has read many."""


@dataclass(frozen=True, slots=True)
class HardAnswers:
    """So many answers that `model` can hardly write, most of them for their `script`; `better` can
    write it, None if no model here is known to."""

    model: str
    count: int
    script: Script
    better: str | None


def hard_answers(
    model: ModelOption, answers: Iterable[str], options: Iterable[ModelOption]
) -> HardAnswers | None:
    """What of the answers the model can hardly write, None if nothing or its tokenizer is not here;
    `options` are the models to choose a better one from. Blocks."""
    if (speller := open_speller(model.source)) is None:
        return None
    hard = [(one, script) for one in answers if (script := speller.hard_script(one))]
    if not hard:
        return None
    [(script, _)] = Counter(script for _, script in hard).most_common(1)
    of_script = [answer for answer, why in hard if why is script]
    return HardAnswers(model.name, len(hard), script, _better(script, of_script, options))


def _better(script: Script, answers: list[str], options: Iterable[ModelOption]) -> str | None:
    """One of the operator's own models that writes nearly all of these answers; for signs, else
    gpt2."""
    for option in options:
        if option.name in model_options:
            continue
        speller = open_speller(option.source)
        hard = [one for one in answers if speller and speller.hard_script(one) is script]
        if speller and len(hard) <= MAX_HARD_SHARE * len(answers):
            return option.name
    return GOOD_AT_SIGNS if script is Script.SIGNS else None
