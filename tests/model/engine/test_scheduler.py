"""Nobody is lost, overtaken in the own channel, or kept waiting for ever."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from model.engine.kv_cache import PACK_TOKENS
from model.engine.scheduler import (
    AGEING_TOKENS,
    MAX_DECODE_STALL_S,
    MAX_PAUSE_S,
    MAX_PREFETCHES,
    PREFETCH_BUDGET,
    PREFILL_BUDGET,
    PREFILL_BUDGET_WHILE_DECODING,
    Scheduler,
)
from model.engine.sequence import Sequence
from model.sampling import SamplingParams

PARAMS = SamplingParams()
PLENTY = 1 << 40


def sequence(
    number: int,
    model: int = 0,
    prompt: int = 300,
    *,
    channel: int = 0,
    scope: int = 0,
    memory: int = 1,
    idle: bool = False,
) -> Sequence:
    return Sequence(
        number,
        model,
        prompt * [1],
        PARAMS,
        0,
        channel,
        scope,
        max_cache_bytes=memory,
        prefetch_only=idle,
    )


class Clock:
    """Stands still unless a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Run:
    """Does what the steps say, as the engine would, and checks what must always hold."""

    def __init__(self, scheduler: Scheduler, left: dict[int, int], places: int, room: int) -> None:
        self.scheduler = scheduler
        self.left = left
        self.places, self.room = places, room
        self.joined: list[Sequence] = []
        self.pack_tokens = 0
        self.seconds_per_token = 0.0

    def step(self) -> None:
        step = self.scheduler.schedule()
        if step is None:
            assert not self.scheduler.has_work
            return
        before = len(self.joined)
        for one in step.decoding:
            assert (one.model, one.unprefilled) == (step.batch, 0)
            self.say(one)
        read = 0
        groups = self.scheduler.prefills(step, lambda: self.seconds_per_token, self.pack_tokens)
        for group, budget in groups:
            self.joined += [one for one in group if one not in self.joined]
            assert len(group) == 1 or sum(one.unprefilled for one in group) <= self.pack_tokens
            assert set(group) >= {
                one for one in self.running if one.model == step.batch and one.unprefilled
            }
            for one in group:
                assert one.model == step.batch
                count = min(one.unprefilled, budget)
                read, budget = read + count, budget - count
                one.num_cached_tokens += count
                one.num_prefilled_tokens += count
                if not one.unprefilled:
                    self.say(one)
        assert step.decoding or read or len(self.joined) > before
        assert read <= step.prefill_budget
        assert len(self.running) <= self.places
        assert sum(one.max_cache_bytes for one in self.running) <= self.room

    @property
    def running(self) -> list[Sequence]:
        return [one for one in self.joined if self.left[one.request_id]]

    def say(self, one: Sequence) -> None:
        assert one in self.joined
        self.left[one.request_id] -= 1
        if not self.left[one.request_id]:
            self.scheduler.remove(one)


arrivals = st.lists(
    st.tuples(
        st.integers(0, 30),  # when, in steps
        st.integers(0, 2),  # for which model
        st.integers(1, 6),  # how many tokens it will say
        st.integers(1, 900),  # how long its prompt is
        st.integers(0, 4),  # in which channel
        st.integers(0, 2),  # of which server
        st.integers(1, 5),  # how much memory it needs
    ),
    min_size=1,
    max_size=25,
)


@given(arrivals, st.integers(1, 5), st.integers(5, 12), st.sampled_from([0, PACK_TOKENS]))
def test_all_are_served_in_order_in_a_bounded_batch(
    plan: list[tuple[int, ...]], places: int, room: int, pack_tokens: int
) -> None:
    plan = sorted(plan)
    clock = Clock()
    scheduler = Scheduler(places, room, clock)
    run = Run(scheduler, {n: tokens for n, (_, _, tokens, *_) in enumerate(plan)}, places, room)
    coming = [
        (when, sequence(n, model, prompt, channel=channel, scope=scope, memory=memory))
        for n, (when, model, _, prompt, channel, scope, memory) in enumerate(plan)
    ]
    longest = 31 + sum(
        tokens + prompt // PREFILL_BUDGET_WHILE_DECODING + 1 for _, _, tokens, prompt, *_ in plan
    )
    run.pack_tokens = pack_tokens
    for now in range(3 * longest):
        clock.now += MAX_PAUSE_S / 3
        while coming and coming[0][0] <= now:
            scheduler.add(coming.pop(0)[1])
        run.step()
    assert not scheduler.has_work
    assert set(run.left.values()) == {0}
    order = defaultdict(list)
    for one in run.joined:
        order[one.model, one.channel or -one.request_id].append(one.request_id)
    assert all(numbers == sorted(numbers) for numbers in order.values())


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_models_take_turns(models: list[int]) -> None:
    scheduler = Scheduler(len(models), PLENTY)
    for number, model in enumerate(models):
        scheduler.add(sequence(number, model))
    run = Run(scheduler, dict.fromkeys(range(len(models)), 100), len(models), PLENTY)
    order = []
    for _ in range(12):
        step = scheduler.schedule()
        assert step is not None
        order.append(step.batch)
        for [one], _ in scheduler.prefills(step, lambda: 0.0):
            one.num_cached_tokens = len(one.prompt_ids)
            run.joined.append(one)
    count = len(set(models))
    for start in range(12 - count + 1):
        assert len(set(order[start : start + count])) == count


