"""The lines between the training child and its parent, and how progress reads."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i18n.phrase import Phrase, phrase
from training.jobs.events import (
    SPARKLINE_BLOCKS,
    Event,
    Failed,
    LossHistory,
    format_duration,
    from_line,
    progress_bar,
    sparkline,
    to_line,
)

EVENTS = st.one_of(*(st.from_type(kind) for kind in get_args(Event)))


@given(EVENTS.filter(lambda event: "nan" not in repr(event)))
def test_every_event_comes_back_as_it_was(event: Event) -> None:
    line = to_line(event)
    assert "\n" not in line
    assert from_line(line) == event


def test_the_reason_can_still_be_said_in_another_language() -> None:
    failed = from_line(to_line(Failed(phrase("{seconds} s", seconds=3))))
    assert isinstance(failed, Failed)
    assert isinstance(failed.reason, Phrase)
    assert (failed.reason, failed.reason.translate_to("ja")) == ("3 s", "3秒")


@pytest.mark.parametrize(
    "line", ["", "Loading weights: 100%", "{}", "[1]", '{"event": "dance"}', '{"event": "failed"}']
)
def test_other_lines_are_no_events(line: str) -> None:
    assert from_line(line) is None


@pytest.mark.parametrize(("step", "shown"), [(0, "░░░░"), (1, "█░░░"), (3, "███░"), (4, "████")])
def test_bar(step: int, shown: str) -> None:
    assert progress_bar(step, 4, width=4) == shown


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")],
)
def test_duration(seconds: float, said: str) -> None:
    assert format_duration(seconds) == said


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], ""),
        ([2.0], "▁"),
        ([3.0, 3.0], "▁▁"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([7.0, 0.0], "█▁"),
        ([1.0, math.nan, 0.0, math.inf], "█▁"),
        ([1e308, -1e308], "▁▁"),
    ],
)
def test_sparkline(values: list[float], shown: str) -> None:
    assert sparkline(values) == shown


@given(st.lists(st.floats(), max_size=60), st.integers(1, 30))
def test_a_sparkline_has_a_block_for_each_of_the_last_numbers(
    values: list[float], width: int
) -> None:
    shown = sparkline(values, width)
    assert len(shown) == min(width, sum(math.isfinite(value) for value in values))
    assert set(shown) <= set(SPARKLINE_BLOCKS)


def test_losses_of_a_long_run_are_averaged() -> None:
    losses = LossHistory(max_points=8)
    for step in range(1000):
        losses.add(float(step))
    assert len(losses.points) < 8
    assert losses.steps_per_point == 128
    assert losses.points == [63.5 + 128 * n for n in range(7)]


def test_losses_of_a_short_run_are_kept_as_they_are() -> None:
    losses = LossHistory()
    for step in range(5):
        losses.add(float(step))
    assert losses.points == [0.0, 1.0, 2.0, 3.0, 4.0]
