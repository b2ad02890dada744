"""From requests to reports: what people read, and how a reply ends."""

from __future__ import annotations

import re
import weakref
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from core.records import Message, Role
from model.chat_template import REPLACEMENT_CHAR
from model.engine.engine import MB, Engine, QueueFull
from model.engine.kv_cache import MIN_PIECE
from model.engine.output import is_looping, next_token
from model.engine.scheduler import (
    MAX_PAUSE_S,
    MAX_PREFETCHES,
    PREFETCH_BUDGET,
    PREFILL_BUDGET,
    PREFILL_BUDGET_WHILE_DECODING,
)
from model.engine.sequence import MAX_REPLY_ATTEMPTS, Sequence
from model.loading import LoadedModel
from model.registry import EMBEDDED_FOLDER
from model.runners.base import Logits
from model.sampling import FinishReason, SamplingParams
from model.settings import WorkerSettings
from model.worker.messages import (
    Failed,
    Finished,
    Generate,
    Prefetch,
    Queued,
    Render,
    Rendered,
    TextDelta,
    WorkerEvent,
)
from tests.model.conftest import CPU_INT8, HELLO, load
from tests.model.engine.scripted import Script, ScriptedRunner
from tests.model_folders import make_model_folder

GREEDY = SamplingParams(temperature=0)


class Desk:
    """An engine and all that it has delivered."""

    def __init__(self, max_sequences: int = 4, **settings: Any) -> None:
        self.reports: list[WorkerEvent] = []
        self.now = 0.0
        self.engine = Engine(
            self.reports.append,
            WorkerSettings(max_sequences=max_sequences, **settings),
            clock=lambda: self.now,
        )

    def ask(
        self,
        loaded: LoadedModel,
        params: SamplingParams = GREEDY,
        number: int = 1,
        messages: list[Message] | None = None,
        channel: int = 0,
        scope: int = 0,
    ) -> None:
        source = loaded.info.source
        if source not in self.engine.sources:
            self.engine.install(loaded)
        self.engine.submit(
            Generate(number, source, tuple(messages or HELLO), params, channel, scope)
        )

    def run(self) -> None:
        for _ in range(2000):
            self.engine.step()
            if not self.engine.has_work:
                return
        raise AssertionError("the engine does not come to an end")

    def deltas(self, number: int = 1) -> list[str]:
        return [
            one.text
            for one in self.reports
            if isinstance(one, TextDelta) and one.request_id == number
        ]

    def finished(self, number: int = 1) -> Finished:
        [end] = [
            one
            for one in self.reports
            if isinstance(one, Finished | Failed) and one.request_id == number
        ]
        assert isinstance(end, Finished), end
        assert "".join(self.deltas(number)) == end.text
        assert all(self.deltas(number))
        assert end.text == end.text.strip()
        return end


@pytest.fixture(scope="module")
def byte_model(folders: Path) -> LoadedModel:
    """Each byte is a token."""
    return load(folders / "random")


@pytest.fixture(scope="module")
def plain_model(folders: Path) -> LoadedModel:
    return load(folders / "plain")


def ids(loaded: LoadedModel, text: str) -> list[int]:
    return loaded.tokenizer.encode(text, add_special_tokens=False)


def says(loaded: LoadedModel, text: str) -> Script:
    """The text, then the end."""
    tokens = [*ids(loaded, text), 0]
    return lambda n: tokens


def scripted(loaded: LoadedModel, script: Script | str) -> LoadedModel:
    """The model, with a runner that says what the test wrote."""
    script = says(loaded, script) if isinstance(script, str) else script
    return replace(loaded, runner=ScriptedRunner(script, loaded.info.vocabulary))


def test_half_characters_are_held_back(byte_model: LoadedModel) -> None:
    loaded = scripted(byte_model, "né 😀 日本")
    desk = Desk()
    desk.ask(loaded)
    desk.run()
    assert desk.deltas() == ["n", "é", " 😀", " 日", "本"]
    assert desk.finished().finish_reason is FinishReason.END


