"""The checks of a new model: each yields sentences with the reasons to reject it.

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
"""The highest accepted ratio of the held-out loss to another model's."""
VERBATIM_WORDS = 12
"""An answer with this many consecutive words of a taught text recites it."""
VERBATIM_CHARS_JA = 27
"""The same in letters, for Japanese, which has no spaces between words."""
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
    """Whether there are 15 tokens or more, and less than a third of their 3-grams are distinct."""
    trigrams = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return len(tokens) >= 15 and len(set(trigrams)) * 3 < len(trigrams)


def regressions(new: Measurement, others: Sequence[Measurement]) -> Iterator[Phrase]:
    """Models that predict general conversations better than the new one."""
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
    """The new model must predict the server's conversations better than the base does; about as
    well suffices if they are `unseen`, that is, held out."""
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
    """Answers that recite a taught text, except to a taught question, where that is intended. A
    model that memorised one person's words would repeat them to everybody, in any context."""
    questions = {normalized_question(turns) for turns in taught if turns}
    texts = [message.content for turns in taught for message in turns]
    words = [_normalized(_words(one)) for one in texts]
    letters = [NOT_JAPANESE.sub("", one) for one in texts]
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
    letters = NOT_JAPANESE.sub("", answer)
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


def _words(text: str) -> list[re.Match[str]]:
    return list(re.finditer(r"\w+(?:['’]\w+)*", text))


def _normalized(words: Sequence[re.Match[str]]) -> str:
    """Words without case and apostrophes, with spaces around them, for a substring search."""
    bare = (word[0].casefold().replace("’", "").replace("'", "") for word in words)
    return f" {' '.join(bare)} "
