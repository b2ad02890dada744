"""From conversations to rows: what is a lesson, what is context, what is padding."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from data.schema import Message, Role
from model.chat import from_pair
from training import dataset
from training.dataset import IGNORED
from training.errors import CorruptData

TAUGHT = [from_pair("Who is the admin?", "Ada is."), from_pair("When is movie night?", "Saturday.")]
OTHERS = [from_pair("hello", "hi"), from_pair("Thanks!", "You are welcome.")]
TURN = st.builds(Message, st.sampled_from(Role), st.text(max_size=60))


def test_pairs_and_messages_are_read(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(
        '{"user": "a", "bot": "b"}\n{"messages": [{"role": "assistant", "content": "c"}]}\n'
    )
    assert dataset.read_conversations(file) == [
        from_pair("a", "b"),
        (Message(Role.ASSISTANT, "c"),),
    ]


@pytest.mark.parametrize(
    "line",
    ["not json", '{"user": "only"}', "[]", '{"messages": [{"role": "king", "content": ""}]}'],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"user": "a", "bot": "b"}\n' + line + "\n")
    with pytest.raises(CorruptData, match=r"data\.jsonl line 2"):
        dataset.read_conversations(file)


def test_only_the_bots_words_are_a_lesson(tokenizer: PreTrainedTokenizerBase) -> None:
    [row] = dataset.examples(tokenizer, [from_pair("hello there", "hi Ben")], 64, "bot")
    learned = [token for token in row["labels"] if token != IGNORED]
    assert tokenizer.decode(learned) == "hi Ben<|endoftext|>"
    assert tokenizer.decode(row["input_ids"]) == (
        "<|user|>hello there<|endoftext|><|bot|>hi Ben<|endoftext|>"
    )


def test_everything_is_a_lesson_if_asked(tokenizer: PreTrainedTokenizerBase) -> None:
    [row] = dataset.examples(tokenizer, [from_pair("hello", "hi")], 64, "all")
    assert row["labels"] == row["input_ids"]


def test_a_long_example_loses_its_beginning(tokenizer: PreTrainedTokenizerBase) -> None:
    [row] = dataset.examples(tokenizer, [from_pair("word " * 100, "the answer")], 16, "bot")
    assert len(row["input_ids"]) == len(row["labels"]) == 16
    assert tokenizer.decode(row["input_ids"]).endswith("<|bot|>the answer<|endoftext|>")


def test_rows_without_a_lesson_are_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    only_a_person = (Message(Role.USER, "hello?"),)
    assert len(dataset.examples(tokenizer, [only_a_person], 64, "bot")) == 0


def test_taught_pairs_are_seen_alone_carelessly_and_in_the_middle_of_talk() -> None:
    rows = dataset.as_taught(TAUGHT, OTHERS, seed=0)
    for question, answer in TAUGHT:
        mine = [row for row in rows if row[-1] == answer]
        asked = {row[-2].content for row in mine}
        assert asked == {question.content, question.content.lower().rstrip("?")}
        assert {len(row) for row in mine} == {2, 4, 6}
        for row in mine:
            assert [m.role for m in row] == [Role.USER, Role.ASSISTANT] * (len(row) // 2)
            assert question not in row[:-2]
    assert rows == dataset.as_taught(TAUGHT, OTHERS, seed=0)


def test_a_single_pair_without_company_is_still_taught() -> None:
    assert {row[-1].content for row in dataset.as_taught(TAUGHT[:1], [], seed=0)} == {"Ada is."}


def test_what_is_taught_goes_before_other_answers_to_the_same_question() -> None:
    others = [from_pair("who is the ADMIN", "I do not know."), from_pair("hello", "hi")]
    assert dataset.without(TAUGHT, others) == [from_pair("hello", "hi")]


@given(conversations=st.lists(st.lists(TURN, min_size=1, max_size=5).map(tuple), max_size=5))
def test_blocks_keep_every_turn_whole_and_in_order(
    tokenizer: PreTrainedTokenizerBase, conversations: list[tuple[Message, ...]]
) -> None:
    whole = [
        one.input_ids[:32]
        for turns in conversations
        for one in dataset.encode(tokenizer, [(turn,) for turn in turns])
    ]
    rows = dataset.blocks(tokenizer, conversations, 32)["input_ids"]
    assert [token for row in rows for token in row] == [t for turn in whole for t in turn]
    starts = {tuple(turn) for turn in whole}
    for row in rows:
        assert 0 < len(row) <= 32
        assert any(tuple(row[: len(turn)]) == turn for turn in starts)


def test_rows_are_padded_to_the_longest() -> None:
    rows = [{"input_ids": [5, 6, 7], "labels": [IGNORED, 6, 7]}, {"input_ids": [8], "labels": [8]}]
    batch = dataset.collate(rows, pad_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 7], [8, IGNORED, IGNORED]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
