"""The snapshot of a data set: its bytes, and that it appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DiskFull, StoreError
from data.export import write_snapshot
from data.schema import Example

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
