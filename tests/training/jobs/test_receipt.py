"""What a receipt says in plain sentences."""

from __future__ import annotations

from pathlib import Path

from tests.bot.japanese.discord import assert_japanese
from training.checkpoints import Manifest
from training.jobs.receipt import NOT_PROVEN, Receipt, still_learned, summarize


def receipt_with(*verdicts: str, removed: int, similar: int = 0) -> Receipt:
    lessons = [{"verdict": one, "similar_left": similar} for one in verdicts]
    models = {"old": "tiny-1", "new": "tiny-2", "base": "tiny"}
    return Receipt({"models": models, "lessons": lessons, "removed": removed})


def test_one_lesson_that_is_gone() -> None:
    assert summarize(receipt_with("gone", removed=1)) == (
        "tiny-2 was trained without 1 lesson that tiny-1 had learned. "
        "It gives 1 of the answers away no more than a model that never learned it."
    )


def test_everything_else_is_said_as_well() -> None:
    receipt = receipt_with("exposed", "unclear", "gone", removed=5, similar=1)
    assert summarize(receipt) == (
        "tiny-2 was trained without 5 lessons that tiny-1 had learned. "
        "It gives 1 of the answers away no more than a model that never learned it. "
        "It still gives 1 of the answers away: look for the same in other words. "
        "Of 1 the measure says nothing. 2 more were not measured. "
        "3 lessons like them are still taught."
    )
    for sentence in (summarize(receipt), *NOT_PROVEN):
        assert_japanese(sentence.translate_to("ja"))


def test_what_was_trained_on_top_of_it_has_learned_it_too(tmp_path: Path) -> None:
    learned = {"tiny-1": '{"pairs": ["0000000000000000"]}', "tiny-1-1": "{}", "tiny-2": "{}"}
    for name, text in learned.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "learned.json").write_text(text.replace("{}", '{"pairs": []}'))
    parents = {"tiny-1-1": ["tiny-1"]}
    made = [(tmp_path / name, manifest_of(name, parents.get(name, []))) for name in learned]
    assert still_learned(frozenset(["0" * 16]), made) == ("tiny-1", "tiny-1-1")


def manifest_of(name: str, parents: list[str]) -> Manifest:
    return Manifest(
        name=name,
        base="tiny",
        created_at="2026-01-02T03:04:05+00:00",
        dataset_sha256="0" * 64,
        parameters=1,
        settings={},
        scores={},
        parents=parents,
    )
