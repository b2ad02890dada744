"""From a data set to lessons: what is read, how it is varied, what it is mixed with."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.records import Message, Role
from model.chat_template import from_pair
from training.config import TrainingConfig
from training.errors import CorruptData
from training.run import mixing

TAUGHT = [from_pair("Who is the admin?", "Ada is."), from_pair("When is movie night?", "Saturday.")]
OTHERS = [from_pair("hello", "hi"), from_pair("Thanks!", "You are welcome.")]


def test_pairs_and_messages_are_read(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(
        '\ufeff{"user": "a", "bot": "b"}\n\n'
        '{"messages": [{"role": "assistant", "content": "c"}]}\n  \n'
    )
    assert mixing.read_conversations(file) == [
        from_pair("a", "b"),
        (Message(Role.ASSISTANT, "c"),),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        '{"user": "only"}',
        '{"user": "a", "bot": 7}',
        "[]",
        '{"messages": [{"role": "king", "content": ""}]}',
        '{"messages": [{"role": "user", "content": null}]}',
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"user": "a", "bot": "b"}\n' + line + "\n")
    with pytest.raises(CorruptData, match=r"data\.jsonl line 2"):
        mixing.read_conversations(file)


def test_taught_pairs_are_seen_alone_carelessly_and_in_the_middle_of_talk() -> None:
    rows = mixing.augment(TAUGHT, OTHERS, seed=0)
    for question, answer in TAUGHT:
        mine = [row for row in rows if row[-1] == answer]
        asked = {row[-2].content for row in mine}
        assert asked == {question.content, question.content.lower().rstrip("?")}
        assert {len(row) for row in mine} == {2, 4, 6}
        for row in mine:
            assert [m.role for m in row] == [Role.USER, Role.ASSISTANT] * (len(row) // 2)
            assert question not in row[:-2]
    assert rows == mixing.augment(TAUGHT, OTHERS, seed=0)


def test_a_single_pair_without_company_is_still_taught() -> None:
    assert {row[-1].content for row in mixing.augment(TAUGHT[:1], [], seed=0)} == {"Ada is."}


def test_what_is_taught_goes_before_other_answers_to_the_same_question() -> None:
    others = [from_pair("who is the ADMIN", "I do not know."), from_pair("hello", "hi")]
    assert mixing.exclude_taught(TAUGHT, others) == [from_pair("hello", "hi")]


def test_the_settings_say_in_what_company_examples_are_learned() -> None:
    config = TrainingConfig(name="v1", base="gpt2", replay=5)
    taught = [*TAUGHT, from_pair("Hello", "Ahoy!")]
    rows = mixing.mix_replay(config, taught)
    starter = mixing.exclude_taught(taught, mixing.read_conversations(mixing.STARTER_FILE))
    general = mixing.exclude_taught(taught, mixing.read_conversations(mixing.GENERAL_FILE))
    assert rows == mixing.augment(taught, starter, 0) + starter[:5] + general[:5]
    assert mixing.mix_replay(TrainingConfig(name="v1", base="gpt2"), taught) == taught
