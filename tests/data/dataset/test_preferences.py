"""What is learned of votes and better answers, and how much each weighs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.records import Example, JudgedReply
from data.dataset.cleaning import clean_text
from data.dataset.preferences import (
    MAX_ROWS,
    Preference,
    PreferenceSelection,
    read_preferences,
    select_preferences,
    write_preferences,
)

ADA, BEN, CLEO = 7, 8, 9


def voted(
    n: int, votes: Mapping[int, int], *, asked_by: int = CLEO, reply: str = ""
) -> JudgedReply:
    reply = reply or f"reply {n}"
    at = datetime(2025, 6, 1, tzinfo=UTC)
    example = Example(
        n, 1, f"question {n}", reply, asked_by, "chat", at, asked_by=asked_by, consent_version=1
    )
    return JudgedReply(example, reply, votes)


def corrected(n: int, better: str, bad: str, by: int = ADA) -> JudgedReply:
    at = datetime(2025, 6, 1, tzinfo=UTC)
    return JudgedReply(
        Example(n, 1, f"question {n}", better, by, "better answer", at, corrects=True), bad, {}
    )


def selected(*judged: JudgedReply, banned: str = "!") -> PreferenceSelection:
    """With everything learned that somebody likes."""
    texts = [
        one.with_texts(*map(clean_text, (one.example.user, one.example.bot, one.reply)))
        for one in judged
    ]
    liked = [one.example for one in texts if one.example.corrects or sum(one.votes.values()) > 0]
    return select_preferences(judged, liked, lambda text: banned not in text)


def rows_of(*judged: JudgedReply, banned: str = "!") -> dict[str, Preference]:
    selection = selected(*judged, banned=banned)
    return {one.user: one for one in selection.rows}


def test_a_vote_gives_one_side_and_a_better_answer_both() -> None:
    rows = rows_of(voted(1, {ADA: 1}), voted(2, {ADA: -1}), corrected(3, "yes", "no"))
    assert [(one.good, one.bad) for one in rows.values()] == [
        ("reply 1", None),
        (None, "reply 2"),
        ("yes", "no"),
    ]


def test_many_agree_rather_than_one_insists() -> None:
    """Ten people with one vote each outweigh one person with ten votes about three times."""
    many = [voted(n, {100 + n: 1}) for n in range(10)]
    one = [voted(n, {ADA: -1}) for n in range(10, 20)]
    rows = rows_of(*many, *one).values()
    liked, disliked = (
        sum(row.weight for row in rows if (row.good is not None) is side) for side in (True, False)
    )
    assert liked / disliked == pytest.approx(math.sqrt(10), rel=1e-3)
    assert (liked + disliked) / len(rows) == pytest.approx(1.0, abs=1e-3)


def test_votes_on_ones_own_games_weigh_half() -> None:
    rows = rows_of(voted(1, {ADA: 1}, asked_by=ADA), voted(2, {BEN: 1}, asked_by=ADA))
    assert rows["question 2"].weight == pytest.approx(2 * rows["question 1"].weight, rel=1e-3)


def test_who_disagrees_cancels_out() -> None:
    assert rows_of(voted(1, {ADA: 1, BEN: -1})) == {}
    rows = rows_of(voted(1, {ADA: 1, BEN: -1, CLEO: -1}, asked_by=5))
    assert rows["question 1"].bad == "reply 1"


def test_what_a_filter_would_withhold_today_is_never_good_but_may_be_bad() -> None:
    rows = rows_of(
        voted(1, {ADA: 1}, reply="rude!"),
        voted(2, {ADA: -1}, reply="rude!"),
        corrected(3, "so rude!", "no"),
        corrected(4, "fine", "rude!"),
    )
    assert set(rows) == {"question 2", "question 4"}


def test_what_another_answer_has_replaced_is_no_longer_good() -> None:
    judged = [voted(1, {ADA: 1}), voted(2, {ADA: -1}), corrected(3, "yes", "no")]
    newer = replace(judged[2].example, bot="certainly")
    rows = select_preferences(judged, [newer], lambda _: True).rows
    assert [one.bad for one in rows] == ["reply 2"]


@pytest.mark.parametrize(("source", "consent"), [("teach", None), ("better answer", 1)])
def test_an_answer_that_was_taught_is_never_bad(source: str, consent: int | None) -> None:
    """A better answer to somebody else's question has the consent of whoever asked."""
    disliked = voted(1, {ADA: -1}, reply="The Lighthouse.")
    handed_over = {"source": source, "consent_version": consent}
    taught = replace(disliked.example, user="what is our server called?", **handed_over)  # type: ignore[arg-type]
    assert select_preferences([disliked], [taught], lambda _: True).rows == ()


