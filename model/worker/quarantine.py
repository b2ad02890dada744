"""Quarantines models that crash the worker, so that none of them can keep it in a crash loop.

Knows models by their source and when each was first used. Does not know the process.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection

from i18n.phrase import Phrase, phrase
from model.registry import display_name

QUARANTINE_DEATHS = 3
"""Deaths in a row after which a model is quarantined."""
STABLE_S = 300.0
"""Seconds in use after which a model is not blamed for a death: it has proved to run."""


def quarantine_message(source: str) -> Phrase:
    """Of a model that killed the worker too often."""
    return phrase(
        "{who} is set aside: my worker process died {count} times in a row with it. `/model use` "
        "tries it again.",
        who=display_name(source),
        count=QUARANTINE_DEATHS,
    )


class Quarantine:
    """Counts the deaths of the worker that each model is blamed for.

    Without any suspects, that is the one whose first use was last, as the death may come right
    after its load. Adapters run in company, so all of a batch are suspects: once one of them has
    been there too often, the others count as innocent. The counter outlives the quarantine: a model
    that is loaded again on purpose is back in quarantine at its next death.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first_used: dict[str, float] = {}
        self._deaths: Counter[str] = Counter()
        self.quarantined: dict[str, str] = {}

    def record_use(self, source: str) -> None:
        """A model is loaded or gets a request."""
        self._first_used.setdefault(source, self._clock())

    def record_death(self, suspects: Collection[str]) -> dict[str, Phrase]:
        """The worker died, while it ran or loaded the `suspects`; those newly quarantined, and
        why."""
        now, last = self._clock(), list(self._first_used)[-1:]
        for source, since in self._first_used.items():
            if now - since >= STABLE_S:
                del self._deaths[source]
            elif source in (suspects or last):
                self._deaths[source] += 1
        self._first_used.clear()
        deadly = [one for one, deaths in self._deaths.items() if deaths >= QUARANTINE_DEATHS]
        new = {one: quarantine_message(one) for one in deadly if one not in self.quarantined}
        self.quarantined.update(new)
        if new:
            for source in self._deaths.keys() - self.quarantined.keys():
                del self._deaths[source]
        return new
