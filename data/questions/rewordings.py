"""An index of taught questions that finds the one which a message asks in other words.

Where the rules of `likeness` find nothing, `meanings` is asked. It needs NumPy and an encoder, and
is imported only where something was taught: a bot that starts has no use for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data.questions.likeness import Likeness, Match, TaughtQuestions

if TYPE_CHECKING:
    from data.questions.meanings import Meanings


class RewordedQuestions(TaughtQuestions):
    """Taught questions that are found in other words, too."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: dict[int, str] = {}
        self._new: dict[int, str] = {}
        self._meanings: Meanings | None = None

    def add(self, number: int, text: str) -> None:
        """Add a question, in place of what was under that number; what it means is read later."""
        super().add(number, text)
        self._texts[number] = self._new[number] = text

    def remove(self, number: int) -> None:
        """Remove a question, if it is there."""
        super().remove(number)
        self._texts.pop(number, None)
        self._new.pop(number, None)
        if self._meanings is not None:
            self._meanings.remove(number)

    def read_new(self) -> Meanings:
        """Read what the questions mean that were added since."""
        if self._meanings is None:
            from data.questions.meanings import Meanings

            self._meanings = Meanings()
        if self._new:
            self._meanings.add(self._new)
            self._new = {}
        return self._meanings

    def find(self, text: str) -> Match | None:
        """The taught question that is asked, in whatever words; None if it is none of them."""
        if (match := super().find(text)) or not self._texts:
            return match
        number = self.read_new().find(self.respelled(text))
        return None if number is None else Match(number, self._texts[number])

    def compare(self, text: str, number: int) -> Likeness:
        """How like the question under a number a question is."""
        verdict = super().compare(text, number)
        if verdict is Likeness.OTHER:
            from data.questions.meanings import perhaps_asks

            return Likeness.UNSURE if perhaps_asks(text, self._texts[number]) else verdict
        return verdict
