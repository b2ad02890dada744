"""The lines between the training child and its parent, and how progress reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.progress import (
    Event,
    Failed,
    Finished,
    Rejected,
    Started,
    Step,
    bar,
    duration,
    from_line,
    to_line,
)

EVENTS = st.one_of(*(st.from_type(kind) for kind in (Started, Step, Finished, Rejected, Failed)))


@given(EVENTS.filter(lambda event: "nan" not in repr(event)))
def test_every_event_comes_back_as_it_was(event: Event) -> None:
    line = to_line(event)
    assert "\n" not in line
    assert from_line(line) == event


@pytest.mark.parametrize(
    "line", ["", "Loading weights: 100%", "{}", "[1]", '{"event": "dance"}', '{"event": "failed"}']
)
def test_other_lines_are_no_events(line: str) -> None:
    assert from_line(line) is None


@pytest.mark.parametrize(("step", "shown"), [(0, "░░░░"), (1, "█░░░"), (3, "███░"), (4, "████")])
def test_bar(step: int, shown: str) -> None:
    assert bar(step, 4, width=4) == shown


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")],
)
def test_duration(seconds: float, said: str) -> None:
    assert duration(seconds) == said
