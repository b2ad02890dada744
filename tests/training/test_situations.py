import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from core.records import Conversation, Role
from training.corpora import json_lines
from training.errors import CorruptData
from training.run.mixing import read_conversations
from training.tools.situations import FILE, FILE_JA, read_situations, tell
from training.tools.tiny import SMALL_TALK_FILE, SMALL_TALK_FILE_JA

ATE = {
    "user": ["just ate {food}", "had {food} today", "{food} was my lunch"],
    "bot": ["{Food}! Was it good?", "I like to hear about {food}. Was it good?"],
    "then": [{"user": ["yes", "so good"], "bot": ["Then it was good {food}!"]}],
    "slots": {"food": ["ramen", "pasta", "soup"]},
}


def write(path: Path, *records: object) -> Path:
    file = path / "situations.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    return file


def test_first_messages_take_turns_and_a_slot_is_one_word_all_through(tmp_path: Path) -> None:
    talks = tell(read_situations(write(tmp_path, ATE)), 60, Random(0))

    assert len(talks) == 60
    firsts: Counter[str] = Counter()
    lengths: Counter[int] = Counter()
    for turns in talks:
        assert [turn.role for turn in turns] == [Role.USER, Role.ASSISTANT] * (len(turns) // 2)
        said = " ".join(turn.content.lower() for turn in turns)
        food = {word for word in ("ramen", "pasta", "soup") if word in said}
        assert len(food) == 1
        assert turns[1].content.startswith(("I like", "Ramen!", "Pasta!", "Soup!"))
        firsts[turns[0].content.replace(food.pop(), "…")] += 1
        lengths[len(turns)] += 1
    assert firsts == {"just ate …": 20, "had … today": 20, "… was my lunch": 20}
    assert lengths[2] > 5
    assert lengths[4] > 30
    assert tell(read_situations(tmp_path / "situations.jsonl"), 60, Random(0)) == talks


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"user": ["hi"]}, "bot"),
        ({"user": [], "bot": ["Hello!"]}, "lists of texts"),
        ({"user": ["hi", " "], "bot": ["Hello!"]}, "must be a text"),
        ({"user": "hi", "bot": ["Hello!"]}, "lists of texts"),
        ({"user": ["{food}"], "bot": ["Nice!"], "slots": {"food": "soup"}}, "lists of texts"),
        ({"user": ["{food}"], "bot": ["Nice!"], "slots": {"food": [1]}}, "must be a text"),
        ({"user": ["ate {food}"], "bot": ["Nice!"]}, "food"),
        ({"user": ["hi"], "bot": ["Hello!"], "slots": {"food": ["soup"]}}, "food"),
        ({"user": ["{food}"], "bot": ["Nice!"], "slots": {"food": []}}, "lists of texts"),
        (["hi"], "not a situation"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, record: object, why: str) -> None:
    file = write(tmp_path, ATE, record)

    with pytest.raises(CorruptData, match=r"situations\.jsonl:2 is not a situation") as refused:
        read_situations(file)

    assert why in str(refused.value)


@pytest.mark.parametrize("file", [FILE, FILE_JA])
def test_what_this_project_wrote_is_short_and_never_rude(file: Path, tmp_path: Path) -> None:
    situations = read_situations(file)
    assert len(situations) > 800

    talks = tell(situations, 3, Random(0))

    for turns in talks:
        assert not any(sign in turn.content for turn in turns for sign in "{}"), turns
        assert all(len(turn.content) <= 120 for turn in turns[1::2]), turns
    assert_never_rude(talks, tmp_path)


@pytest.mark.parametrize("file", [SMALL_TALK_FILE, SMALL_TALK_FILE_JA])
def test_short_talks_begin_with_another_message_each(file: Path, tmp_path: Path) -> None:
    talks = read_conversations(file)

    assert len(talks) > 13_000
    for turns in talks:
        assert [turn.role for turn in turns] == [Role.USER, Role.ASSISTANT] * (len(turns) // 2)
        assert all(0 < len(turn.content) <= 150 for turn in turns[1::2]), turns
    alone = Counter(turns[0].content for turns in talks if len(turns) == 2)
    again = [text for text, times in alone.items() if times > 1]
    assert not any(char.isalnum() for text in again for char in text), "but for signs alone"
    assert_never_rude(talks, tmp_path)


def assert_never_rude(talks: Sequence[Conversation], path: Path) -> None:
    """Rude talks are dropped where corpora are read."""
    records = (
        {"messages": [{"role": t.role, "content": t.content} for t in talk]} for talk in talks
    )
    assert len(list(json_lines(write(path, *records)))) == len(talks)