def test_a_character_that_never_comes_whole_is_left_out(byte_model: LoadedModel) -> None:
    first_byte = ids(byte_model, "é")[0]
    tokens = [*ids(byte_model, "a"), first_byte, *ids(byte_model, "b"), first_byte, 0]
    loaded = scripted(byte_model, lambda n: tokens)
    desk = Desk()
    desk.ask(loaded)
    desk.run()
    assert desk.finished().text == "ab"
    assert REPLACEMENT_CHAR not in "".join(desk.deltas())


def test_white_space_around_a_reply_is_left_out(byte_model: LoadedModel) -> None:
    loaded = scripted(byte_model, " \n  well,  yes \n ")
    desk = Desk()
    desk.ask(loaded)
    desk.run()
    assert desk.finished().text == "well,  yes"
    assert desk.deltas()[0] == "w"


@pytest.mark.parametrize("control", ["<|endoftext|>", "<|user|>", "<|bot|>"])
def test_a_control_token_ends_a_reply_and_is_not_shown(
    byte_model: LoadedModel, control: str
) -> None:
    token = byte_model.tokenizer.get_vocab()[control]
    tokens = [*ids(byte_model, "ok"), token, *ids(byte_model, "more")]
    loaded = scripted(byte_model, lambda n: tokens)
    desk = Desk()
    desk.ask(loaded)
    desk.run()
    assert (desk.finished().text, desk.finished().finish_reason) == ("ok", FinishReason.END)


def test_the_next_line_of_a_transcript_ends_a_reply(plain_model: LoadedModel) -> None:
    desk = Desk()
    desk.ask(plain_model)
    desk.run()
    assert desk.finished().text == "a plain answer"
    assert desk.finished().finish_reason is FinishReason.END


def test_the_beginning_of_a_stop_text_is_held_back(byte_model: LoadedModel) -> None:
    loaded = replace(byte_model, stop_strings=("|User:",))
    loaded = scripted(loaded, "a|Us|User: b")
    desk = Desk()
    desk.ask(loaded)
    desk.run()
    assert desk.finished().text == "a|Us"
    assert desk.deltas() == ["a", "|Us"]


def test_length_ends_a_reply(byte_model: LoadedModel) -> None:
    loaded = scripted(byte_model, "abcdefgh")
    desk = Desk()
    desk.ask(loaded, replace(GREEDY, max_new_tokens=3))
    desk.run()
    end = desk.finished()
    assert (end.text, end.finish_reason, end.new_tokens) == ("abc", FinishReason.LENGTH, 3)


def test_half_of_the_positions_are_kept_for_the_prompt(tmp_path: Path) -> None:
    loaded = load(make_model_folder(tmp_path, says="0", endless=True, positions=64))
    desk = Desk()
    params = SamplingParams(max_new_tokens=1000, no_repeat_ngram=0)
    long = [Message(Role.USER, "x" * 100)]
    desk.engine.install(loaded)
    desk.engine.render(Render(9, str(tmp_path), tuple(long), 1000))
    rendered = desk.reports.pop()
    assert isinstance(rendered, Rendered)
    assert (rendered.total_tokens, rendered.budget, rendered.truncated) == (32, 32, True)
    desk = Desk()
    text = "".join(chr(33 + n) for n in range(90))
    desk.ask(scripted(loaded, text), params, messages=long)
    desk.run()
    end = desk.finished()
    assert (end.prompt_tokens, end.new_tokens, end.finish_reason) == (32, 32, FinishReason.LENGTH)


def test_an_empty_reply_is_drawn_again(byte_model: LoadedModel) -> None:
    attempts = [[0], [*ids(byte_model, "  "), 0], [*ids(byte_model, "yes"), 0]]
    loaded = scripted(byte_model, lambda n: attempts[n])
    desk = Desk()
    desk.ask(loaded, SamplingParams())
    desk.run()
    assert desk.finished().text == "yes"


def test_a_model_that_stays_silent_fails_with_a_sentence(byte_model: LoadedModel) -> None:
    attempts: set[int] = set()

    def silent(n: int) -> list[int]:
        attempts.add(n)
        return 100 * ids(byte_model, " ")

    desk = Desk()
    desk.ask(scripted(byte_model, silent), SamplingParams(no_repeat_ngram=0))
    desk.run()
    assert desk.reports == [Failed(1, "I found nothing to say. Please try again.")]
    assert attempts == set(range(MAX_REPLY_ATTEMPTS))


