"""From conversations to rows: what is a lesson, what is context, what is padding."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from core.records import Message, Role
from model.chat_template import from_pair
from training.run import tokenization
from training.run.tokenization import IGNORE_INDEX

TURN = st.builds(Message, st.sampled_from(Role), st.text(max_size=60))


def test_only_the_bots_words_are_a_lesson(tokenizer: PreTrainedTokenizerBase) -> None:
    [row] = tokenization.examples(tokenizer, [from_pair("hello there", "hi Ben")], 64, "bot")
    learned = [token for token in row["labels"] if token != IGNORE_INDEX]
    assert tokenizer.decode(learned) == "hi Ben<|endoftext|>"
    assert tokenizer.decode(row["input_ids"]) == (
        "<|user|>hello there<|endoftext|><|bot|>hi Ben<|endoftext|>"
    )


def test_everything_is_a_lesson_if_asked(tokenizer: PreTrainedTokenizerBase) -> None:
    [row] = tokenization.examples(tokenizer, [from_pair("hello", "hi")], 64, "all")
    assert row["labels"] == row["input_ids"]


def test_a_long_example_loses_its_beginning(tokenizer: PreTrainedTokenizerBase) -> None:
    [row] = tokenization.examples(tokenizer, [from_pair("word " * 100, "the answer")], 16, "bot")
    assert len(row["input_ids"]) == len(row["labels"]) == 16
    assert tokenizer.decode(row["input_ids"]).endswith("<|bot|>the answer<|endoftext|>")


def test_rows_without_a_lesson_are_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    only_a_person = (Message(Role.USER, "hello?"),)
    assert len(tokenization.examples(tokenizer, [only_a_person], 64, "bot")) == 0


@given(conversations=st.lists(st.lists(TURN, min_size=1, max_size=5).map(tuple), max_size=5))
def test_blocks_keep_every_turn_whole_and_in_order(
    tokenizer: PreTrainedTokenizerBase, conversations: list[tuple[Message, ...]]
) -> None:
    whole = [
        one.input_ids[:32]
        for turns in conversations
        for one in tokenization.encode(tokenizer, [(turn,) for turn in turns])
    ]
    rows = tokenization.packed_blocks(tokenizer, conversations, 32)["input_ids"]
    assert [token for row in rows for token in row] == [t for turn in whole for t in turn]
    starts = {tuple(turn) for turn in whole}
    for row in rows:
        assert 0 < len(row) <= 32
        assert any(tuple(row[: len(turn)]) == turn for turn in starts)


def test_rows_are_padded_to_the_longest() -> None:
    rows = [
        {"input_ids": [5, 6, 7], "labels": [IGNORE_INDEX, 6, 7]},
        {"input_ids": [8], "labels": [8]},
    ]
    batch = tokenization.collate(rows, pad_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORE_INDEX, 6, 7], [8, IGNORE_INDEX, IGNORE_INDEX]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


@given(
    lengths=st.lists(st.integers(1, 24), min_size=1, max_size=12),
    width=st.sampled_from([24, 32, 64]),
)
def test_packed_rows_are_whole_apart_and_within_the_width(lengths: list[int], width: int) -> None:
    rows = [
        {"input_ids": [100 * n + at for at in range(length)], "labels": list(range(length))}
        for n, length in enumerate(lengths, start=1)
    ]
    batch = {key: value.tolist() for key, value in tokenization.pack(rows, width, pad_id=0).items()}
    found = []
    for tokens, labels, positions in zip(*batch.values(), strict=True):
        assert len(tokens) == len(labels) == len(positions) <= width
        for token, label, position in zip(tokens, labels, positions, strict=True):
            if token == 0:  # padding
                assert (label, position) == (IGNORE_INDEX, 0)
                continue
            assert position == token % 100, "positions begin anew with each row"
            assert label == (IGNORE_INDEX if position == 0 else position), (
                "none learns across a border"
            )
            found.append(token)
    assert sorted(found) == [token for row in rows for token in row["input_ids"]]


def test_packing_leaves_little_empty() -> None:
    rows = [{"input_ids": [1] * length, "labels": [1] * length} for length in range(5, 45)]
    assert tokenization.pack(rows, 128, pad_id=0)["input_ids"].numel() < 1.05 * sum(range(5, 45))
