"""A follower without a cluster: what it says, and what it hears before anything has begun."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.cluster.connection import NO_RAY, ClusterError
from tests.model_folders import make_model_folder
from training.cluster import follower
from training.cluster.follower import Follower, FollowerOptions, LeftError, Words
from training.cluster.messages import build_id, require_same_build
from training.cluster.ranks import RankedTrainer
from training.config import TrainingConfig
from training.jobs.events import Event, Paused, Waiting

OPTIONS = FollowerOptions(address="127.0.0.1:1")


@pytest.fixture
def job(tmp_path: Path) -> Path:
    base = make_model_folder(tmp_path / "small", says="hi")
    (tmp_path / "job").mkdir()
    TrainingConfig(name="small-1", base=str(base)).save(tmp_path / "job" / "config.json")
    return tmp_path / "job"


def test_without_the_extra_one_sentence_says_what_to_install(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "is_installed", lambda: False)
    with pytest.raises(ClusterError) as failure:
        Follower(job, OPTIONS, Words(), lambda _: None).follow()
    assert str(failure.value) == NO_RAY
    assert "gpt2-discord-bot[cluster]" in NO_RAY


def test_a_run_that_waits_for_its_cluster_may_be_stopped(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens at the address, and nothing has to be saved."""
    monkeypatch.setattr(follower, "is_installed", lambda: True)
    words, told = Words(), list[Event]()

    def tell(event: Event) -> None:
        told.append(event)
        words.pass_on("pause")

    def refuse(_: str) -> None:
        raise ClusterError("The Ray cluster cannot be reached.")

    monkeypatch.setattr(follower, "connect", refuse)
    assert Follower(job, OPTIONS, words, tell).follow() == 0
    assert told == [Waiting(), Paused(0)]


def test_a_cluster_that_stays_away_is_given_up(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "is_installed", lambda: True)

    def refuse(_: str) -> None:
        raise ClusterError("The Ray cluster cannot be reached.")

    monkeypatch.setattr(follower, "connect", refuse)
    options = replace(OPTIONS, reach_s=0.0)
    with pytest.raises(ClusterError, match="cannot be reached"):
        Follower(job, options, Words(), lambda _: None).follow()


def test_words_wait_until_somebody_listens() -> None:
    words, heard = Words(), list[list[str]]()
    words.pass_on("hold")
    words.connect(heard.append)
    words.pass_on("go")
    words.pass_on("pause")
    assert heard == [["hold"], ["hold", "go"], ["hold", "go", "pause"]]


async def test_words_that_overtake_each_other_are_heard_once_and_in_order() -> None:
    actor = RankedTrainer(2, 1.0, 0.0, "text", None)
    await actor.say(["hold", "go"])
    await actor.say(["hold"])
    await actor.say(["hold", "go", "pause"])
    assert await actor.words(0) == ["hold", "go", "pause"]


def test_a_pause_before_that_is_the_end() -> None:
    words = Words()
    words.pass_on("pause")
    with pytest.raises(LeftError):
        words.connect(lambda _: None)


def test_another_version_is_refused_in_a_sentence() -> None:
    require_same_build(build_id())
    with pytest.raises(ClusterError, match=r"the bot is 0\.0\.1-abc: install"):
        require_same_build("0.0.1-abc")
