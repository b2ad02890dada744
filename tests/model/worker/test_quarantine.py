"""Which model is set aside when the worker dies again and again."""

from __future__ import annotations

import pytest

from model.worker.quarantine import QUARANTINE_DEATHS, STABLE_S, Quarantine


class Lives:
    """Lives of a worker, one after the other."""

    def __init__(self) -> None:
        self.now = 0.0
        self.suspects = Quarantine(lambda: self.now)

    def live(self, *used: str, waited_for: set[str] | None = None, seconds: float = 1.0) -> None:
        for source in used:
            self.suspects.record_use(source)
        self.now += seconds
        self.suspects.record_death(waited_for or set())

    @property
    def aside(self) -> set[str]:
        return set(self.suspects.quarantined)


@pytest.fixture
def lives() -> Lives:
    return Lives()


def test_a_model_with_which_the_worker_died_too_often_is_set_aside(lives: Lives) -> None:
    for _ in range(QUARANTINE_DEATHS - 1):
        lives.live("good", "bad", waited_for={"bad"})
    assert lives.aside == set()
    lives.live("good", "bad", waited_for={"bad"})
    assert lives.aside == {"bad"}


def test_of_those_that_run_in_company_it_is_the_one_that_was_always_there(lives: Lives) -> None:
    lives.live("bad", "one", "two", waited_for={"bad", "one"})
    lives.live("bad", "one", "two", waited_for={"bad", "one", "two"})
    lives.live("bad", "one", "two", waited_for={"bad", "two"})
    assert lives.aside == {"bad"}
    lives.live("one", "two", waited_for={"one", "two"})
    assert lives.aside == {"bad"}, "the others start anew"


def test_where_nobody_waited_it_is_the_model_that_came_last(lives: Lives) -> None:
    for _ in range(QUARANTINE_DEATHS):
        lives.live("good", "bad")
    assert lives.aside == {"bad"}


def test_a_model_that_ran_for_minutes_is_cleared(lives: Lives) -> None:
    for _ in range(3 * QUARANTINE_DEATHS):
        lives.live("bad", waited_for={"bad"})
        lives.live("bad", waited_for={"bad"}, seconds=STABLE_S)
    assert lives.aside == set()


def test_deaths_far_apart_count_if_each_came_soon_after_the_load(lives: Lives) -> None:
    for _ in range(QUARANTINE_DEATHS):
        lives.live("bad", waited_for={"bad"})
        lives.now += 10 * STABLE_S
    assert lives.aside == {"bad"}


def test_deaths_without_an_extra_model_set_nothing_aside(lives: Lives) -> None:
    for _ in range(3 * QUARANTINE_DEATHS):
        lives.live(waited_for={"embedded"})
    assert lives.aside == set()


def test_a_model_that_was_tried_again_on_purpose_falls_with_its_next_death(lives: Lives) -> None:
    for _ in range(QUARANTINE_DEATHS):
        lives.live("bad")
    del lives.suspects.quarantined["bad"]
    lives.live("bad")
    assert lives.aside == {"bad"}
