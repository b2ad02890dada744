"""The snapshot of a data set: its bytes, and that it appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DiskFull, StoreError
from core.records import Example
from data.dataset.snapshot import contributor_consents, write_snapshot

FULL_DEVICE = Path("/dev/full")


def example(n: int, user: str = "who are you?", bot: str = "me") -> Example:
    return Example(n, 1, user, bot, 7, "teach", datetime(2025, 6, 1, tzinfo=UTC))


def test_a_line_for_each_example_by_id(tmp_path: Path) -> None:
    path = tmp_path / "dataset.jsonl"
    digest = write_snapshot([example(2, "b?", "Bé 🙂"), example(1, "a?\n", 'an "a"')], path)
    assert path.read_bytes() == (
        '{"user": "a?\\n", "bot": "an \\"a\\""}\n{"user": "b?", "bot": "Bé 🙂"}\n'.encode()
    )
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_no_examples_give_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "dataset.jsonl"
    assert write_snapshot([], path) == hashlib.sha256(b"").hexdigest()
    assert path.read_bytes() == b""


def turn(n: int, conversation: str, number: int, weight: int = 1, scope: int = 1) -> Example:
    return replace(
        example(n, f"q{n}", f"a{n}"),
        conversation=conversation,
        turn=number,
        weight=weight,
        scope=scope,
    )


def questions(path: Path) -> list[list[str]]:
    """What is asked in each line."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        [one["content"] for one in row["messages"] if one["role"] == "user"]
        if "messages" in row
        else [row["user"]]
        for row in rows
    ]


def test_a_heavy_example_is_written_more_than_once(tmp_path: Path) -> None:
    path = tmp_path / "dataset.jsonl"
    write_snapshot([replace(example(1, "a"), weight=3), example(2, "b")], path)
    assert questions(path) == [["a"], ["a"], ["a"], ["b"]]


def test_turns_of_a_conversation_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "dataset.jsonl"
    write_snapshot([turn(2, "talk", 2, weight=2), example(3, "alone"), turn(5, "talk", 1)], path)
    line = (
        '{"messages": [{"role": "user", "content": "q5"}, {"role": "assistant", "content": "a5"}, '
        '{"role": "user", "content": "q2"}, {"role": "assistant", "content": "a2"}]}\n'
    )
    assert path.read_text() == 2 * line + '{"user": "alone", "bot": "me"}\n'


def test_conversations_are_cut_at_gaps_and_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "dataset.jsonl"
    gap = [turn(1, "a", 1), turn(2, "a", 2), turn(3, "a", 4)]
    elsewhere = [turn(4, "a", 3, scope=2), turn(5, "b", 3)]
    two_files = [turn(6, "c", 1), turn(7, "c", 2), turn(8, "c", 1), turn(9, "c", 2)]
    write_snapshot([*two_files, *elsewhere, *gap], path)
    expected = [["q1", "q2"], ["q3"], ["q4"], ["q5"], ["q6", "q7"], ["q8", "q9"]]
    assert questions(path) == expected


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "a", "b"]), st.integers(0, 4), st.integers(1, 2)),
        max_size=12,
    ),
    st.randoms(),
)
def test_every_pair_is_written_and_the_bytes_are_stable(
    tmp_path_factory: pytest.TempPathFactory, shape: list[tuple[str, int, int]], order: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "conversations.jsonl"
    examples = [turn(n, *one) for n, one in enumerate(shape)]
    digest = write_snapshot(examples, path)
    written = [one for line in questions(path) for one in line]
    assert all(written.count(one.user) >= one.weight for one in examples)
    assert set(written) == {one.user for one in examples}
    order.shuffle(examples)  # type: ignore[attr-defined]
    assert write_snapshot(examples, path) == digest


def test_whose_words_and_under_which_consent() -> None:
    taught, other = example(1), replace(example(2), author_id=9)
    collected = replace(example(3), author_id=1000, asked_by=8, consent_version=1)
    newer = replace(collected, consent_version=2)
    own = replace(example(4), asked_by=7)
    assert contributor_consents([taught, other, newer, collected, own]) == {
        7: None,
        8: 2,
        9: None,
        1000: None,
    }
    assert contributor_consents([]) == {}


pairs = st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), max_size=8)


@given(pairs=pairs, order=st.randoms())
def test_any_text_survives_and_the_bytes_are_stable(
    tmp_path_factory: pytest.TempPathFactory, pairs: Sequence[tuple[str, str]], order: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "dataset.jsonl"
    examples = [example(n, user, bot) for n, (user, bot) in enumerate(pairs)]
    digest = write_snapshot(examples, path)
    with path.open(encoding="utf-8") as lines:
        read = [json.loads(line) for line in lines]
    assert [(one["user"], one["bot"]) for one in read] == list(pairs)
    order.shuffle(examples)  # type: ignore[attr-defined]
    assert write_snapshot(examples, path) == digest


def test_it_replaces_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "dataset.jsonl"
    path.write_text("old")
    write_snapshot([example(1)], path)
    assert list(tmp_path.iterdir()) == [path]
    assert "who are you?" in path.read_text()


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"could not be written: No such file"):
        write_snapshot([example(1)], tmp_path / "nowhere" / "dataset.jsonl")


@pytest.mark.skipif(not FULL_DEVICE.exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "dataset.jsonl"
    path.write_text("old")
    (tmp_path / "dataset.jsonl.partial").symlink_to(FULL_DEVICE)
    with pytest.raises(DiskFull, match="disk is full"):
        write_snapshot([example(1)], path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
