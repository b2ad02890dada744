"""With which models the worker dies, so that one of them cannot take it down for ever.

Knows names of models and when they were used first. Does not know the process.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection

from i18n.phrase import phrase

QUARANTINE_DEATHS = 3
"""Deaths in a row after which a model is set aside."""
QUARANTINED = phrase(
    "The chosen model is set aside: my worker process died {count} times in a row with it. "
    "`/model use` tries it again.",
    count=QUARANTINE_DEATHS,
)
STABLE_S = 300.0
"""A model that was in use for so many seconds is not the cause of a death: it ran."""


class Quarantine:
    """Counts the deaths of each model.

    To blame are those that somebody waited for when the worker died; if nobody waited, the one that
    came last. A model that is set aside stays that until it is wanted on purpose, and is set aside
    again at its next death.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first_used: dict[str, float] = {}
        self._deaths: Counter[str] = Counter()
        self.quarantined: set[str] = set()

    def record_use(self, source: str) -> None:
        """A model is loaded, or asked."""
        self._first_used.setdefault(source, self._clock())

    def record_death(self, waited_for: Collection[str]) -> list[str]:
        """The worker is dead; the models that are set aside for it."""
        now, last = self._clock(), list(self._first_used)[-1:]
        for source, since in self._first_used.items():
            if now - since >= STABLE_S:
                del self._deaths[source]
            elif source in (waited_for or last):
                self._deaths[source] += 1
        self._first_used.clear()
        new = [one for one, deaths in self._deaths.items() if deaths >= QUARANTINE_DEATHS]
        fallen = [one for one in new if one not in self.quarantined]
        self.quarantined.update(fallen)
        return fallen
