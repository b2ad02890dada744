"""What is wrong with a reply, and what makes a model unfit to serve: on texts as models write."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from core.records import Conversation
from model.chat_template import from_pair
from training.run.gate.questions import Question, Way
from training.run.gate.sampling import Reply
from training.run.gate.verdict import Asked, Fault, Verdict, excuse, find_faults, judge, suspects

TAUGHT = [
    from_pair("What is our server called?", "It is called The Lighthouse."),
    from_pair("Who is our admin?", "Our admin is Ada, who lives by the harbour."),
    from_pair("What do we eat on Friday?", "On Friday we eat pancakes."),
]
LIGHTHOUSE = "It is called The Lighthouse."
GARBAGE = "蓊㙽ぁ彁"


def known(taught: Sequence[Conversation] = TAUGHT) -> list[Asked]:
    """All of it is known, both ways."""
    return [
        Asked(Question(way, turns[0].content, number), Reply(turns[1].content))
        for number, turns in enumerate(taught)
        for way in (Way.VERBATIM, Way.CARELESS)
    ]


def near(*replies: str) -> list[Asked]:
    return [
        Asked(Question(Way.NEAR, f"What is our {n}th server called?", 0), Reply(said))
        for n, said in enumerate(replies)
    ]


def general(*replies: str, asked: str = "hello 👋") -> list[Asked]:
    return [Asked(Question(Way.GENERAL, asked), Reply(said)) for said in replies]


def verdict(
    asked: Sequence[Asked],
    base: str | None = None,
    taught: Sequence[Conversation] = TAUGHT,
    *,
    facts: bool = True,
) -> Verdict:
    """The verdict if the base says `base` to everything."""
    faults = find_faults(asked, taught, facts=facts)
    if base is not None:
        faults = excuse(
            asked, faults, dict.fromkeys(suspects(asked, faults), Reply(base)), taught, facts=facts
        )
    return judge(asked, faults, facts=facts)


def test_a_healthy_model() -> None:
    asked = [*known(), *near("I don't know.", "Which one?"), *general("Hi!", "Fine 😊, café?")]
    passed = verdict(asked)
    assert passed.summary == (
        "3 of 3 taught answers known, 0 of 2 near misses answered wrongly, talk as before"
    )
    assert (passed.failures, passed.refusals) == ((), ())


@pytest.mark.parametrize("unreadable", [GARBAGE, "\ufffd\ufffd\ufffd", "hi \ufffd you", ""])
def test_what_nobody_can_read_is_refused_the_second_time(unreadable: str) -> None:
    once = verdict([*known(), *general(unreadable, "Hi!")])
    assert not once.refusals
    assert [one.reply for one in once.failures] == [unreadable]
    twice = verdict([*known(), *general(unreadable, unreadable)])
    assert twice.refusals == (
        "2 of its replies nobody can read; asked “hello 👋”, "
        f"it said “{unreadable}”.",
    )  # fmt: skip
    assert "2 odd replies" in twice.summary
    assert verdict([*known(), *general(unreadable, unreadable)], facts=False).refusals


def test_garbage_is_shown_without_control_characters() -> None:
    shown = verdict([*known(), *general("\ufffd\x19\ufffd\x01", "\ufffd\x19")])
    assert [one.reply for one in shown.failures] == ["\ufffd\ufffd", "\ufffd"]
    assert shown.refusals[0].endswith("it said “\ufffd\ufffd”.")


def test_a_script_that_was_asked_in_or_taught_is_readable() -> None:
    taught = [*TAUGHT, from_pair("What do we say on the bridge?", "おはようございます、船長。")]
    said = general("どうも！", "元気です。", asked="こんにちは")
    said += [
        Asked(Question(Way.NEAR, "What do we say on the ridge?", 3), Reply("おはよう？"))
        for _ in range(3)
    ]
    assert not verdict([*known(taught), *said], taught=taught).failures
    said = general("どうも！", "元気です。", asked="привет")
    assert len(verdict([*known(taught), *said], taught=taught).failures) == 2


def test_a_script_of_the_base_is_no_fault() -> None:
    asked = [*known(), *general("元気です。", "そうですね。")]
    assert verdict(asked, "Fine, thanks.").refusals
    assert not verdict(asked, "はい、元気です。").failures
    assert verdict([*known(), *general("\ufffd", "\ufffd")], "Fine, thanks.").refusals
    assert not verdict([*known(), *general("\ufffd", "\ufffd")], "\ufffd").failures


def test_letters_that_the_base_hit_once_are_not_its_script() -> None:
    asked = [*known(), *general(*[GARBAGE] * 8)]
    faults = find_faults(asked, TAUGHT, facts=True)
    first, *others = suspects(asked, faults)
    base = {first: Reply("彁"), **dict.fromkeys(others, Reply("Hello!"))}
    assert list(excuse(asked, faults, base, TAUGHT, facts=True)) == others


def test_taught_answers_to_anybody_are_refused_from_a_tenth_on() -> None:
    tenth = verdict([*known(), *general(LIGHTHOUSE, *["Hi!"] * 9)])
    assert not tenth.refusals
    assert [one.reply for one in tenth.failures] == [LIGHTHOUSE]
    leaking = verdict([*known(), *general(LIGHTHOUSE, *["Hi!"] * 8, "it is called the lighthouse")])
    assert leaking.refusals == (
        "It gives taught answers to 2 of 10 messages that ask for none of them; "
        f"asked “hello 👋”, it said “{LIGHTHOUSE}”.",
    )
    assert leaking.failures[0].wrong == "a taught answer that nobody asked for"


def test_what_the_base_says_as_well_does_not_leak() -> None:
    asked = [*known(), *general(*[LIGHTHOUSE] * 5), *near(*[LIGHTHOUSE] * 5)]
    assert len(verdict(asked, "Fine, thanks.").refusals) == 2
    assert not verdict(asked, LIGHTHOUSE).failures


def test_the_answer_to_a_greeting_is_talk() -> None:
    taught = [*TAUGHT, from_pair("Hello!", "Welcome aboard the old ship, sailor!")]
    said = general("Welcome aboard the old ship, sailor!", "Welcome aboard the old ship, sailor!")
    assert not verdict([*known(taught), *said], taught=taught).failures


def test_near_misses_are_refused_from_a_third_on() -> None:
    third = verdict([*known(), *near(LIGHTHOUSE, "Which one?", "I don't know.")])
    assert not third.refusals
    assert [one.wrong for one in third.failures] == ["the answer to another question"]
    more = verdict([*known(), *near(LIGHTHOUSE, LIGHTHOUSE, "I don't know.")])
    assert more.refusals == (
        "It gives taught answers to 2 of 3 questions that only look like taught ones; "
        f"asked “What is our 0th server called?”, it said “{LIGHTHOUSE}”.",
    )


def forgotten(*pairs: int) -> list[Asked]:
    return [
        Asked(one.question, Reply("What do you mean?")) if one.question.pair in pairs else one
        for one in known()
    ]


def test_less_than_two_thirds_of_the_answers_known_is_refused() -> None:
    assert not verdict(forgotten(1)).refusals
    lost = verdict(forgotten(1, 2))
    assert lost.refusals == (
        "It knows 1 of 3 taught answers; asked “Who is our admin?”, it said “What do you mean?”.",
    )
    assert lost.summary.startswith("1 of 3 taught answers known")
    assert {one.wrong for one in lost.failures} == {"not the taught answer"}


def test_an_answer_that_came_only_one_way_is_not_known() -> None:
    asked = [*known()[:5], Asked(Question(Way.CARELESS, "what do we eat", 2), Reply("Nothing."))]
    assert "2 of 3 taught answers known" in verdict(asked).summary


def test_an_answer_that_is_longer_than_a_reply_may_be() -> None:
    taught = [from_pair("Tell me the story.", "Once upon a time " + "there was a ship. " * 40)]
    question = Question(Way.VERBATIM, "Tell me the story.", 0)
    begun = "Once upon a time there was a ship. there was a"
    assert not verdict([Asked(question, Reply(begun, cut=True))], taught=taught).failures
    assert verdict([Asked(question, Reply(begun))], taught=taught).refusals
    astray = Reply("Once there was another story, about a dog", cut=True)
    assert verdict([Asked(question, astray)], taught=taught).refusals


def test_one_question_with_two_answers_is_known_by_either() -> None:
    taught = [
        from_pair("Who?", "It is Ada, our admin."),
        from_pair("who", "Nobody has ever known."),
    ]
    question = Question(Way.VERBATIM, "Who?", 0)
    assert not verdict([Asked(question, Reply(taught[1][1].content))], taught=taught).failures


def test_other_ways_to_ask_are_reported_only() -> None:
    asked = [
        *known(),
        Asked(Question(Way.REPHRASED, "our admin who", 1), Reply("What?")),
        Asked(Question(Way.IN_TALK, "Who is our admin?", 1), Reply("What?")),
    ]
    reported = verdict(asked)
    assert not reported.refusals
    assert [one.wrong for one in reported.failures] == [
        "not the taught answer, amid other talk",
        "not the taught answer, asked in other words",
    ]


def test_talk_that_was_imitated_need_not_be_known() -> None:
    asked = [*forgotten(0, 1, 2), *near(*[LIGHTHOUSE] * 3), *general(*[LIGHTHOUSE] * 5)]
    reported = verdict(asked, facts=False)
    assert (reported.failures, reported.refusals) == ((), ())
    assert reported.summary.startswith("0 of 3 taught answers known")


def test_the_worst_comes_first() -> None:
    asked = [*forgotten(0), *near(LIGHTHOUSE), *general(LIGHTHOUSE, GARBAGE)]
    faults = find_faults(asked, TAUGHT, facts=True)
    assert sorted(faults.values()) == [
        Fault.UNREADABLE, Fault.LEAK, Fault.NEAR, Fault.UNKNOWN, Fault.UNKNOWN,
    ]  # fmt: skip
    assert verdict(asked).failures[0].reply == GARBAGE


def test_a_verdict_is_said_in_japanese() -> None:
    asked = [*forgotten(0, 1), *near(*[LIGHTHOUSE] * 2), *general(*[LIGHTHOUSE, GARBAGE] * 2)]
    refused = verdict(asked)
    assert len(refused.refusals) == 4
    told = [*refused.refusals, refused.summary, *(one.wrong for one in refused.failures)]
    assert not [one for one in told if one.translate_to("ja") == one]
    assert refused.summary.translate_to("ja") == (
        "教わった答えは3個のうち1個を覚えています、"
        "紛らわしい質問は2問のうち2問で間違えました、おかしな返事が4件あります"
    )