def test_a_stream_of_short_replies_does_not_starve_another_model() -> None:
    scheduler = Scheduler(2, PLENTY)
    run = Run(scheduler, {0: 1000} | dict.fromkeys(range(1, 41), 1), 2, PLENTY)
    scheduler.add(sequence(0, model=1))
    for number in range(1, 41):
        scheduler.add(sequence(number, model=2))
        run.step()
    assert 1000 - run.left[0] >= 19


def test_a_busy_server_does_not_keep_others_waiting() -> None:
    """Fifty requests of one server are there first, then two others come."""
    scheduler = Scheduler(3, PLENTY)
    run = Run(scheduler, dict.fromkeys(range(52), 2), 3, PLENTY)
    for number in range(50):
        scheduler.add(sequence(number, channel=1 + number % 10, scope=1, prompt=1))
    run.step()
    for number in (50, 51):
        late = sequence(number, channel=100 + number, scope=number, prompt=1)
        scheduler.add(late)
        assert scheduler.queue_position(late) <= 2
    for _ in range(3):
        run.step()
    assert {50, 51} <= {one.request_id for one in run.joined[:6]}


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 4), st.integers(1, 900), st.integers(1, 4)),
        min_size=2,
        max_size=40,
    ),  # when, in steps; of which server; how long its prompt is, and its reply
    st.integers(1, 3),
)
def test_a_server_that_waits_is_passed_once_by_each_other_one(
    plan: list[tuple[int, int, int, int]], places: int
) -> None:
    """One with nothing under way, however long its prompt is and however busy the others are."""
    plan = sorted(plan)
    scheduler = Scheduler(places, PLENTY, Clock())
    run = Run(scheduler, {n: tokens for n, (*_, tokens) in enumerate(plan)}, places, PLENTY)
    began_to_wait: list[tuple[int, int]] = []
    coming = list(enumerate(plan))
    for now in range(1000):
        while coming and coming[0][1][0] <= now:
            number, (_, scope, tokens, _) = coming.pop(0)
            if all(one.scope != scope for one in scheduler.sequences):
                began_to_wait.append((scope, len(run.joined)))
            scheduler.add(sequence(number, prompt=tokens, channel=1 + number, scope=scope))
        run.step()
    assert not scheduler.has_work
    started = [one.scope for one in run.joined]
    for scope, since in began_to_wait:
        passed_by = started[since : started.index(scope, since)]
        assert len(passed_by) == len(set(passed_by))


def test_the_channels_of_a_server_take_turns() -> None:
    scheduler = Scheduler(1, PLENTY)
    run = Run(scheduler, dict.fromkeys(range(8), 1), 1, PLENTY)
    for number in range(6):
        scheduler.add(sequence(number, channel=1, scope=1, prompt=1))
    for number in (6, 7):
        scheduler.add(sequence(number, channel=2, scope=1, prompt=1))
    while scheduler.has_work:
        run.step()
    assert [one.request_id for one in run.joined] == [0, 6, 1, 7, 2, 3, 4, 5]


def test_many_prompts_are_read_in_several_steps_and_the_shortest_first() -> None:
    scheduler = Scheduler(16, PLENTY, Clock())
    prompts = [100, 400, 100, 900, 50]
    for number, tokens in enumerate(prompts):
        scheduler.add(sequence(number, prompt=tokens))
    run = Run(scheduler, dict.fromkeys(range(5), 1000), 16, PLENTY)
    read = []
    for _ in range(14):
        run.step()
        read.append(sum(one.num_cached_tokens for one in run.joined))
    # the first one's reply would stall if all of PREFILL_BUDGET were read
    assert read[:2] == [50 + n * PREFILL_BUDGET_WHILE_DECODING for n in (1, 2)]
    assert read[-1] == sum(prompts)
    assert [one.request_id for one in run.joined] == [4, 0, 2, 1, 3]


