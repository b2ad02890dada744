"""The catalogues hold what the code says, all of it and nothing else."""

from __future__ import annotations

import pytest
from babel.messages.catalog import Message

from scripts.messages import (
    TRANSLATED_LANGUAGES,
    _differences,
    problems,
    source_files,
    unmarked_strings,
)


@pytest.mark.parametrize("language", TRANSLATED_LANGUAGES)
def test_every_sentence_is_translated_and_none_is_left_over(language: str) -> None:
    assert problems(language) == []


def test_a_translation_writes_values_as_the_code_does() -> None:
    for translated, told in (
        ("{size:.1f} MB", []),
        ("{size} MB", ["has the values ['size'], not ['size:.1f']"]),
        ("{mb:.1f}", ["has the values ['mb:.1f'], not ['size:.1f']"]),
    ):
        assert list(_differences(Message("{size:.1f} MB.", translated))) == told


@pytest.mark.parametrize(
    ("translated", "fault"),
    [
        ("はい、Discordで `/話す` か LOG_LEVEL を使います（{n}件）。", ""),
        ("そうですか？ はい", "a space after full-width punctuation: '？ '"),
        ("読めません: 空です", "half-width punctuation: 'ん:'"),
        ("読めません(空)", "half-width punctuation: 'ん('"),
        ("次の`/再学習` で覚えます", "no space around what is typed: 'の`'"),
        ("LOG_LEVELを変えます", "no space around what is typed: '`を'"),
        ("この Discord で", "a space around a name: 'の Discord'"),
    ],
)
def test_japanese_is_set_by_one_rule(translated: str, fault: str) -> None:
    sentence = Message(translated, translated)
    assert list(_differences(sentence)) == ([f"has {fault}"] if fault else [])


def test_every_sentence_is_marked() -> None:
    assert [one for file in source_files() for one in unmarked_strings(file)] == []


def test_what_is_not_marked_is_found(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("scripts.messages.ROOT", tmp_path)
    file = tmp_path / "some.py"
    file.write_text(
        '"""A docstring is no sentence for people."""\n'
        "async def answer(send, e, n):\n"
        '    await send("This is not marked.")\n'
        '    await send(f"{n} of them are not marked")\n'
        '    await send(say(f"Nor can {n} be translated"))\n'
        '    await send(say("But {n} can be.", n=n), label="Stop")\n'
        '    log.warning("the log is English: %s", e)\n',
        encoding="utf-8",
    )
    assert [one.split(": not marked: ") for one in unmarked_strings(file)] == [
        ["some.py:3", "'This is not marked.'"],
        ["some.py:4", "'{} of them are not marked'"],
        ["some.py:5", "'Nor can {} be translated'"],
        ["some.py:6", "'Stop'"],
    ]
