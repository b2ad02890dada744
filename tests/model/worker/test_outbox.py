"""What the bot hears: all of it, in order, and seldom enough."""

from __future__ import annotations

import pytest

from model.sampling import FinishReason
from model.worker import outbox
from model.worker.messages import Finished, TextDelta, WorkerEvent, WorkerEvents
from model.worker.outbox import Outbox


class Pipe:
    def __init__(self) -> None:
        self.sent: list[WorkerEvents] = []

    def send(self, reports: WorkerEvents) -> None:
        self.sent.append(reports)


def finished(number: int) -> Finished:
    return Finished(number, "all", FinishReason.END, 3, 4, 0, 0.1)


def put(box: Outbox, *reports: WorkerEvent) -> None:
    for report in reports:
        box.put(report)
        box.flush_due()


def test_first_pieces_and_ends_go_at_once_and_pieces_between_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "COALESCE_S", 1000.0)
    pipe = Pipe()
    box = Outbox(pipe)  # type: ignore[arg-type]
    put(box, TextDelta(1, "a", 1), TextDelta(1, "b", 2), TextDelta(1, "c", 3))
    put(box, TextDelta(2, "x", 1), TextDelta(1, "d", 4), TextDelta(2, "y", 2), finished(1))
    put(box, TextDelta(2, "z", 3), finished(2))
    assert pipe.sent == [
        (TextDelta(1, "a", 1),),
        (TextDelta(1, "bc", 3), TextDelta(2, "x", 1)),
        (TextDelta(1, "d", 4), TextDelta(2, "y", 2), finished(1)),
        (TextDelta(2, "z", 3), finished(2)),
    ]


def test_pieces_wait_for_a_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "COALESCE_S", 0.0)
    pipe = Pipe()
    put(Outbox(pipe), TextDelta(1, "a", 1), TextDelta(1, "b", 2))  # type: ignore[arg-type]
    assert pipe.sent == [(TextDelta(1, "a", 1),), (TextDelta(1, "b", 2),)]


def test_a_parent_that_is_gone_needs_no_words() -> None:
    class Broken:
        def send(self, reports: WorkerEvents) -> None:
            raise BrokenPipeError

    put(Outbox(Broken()), TextDelta(1, "a", 1), finished(1))  # type: ignore[arg-type]
