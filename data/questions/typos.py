"""Reads a mistyped word as the known word that it must be. Pure.

Only slips of the fingers count, since another letter makes another name: a letter that is missing,
doubled, swapped with the next, or beside the right one on the keyboard.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from functools import cache

MIN_CHARS = 6
"""Letters of a word from which on one wrong letter is a typo: of shorter ones, it makes another
word too often."""
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LIKE_SOUNDING = {"a": "e", "e": "ai", "i": "e", "c": "sk", "s": "cz", "z": "s", "k": "c"}
"""Letters that people mix up in spelling (“calender”)."""


def intended_word(typed: str, known: Container[str]) -> str | None:
    """The known word that was meant by one that is not known; None if there is none."""
    if len(typed) < MIN_CHARS - 1 or not typed.isascii() or not typed.isalpha():
        return None
    for word in _corrections(typed):
        if len(word) >= MIN_CHARS and word in known:
            return word
    return None


def _corrections(typed: str) -> Iterator[str]:
    """What may have been meant. The first letter is never wrong, nor is the last one another: in
    names they tell apart who is meant."""
    for at in range(1, len(typed)):
        before, letter, after = typed[:at], typed[at], typed[at + 1 :]
        if after:
            yield f"{before}{after[0]}{letter}{after[1:]}"
            for other in _mixed_up(letter):
                yield f"{before}{other}{after}"
        if letter in (typed[at - 1], after[:1]) or (after and letter in _mixed_up(after[0])):
            yield f"{before}{after}"
        for missing in LETTERS:
            yield f"{before}{missing}{letter}{after}"
    yield f"{typed}{typed[-1]}"


@cache
def _mixed_up(letter: str) -> frozenset[str]:
    """The keys around a letter, and the letters that sound like it."""
    found = set(LIKE_SOUNDING.get(letter, ""))
    for row, keys in enumerate(KEYBOARD):
        if (at := keys.find(letter)) >= 0:
            for line in KEYBOARD[max(0, row - 1) : row + 2]:
                found.update(line[max(0, at - 1) : at + 2])
    return frozenset(found - {letter})