def test_a_pair_that_is_learned_is_never_bad_whatever_its_votes_weigh() -> None:
    """Each vote counts once for whether it is learned; the asker's weighs half here."""
    torn = voted(1, {CLEO: 1, BEN: -1}, asked_by=CLEO)
    assert [one.bad for one in select_preferences([torn], [], lambda _: True).rows] == ["reply 1"]
    assert select_preferences([torn], [torn.example], lambda _: True).rows == ()


def test_texts_are_cleaned_as_examples_are() -> None:
    rows = rows_of(
        voted(1, {ADA: 1}, reply="write to ada@example.org"),
        voted(2, {ADA: 1}, reply="   "),
        voted(3, {ADA: 1}, reply="x" * 1001),
        corrected(4, "same", "same"),
        voted(5, {ADA: -1}, reply="!play a song"),
    )
    assert set(rows) == {"question 1"}
    assert rows["question 1"].good == "write to [e-mail address]"


def test_of_very_many_the_newest_are_taken() -> None:
    rows = rows_of(*(voted(n, {ADA: 1}) for n in range(MAX_ROWS + 5)))
    assert len(rows) == MAX_ROWS
    assert "question 4" not in rows


def test_counts_say_how_many_people_and_what() -> None:
    judged = [voted(1, {ADA: 1, BEN: 1}), voted(2, {ADA: -1}), corrected(3, "yes", "no", CLEO)]
    counts = selected(*judged).counts
    assert (counts.votes, counts.corrections, counts.people, counts.rows) == (3, 1, 3, 3)
    assert not counts.suffice
    assert counts.as_text() == "3 votes and 1 better answer of 3 people"


def test_a_file_comes_back_and_holds_nobodys_id(tmp_path: Path) -> None:
    selection = selected(voted(1, {ADA: 1}), corrected(2, "yes", "no"))
    digest = write_preferences(selection.rows, tmp_path / "preferences.jsonl")
    assert digest == write_preferences(selection.rows, tmp_path / "again.jsonl")
    assert tuple(read_preferences(tmp_path / "preferences.jsonl")) == selection.rows
    lines = (tmp_path / "again.jsonl").read_text().splitlines()
    fields = {key for line in lines for key in json.loads(line)}
    assert fields == {"user", "good", "bad", "weight", "voters"}
    assert read_preferences(tmp_path / "none.jsonl") == []


def test_voters_are_numbers_that_say_nothing_of_who_they_are(tmp_path: Path) -> None:
    """The same two people with other ids have the same file."""
    many = [{ADA: 1}, {BEN: -1, ADA: -1}, {CLEO: 1, ADA: -1, BEN: 1}]
    judged = [voted(n, votes, asked_by=5) for n, votes in enumerate(many)]
    better = corrected(3, "yes", "no", by=5)
    rows = selected(*judged, better).rows
    write_preferences(rows, tmp_path / "one.jsonl")
    assert [one.voters for one in rows] == [(0,), (0, 1), (1, 2), ()], "those who agree with it"
    others = [
        replace(one, votes={10**17 + who: sign for who, sign in one.votes.items()})
        for one in judged
    ]
    digest = write_preferences(selected(*others, better).rows, tmp_path / "other.jsonl")
    assert digest == write_preferences(rows, tmp_path / "one.jsonl")


def test_a_file_of_before_rows_had_voters_is_read(tmp_path: Path) -> None:
    old = tmp_path / "preferences.jsonl"
    old.write_text('{"user": "a", "good": "b", "bad": null, "weight": 1.0}\n')
    assert read_preferences(old) == [Preference("a", "b", None)]
