"""Near misses: questions that look like a taught one and ask for something else.

One or two of the words that make a question this question are replaced: a name by a name, a number
by a number, a day by a day, else by any other word. Pure: equal seeds give equal sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from random import Random

from data.questions.rephrasing import AskedForm, Form, replace_word, words
from data.questions.synonyms import FOLDER, common_words, lines_of, other_words
from data.questions.words import STOP, WEAK

ALL_KEYS_RATIO = 0.3
"""The share of near misses in which more than one word is another."""
VERB_RATIO = 0.15
"""The share in which the verb is another, too."""
RIVAL_RATIO = 0.15
"""The share of words that are replaced by one of another taught question."""
MADE_UP_RATIO = 0.35
"""The share of names that nobody has: put together from pieces of words."""
_GROUPS = tuple(tuple(line.split()) for line in lines_of(FOLDER / "siblings.en.txt"))
SIBLINGS = {word: line for line in _GROUPS for word in line}
"""Words of a kind, which differ most where questions differ least."""


NAMES = tuple(name for line in lines_of(FOLDER / "names.txt") for name in line.split())


def _word(rng: Random) -> str:
    return rng.choice(_content_words())


@cache
def _content_words() -> tuple[str, ...]:
    return tuple(sorted(one for one in common_words() - STOP - WEAK if len(one) > 2))


def _name(rng: Random) -> str:
    if rng.random() > MADE_UP_RATIO:
        return rng.choice(NAMES)
    return "".join(_word(rng)[: rng.choice((2, 3, 4))] for _ in range(2)).capitalize()


def near_miss(question: AskedForm, rng: Random, rivals: Sequence[str] = ()) -> str | None:
    """Another question of the same form; None if the words drawn made none. `rivals` are words of
    other taught questions, the likeliest to be confused."""
    keys = list(question.keys)
    if not keys:
        return None
    count = rng.randint(1, len(keys)) if rng.random() < ALL_KEYS_RATIO else 1
    text = question.text
    for key in rng.sample(keys, count):
        text = replace_word(text, key, _another(key, question, rng, rivals))
    if question.verb and rng.random() < VERB_RATIO:
        text = replace_word(text, question.verb, _word(rng))
    still = {word.lower() for word in words(text)}
    return text if any(key.lower() not in still for key in keys) else None


def _another(
    key: str,
    question: AskedForm,
    rng: Random,
    rivals: Sequence[str],
) -> str:
    """A word of the same kind that does not mean the same."""
    plain = key.lower()
    if key.isdigit():
        return str(rng.choice([n for n in range(1, 10) if str(n) != key]))
    same = {plain, *map(str.lower, other_words(plain))}
    if siblings := [one for one in SIBLINGS.get(plain, ()) if one not in same]:
        new = rng.choice(siblings)
    elif rivals and rng.random() < RIVAL_RATIO:
        new = rng.choice(rivals)
    elif key[0].isupper() and not question.text.startswith(key):
        return _name(rng)
    else:
        new = _word(rng)
    if new.lower() in same:
        return key
    if question.form is not Form.IF and plain.endswith("s") and not plain.endswith("ss"):
        new = new if new.endswith("s") else f"{new}s"
    return new.capitalize() if key[0].isupper() else new
