"""A runner that computes nothing: each sequence says the tokens that the test wrote for it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many

from model.runner import Said
from model.sequence import Sequence

Script = Callable[[Sequence], Many[int | None]]


class ScriptedRunner:
    """`script` gives all the tokens of a sequence (for its present attempt)."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.batch: list[Sequence] = []

    def prefill(self, joining: Many[Sequence]) -> Said:
        self.batch += joining
        return self._next(joining)

    def decode(self) -> Said:
        return self._next(self.batch)

    def drop(self, gone: Many[Sequence]) -> None:
        self.batch = [one for one in self.batch if one not in gone]

    def _next(self, sequences: Many[Sequence]) -> Said:
        return [(one, self._script(one)[len(one.reply_ids)]) for one in sequences]