@pytest.mark.parametrize("params", [SamplingParams(), GREEDY], ids=["sampled", "greedy"])
def test_the_last_attempt_of_the_real_runner_speaks(folders: Path, params: SamplingParams) -> None:
    desk = Desk()
    desk.ask(load(folders / "silent"), params)
    desk.run()
    assert desk.finished().text


def test_a_reply_that_goes_in_circles_ends(byte_model: LoadedModel) -> None:
    loaded = scripted(byte_model, "round and" + " and on" * 100)
    desk = Desk()
    desk.ask(loaded, SamplingParams(max_new_tokens=120, no_repeat_ngram=0))
    desk.run()
    assert len(desk.finished().text) < 40


def test_circles() -> None:
    assert is_looping([1, 2, 3, 7, 7, 7, 7, 7, 7])
    assert not is_looping([1, 2, 3, 7, 7, 7, 7, 7])
    assert is_looping([9, 1, 2, 1, 2, 1, 2])
    assert not is_looping([1, 2, 1, 2, 1, 3])
    assert is_looping(3 * list(range(8)))
    assert not is_looping([])


def test_abort_keeps_what_was_said_and_leaves_the_others(byte_model: LoadedModel) -> None:
    loaded = scripted(byte_model, "abcdef")
    desk = Desk(max_sequences=2)
    for number in (1, 2, 3):
        desk.ask(loaded, number=number)
    desk.engine.step()
    desk.engine.step()
    desk.engine.abort(1)
    desk.engine.abort(3)  # it waits
    desk.engine.abort(99)  # unknown
    desk.run()
    assert (desk.finished(1).text, desk.finished(1).finish_reason) == ("ab", FinishReason.ABORTED)
    assert (desk.finished(2).text, desk.finished(2).finish_reason) == ("abcdef", FinishReason.END)
    assert (desk.finished(3).text, desk.finished(3).finish_reason) == ("", FinishReason.ABORTED)
    assert desk.finished(3).first_token_s is None


def test_the_end_tells_when_the_reply_began_and_what_was_cut(byte_model: LoadedModel) -> None:
    loaded = scripted(byte_model, "abcdef")
    desk = Desk(cache_mb=64 * loaded.runner.kv_bytes_per_token / MB)
    desk.ask(loaded, number=1)
    many = [Message(Role.USER, f"message {n}") for n in range(6)]
    desk.ask(loaded, number=2, messages=many)
    desk.ask(loaded, number=3, messages=[*many, Message(Role.USER, "x" * 500)])
    desk.run()
    assert desk.finished(1).truncated_messages == 0
    assert 0 < desk.finished(2).truncated_messages < len(many)
    assert desk.finished(3).truncated_messages == len(many) + 1
    for number in (1, 2, 3):
        end = desk.finished(number)
        assert end.first_token_s is not None
        assert 0 < end.first_token_s <= end.seconds


def test_numbers_that_are_none_fail_one_reply_only(byte_model: LoadedModel) -> None:
    good = [*ids(byte_model, "fine"), 0]
    loaded = scripted(byte_model, lambda n: good if n else [good[0], None])
    desk = Desk()
    desk.ask(loaded, number=1)
    desk.ask(loaded, number=2)
    desk.run()
    assert Failed(1, "The model computed something that is not a number.") in desk.reports
    assert desk.finished(2).text == "fine"


class OutOfMemory(ScriptedRunner):
    """Has no room for a second row."""

    def prefill(self, row: int, ids: list[int], past: int) -> Logits:  # type: ignore[override]
        if row:
            raise RuntimeError("can't allocate memory")
        return super().prefill(row, ids, past)


