"""A reply is whole and shown once, wherever its attempts end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from model.cluster.messages import Crashed, ReplicaEvent
from model.cluster.retry import LOST, UNANSWERED, ReplicaLost, unbroken
from model.sampling import FinishReason
from model.worker.messages import Failed, Finished, Queued, TextDelta

TEXT = "Hello there, hello hello: 🐟 it is a fine day."


def finished(text: str, reason: FinishReason = FinishReason.END) -> Finished:
    return Finished(7, text, reason, 3, 5, 4, 0.1)


def pieces(text: str, cuts: Sequence[int]) -> list[str]:
    ends = [*sorted({one for one in cuts if 0 < one < len(text)}), len(text)]
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


async def replies(*attempts: Sequence[ReplicaEvent | Exception]) -> list[ReplicaEvent]:
    """What is shown of attempts that say and do these things."""

    async def begin(number: int) -> AsyncGenerator[ReplicaEvent, None]:
        for one in attempts[min(number, len(attempts) - 1)]:
            if isinstance(one, Exception):
                raise one
            yield one

    return [one async for one in unbroken(begin, give_up_s=0.02, pause_s=0.001)]


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 60), max_size=6), st.integers(0, 7)), max_size=4),
    st.lists(st.integers(0, 60), max_size=6),
)
async def test_no_text_is_lost_or_doubled_however_often_a_replica_is_lost(
    lost: list[tuple[list[int], int]], last: list[int]
) -> None:
    """Each attempt cuts the same text elsewhere, and is lost after some pieces."""
    attempts: list[list[ReplicaEvent | Exception]] = [
        [*(TextDelta(1, one) for one in pieces(TEXT, cuts)[:kept]), ReplicaLost("gone")]
        for cuts, kept in lost
    ]
    whole = [*(TextDelta(2, one) for one in pieces(TEXT, last)), finished(TEXT)]

    async def begin(number: int) -> AsyncGenerator[ReplicaEvent, None]:
        for one in [*attempts, whole][number]:
            if isinstance(one, Exception):
                raise one
            yield one

    shown = [one async for one in unbroken(begin, give_up_s=60, pause_s=0)]
    assert "".join(one.text for one in shown if isinstance(one, TextDelta)) == TEXT
    assert all(one.text for one in shown)
    assert shown[-1] == finished(TEXT)
    assert sum(isinstance(one, Finished) for one in shown) == 1


async def test_an_attempt_that_says_something_else_is_not_mixed_in() -> None:
    shown = await replies(
        [TextDelta(1, "red roses"), ReplicaLost("gone")],
        [TextDelta(1, "red "), TextDelta(1, "herrings"), finished("red herrings")],
    )
    assert shown == [TextDelta(1, "red roses"), Crashed(LOST)]


async def test_without_any_answer_it_gives_up_with_a_sentence() -> None:
    assert await replies([ReplicaLost("away")]) == [Crashed(UNANSWERED)]
    assert await replies([TextDelta(1, "so"), ReplicaLost("away")], [ReplicaLost("away")]) == [
        TextDelta(1, "so"),
        Crashed(LOST),
    ]


async def test_an_attempt_without_an_end_is_made_again() -> None:
    shown = await replies([TextDelta(1, "so")], [TextDelta(1, "so it is"), finished("so it is")])
    assert shown == [TextDelta(1, "so"), TextDelta(1, " it is"), finished("so it is")]


async def test_a_place_in_the_queue_is_told_until_text_was_shown() -> None:
    shown = await replies(
        [Queued(1, 3), TextDelta(1, "so"), ReplicaLost("gone")],
        [Queued(1, 2), TextDelta(1, "so"), finished("so")],
    )
    assert shown == [Queued(1, 3), TextDelta(1, "so"), finished("so")]


async def test_what_was_shown_stays_when_a_later_attempt_is_stopped_earlier() -> None:
    stopped = finished("so", FinishReason.ABORTED)
    shown = await replies(
        [TextDelta(1, "so it is"), ReplicaLost("gone")], [TextDelta(1, "so"), stopped]
    )
    assert shown[-1] == finished("so it is", FinishReason.ABORTED)


async def test_a_refusal_is_final_and_a_loss_after_the_end_is_none() -> None:
    refusal = Failed(1, "No.")
    assert await replies([refusal, ReplicaLost("gone")]) == [refusal]
    assert await replies([finished(""), ReplicaLost("gone")]) == [finished("")]