def test_what_the_prefix_cache_has_of_a_prompt_does_not_count() -> None:
    scheduler = Scheduler(1, PLENTY)
    run = Run(scheduler, {0: 1, 1: 1}, 1, PLENTY)
    scheduler.add(sequence(0, prompt=60))
    known = sequence(1, prompt=500)
    known.num_known_tokens = 450
    scheduler.add(known)
    while scheduler.has_work:
        run.step()
    assert [one.request_id for one in run.joined] == [1, 0]


def test_short_prompts_are_read_together() -> None:
    scheduler = Scheduler(16, PLENTY, Clock())
    for number, tokens in enumerate([10, 300, 20, 30, 30]):
        scheduler.add(sequence(number, prompt=tokens))
    step = scheduler.schedule()
    assert step is not None
    together = []
    for group, _ in scheduler.prefills(step, lambda: 0.0, PACK_TOKENS):
        together.append([one.request_id for one in group])
        for one in group:
            one.num_cached_tokens = one.num_prefilled_tokens = len(one.prompt_ids)
    assert together == [[0, 2, 3], [4], [1]]


def test_replies_pause_for_prompts_but_not_for_long() -> None:
    """Prompts keep coming while somebody is answered; each step takes an eighth of the pause."""
    clock = Clock()
    scheduler = Scheduler(100, PLENTY, clock)
    run = Run(scheduler, {0: 100} | dict.fromkeys(range(1, 61), 1000), 100, PLENTY)
    scheduler.add(sequence(0, prompt=1))
    run.step()
    said = []
    for number in range(1, 61):
        scheduler.add(sequence(number, prompt=PREFILL_BUDGET_WHILE_DECODING))
        before = run.left[0]
        run.step()
        clock.now += MAX_PAUSE_S / 8
        said.append(before - run.left[0])
    assert said == [int(n > 0 and n % 8 == 0) for n in range(60)]
    while any(one.unprefilled for one in run.running):
        run.step()
    before = run.left[0]
    run.step()
    assert run.left[0] == before - 1


def test_another_model_s_prompts_pause_no_reply() -> None:
    scheduler = Scheduler(4, PLENTY, Clock())
    run = Run(scheduler, {1: 100, 2: 100}, 4, PLENTY)
    scheduler.add(sequence(1, model=1, prompt=10))
    run.step()
    scheduler.add(sequence(2, model=2, prompt=900))
    for _ in range(4):
        run.step()
    assert run.left[1] == 97


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 900)), min_size=2, max_size=40
    ),  # when, in steps, and how long its prompt is
    st.integers(1, 3),
)
def test_a_prompt_is_overtaken_by_few_shorter_ones(
    plan: list[tuple[int, int]], places: int
) -> None:
    """Each comes in a channel of its own of the same server."""
    plan = sorted(plan)
    scheduler = Scheduler(places, PLENTY)
    run = Run(scheduler, dict.fromkeys(range(len(plan)), 2), places, PLENTY)
    started_before: list[int] = []
    coming = list(enumerate(plan))
    for now in range(1000):
        while coming and coming[0][1][0] <= now:
            number, (_, tokens) = coming.pop(0)
            scheduler.add(sequence(number, prompt=tokens, channel=1 + number))
            started_before.append(len(run.joined))
        run.step()
    assert not scheduler.has_work
    place = {one.request_id: n for n, one in enumerate(run.joined)}
    for early in range(len(plan)):
        for late in range(early + 1, len(plan)):
            if place[late] < place[early]:
                gained = AGEING_TOKENS * (started_before[late] - started_before[early])
                assert gained < plan[early][1] - plan[late][1]


def test_a_long_prompt_is_not_overtaken_for_ever() -> None:
    """A short one comes whenever another has started."""
    scheduler = Scheduler(1, PLENTY)
    run = Run(scheduler, dict.fromkeys(range(1000), 1), 1, PLENTY)
    scheduler.add(sequence(0, prompt=900))
    for number in range(1, 1000):
        scheduler.add(sequence(number, prompt=1))
        run.step()
        if run.joined[-1].request_id == 0:
            break
    assert number <= 900 // AGEING_TOKENS + 2