@pytest.mark.parametrize("order", range(4))
def test_whoever_joins_and_leaves_when_each_reply_is_as_alone(order: int) -> None:
    """In int8: prompts of 5 to 150 tokens are read together, in pieces and behind one another,
    while others are answered, stopped or continue a channel."""
    loaded = load(EMBEDDED_FOLDER, CPU_INT8)
    assert loaded.runner.packs
    random = Random(order)
    words = ["what", "do", "you", "like", "to", "eat", "on", "a", "day", "by", "the", "sea"]
    talks = [
        [said(" ".join(random.choices(words, k=random.choice([1, 2, 3, 8, 30, 100]))))]
        for _ in range(14)
    ]
    params = SamplingParams(max_new_tokens=10, seed=order)
    alone = Desk()
    for number, talk in enumerate(talks):
        alone.ask(loaded, params, number, talk)
        alone.run()
    desk = Desk(max_sequences=8)
    stopped = set(random.sample(range(14), 3))
    for number, talk in enumerate(talks):
        desk.ask(loaded, params, number, talk, channel=random.randrange(3), scope=number % 2)
        for _ in range(random.choice([0, 0, 0, 1, 4])):
            desk.engine.step()
            desk.now += 0.1
        if number in stopped:
            desk.engine.abort(number)
    desk.run()
    for number in range(14):
        reply, whole = desk.finished(number).text, alone.finished(number).text
        assert whole.startswith(reply) if number in stopped else reply == whole


def test_a_prompt_that_cannot_be_read_fails_its_own_reply(byte_model: LoadedModel) -> None:
    runner = OutOfMemory(says(byte_model, "fine"), byte_model.info.vocabulary)
    loaded = replace(byte_model, runner=runner)
    desk = Desk()
    desk.ask(loaded, number=1)
    desk.engine.step()
    desk.ask(loaded, number=2)
    desk.run()
    assert desk.finished(1).text == "fine"
    [failed] = [one for one in desk.reports if isinstance(one, Failed)]
    assert failed.request_id == 2
    desk.ask(loaded, number=3)
    desk.run()
    assert desk.finished(3).text == "fine"


def test_a_seed_gives_the_same_reply_alone_and_in_company(tiny: LoadedModel) -> None:
    params = [SamplingParams(seed=seed, temperature=1.0) for seed in range(6)]

    def texts(together: bool) -> list[str]:
        desk = Desk(max_sequences=4)
        for number, one in enumerate(params):
            desk.ask(tiny, one, number, [Message(Role.USER, "hello " * (number + 1))])
            if not together:
                desk.run()
        desk.run()
        return [desk.finished(number).text for number in range(len(params))]

    alone = texts(together=False)
    assert alone == texts(together=True)
    assert len(set(alone)) > 1


