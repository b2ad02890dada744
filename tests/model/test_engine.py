"""From requests to reports: what people read, and how a reply ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from data.schema import Message, Role
from model.chat import HALF
from model.engine import Engine, is_looping
from model.loading import Loaded, load
from model.messages import Failed, Finished, Generate, Render, Rendered, Report, TextDelta
from model.runner import Said
from model.sampling import FinishReason, SamplingParams
from model.sequence import ATTEMPTS, Sequence
from model.torch_runner import TorchRunner
from tests.model.conftest import CPU, HELLO
from tests.model.scripted import Script, ScriptedRunner
from tests.model_folders import make_model_folder

GREEDY = SamplingParams(temperature=0)


class Desk:
    """An engine and all that it has delivered."""

    def __init__(self, script: Script | None = None, max_sequences: int = 4) -> None:
        self.reports: list[Report] = []
        self.engine = Engine(
            self.reports.append,
            lambda loaded: (
                ScriptedRunner(script)
                if script
                else TorchRunner(loaded.model, pad_id=0, mute=loaded.mute, threads=1)
            ),
            max_sequences=max_sequences,
        )

    def ask(
        self,
        loaded: Loaded,
        params: SamplingParams = GREEDY,
        number: int = 1,
        messages: list[Message] | None = None,
    ) -> None:
        source = loaded.facts.source
        if source not in self.engine.sources:
            self.engine.install(loaded)
        self.engine.submit(Generate(number, source, tuple(messages or HELLO), params))

    def run(self) -> None:
        for _ in range(2000):
            self.engine.step()
            if not self.engine.busy:
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
def byte_model(folders: Path) -> Loaded:
    """Each byte is a token."""
    return load(str(folders / "random"), CPU)


@pytest.fixture(scope="module")
def plain_model(folders: Path) -> Loaded:
    return load(str(folders / "plain"), CPU)


def ids(loaded: Loaded, text: str) -> list[int]:
    return loaded.tokenizer.encode(text, add_special_tokens=False)


def says(loaded: Loaded, text: str) -> Script:
    """The text, then the end."""
    tokens = [*ids(loaded, text), 0]
    return lambda one: tokens


def test_half_characters_are_held_back(byte_model: Loaded) -> None:
    desk = Desk(says(byte_model, "né 😀 日本"))
    desk.ask(byte_model)
    desk.run()
    assert desk.deltas() == ["n", "é", " 😀", " 日", "本"]
    assert desk.finished().reason is FinishReason.END


def test_a_character_that_never_comes_whole_is_left_out(byte_model: Loaded) -> None:
    first_byte = ids(byte_model, "é")[0]
    tokens = [*ids(byte_model, "a"), first_byte, *ids(byte_model, "b"), first_byte, 0]
    desk = Desk(lambda one: tokens)
    desk.ask(byte_model)
    desk.run()
    assert desk.finished().text == "ab"
    assert HALF not in "".join(desk.deltas())


def test_white_space_around_a_reply_is_left_out(byte_model: Loaded) -> None:
    desk = Desk(says(byte_model, " \n  well,  yes \n "))
    desk.ask(byte_model)
    desk.run()
    assert desk.finished().text == "well,  yes"
    assert desk.deltas()[0] == "w"


@pytest.mark.parametrize("control", ["<|endoftext|>", "<|user|>", "<|bot|>"])
def test_a_control_token_ends_a_reply_and_is_not_shown(byte_model: Loaded, control: str) -> None:
    token = byte_model.tokenizer.convert_tokens_to_ids(control)
    desk = Desk(lambda one: [*ids(byte_model, "ok"), token, *ids(byte_model, "more")])
    desk.ask(byte_model)
    desk.run()
    assert (desk.finished().text, desk.finished().reason) == ("ok", FinishReason.END)


def test_the_next_line_of_a_transcript_ends_a_reply(plain_model: Loaded) -> None:
    desk = Desk()
    desk.ask(plain_model)
    desk.run()
    assert desk.finished().text == "a plain answer"
    assert desk.finished().reason is FinishReason.END


def test_the_beginning_of_a_stop_text_is_held_back(byte_model: Loaded) -> None:
    loaded = replace(byte_model, stops=("|User:",))
    desk = Desk(says(loaded, "a|Us|User: b"))
    desk.ask(loaded)
    desk.run()
    assert desk.finished().text == "a|Us"
    assert desk.deltas() == ["a", "|Us"]


def test_length_ends_a_reply(byte_model: Loaded) -> None:
    desk = Desk(says(byte_model, "abcdefgh"))
    desk.ask(byte_model, replace(GREEDY, max_new_tokens=3))
    desk.run()
    end = desk.finished()
    assert (end.text, end.reason, end.new_tokens) == ("abc", FinishReason.LENGTH, 3)


def test_half_of_the_positions_are_kept_for_the_prompt(tmp_path: Path) -> None:
    loaded = load(str(make_model_folder(tmp_path, says="0", endless=True, positions=64)), CPU)
    desk = Desk()
    params = SamplingParams(max_new_tokens=1000, no_repeat_ngram=0)
    long = [Message(Role.USER, "x" * 100)]
    desk.engine.install(loaded)
    desk.engine.render(Render(9, str(tmp_path), tuple(long), 1000))
    rendered = desk.reports.pop()
    assert isinstance(rendered, Rendered)
    assert (rendered.total, rendered.budget, rendered.shortened) == (32, 32, True)
    script = ids(loaded, "".join(chr(33 + n) for n in range(90)))
    scripted = Desk(lambda one: script)
    scripted.ask(loaded, params, messages=long)
    scripted.run()
    end = scripted.finished()
    assert (end.prompt_tokens, end.new_tokens, end.reason) == (32, 32, FinishReason.LENGTH)


def test_an_empty_reply_is_drawn_again(byte_model: Loaded) -> None:
    attempts = [[0], [*ids(byte_model, "  "), 0], [*ids(byte_model, "yes"), 0]]
    desk = Desk(lambda one: attempts[one.attempt])
    desk.ask(byte_model)
    desk.run()
    assert desk.finished().text == "yes"


def test_a_model_that_stays_silent_fails_with_a_sentence(byte_model: Loaded) -> None:
    attempts: set[int] = set()

    def silent(one: Sequence) -> list[int]:
        attempts.add(one.attempt)
        return [0]

    desk = Desk(silent)
    desk.ask(byte_model)
    desk.run()
    assert desk.reports == [Failed(1, "I found nothing to say. Please try again.")]
    assert attempts == set(range(ATTEMPTS))


@pytest.mark.parametrize("params", [SamplingParams(), GREEDY], ids=["sampled", "greedy"])
def test_the_last_attempt_of_the_real_runner_speaks(folders: Path, params: SamplingParams) -> None:
    desk = Desk()
    desk.ask(load(str(folders / "silent"), CPU), params)
    desk.run()
    assert desk.finished().text


def test_a_reply_that_goes_in_circles_ends(byte_model: Loaded) -> None:
    desk = Desk(says(byte_model, "round and" + " and on" * 100))
    desk.ask(byte_model, SamplingParams(max_new_tokens=120, no_repeat_ngram=0))
    desk.run()
    assert len(desk.finished().text) < 40


def test_circles() -> None:
    assert is_looping([1, 2, 3, 7, 7, 7, 7, 7, 7])
    assert not is_looping([1, 2, 3, 7, 7, 7, 7, 7])
    assert is_looping([9, 1, 2, 1, 2, 1, 2])
    assert not is_looping([1, 2, 1, 2, 1, 3])
    assert is_looping(3 * list(range(8)))
    assert not is_looping([])


def test_abort_keeps_what_was_said_and_leaves_the_others(byte_model: Loaded) -> None:
    desk = Desk(says(byte_model, "abcdef"), max_sequences=2)
    for number in (1, 2, 3):
        desk.ask(byte_model, number=number)
    desk.engine.step()
    desk.engine.step()
    desk.engine.abort(1)
    desk.engine.abort(3)  # it waits
    desk.engine.abort(99)  # unknown
    desk.run()
    assert (desk.finished(1).text, desk.finished(1).reason) == ("ab", FinishReason.ABORTED)
    assert (desk.finished(2).text, desk.finished(2).reason) == ("abcdef", FinishReason.END)
    assert (desk.finished(3).text, desk.finished(3).reason) == ("", FinishReason.ABORTED)


def test_numbers_that_are_none_fail_one_reply_only(byte_model: Loaded) -> None:
    good = [*ids(byte_model, "fine"), 0]
    desk = Desk(lambda one: [good[0], None] if one.request_id == 1 else good)
    desk.ask(byte_model, number=1)
    desk.ask(byte_model, number=2)
    desk.run()
    assert Failed(1, "The model computed something that is not a number.") in desk.reports
    assert desk.finished(2).text == "fine"


class OutOfMemory(ScriptedRunner):
    """Has no room for a second batch of prompts."""

    def prefill(self, joining: list[Sequence]) -> Said:  # type: ignore[override]
        if self.batch:
            raise RuntimeError("can't allocate memory")
        return super().prefill(joining)


def test_a_step_that_fails_fails_those_who_were_in_it(byte_model: Loaded) -> None:
    desk = Desk()
    desk.engine = Engine(
        desk.reports.append,
        lambda loaded: OutOfMemory(says(byte_model, "fine")),
        max_sequences=4,
    )
    desk.ask(byte_model, number=1)
    desk.engine.step()
    desk.ask(byte_model, number=2)
    desk.run()
    assert desk.finished(1).text == "fine"
    [failed] = [one for one in desk.reports if isinstance(one, Failed)]
    assert failed.request_id == 2
    desk.ask(byte_model, number=3)
    desk.run()
    assert desk.finished(3).text == "fine"


def test_a_seed_gives_the_same_reply_alone_and_in_company(tiny: Loaded) -> None:
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
    red = load(str(folder), CPU)
    make_model_folder(folder, says="blue skies all day long")
    blue = load(str(folder), CPU)
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
    assert list(desk.engine._models) == [blue.key]  # the old weights are free


def test_two_models_answer_side_by_side(folders: Path, plain_model: Loaded) -> None:
    red = load(str(folders / "red"), CPU)
    desk = Desk()
    desk.ask(red, number=1)
    desk.ask(plain_model, number=2)
    desk.run()
    assert desk.finished(1).text == "red roses are in bloom"
    assert desk.finished(2).text == "a plain answer"
    order = [one.request_id for one in desk.reports if isinstance(one, TextDelta)]
    assert order[:4] == [1, 2, 1, 2]
