"""What people read about their votes: in the plan, while they are learned, and afterwards."""

from __future__ import annotations

from datetime import UTC, datetime

from discord.ui import TextDisplay

from bot.discord_ui.embeds.model import checkpoint_card
from bot.discord_ui.embeds.training.evaluation import comparison_embed
from bot.discord_ui.embeds.training.plan import votes_text
from bot.discord_ui.embeds.training.progress import JobProgress, progress_text
from core.records import JobState, TrainingJob
from data.dataset.preferences import PreferenceCounts
from training.checkpoints import Manifest, StoredReport
from training.jobs.events import Preferring
from training.jobs.queue import JobUpdate

LEARNED = "I learned from 120 votes of 14 people."


def test_the_plan_says_what_would_be_learned() -> None:
    assert votes_text(None) == "not learned from (`LEARN_FROM_VOTES` is off)"
    assert votes_text(PreferenceCounts()) == "none to learn from"
    few = PreferenceCounts(votes=1, people=1, rows=1)
    assert votes_text(few) == "1 vote of 1 person: too few, I need 30"
    many = PreferenceCounts(votes=120, corrections=3, people=14, rows=110)
    assert votes_text(many) == (
        "120 votes and 3 better answers of 14 people, if the model is better for it"
    )
    better = PreferenceCounts(corrections=30, people=2, rows=30)
    assert votes_text(better) == "30 better answers of 2 people, if the model is better for it"


def test_the_message_of_a_job_says_when_it_learns_from_votes() -> None:
    job = TrainingJob(1, 2, 3, 4, "tiny", "jobs/x", JobState.RUNNING, datetime.now(UTC))
    progress = JobProgress(job)
    assert progress.apply_update(JobUpdate(job, Preferring(40)))
    assert progress_text(progress) == (
        "**Training** from tiny: all steps are done, learning from votes…"
    )


def test_the_results_and_the_models_card_say_what_came_of_them() -> None:
    report = StoredReport(votes=LEARNED)
    compared = comparison_embed(report)
    assert compared is not None
    manifest = Manifest(
        name="tiny-1",
        base="tiny",
        created_at="2025-06-01T12:00:00+00:00",
        dataset_sha256="00",
        parameters=1,
        settings={},
        scores={},
    )
    assert [one.value for one in compared.fields if one.name == "Votes"] == [LEARNED]
    assert f"**Votes** {LEARNED}" in card_lines(manifest, report)
    assert not any("**Votes**" in line for line in card_lines(manifest, StoredReport()))


def card_lines(manifest: Manifest, report: StoredReport) -> list[str]:
    """The facts of a model's card, each on a line."""
    card = checkpoint_card(manifest, report, 0, ())
    texts = (one.content for one in card.walk_children() if isinstance(one, TextDisplay))
    return [line for text in texts for line in text.splitlines()]
