"""The checks that a new model must pass: each yields the reasons, in sentences, to reject it.

Knows measurements and answers. Does not know models or tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from core.japanese import JAPANESE_LETTERS
from core.records import Conversation, Message, Role
from i18n.phrase import Phrase, phrase
from training.run.measures import Measurement
from training.run.mixing import normalized_question

MAX_LOSS_RATIO = 1.10
"""By how much the loss on held-out conversations may exceed that of another model."""
VERBATIM_WORDS = 12
"""Consecutive words of one taught text that make an answer a recital."""
VERBATIM_CHARS_JA = 27
"""The same in Japanese letters: Japanese has no spaces between words."""
NOT_JAPANESE = re.compile(rf"[^{JAPANESE_LETTERS}]+")


@dataclass(frozen=True, slots=True)
class Answer:
    """The replies to a prompt by the model in service (or the base), and by the new one."""

    prompt: str
    before: str | None
    after: str


def bad_answers(tokenizer: PreTrainedTokenizerBase, answers: Sequence[Answer]) -> Iterator[Phrase]:
    """Answers that are empty or repeat themselves."""
    for one in answers:
        asked, said = one.prompt[:80], one.after[:80]
        if not one.after:
            yield phrase("It had no answer to “{asked}”.", asked=asked)
        if is_repetitive(tokenizer.encode(one.after, add_special_tokens=False)):
            yield phrase(
                "It repeated itself when asked “{asked}”: “{said}”.", asked=asked, said=said
            )


def is_repetitive(tokens: Sequence[int]) -> bool:
    """Whether fewer than a third of the 3-grams of at least 15 tokens are distinct."""
    if len(tokens) < 15:
        return False
    grams = [tuple(tokens[i : i + 3]) for i in range(len(tokens) - 2)]
    return len(set(grams)) * 3 < len(grams)


def regressions(new: Measurement, others: Sequence[Measurement]) -> Iterator[Phrase]:
    """General talk that the new model predicts worse than another one did."""
    for other in others:
        if new.general > MAX_LOSS_RATIO * other.general:
            yield phrase(
                "It talks worse than {other} in general: "
                "held-out loss {loss:.2f} against {theirs:.2f}.",
                other=other.name,
                loss=new.general,
                theirs=other.general,
            )


def not_learned(new: Measurement, base: Measurement | None, *, unseen: bool) -> Iterator[Phrase]:
    """The server's own talk should be predicted better than by the base; if it is `unseen`, about
    as well will do."""
    if base is None or not new.own > base.own * (MAX_LOSS_RATIO if unseen else 1):
        return
    what = phrase("this server's held-out talk") if unseen else phrase("what it was taught")
    yield phrase(
        "It knows less of {what} than {other}: loss {loss:.2f} against {theirs:.2f}.",
        what=what,
        other=base.name,
        loss=new.own,
        theirs=base.own,
    )


def verbatim_answers(taught: Sequence[Conversation], answers: Sequence[Answer]) -> Iterator[Phrase]:
    """Answers to other questions than the taught ones that recite a taught text.

    The model has memorised it, and would say one person's words to everybody, in any context. The
    answer to a taught question is meant to be the taught one.
    """
    questions = {normalized_question(turns) for turns in taught if turns}
    texts = [message.content for turns in taught for message in turns]
    words, letters = [_normalized(_words(one)) for one in texts], list(map(_japanese_chars, texts))
    for one in answers:
        if normalized_question((Message(Role.USER, one.prompt),)) in questions:
            continue
        if recited := _verbatim_japanese(one.after, letters) or _verbatim(one.after, words):
            yield phrase(
                "It recites a taught text when asked “{asked}”: “{recited}…”.",
                asked=one.prompt[:80],
                recited=recited,
            )


def _verbatim_japanese(answer: str, taught: Sequence[str]) -> str:
    """The first VERBATIM_CHARS_JA consecutive letters that are in a taught text, or ""."""
    letters = _japanese_chars(answer)
    runs = (letters[n : n + VERBATIM_CHARS_JA] for n in range(len(letters) - VERBATIM_CHARS_JA + 1))
    return next((run for run in runs if any(run in text for text in taught)), "")


def _verbatim(answer: str, taught: Sequence[str]) -> str:
    """The answer from its first VERBATIM_WORDS words in a row that are in a taught text, or ""."""
    words = _words(answer)
    for n in range(len(words) - VERBATIM_WORDS + 1):
        run = _normalized(words[n : n + VERBATIM_WORDS])
        if any(run in text for text in taught):
            return answer[words[n].start() :][:80]
    return ""


def _japanese_chars(text: str) -> str:
    return NOT_JAPANESE.sub("", text)


def _words(text: str) -> list[re.Match[str]]:
    return list(re.finditer(r"\w+(?:['’]\w+)*", text))


def _normalized(words: Sequence[re.Match[str]]) -> str:
    """Words without case and apostrophes, with a space around each, to be found in a text."""
    bare = (word[0].casefold().replace("’", "").replace("'", "") for word in words)
    return f" {' '.join(bare)} "
