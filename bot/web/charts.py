"""Charts as tables: the page draws what the table says, and who sees no chart reads the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Literal

from bot.learning.growth import Total
from bot.web.render import day_text
from bot.web.words import Words
from i18n.phrase import Phrase, phrase, phrases
from i18n.reader import say
from training.curves import Point

MAX_DAYS = 120


@dataclass(frozen=True, slots=True)
class Row:
    """A point: where it is, for the drawing, and its cells as text. `value` is its height."""

    x: float
    label: str | date
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A line; `summary` says in a sentence what there is to see. `x` of days are seconds."""

    name: str
    summary: str
    kind: Literal["days", "steps"]
    columns: tuple[str, str]
    rows: Sequence[Row]


def totals_chart(totals: Sequence[Total], name: str) -> Chart | None:
    """How the data set grew; None if it is empty."""
    if not totals:
        return None
    shown = _thin(totals)
    words = Words()
    rows = [Row(_seconds(day), day, count, f"{count:,}") for day, count in shown]
    return Chart(name, say(_growth(totals)), "days", (words.day, words.examples), rows)


def _growth(totals: Sequence[Total]) -> Phrase:
    (first, _), (last, total) = totals[0], totals[-1]
    count = phrases("{count:,} example", "{count:,} examples", total)
    if first == last:
        return phrase("{examples}, taught on {day}.", examples=count, day=day_text(first))
    return phrase(
        "From {first} to {last} it grew to {examples}.",
        first=day_text(first),
        last=day_text(last),
        examples=count,
    )


def _thin(totals: Sequence[Total]) -> list[Total]:
    """At most MAX_DAYS of the days, with the first and the last of them."""
    width = -(-(len(totals) - 1) // (MAX_DAYS - 1)) or 1
    return [totals[0], *totals[:0:-1][::width][::-1]]


def _seconds(day: date) -> float:
    return datetime.combine(day, time(), UTC).timestamp()


def curve_chart(points: Sequence[Point], name: str) -> Chart | None:
    """The loss of a training; None if no step is known."""
    if not points:
        return None
    words = Words()
    lowest = min(points, key=lambda one: one.loss)
    summary = phrase(
        "The loss went from {first:.2f} to {last:.2f} in {steps:,} steps; the lowest was "
        "{lowest:.2f}, at step {at:,}.",
        first=points[0].loss,
        last=points[-1].loss,
        steps=points[-1].step,
        lowest=lowest.loss,
        at=lowest.step,
    )
    rows = [Row(one.step, f"{one.step:,}", one.loss, f"{one.loss:.3f}") for one in points]
    return Chart(name, say(summary), "steps", (words.step, words.loss), rows)
