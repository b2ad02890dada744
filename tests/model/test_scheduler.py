"""Nobody is lost, overtaken or kept waiting for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model.sampling import SamplingParams
from model.scheduler import Scheduler
from model.sequence import Sequence

PARAMS = SamplingParams()


def sequence(number: int, model: int, prompt_tokens: int = 300) -> Sequence:
    return Sequence(number, model, prompt_tokens * [1], PARAMS, seed=0)


arrivals = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 3), st.integers(1, 6)), min_size=1, max_size=25
)
"""When (in steps), for which model, how many tokens it will say."""


@given(arrivals, st.integers(1, 5))
def test_all_are_served_in_order_in_a_bounded_batch(
    plan: list[tuple[int, int, int]], max_sequences: int
) -> None:
    scheduler = Scheduler(max_sequences)
    plan = sorted(plan)
    left = {number: tokens for number, (_, _, tokens) in enumerate(plan)}
    joined: list[tuple[int, int]] = []
    coming = [(when, sequence(n, model)) for n, (when, model, _) in enumerate(plan)]
    for now in range(31 + sum(left.values()) + len(plan)):
        while coming and coming[0][0] <= now:
            scheduler.add(coming.pop(0)[1])
        step = scheduler.schedule()
        if step is None:
            assert not scheduler.busy
            continue
        assert step.joining or step.running
        assert {one.model for one in (*step.joining, *step.running)} == {step.model}
        joined += [(one.model, one.request_id) for one in step.joining]
        for one in (*step.joining, *step.running):
            left[one.request_id] -= 1
            if not left[one.request_id]:
                scheduler.remove(one)
        in_batch = {number for _, number in joined if left[number]}
        assert len(in_batch) <= max_sequences
    assert not scheduler.busy
    assert set(left.values()) == {0}
    for model in range(4):  # first come, first served
        of_model = [number for one, number in joined if one == model]
        assert of_model == sorted(of_model)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_models_take_turns(models: list[int]) -> None:
    scheduler = Scheduler(len(models))
    for number, model in enumerate(models):
        scheduler.add(sequence(number, model))
    order = [step.model for _ in range(12) if (step := scheduler.schedule())]
    count = len(set(models))
    for start in range(12 - count + 1):
        assert len(set(order[start : start + count])) == count


def test_a_stream_of_short_replies_does_not_starve_another_model() -> None:
    scheduler = Scheduler(2)
    scheduler.add(sequence(0, model=1))
    steps_of_the_other = 0
    for number in range(1, 41):
        scheduler.add(sequence(number, model=2))
        step = scheduler.schedule()
        assert step is not None
        steps_of_the_other += step.model == 1
        if step.model == 2:
            for one in (*step.joining, *step.running):
                scheduler.remove(one)
    assert steps_of_the_other >= 19


def test_many_prompts_are_read_in_several_steps() -> None:
    scheduler = Scheduler(16)
    for number, tokens in enumerate([100, 400, 100, 900, 50]):
        scheduler.add(sequence(number, 0, tokens))
    steps = [scheduler.schedule() for _ in range(4)]
    joined = [[one.request_id for one in step.joining] for step in steps if step]
    assert joined == [[0, 1], [2], [3], [4]]
    assert [len(step.running) for step in steps if step] == [0, 2, 3, 4]


def test_a_waiting_sequence_can_be_taken_out() -> None:
    scheduler = Scheduler(1)
    first, second = sequence(1, 0), sequence(2, 0)
    scheduler.add(first)
    scheduler.add(second)
    scheduler.schedule()
    assert scheduler.sequences == [first, second]
    scheduler.remove(second)
    scheduler.remove(first)
    assert scheduler.schedule() is None
    assert not scheduler.busy
