"""An index of taught questions that finds the one which a message asks in other words.

Where the rules of `likeness` find nothing, `meanings` is asked. It needs NumPy and an encoder, and
is imported only where something was taught: a bot that starts has no use for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from data.questions.likeness import Likeness, Match, TaughtQuestions

if TYPE_CHECKING:
    from data.questions.meanings import Meaning, Meanings


class RewordedQuestions(TaughtQuestions):
    """Taught questions that are found in other words, too."""

    def __init__(self) -> None:
        super().__init__()
        self._unread: dict[int, tuple[str, str]] = {}
        self._meanings: Meanings | None = None

    def add(self, number: int, text: str, answer: str | None = None) -> None:
        """Add a question, in place of what was under that number; what it means is read later.
        Questions of equal answers are no rivals; without an answer, it is a rival of all."""
        super().add(number, text)
        self._unread[number] = text, str(number) if answer is None else answer

    def remove(self, number: int) -> None:
        """Remove a question, if it is there."""
        super().remove(number)
        self._unread.pop(number, None)
        if self._meanings is not None:
            self._meanings.remove(number)

    def unread(self) -> dict[int, tuple[str, str]]:
        """The questions whose meaning has yet to be read, and their answers."""
        return dict(self._unread)

    def learn(self, read: Mapping[int, Meaning]) -> None:
        """Take in what was read, but for what has changed or gone since."""
        from data.questions.meanings import Meanings

        self._meanings = self._meanings or Meanings()
        still = {n: one for n, one in read.items() if self._unread.get(n) == (one.text, one.answer)}
        self._meanings.add(still)
        for number in still:
            del self._unread[number]

    def read_all(self) -> None:
        """Read all meanings, here and now."""
        from data.questions.meanings import read_meanings

        self.learn(read_meanings(self.unread()))

    def find(self, text: str) -> Match | None:
        """The taught question that is asked, in whatever words; None if it is none of them. Nothing
        is read here: of questions that have not been read, the rules find what they can."""
        return self.find_by_rules(text) or self.find_by_meaning(text)

    def find_by_rules(self, text: str) -> Match | None:
        """The taught question that is asked, if the rules are sure of it."""
        return super().find(text)

    def find_by_meaning(self, text: str) -> Match | None:
        """The taught question that is likeliest asked."""
        number = self._meanings.find(self.respelled(text)) if self._meanings else None
        return None if number is None else self._match(number)

    def compare(self, text: str, number: int) -> Likeness:
        """How like the question under a number a question is."""
        verdict = super().compare(text, number)
        if verdict is Likeness.OTHER and self._meanings:
            from data.questions.meanings import perhaps_asks

            if perhaps_asks(self.respelled(text), self._match(number).question):
                return Likeness.UNSURE
        return verdict