def test_a_large_request_is_not_overtaken_for_ever() -> None:
    scheduler = Scheduler(4, 10)
    run = Run(scheduler, dict.fromkeys(range(30), 3), 4, 10)
    scheduler.add(sequence(0, memory=6, prompt=1))
    run.step()
    scheduler.add(sequence(1, memory=10, prompt=1))
    for number in range(2, 30):
        scheduler.add(sequence(number, memory=1, prompt=1))
        run.step()
    assert run.left[1] == 0


def prefills(scheduler: Scheduler) -> list[tuple[Sequence, int]]:
    """The prompts of the next step, each read at once."""
    step = scheduler.schedule()
    assert step is not None
    read = []
    for [one], budget in scheduler.prefills(step, lambda: 0.0):
        read.append((one, budget))
        one.num_cached_tokens = one.num_prefilled_tokens = len(one.prompt_ids)
    return read


def test_a_slow_model_reads_fewer_tokens_while_others_are_answered() -> None:
    scheduler = Scheduler(4, PLENTY)
    run = Run(scheduler, {1: 100, 2: 100}, 4, PLENTY)
    scheduler.add(sequence(1, prompt=10))
    run.step()
    late = sequence(2, prompt=900)
    scheduler.add(late)
    read = []
    for run.seconds_per_token in (MAX_DECODE_STALL_S / 50, 1.0, 0.0):
        before = late.num_cached_tokens
        run.step()
        read.append(late.num_cached_tokens - before)
    assert read == [50, PREFETCH_BUDGET, PREFILL_BUDGET_WHILE_DECODING]


def test_prefetches_are_bounded_and_the_oldest_goes_first() -> None:
    scheduler = Scheduler(4, PLENTY)
    many = [sequence(0, channel=n, idle=True) for n in range(1, MAX_PREFETCHES + 2)]
    displaced = [scheduler.add_prefetch(one) for one in many]
    assert displaced == [[] for _ in many[1:]] + [many[:1]]
    assert scheduler.prefetches == many[1:]


def test_what_nobody_waits_for_yet_is_read_last() -> None:
    scheduler = Scheduler(4, PLENTY)
    ahead = sequence(0, channel=5, idle=True)
    assert scheduler.add_prefetch(ahead) == []
    assert prefills(scheduler) == [(ahead, PREFETCH_BUDGET)]
    live = sequence(1, channel=6)
    scheduler.add(live)
    assert prefills(scheduler) == [(live, PREFILL_BUDGET)]
    assert prefills(scheduler) == []
    scheduler.remove(live)
    assert scheduler.has_work
    newer = sequence(0, channel=5, idle=True)
    assert scheduler.add_prefetch(newer) == [ahead]
    assert scheduler.prefetches == [newer]
    scheduler.remove(ahead)  # it was replaced already
    assert scheduler.prefetches == [newer]
    scheduler.remove(newer)
    assert not scheduler.has_work


def test_a_waiting_sequence_can_be_taken_out() -> None:
    scheduler = Scheduler(1, PLENTY)
    first, second = sequence(1), sequence(2)
    scheduler.add(first)
    scheduler.add(second)
    assert [scheduler.queue_position(one) for one in (first, second)] == [0, 1]
    assert prefills(scheduler) == [(first, PREFILL_BUDGET)]
    assert scheduler.sequences == [first, second]
    scheduler.remove(second)
    scheduler.remove(first)
    assert scheduler.schedule() is None
    assert not scheduler.has_work


def test_a_reply_of_another_model_is_company_too() -> None:
    scheduler = Scheduler(4, PLENTY)
    run = Run(scheduler, {1: 100, 2: 100}, 4, PLENTY)
    scheduler.add(sequence(1, model=1, prompt=10))
    run.step()
    scheduler.add(sequence(2, model=2, prompt=900))
    budgets = {step.batch: step.prefill_budget for _ in range(2) if (step := scheduler.schedule())}
    assert budgets == {1: PREFILL_BUDGET_WHILE_DECODING, 2: PREFILL_BUDGET_WHILE_DECODING}


def test_a_burst_does_not_fill_the_queue_while_places_are_free() -> None:
    scheduler = Scheduler(4, PLENTY)
    for number in range(6):
        scheduler.add(sequence(number))
    assert scheduler.num_waiting == 2