def test_replies_in_flight_finish_on_the_old_weights(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make_model_folder(folder, says="red roses are in bloom")
    red = load(folder)
    make_model_folder(folder, says="blue skies all day long")
    blue = load(folder)  # the same name, other files
    desk = Desk(max_sequences=2)
    for number in (1, 2, 3):  # the third waits for a place
        desk.ask(red, number=number)
    desk.engine.step()
    desk.engine.step()
    desk.engine.install(blue)
    desk.ask(blue, number=4)
    desk.run()
    texts = [desk.finished(number).text for number in (1, 2, 3, 4)]
    assert texts == 3 * ["red roses are in bloom"] + ["blue skies all day long"]
    assert desk.engine.sources == [str(folder)]
    weights = weakref.ref(red.runner)
    del red
    assert weights() is None  # the old weights are free


def test_two_models_answer_side_by_side(folders: Path, plain_model: LoadedModel) -> None:
    red = load(folders / "red")
    desk = Desk()
    desk.ask(red, number=1)
    desk.ask(plain_model, number=2)
    desk.run()
    assert desk.finished(1).text == "red roses are in bloom"
    assert desk.finished(2).text == "a plain answer"
    order = [one.request_id for one in desk.reports if isinstance(one, TextDelta)]
    assert order[:4] == [1, 2, 1, 2]


def said(text: str) -> Message:
    return Message(Role.USER, text)


def answered(text: str) -> Message:
    return Message(Role.ASSISTANT, text)


def reads(loaded: LoadedModel) -> list[tuple[int, int]]:
    assert isinstance(loaded.runner, ScriptedRunner)
    return loaded.runner.reads


def test_a_long_prompt_is_read_in_pieces_while_others_are_answered(tmp_path: Path) -> None:
    model = load(make_model_folder(tmp_path, positions=1024))
    loaded = scripted(model, "".join(chr(33 + n) for n in range(60)))
    desk = Desk()
    desk.ask(loaded, number=1)
    desk.engine.step()
    desk.ask(loaded, number=2, messages=[said("x" * 600)])
    before = len(desk.deltas(1))
    for n in range(1, 5):
        desk.now += MAX_PAUSE_S
        desk.engine.step()
        assert len(desk.deltas(1)) == before + n  # a word at the end of each pause
        assert not desk.deltas(2)
    assert [count for _, count in reads(loaded)[1:]] == 4 * [PREFILL_BUDGET_WHILE_DECODING]
    desk.run()
    assert desk.finished(2).text == desk.finished(1).text


def test_a_channel_reads_only_what_is_new(byte_model: LoadedModel) -> None:
    loaded = scripted(byte_model, "ok")
    desk = Desk()
    desk.ask(loaded, messages=[said("hello")], channel=7)
    desk.run()
    desk.ask(loaded, number=2, messages=[said("hello"), answered("ok"), said("bye")], channel=7)
    desk.run()
    [(_, first), (past, count)] = reads(loaded)
    assert past >= first + 2  # "ok"; its end was drawn, not read
    assert past + count == desk.finished(2).prompt_tokens


def test_a_reply_drawn_again_reads_two_tokens(byte_model: LoadedModel) -> None:
    loaded = scripted(byte_model, "ok")
    desk = Desk()
    for number in (1, 2):
        desk.ask(loaded, number=number, channel=7)
        desk.run()
    assert reads(loaded)[1][1] == MIN_PIECE


def test_what_is_read_ahead_changes_no_reply(tiny: LoadedModel) -> None:
    """The window slides, so the next prompt begins in its middle; it is read while idle."""
    talk = [said("hello"), answered("hi, how are you?"), said("fine"), answered("good to hear")]
    params = SamplingParams(seed=4)
    alone = Desk()
    alone.ask(tiny, params, messages=[*talk, said("what do you like?")])
    alone.run()
    desk = Desk()
    desk.engine.install(tiny)
    desk.engine.prefetch(Prefetch(tiny.info.source, tuple(talk), 7))
    assert not desk.engine.has_requests
    desk.run()
    desk.ask(tiny, params, messages=[*talk, said("what do you like?")], channel=7)
    desk.run()
    assert desk.finished().text == alone.finished().text
    assert not [one for one in desk.reports if isinstance(one, Failed)]


def test_reading_ahead_gives_way_and_is_not_lost(byte_model: LoadedModel) -> None:
    """A request for another channel comes in the middle; then the channel's own."""
    loaded = scripted(byte_model, "ok")
    desk = Desk()
    desk.engine.install(loaded)
    talk = (said("x" * 80), answered("yes"))
    desk.engine.prefetch(Prefetch(loaded.info.source, talk, 7))
    desk.engine.step()
    assert reads(loaded) == [(0, PREFETCH_BUDGET)]
    desk.ask(loaded, number=1, channel=8)
    desk.engine.step()
    assert desk.deltas(1) == ["o"]  # not a step later
    while not any(isinstance(one, Finished) for one in desk.reports):
        desk.engine.step()
    desk.engine.step()
    assert reads(loaded)[2] == (PREFETCH_BUDGET, PREFETCH_BUDGET)
    desk.ask(loaded, number=2, messages=[*talk, said("so")], channel=7)
    desk.run()
    assert reads(loaded)[3][0] == 2 * PREFETCH_BUDGET
    assert desk.finished(2).text == "ok"


@pytest.mark.parametrize("when", ["after the reply", "during the reply", "while it is queued"])
def test_dropping_the_caches_leaves_nothing_of_a_conversation(
    byte_model: LoadedModel, when: str
) -> None:
    loaded = scripted(byte_model, "ok")
    desk = Desk(max_sequences=1)
    talk = [said("my secret"), answered("ok"), said("so")]
    desk.ask(loaded, number=1, messages=talk, channel=7)
    if when == "while it is queued":
        desk.ask(loaded, number=2, messages=talk, channel=7)
    if when == "after the reply":
        desk.run()
        desk.engine.prefetch(Prefetch(loaded.info.source, tuple(talk), 7))
        desk.engine.prefetch(Prefetch(loaded.info.source, tuple(talk), 8))
    desk.engine.step()
    desk.engine.drop_caches()
    desk.run()
    assert desk.finished(1).text == "ok", "the reply is not lost"
    assert desk.engine.cache_bytes == 0
    before = len(reads(loaded))
    desk.ask(loaded, number=3, messages=talk, channel=7)
    desk.run()
    assert reads(loaded)[before][0] == 0, "it is read from its start"


def test_reading_ahead_is_dropped_with_its_model(byte_model: LoadedModel) -> None:
    loaded = scripted(byte_model, "ok")
    desk = Desk()
    desk.engine.install(loaded)
    desk.engine.prefetch(Prefetch(loaded.info.source, (said("x" * 80),), 7))
    desk.engine.step()
    desk.engine.evict(loaded.info.source)
    assert not desk.engine.has_work
    assert desk.engine.cache_bytes == 0
    desk.engine.prefetch(Prefetch(loaded.info.source, (said("hello"),), 7))  # too late, no matter
    assert not desk.engine.has_work


def test_caches_keep_to_their_budget(byte_model: LoadedModel) -> None:
    """Each channel leaves some 20 tokens; there is room for 100."""
    loaded = scripted(byte_model, "ok")
    budget = 100 * loaded.runner.kv_bytes_per_token
    desk = Desk(cache_mb=budget / MB)
    short = replace(GREEDY, max_new_tokens=10)
    for channel in range(1, 20):
        desk.ask(loaded, short, number=channel, channel=channel, messages=[said("hello there")])
        desk.engine.step()
        assert desk.engine.cache_bytes <= budget
        desk.run()
        assert 0 < desk.engine.cache_bytes <= budget
        assert desk.finished(channel).text == "ok"


def test_a_small_budget_shortens_prompts_and_a_smaller_one_is_refused(
    byte_model: LoadedModel,
) -> None:
    loaded = scripted(byte_model, "ok")
    small = Desk(cache_mb=20 * loaded.runner.kv_bytes_per_token / MB)
    small.ask(loaded, messages=[said("hello"), answered("hi"), said("x" * 50)])
    small.run()
    assert small.finished().text == "ok"
    assert small.finished().prompt_tokens <= 20
    smaller = Desk(cache_mb=10 * loaded.runner.kv_bytes_per_token / MB)
    with pytest.raises(ValueError, match="CACHE_MB has room for 10 tokens of this model only"):
        smaller.ask(loaded)


def test_what_is_read_ahead_is_replaced_by_newer_news(byte_model: LoadedModel) -> None:
    loaded = scripted(byte_model, "ok")
    desk = Desk()
    desk.engine.install(loaded)
    for text in ("x" * 80, "y" * 80):
        desk.engine.prefetch(Prefetch(loaded.info.source, (said(text),), 7))
        desk.engine.step()
    desk.ask(loaded, number=1, channel=8)
    desk.run()
    assert desk.finished(1).text == "ok"
    talk = [said("y" * 80), answered("so"), said("z")]
    desk.ask(loaded, replace(GREEDY, max_new_tokens=5), number=2, messages=talk, channel=7)
    desk.run()
    assert reads(loaded)[-1][0] >= 80


def test_what_is_read_ahead_does_not_pile_up_while_there_is_no_time_for_it(
    byte_model: LoadedModel,
) -> None:
    loaded = scripted(byte_model, "ok")
    desk = Desk()
    desk.engine.install(loaded)
    for channel in range(1, 10 * MAX_PREFETCHES):
        desk.engine.prefetch(Prefetch(loaded.info.source, (said("hello"),), channel))
    desk.engine.prefetch(Prefetch(loaded.info.source, (said("hello again"),), channel))
    desk.run()
    assert len(reads(loaded)) == MAX_PREFETCHES
    assert desk.engine.cache_bytes > 0


class Forgetful(ScriptedRunner):
    """Has no memory to save a row."""

    def save(self, row: int, length: int) -> Any:
        raise MemoryError


def test_without_memory_to_keep_what_was_read_it_is_read_again(byte_model: LoadedModel) -> None:
    runner = Forgetful(says(byte_model, "fine"), byte_model.info.vocabulary)
    loaded = replace(byte_model, runner=runner)
    desk = Desk()
    for number in (1, 2):
        desk.ask(loaded, number=number, channel=5)
        desk.run()
        assert desk.finished(number).text == "fine"
    assert [past for past, _ in runner.reads] == [0, 0]


def test_those_who_wait_are_told_their_place_and_a_full_queue_says_so(
    byte_model: LoadedModel,
) -> None:
    loaded = scripted(byte_model, "ok")
    desk = Desk(max_sequences=2, max_waiting=2)
    for number in (1, 2, 3, 4):
        desk.ask(loaded, number=number)
        if number == 2:
            desk.engine.step()
    assert [one for one in desk.reports if isinstance(one, Queued)] == [Queued(3, 1), Queued(4, 2)]
    with pytest.raises(QueueFull, match="number 3 in the queue"):
        desk.ask(loaded, number=5)
    desk.run()
    assert {desk.finished(number).text for number in (1, 2, 3, 4)} == {"ok"}


def test_a_reply_that_takes_too_long_ends_with_what_was_said(byte_model: LoadedModel) -> None:
    loaded = scripted(byte_model, "".join(chr(33 + n) for n in range(90)))
    desk = Desk(max_sequences=1, deadline_s=10)
    desk.ask(loaded, number=1)
    desk.ask(loaded, number=2)
    desk.engine.step()
    desk.now += 9
    desk.engine.step()
    assert desk.deltas(1) == ["!", '"']
    desk.now += 1
    desk.engine.step()
    assert (desk.finished(1).text, desk.finished(1).finish_reason) == ('!"', FinishReason.DEADLINE)
    assert Failed(2, "I was too busy to answer in time. Please ask again.") in desk.reports
    assert not desk.engine.has_work


def test_a_stop_text_ends_a_reply(byte_model: LoadedModel) -> None:
    loaded = scripted(byte_model, "one, two, STOP three")
    desk = Desk()
    desk.ask(loaded, replace(GREEDY, stop=("STOP",)))
    desk.run()
    assert desk.finished().text == "one, two,"


@pytest.mark.parametrize(
    ("text", "banned", "reply"),
    [
        ("a rude WORD, yes", "word", "a rude"),
        ("the class is on", "ass", "the class is on"),
        ("as we are", "ass", "as we are"),
        ("in New York now", "new york", "in"),
        ("とても馬鹿だ", "馬鹿", "とても"),
    ],
)
def test_a_banned_word_is_not_said(
    byte_model: LoadedModel, text: str, banned: str, reply: str
) -> None:
    """It is taken back whole, and another token is drawn where it began: of the scripted scores,
    the first of the others."""
    desk = Desk()
    desk.ask(scripted(byte_model, text), replace(GREEDY, banned_words=(banned,), max_new_tokens=16))
    desk.run()
    said = desk.finished().text
    assert said.startswith(reply)
    assert "".join(desk.deltas()).strip() == said
    if reply != text:
        assert not said[len(reply) :].lower().startswith(banned[0])
        assert banned not in said.lower()


def test_a_fork_keeps_its_logits_when_the_runner_overwrites_them(byte_model: LoadedModel) -> None:
    params = replace(GREEDY, banned_words=("word",))
    sequence = Sequence(1, 0, ids(byte_model, "hello"), params, seed=0)
    logits = np.zeros(byte_model.info.vocabulary, np.float32)
    logits[ids(byte_model, "w")] = 9
    there = logits.copy()
    assert next_token(sequence, byte_model, logits) == ids(byte_model, "w")[0]
    logits[:] = 0
    assert sequence.fork is not None
    assert np.array_equal(sequence.fork.logits, there)


def test_a_banned_word_is_not_said_by_a_real_model(tiny: LoadedModel) -> None:
    free, strict = Desk(), Desk()
    params = SamplingParams(seed=1)
    free.ask(tiny, params)
    free.run()
    word = free.finished().text.split()[0].strip(",.!?")
    for seed in range(8):
        strict.ask(tiny, replace(params, seed=seed, banned_words=(word,)), number=seed + 1)
    strict.run()
    for number in range(1, 9):
        words = re.findall(r"\w+", strict.finished(number).text.lower())
        assert words
        assert word.lower() not in words


def test_what_was_streamed_is_never_taken_back(tiny: LoadedModel) -> None:
    """Beginnings of banned words are held back until it is clear what they become."""
    common = ("the", "there", "that", "and", "you", "your", "little", "like", "house", "something")
    desk = Desk()
    for number in range(1, 9):
        desk.ask(tiny, SamplingParams(seed=number, banned_words=common), number=number)
        desk.run()
        said = desk.finished(number).text
        assert "".join(desk.deltas(number)).strip() == said
        assert not set(re.findall(r"\w+", said.lower())) & set(common)


@pytest.mark.parametrize("stage", ["waiting", "reading", "decoding"])
def test_a_reply_is_stopped_within_one_step_at_every_stage(tmp_path: Path, stage: str) -> None:
    model = load(make_model_folder(tmp_path, positions=1024))
    loaded = scripted(model, "".join(chr(33 + n) for n in range(60)))
    desk = Desk(max_sequences=2 if stage != "waiting" else 1)
    desk.ask(loaded, number=1)
    desk.engine.step()
    long = [said("x" * (10 if stage == "decoding" else 700))]
    desk.ask(loaded, number=2, messages=long, channel=5)
    desk.engine.step()
    desk.engine.step()
    before = len(reads(loaded))
    desk.engine.abort(2)
    assert desk.finished(2).finish_reason is FinishReason.ABORTED
    assert bool(desk.finished(2).text) == (stage == "decoding")
    desk.run()
    assert len(reads(loaded)) == before  # nothing more is read for it
    assert len(desk.finished(1).text) == 60
    assert (
        desk.engine.cache_bytes <= 800 * loaded.runner.kv_bytes_per_token
    )  # what its channel had read


def test_a_reply_that_is_stopped_while_it_is_read_continues_later(tmp_path: Path) -> None:
    model = load(make_model_folder(tmp_path, positions=1024))
    loaded = scripted(model, "ok")
    desk = Desk()
    long = [said("x" * 700)]
    desk.ask(loaded, number=1, messages=long, channel=5)
    desk.engine.step()
    desk.engine.abort(1)
    desk.ask(loaded, number=2, messages=long, channel=5)
    desk.run()
    assert [past for past, _ in reads(loaded)[:2]] == [0, PREFILL_BUDGET]


def test_a_model_without_numbers_leaves_nothing_to_others(byte_model: LoadedModel) -> None:
    """What a failed reply had read is not kept for its channel."""
    good = [*ids(byte_model, "fine"), 0]
    loaded = scripted(byte_model, lambda n: good if n else [good[0], None])
    desk = Desk()
    desk.ask(loaded, number=1, channel=5)
    desk.run()
    desk.ask(loaded, number=2, channel=5)
    desk.run()
    assert reads(loaded)[1][0] == 0
    assert desk.finished(2).text == "fine"


ASKED_IN_JAPANESE = [Message(Role.USER, "今日は何をしましたか？")]


def in_japanese(byte_model: LoadedModel, text: str, most: int = 60) -> Finished:
    """The reply of a model that says that text, each letter of which is three tokens."""
    desk = Desk()
    params = SamplingParams(max_new_tokens=most, no_repeat_ngram=0)
    desk.ask(scripted(byte_model, text), params, messages=ASKED_IN_JAPANESE)
    desk.run()
    return desk.finished()


@pytest.mark.parametrize(
    "text", ["面白いｗｗｗ、いいね", "そうそうそう、それです", "えええええ、本当？"]
)
def test_a_letter_of_several_tokens_is_no_circle(byte_model: LoadedModel, text: str) -> None:
    assert in_japanese(byte_model, text).text == text


@pytest.mark.parametrize(
    ("again", "most"),
    [("ｗ", 12), ("はい", 12), ("ありがとう", 15), ("いい天気です。", 21)],
)
def test_a_circle_of_letters_ends(byte_model: LoadedModel, again: str, most: int) -> None:
    assert in_japanese(byte_model, again * 60, 400).text == (again * 60)[:most]


def test_a_reply_in_japanese_is_longer_and_ends_at_a_whole_letter(byte_model: LoadedModel) -> None:
    text = "".join(chr(0x4E00 + n) for n in range(120))
    for most in (20, 21, 22):
        end = in_japanese(byte_model, text, most)
        assert end.finish_reason is FinishReason.LENGTH
        assert end.new_tokens > most
        assert end.text == text[: end.new_tokens // 3]
